"""``uanref check``: all gradients or a norm of one's own, or a device against the host."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from uanref.cli.app import app
from uanref.cli.options import OWN_NORM, Backend, Seed, Versions, wanted_versions
from uanref.cli.output import fail, print_plain, progress, unbroken, wide

if TYPE_CHECKING:
    from rich.console import Console

    from uanref.verify.check import CheckRow
    from uanref.verify.computations import Computation


@app.command()
def check(
    backend: Backend = "numpy",
    only: Annotated[str | None, typer.Option(metavar="NAME", help="check what has this in its name")] = None,
    norm: Annotated[
        str | None, typer.Option(metavar="FILE:NAME", help=f"check a norm of your own instead: {OWN_NORM}")
    ] = None,
    versions: Versions = None,
    seed: Seed = 0,
    plain: Annotated[bool, typer.Option("--plain", help="print Markdown, for a bug report")] = False,
) -> None:
    """Check all hand-derived gradients against numerical ones.

    Each layer twice: as its definition is written, and with the faster versions ("-" where none serves). With
    --backend cupy: everything that the GPU computes, both ways, in float64 and float32, against the definition on
    NumPy in float64; a table for a bug report, in Markdown where it does not go to a terminal. With --norm: a norm of
    your own alone, and what a layer promises beside its gradients. Exit code 1 if a check fails.
    """
    from uanref.backend import require

    found = wanted_versions(versions)
    require(backend)
    if norm is not None:
        if only is not None:
            raise ValueError(f"--only {only} chooses among the package's layers, --norm names yours: leave one out")
        _check_own(norm, backend, found, seed, plain)
    elif backend == "cupy":
        from uanref.verify import check, computations

        _check_device(check.chosen(computations.computations(), only), found, seed, plain)
    else:
        from uanref.verify import check

        _show(check.run(seed=seed, only=only, versions=found), plain)


def _check_own(norm: str, backend: str, versions: tuple[str, ...], seed: int, plain: bool) -> None:
    from uanref import models
    from uanref.verify import computations, own

    factory = models.find_norm(norm)
    if isinstance(factory, str):
        raise ValueError(f"--norm {norm} is of the package: uanref check without --norm checks it")
    found, notes = own.cases(factory)
    if backend == "cupy":
        _check_device(computations.of_layers(found), versions, seed, plain, notes)
    else:
        _show(own.run(factory, found, seed, versions), plain, [own.NOTE, *notes])


def _show(rows: list[CheckRow], plain: bool, notes: Sequence[str] = ()) -> None:
    from uanref.verify import check

    console = unbroken() if plain else wide()
    console.print(check.table(rows, plain))
    for note in notes:
        print_plain(console, note)
    _print_failures(console, [row.details for row in rows if not row.ok], len(rows))


def _check_device(
    selected: list[Computation], versions: tuple[str, ...], seed: int, plain: bool, notes: Sequence[str] = ()
) -> None:
    from uanref.verify import check_device, device_report

    console = wide()
    plain = plain or not console.is_terminal
    print_plain(console, device_report.header() + "\n")
    with progress(len(selected), "checks", quiet=not sys.stderr.isatty()) as finished:
        rows = check_device.run(selected, seed, finished, versions)
    (unbroken() if plain else console).print(device_report.table(rows, plain))
    print_plain(console, "\n" + device_report.legend(rows))
    for note in notes:
        print_plain(console, note)
    _print_failures(console, [row.details for row in rows if not row.ok], len(rows))


def _print_failures(console: Console, details: list[str], total: int) -> None:
    for text in details:
        print_plain(console, f"\n{text}")
    if details:
        fail(f"{len(details)} of {total} checks failed", 1)
