"""Make the executed notebooks from their sources: ``python tutorials/build.py [05 10 ...]``.

A tutorial's source is Jupytext Markdown, ``NN_topic.md``: prose, and ```` ```python ```` fences that are cells.
This script runs it and writes ``NN_topic.ipynb`` with its outputs beside it. Needs the ``docs`` extra.

A ``<details>`` fold holds an exercise's solution. In the source it folds on a code-hosting page; in the notebook
its cells are hidden instead, by tags that Jupyter and the site understand.

A cell that draws a figure says in its fence what is seen, ```` ```python alt="Two heaps ..." ````: the site and an
exported page show these words to whoever cannot see the figure.

A lesson that is too long for one page is two tutorials of one number, ``08a_topic.md`` and ``08b_topic.md``.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
SECONDS = 300
"""What a tutorial may take in all before it counts as hung; they are written to need less than 60."""
FOLD = re.compile(r"<details>\s*<summary>(?P<title>.*?)</summary>|</details>", re.DOTALL)


def sources() -> list[Path]:
    """Return the tutorials' sources, in order."""
    return sorted(FOLDER.glob("[0-9][0-9]*_*.md"))


def notebook_of(source: Path) -> NotebookNode:
    """Return the notebook that a source describes, without outputs."""
    made = jupytext.read(source, fmt={"extension": ".md", "format_name": "markdown"})
    folded = False
    cells = []
    for i, cell in enumerate(made.cells):
        inside = folded
        if cell.cell_type == "markdown":
            for mark in FOLD.finditer(cell.source):
                folded = mark["title"] is not None
            cell.source = FOLD.sub(lambda mark: f"**{mark['title']}**" if mark["title"] else "", cell.source).strip()
            if not cell.source:
                continue
        elif inside:
            cell.metadata |= {"tags": ["hide-cell"], "jupyter": {"source_hidden": True}}
        if "alt" in cell.metadata:
            cell.metadata["mystnb"] = {"image": {"alt": cell.metadata.pop("alt")}}
        cell.id = f"cell-{i:03}"  # the same at every build
        cells.append(cell)
    made.cells = cells
    made.metadata = NotebookNode(
        kernelspec={"name": "python3", "display_name": "Python 3", "language": "python"},
        language_info={"name": "python"},
    )
    made.nbformat, made.nbformat_minor = 4, 5
    return made


def execute(notebook: NotebookNode, folder: Path, environment: dict[str, str] | None = None) -> None:
    """Run all cells in ``folder``, in place; raises nbclient's CellExecutionError with the cell that failed."""
    # Pictures go into the notebook, whatever this process draws with; two threads, as on the reader's laptop.
    settings = {**os.environ, "MPLBACKEND": "module://matplotlib_inline.backend_inline", "OMP_NUM_THREADS": "2"}
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": folder}},
        coalesce_streams=True,
    )
    client.execute(env=settings | (environment or {}))
    for cell in notebook.cells:
        # Run times and counters differ from run to run and say nothing: leave them out of the repository.
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
            for output in cell.outputs:
                if alt and "image/png" in output.get("data", {}):
                    output.metadata.setdefault("image/png", {})["alt"] = alt  # where nbconvert looks for it


def write(notebook: NotebookNode, target: Path) -> None:
    """Write a notebook whole or not at all."""
    temporary = target.with_suffix(".part")
    nbformat.write(notebook, temporary)
    temporary.replace(target)


def main(arguments: list[str] | None = None) -> int:
    """Build the tutorials whose numbers are given, or all."""
    parser = argparse.ArgumentParser(description="Run tutorials and write their notebooks.")
    parser.add_argument("numbers", nargs="*", metavar="NN", help="which ones, such as 05; all if none is given")
    wanted = parser.parse_args(arguments).numbers
    known: dict[str, list[Path]] = {}
    for source in sources():
        number = source.name.partition("_")[0]
        for name in dict.fromkeys((number, number[:2])):  # 08 builds both 08a and 08b
            known.setdefault(name, []).append(source)
    unknown = [number for number in wanted if number not in known]
    if unknown:
        parser.error(f"no tutorial {unknown[0]}: there are {', '.join(known)}")
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    chosen = [source for number in wanted for source in known[number]] if wanted else sources()
    for source in chosen:
        start = time.perf_counter()
        notebook = notebook_of(source)
        execute(notebook, FOLDER)
        write(notebook, source.with_suffix(".ipynb"))
        print(f"{source.stem}: {time.perf_counter() - start:.0f} s, {len(notebook.cells)} cells")
    return 0


if __name__ == "__main__":
    sys.exit(main())
