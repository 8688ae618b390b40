"""The command ``uanref``: options in, tables out. The work is done in ``uanref.experiments``.

Exit codes: 0 done; 1 a check failed or training diverged; 2 bad input; 130 Ctrl-C; 141 the reader of the
output went away (``uanref ... | head``). Bad input gets one sentence on standard error; with
``UANREF_DEBUG=1`` the traceback comes instead.

Modules that take long to import are imported inside the commands that need them.
"""

from __future__ import annotations

import io
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from uanref.models import NORMS

if TYPE_CHECKING:
    from rich.console import Console


app = typer.Typer(
    name="uanref",
    help="Normalization in neural networks, from scratch, with hand-derived backward passes.",
    add_completion=False,
    rich_markup_mode=None,  # plain help: readable at any width, in a pipe and to a screen reader
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

NORM_NAMES = ", ".join(NORMS)
# As uanref.derivations has them; importing those for a help text would slow every command.
DERIVATION_NAMES = (
    "linear, relu, conv, softmax-cross-entropy, bn, bn-eval, layer-norm, posterior, uan, uan-learned, adam"
)

_arguments: list[str] = []  # as given, for the record that compare keeps

# Newer versions of Typer carry their own copy of Click: this is the base of usage errors in all of them.
_UsageError: type[Exception] = typer.BadParameter.__mro__[2]


# --- the entry point ------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code.

    Args:
        arguments: without the program's name; ``sys.argv[1:]`` if None.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that lacks "±" shows "?" instead of failing
            stream.reconfigure(errors="replace")
    if os.environ.get("UANREF_DEBUG", "") not in ("", "0"):
        return _run(arguments)
    try:
        return _run(arguments)
    except SystemExit:  # Rich and Click end so, with the code that here means a failed check, on a broken pipe alone
        return 141
    except (KeyboardInterrupt, typer.Abort):
        return _complain("interrupted", 130)
    except _UsageError as error:
        return _complain(error.format_message(), 2)  # type: ignore[attr-defined]
    except ArithmeticError as error:
        from uanref.training.trainer import NonFiniteError

        return _complain(_sentence(error), 1 if isinstance(error, NonFiniteError) else 2)
    except MemoryError as error:
        return _complain(f"not enough memory ({_sentence(error)}): use a smaller model, batch or data set", 2)
    except (ValueError, TypeError, OSError, KeyError, RuntimeError) as error:
        return _complain(_sentence(error), 2)
    except Exception as error:
        if not type(error).__module__.startswith("cupy"):
            raise
        return _complain(f"CuPy failed ({_sentence(error)[:300]}): uanref info says what is missing", 2)


class _Failed(Exception):
    """A command that did its work and has to end with a message and an exit code other than 0."""


def _run(arguments: list[str]) -> int:
    _arguments[:] = arguments
    try:
        result = app(arguments, prog_name="uanref", standalone_mode=False)
    except _Failed as failed:
        return _complain(*failed.args)
    if result == 130:  # what newer versions of Typer make of Ctrl-C
        return _complain("interrupted", 130)
    return result if isinstance(result, int) else 0


def _sentence(error: BaseException) -> str:
    """Return an error's message on one line, without the decoration that Python adds to some."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return " ".join(str(text).split()) or type(error).__name__


def _complain(message: str, code: int) -> int:
    if message := message.strip():
        typer.echo(message if "\n" in message else f"uanref: {message}", err=True)
    return code


# --- options --------------------------------------------------------------------------------------


def _whole(least: int, most: int = 10**6) -> Callable[[Any], int]:
    """Return a parser of whole numbers from ``least`` to ``most``."""

    def parse(text: Any) -> int:
        try:
            found = int(str(text))
        except ValueError:
            found = least - 1
        if found < least:
            raise typer.BadParameter(f"expected a whole number >= {least}, got {str(text)!r}.")
        if found > most:
            raise typer.BadParameter(f"expected a whole number <= {most}, got {str(text)!r}.")
        return found

    return parse


def _positive(text: Any) -> float:
    """Parse a finite number > 0."""
    try:
        found = float(str(text))
    except ValueError:
        found = math.nan
    if not (math.isfinite(found) and found > 0):
        raise typer.BadParameter(f"expected a finite number > 0, got {str(text)!r}.")
    return found


def _path(text: Any) -> Path:
    """Parse the name of a file or folder: an unset variable of a shell script should not go unnoticed."""
    if not str(text):
        raise typer.BadParameter("expected a name, got ''.")
    return Path(str(text))


def _rates(text: str) -> tuple[float, ...]:
    """Split the comma-separated learning rates of --lr."""
    entries = _entries("--lr", text, "0.1,0.01")
    try:
        return tuple(_positive(entry) for entry in entries)
    except typer.BadParameter as error:
        raise typer.BadParameter(error.message, param_hint="'--lr'") from None


def _entries(option: str, text: str, example: str) -> tuple[str, ...]:
    """Split a comma-separated list without empty entries."""
    entries = tuple(entry.strip() for entry in text.split(","))
    if not all(entries):
        message = f"expected entries separated by single commas, such as {example}, got {text!r}."
        raise typer.BadParameter(message, param_hint=f"'{option}'")
    return entries


Dataset = Annotated[str, typer.Option("--dataset", metavar="NAME", help="digits, fashion-small or idx:FOLDER")]
Model = Annotated[str, typer.Option("--model", metavar="NAME", help="mlp or cnn")]
Components = Annotated[int, typer.Option(metavar="K", parser=_whole(1, 1000), help="mixture components or modes")]
Epochs = Annotated[int, typer.Option(metavar="N", parser=_whole(1), help="passes over the training images")]
BatchSize = Annotated[int, typer.Option("--batch-size", metavar="N", parser=_whole(1), help="images in a step")]
Optimizer = Annotated[str, typer.Option(metavar="NAME", help="sgd (with Nesterov momentum 0.9), adam or adamw")]
Backend = Annotated[str, typer.Option(metavar="NAME", help="numpy, or cupy for a GPU")]
Seed = Annotated[int, typer.Option(metavar="N", parser=_whole(0, 2**63), help="of everything that is drawn")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="show no progress")]


def _show_version(wanted: bool) -> None:
    if wanted:
        from uanref import __version__

        typer.echo(f"uanref {__version__}")
        raise typer.Exit


@app.callback()
def _before(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


# --- commands -------------------------------------------------------------------------------------


@app.command()
def compare(
    dataset: Dataset = "digits",
    model: Model = "cnn",
    norms: Annotated[
        str,
        typer.Option(metavar="A,B,...", help=f"of {NORM_NAMES}"),
    ] = "none,bn,uan,uan-learned",
    components: Components = 3,
    seeds: Annotated[int, typer.Option(metavar="N", parser=_whole(1), help="how many: seeds 0 to N-1")] = 3,
    epochs: Epochs = 30,
    lr: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="learning rates, each a row of its own; 0.1 for sgd and 0.01 for adam and adamw if left out",
        ),
    ] = None,
    batch_size: BatchSize = 64,
    optimizer: Optimizer = "adam",
    backend: Backend = "numpy",
    jobs: Annotated[
        int | None,
        typer.Option(metavar="N", parser=_whole(1), help="processes at a time; one a core if left out, one on a GPU"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            parser=_path,
            help="for results.json and the pictures; runs/compare-<time> if left out",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite the results in --out")] = False,
    quiet: Quiet = False,
) -> None:
    """Train a network with different norms and compare them.

    All of them start from the same weights and see the same batches, seed by seed.
    """
    from uanref.experiments import compare as experiment
    from uanref.experiments import compare_report as report
    from uanref.experiments import files

    settings = experiment.Settings(
        dataset=dataset,
        model=model,
        norms=_entries("--norms", norms, "bn,uan"),
        components=components,
        seeds=seeds,
        epochs=epochs,
        lrs=() if lr is None else _rates(lr),
        batch_size=batch_size,
        optimizer=optimizer,
        backend=backend,
    )
    if backend == "cupy" and jobs is not None and jobs > 1:
        typer.echo(f"uanref: all runs share the GPU in one process: --jobs {jobs} is not used", err=True)
    folder = out or Path(time.strftime("runs/compare-%Y%m%d-%H%M%S"))
    splits = experiment.try_out(settings)
    with files.results_folder(folder, "--out", force):
        with _progress(len(settings.runs()), "runs", quiet) as finished:
            comparison = experiment.run(settings, splits, jobs, finished)
        if not comparison.runs:
            _fail("interrupted before the first run finished: nothing was written", 130)
        written = report.write(comparison, folder, _command())
    console = _wide()
    console.print(report.table(comparison))
    _plain(console, f"Written to {folder}: {', '.join(path.name for path in written)}")
    if comparison.interrupted:
        _fail(comparison.note, 130)
    if all(run.diverged for run in comparison.runs):
        _fail(f"every run diverged: {comparison.runs[0].history.stopped}", 1)


@app.command()
def train(
    dataset: Annotated[
        str | None, typer.Option(metavar="NAME", help="digits (default), fashion-small or idx:FOLDER")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="mlp or cnn (default)")] = None,
    norm: Annotated[str | None, typer.Option(metavar="NAME", help=f"one of {NORM_NAMES}; uan if not given")] = None,
    components: Annotated[
        int | None, typer.Option(metavar="K", parser=_whole(1, 1000), help="mixture components or modes (3)")
    ] = None,
    epochs: Annotated[
        int, typer.Option(metavar="N", parser=_whole(1), help="in all, those of a resumed checkpoint included")
    ] = 30,
    lr: Annotated[
        float | None,
        typer.Option(metavar="RATE", parser=_positive, help="0.1 for sgd, 0.01 for adam and adamw if left out"),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", metavar="N", parser=_whole(1), help="images in a step (64)")
    ] = None,
    optimizer: Annotated[
        str | None, typer.Option(metavar="NAME", help="sgd (with Nesterov momentum 0.9), adam (default) or adamw")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(metavar="NAME", help="of the learning rate: constant, or cosine (default) down to 0")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", parser=_whole(0, 2**63), help="of split, weights and batches (0)")
    ] = None,
    backend: Backend = "numpy",
    save: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", parser=_path, help="write the trained network to this file")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="CHECKPOINT", parser=_path, help="go on where this file's training was")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train one network; save it, or go on with a saved one."""
    from rich.console import Console

    from uanref.experiments import single

    given = {
        "dataset": dataset,
        "model": model,
        "norm": norm,
        "components": components,
        "lr": lr,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "schedule": schedule,
        "seed": seed,
    }
    given = {option: value for option, value in given.items() if value is not None}
    progress = "none" if quiet else "auto"
    trained = single.train(given, epochs=epochs, backend_name=backend, save=save, resume=resume, progress=progress)
    console = Console()
    console.print(trained.table())
    if trained.saved:
        _plain(console, f"Written to {trained.saved}")
    if trained.interrupted:
        _fail("interrupted: " + ("what was trained so far is saved" if trained.saved else "nothing was saved"), 130)


@app.command()
def evaluate(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", parser=_path, help="a file that train --save wrote")
    ],
    dataset: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="digits, fashion-small or idx:FOLDER; the checkpoint's if left out"),
    ] = None,
    backend: Backend = "numpy",
) -> None:
    """Score a saved network on the test set."""
    from rich.console import Console

    from uanref.experiments import single

    Console().print(single.evaluate(checkpoint, dataset, backend))


@app.command()
def check(
    backend: Backend = "numpy",
    only: Annotated[str | None, typer.Option(metavar="NAME", help="check what has this in its name")] = None,
    seed: Seed = 0,
    plain: Annotated[bool, typer.Option("--plain", help="print Markdown, for a bug report")] = False,
) -> None:
    """Check all hand-derived gradients against numerical ones.

    With --backend cupy: everything that the GPU computes, in array code and with the fused kernels, in float64 and
    float32, against NumPy in float64; a table for a bug report, in Markdown where it does not go to a terminal.
    Exit code 1 if a check fails.
    """
    from uanref.backend import require

    require(backend)
    if backend == "cupy":
        _check_device(only, seed, plain)
        return
    from uanref.experiments import check as experiment

    rows = experiment.run(seed=seed, only=only)
    console = _unbroken() if plain else _wide()
    console.print(experiment.table(rows, plain))
    _print_failures(console, [row.details for row in rows if not row.ok], len(rows))


def _check_device(only: str | None, seed: int, plain: bool) -> None:
    from uanref.experiments import check
    from uanref.experiments import check_device as experiment

    selected = check.chosen(experiment.computations(), only)
    console = _wide()
    plain = plain or not console.is_terminal
    _plain(console, experiment.header() + "\n")
    with _progress(len(selected), "checks", quiet=not sys.stderr.isatty()) as finished:
        rows = experiment.run(selected, seed, finished)
    (_unbroken() if plain else console).print(experiment.table(rows, plain))
    _plain(console, "\n" + experiment.legend(rows))
    _print_failures(console, [row.details for row in rows if not row.ok], len(rows))


def _print_failures(console: Console, details: list[str], total: int) -> None:
    for text in details:
        _plain(console, f"\n{text}")
    if details:
        _fail(f"{len(details)} of {total} checks failed", 1)


@app.command()
def bench(
    backend: Backend = "numpy",
    only: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="measure this case alone, one of conv-16-32, conv-64-64, batchnorm, uan, uan-batchnorm (numpy), "
            "uan-learned (cupy)",
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(metavar="N", parser=_whole(1), help="how often each case is timed")] = 7,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=_path, help="write the numbers to this file as well")
    ] = None,
) -> None:
    """Measure how fast layers are, beside PyTorch's.

    Without PyTorch the layers are measured alone. With --backend cupy: array code beside the fused kernels, and
    how much of the GPU's copy bandwidth they reach.
    """
    from uanref.backend import require

    require(backend)
    from uanref.experiments import files

    if json:
        files.check_target(json, "--json")
    if backend == "cupy":
        from uanref.bench import device

        measured = device.run(repeats=repeats, only=only)
        report, numbers = device.report(measured), device.rows_as_json(measured)
    else:
        from uanref.bench import suite

        rows = suite.run(repeats=repeats, only=only)
        report, numbers = suite.report(rows), suite.rows_as_json(rows)
    _wide().print(report)
    if json:
        files.write_json(json, numbers)


@app.command()
def info() -> None:
    """Show versions, usable backends, cores and threads."""
    from rich.console import Console

    from uanref.experiments import info as experiment

    Console().print(experiment.table())


@app.command()
def step(
    name: Annotated[str, typer.Argument(metavar="NAME", help=DERIVATION_NAMES)],
    size: Annotated[
        list[str], typer.Option(metavar="AXIS=N", help="length of an axis, such as m=6 or k=2; may be repeated")
    ] = [],  # noqa: B006  Typer copies it
    inputs: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=_path, help="an .npz with one array per input, and upstream")
    ] = None,
    seed: Annotated[int, typer.Option(parser=_whole(0), metavar="N", help="of the example's numbers")] = 0,
    mistake: Annotated[
        str | None, typer.Option(metavar="ID", help="plant a mistake; 'list' prints what there is")
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="print the whole walk; so without a terminal, too")] = False,
    whole: Annotated[bool, typer.Option("--whole", help="with --plain: print large arrays whole")] = False,
) -> None:
    """Walk through a derivation node by node, forward and backward.

    Formula, shape, numbers, gradient and numerical proof of each; edit a number or plant a mistake and watch.
    """
    from rich.console import Console

    from uanref.derivations import find
    from uanref.derivations.mistakes import mistakes
    from uanref.stepping import terminal
    from uanref.stepping.given import inputs_from, sizes_from
    from uanref.stepping.walk import Walk

    derivation = find(name)
    offered = mistakes(derivation) if mistake is not None else []
    if mistake == "list":
        for each in offered:
            _plain(_unbroken(), each.id)
        return
    given, upstream = inputs_from(derivation, inputs, sizes_from(size, derivation), seed)
    walk = Walk(derivation, given, upstream, seed)
    if mistake is not None:
        chosen = [each for each in offered if each.id == mistake]
        if not chosen:
            raise ValueError(f"{name} has no mistake {mistake!r}: uanref step {name} --mistake list prints them")
        walk.plant(chosen[0])
        walk.go(chosen[0].step)
    console = Console()
    if plain or not (console.is_terminal and sys.stdin.isatty()):
        terminal.print_walk(walk, console if console.is_terminal else _wide(), whole)
    else:
        terminal.Screen(walk, console).run()


@app.command()
def explore(
    name: Annotated[str, typer.Argument(metavar="NAME", help=DERIVATION_NAMES)],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", parser=_path, help="the page  [default: NAME.html]", show_default=False),
    ] = None,
    size: Annotated[
        list[str], typer.Option(metavar="AXIS=N", help="length of an axis, such as m=6 or k=2; may be repeated")
    ] = [],  # noqa: B006  Typer copies it
    inputs: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=_path, help="an .npz with one array per input, and upstream")
    ] = None,
    seed: Annotated[int, typer.Option(parser=_whole(0), metavar="N", help="of the example's numbers")] = 0,
    force: Annotated[bool, typer.Option("--force", help="overwrite a page that is there")] = False,
) -> None:
    """Write a page that walks through a derivation in a browser.

    One file, opened by double click, without a network: graph, equations, numbers that can be edited, proofs,
    planted mistakes, a quiz.
    """
    from rich.console import Console

    from uanref.derivations import find
    from uanref.stepping import explorer
    from uanref.stepping.given import inputs_from, sizes_from

    derivation = find(name)
    target = out or Path(f"{name}.html")
    given, upstream = inputs_from(derivation, inputs, sizes_from(size, derivation), seed)
    explorer.write(target, explorer.page(derivation, given, upstream, seed), force)
    _plain(Console(), f"Written to {target}: open it in a browser")


@app.command()
def vectors(
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", parser=_path, help="for the cases, their list and a README; created")
    ],
    force: Annotated[bool, typer.Option("--force", help="write into a folder that is not empty")] = False,
) -> None:
    """Write every norm's numbers, to test a port against.

    NumPy archives and JSON, in float64 and float32; the README in the folder tells what is what.
    """
    from rich.console import Console

    from uanref.experiments import vectors as experiment

    count = experiment.write(out, force)
    _plain(Console(), f"Written to {out}: {count} cases, README.md, cases.json")


@app.command()
def docs(
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            parser=_path,
            help="for the pages  [default: docs/_build/html of the checkout]",
            show_default=False,
        ),
    ] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="build only")] = False,
) -> None:
    """Build the documentation from a checkout and open it.

    Tutorials, derivation explorer, API reference; the pages open without a network. Needs pip install ".[docs]".
    """
    from rich.console import Console

    from uanref import docs as documentation

    checkout = documentation.find_checkout()
    documentation.require_extra()
    try:
        page = documentation.build(checkout, out or checkout / "docs" / "_build" / "html")
    except ChildProcessError as error:
        _fail(str(error), 1)
    _plain(Console(), f"Written to {page.parent}: open {page.name} in a browser")
    if not no_open:
        documentation.show(page)


# --- what commands share --------------------------------------------------------------------------


def _fail(message: str, code: int) -> NoReturn:
    raise _Failed(message, code)


def _wide() -> Console:
    """Return a console for tables of numbers, which a narrower terminal may break into lines but never cuts."""
    from rich.console import Console

    console = Console()
    return console if console.width >= 80 else Console(width=80)


def _unbroken() -> Console:
    """Return a console for Markdown, whose lines must not be broken."""
    from rich.console import Console

    return Console(width=200)


def _plain(console: Console, text: str) -> None:
    """Print text that is no markup and must not be cut: paths may hold brackets and be long."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def _command() -> str:
    return shlex.join(["uanref", *_arguments])


@contextmanager
def _progress(total: int, what: str, quiet: bool) -> Iterator[Callable[[object], None]]:
    """Yield what to call with everything finished: a bar on a terminal, a line elsewhere, silence if quiet."""
    from rich.console import Console

    console = Console(stderr=True)
    if quiet:
        yield lambda one: None
        return
    if not console.is_terminal:
        done = 0

        def line(one: object) -> None:
            nonlocal done
            done += 1
            _plain(console, f"{done} of {total} {what}: {one}")

        yield line
        return

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TextColumn(what), TimeElapsedColumn())
    with Progress(*columns, TextColumn("{task.description}", markup=False), console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda one: bar.update(task, advance=1, description=str(one))
