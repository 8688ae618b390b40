"""The page on the paper's claims, made from cells: tables, pictures, verdicts, and the authors' figures beside.

Beside ``PAGE.md`` stands the folder ``PAGE`` with one compact file of cells per experiment, from which the same page
can be made again, and one folder of pictures per experiment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from uanref import files
from uanref.experiments import pictures, registry
from uanref.experiments.claims import CLAIMS, Published, published, verdict_on
from uanref.experiments.compact import compacted
from uanref.experiments.evidence_settings import settings
from uanref.experiments.experiment import Cell, Experiment
from uanref.experiments.markdown import table, words
from uanref.experiments.small_pictures import shrink
from uanref.experiments.verdicts import Verdict
from uanref.reasons import named


def write_page(cells_by_experiment: Mapping[str, Sequence[Cell]], page: Path, command: str) -> list[str]:
    """Write the page, its pictures and the compact files of cells.

    The page depends on the cells, their order included, on ``command`` and on which pictures could be drawn, and on
    nothing else.

    Args:
        cells_by_experiment: experiments of the registry, each with cells of one scale, at least one.
        page: a file that ends in ``.md``, in a folder that is there.
        command: which makes the same page from the compact files.

    Returns:
        A sentence on every picture that could not be drawn.

    Raises:
        ValueError: an unknown experiment, cells that it makes no tables or verdicts of, or more than a compact file may
            have; nothing is written.
        OSError: page or files cannot be written.
    """
    if unknown := [name for name in cells_by_experiment if name not in registry.NAMES]:
        registry.find(unknown[0])
    order = {name: cells_by_experiment[name] for name in registry.NAMES if cells_by_experiment.get(name)}
    verdicts: dict[str, list[Verdict]] = {}
    tables: dict[str, list[str]] = {}
    kept: dict[str, bytes] = {}
    for name, cells in order.items():  # all that may fail on odd cells comes before anything is written
        experiment = registry.find(name)
        try:
            verdicts[name] = experiment.verdicts(cells)
            tables[name] = [table(made) for made in experiment.tables(cells)]
        except Exception as error:  # cells that somebody edited, or not those that it expects
            raise ValueError(f"the cells of {name} make no page ({named(error)})") from error
        kept[name] = compacted(cells)
    folder, troubles, sections = page.with_suffix(""), [], []
    folder.mkdir(exist_ok=True)
    for name, cells in order.items():
        files.write_bytes(folder / f"{name}.json", kept[name])
        drawn, failed = _draw(registry.find(name), cells, folder)
        troubles += [f"{name}: {sentence}" for sentence in failed]
        shown = [f"![{words(Path(picture).stem)}]({quote(f'{folder.name}/{picture}')})" for picture in drawn]
        sections.append(_section(registry.find(name), cells, verdicts[name], [*tables[name], *shown]))
    parts = [_opening(command), _claims(verdicts), *sections, _elsewhere()]
    files.write_bytes(page, ("\n\n".join(parts) + "\n").encode())
    return troubles


def _draw(experiment: Experiment, cells: Sequence[Cell], folder: Path) -> tuple[list[str], list[str]]:
    def make(place: Path) -> list[str]:
        names = experiment.pictures(cells, place)
        for name in names:
            shrink(place / name)
        return names

    return pictures.draw(make, folder, experiment.name)


def _opening(command: str) -> str:
    return (
        "# What the runs say of the paper's claims\n\n"
        "This page is made by a command from the results that stand beside it:\n\n"
        f"```console\n$ {command}\n```\n\n"
        "[Reading the evidence](reading.md) tells what its numbers mean and what they do not. *Not supported* says "
        "that these runs do not carry a claim; it is no proof of the opposite. The runs are small, and another setting "
        "may say otherwise: `uanref experiment NAME` runs them again, larger ones too."
    )


def _claims(verdicts: Mapping[str, Sequence[Verdict]]) -> str:
    lines = ["## The claims\n", "| claim | verdict | rests on |", "| --- | --- | --- |"]
    for claim in CLAIMS:
        verdict, because = verdict_on(claim, verdicts)
        where = f" [{claim.experiment}](#{claim.experiment})" if claim.experiment in verdicts else ""
        lines.append(f"| {words(claim.text)} | **{verdict}** | {words(because)}{where} |")
    return "\n".join(lines)


def _section(experiment: Experiment, cells: Sequence[Cell], verdicts: Sequence[Verdict], shown: list[str]) -> str:
    parts = [f"## {experiment.name}", f"*{words(experiment.question)}*", words(settings(cells)), *shown]
    if verdicts:
        parts += ["### Verdicts: " + experiment.name, "\n".join(map(_verdict, verdicts))]
    beside = [entry for entry in published() if entry.experiment == experiment.name]
    if beside:
        parts += ["### What the authors published: " + experiment.name, *(_published(entry) for entry in beside)]
    return "\n\n".join(parts)


def _verdict(verdict: Verdict) -> str:
    rule = f" Rule: {_sentence(verdict.rule)}" if verdict.rule else ""
    return f"- **{verdict.verdict}**: {_sentence(verdict.claim)}{rule} Found: {_sentence(verdict.because)}"


def _sentence(text: str) -> str:
    found = words(text)
    return found if found.endswith((".", "!", "?")) else found + "."


def _published(entry: Published) -> str:
    parts = [f"Source: {words(entry.source)}."]
    if entry.rows:
        made = Table(*map(escape, entry.columns), title=Text(entry.title))
        for row in entry.rows:
            made.add_row(*map(Text, row))
        parts.append(table(made))
    lines = [f"- {words(line)}" for line in entry.remarks] + [f"- Here: {words(line)}" for line in entry.here]
    return "\n\n".join([*parts, "\n".join(lines)])


def _elsewhere() -> str:
    entries = [_published(entry) for entry in published() if entry.experiment is None]
    return "\n\n".join(["## Not testable here yet", *entries])
