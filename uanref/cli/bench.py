"""``uanref bench``: how fast layers are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from uanref.cli import completion
from uanref.cli.app import app
from uanref.cli.options import Backend, Quiet, entries, path, whole
from uanref.cli.output import command_line, fail, print_plain, progress, wide

if TYPE_CHECKING:
    from uanref.bench.record import Record
    from uanref.bench.session import Plan


@app.command()
def bench(
    backend: Backend = "numpy",
    case: Annotated[
        list[str] | None,
        typer.Option(
            "--case",
            "--only",
            metavar="A,B",
            help="measure these cases alone, such as digits-uan,conv-64-64 (an unknown one lists all); may be repeated",
            autocompletion=completion.bench_cases,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help=f"peers, of {', '.join(completion.PEERS)}; torch where it is installed if left out",
            autocompletion=completion.peers,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(metavar="N", parser=whole(1, 1024), help="of both sides; as each case says if left out"),
    ] = None,
    versions: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="definition, fast or both; on the host fast if left out, with UANREF_PLAIN=1 the definition",
            autocompletion=completion.versions,
        ),
    ] = None,
    repeats: Annotated[int, typer.Option(metavar="N", parser=whole(1), help="how often each case is timed")] = 7,
    sweep: Annotated[
        bool,
        typer.Option("--sweep", help="measure the cost per element over doubling sizes (besides the cases of --case)"),
    ] = False,
    profile: Annotated[
        bool,
        typer.Option("--profile", help="tell where the time goes and what is the least it could be, beside PyTorch"),
    ] = False,
    memory: Annotated[
        bool, typer.Option("--memory", help="measure the peak memory of a pass beside PyTorch's, in fresh processes")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=path, help="draw the sweep into this PNG file")
    ] = None,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=path, help="write the numbers to this file as well")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=path, help="put the numbers into this page, between its marks")
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", parser=path, help="measure nothing: --page from this file of --json"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Measure how fast layers and training steps are.

    Beside other libraries, in the same process: both sides take turns, forward and backward together; the table has
    medians, the ratio with its spread, memory, and the rate beside what this machine can do. With --backend cupy:
    beside the GPU's copy bandwidth instead.
    """
    from uanref.backend import require

    wanted = None if versions is None else entries("--versions", versions, "definition,fast")
    names = None if case is None else tuple(name for one in case for name in entries("--case", one, "uan,relu"))
    peers = None if against is None else entries("--against", against, "torch,jax")
    require(backend)
    from uanref import files

    if memory:
        other = {"--against": against, "--versions": versions, "--sweep": sweep or None, "--out": out, "--json": json}
        other |= {"--profile": profile or None, "--from": source, "--backend": None if backend == "numpy" else backend}
        _refuse("--memory is of our faster versions on the host, beside PyTorch", other)
        from uanref.cli import bench_memory

        bench_memory.run(names, threads, page, quiet)
        return
    if profile:
        other = {"--against": against, "--versions": versions, "--sweep": sweep or None, "--out": out}
        other |= {"--backend": None if backend == "numpy" else backend}
        _refuse("--profile is of our faster versions on the host, beside PyTorch", other)
        if source is not None:
            _refuse("--from measures nothing", {"--case": case, "--threads": threads, "--json": json})
        from uanref.cli import bench_profile

        bench_profile.run(names, repeats, threads, json, page, source, quiet)
        return
    if source is not None:
        given = {"--case": case, "--against": against, "--threads": threads, "--versions": versions, "--json": json}
        _refuse("--from measures nothing", given | {"--sweep": sweep or None, "--out": out})
        if page is None:
            raise ValueError("--from needs --page, the page that the numbers are for")
        from uanref.bench import page as pages
        from uanref.bench import record as records

        pages.write(page, records.read(source))
        return
    if out is not None and not sweep:
        raise ValueError("--out is for the picture of the sweep: add --sweep")
    for target, option in ((json, "--json"), (out, "--out"), (page, "--page")):
        if target is not None:
            files.check_target(target, option)
    if backend == "cupy":
        given = {"--against": against, "--threads": threads, "--sweep": sweep or None, "--page": page}
        _refuse("--backend cupy measures no peer and no host", given)
        _on_device(names, wanted, repeats, json)
        return
    if page is not None:
        from uanref.bench import page as pages

        pages.text(page)
    from uanref.bench.session import Plan

    plan = Plan(names, peers, threads, wanted, repeats, sweep, command_line())
    _on_host(plan, out, json, page, quiet)


def _refuse(why: str, given: Mapping[str, object]) -> None:
    if extra := [option for option, value in given.items() if value is not None]:
        raise ValueError(f"{why}: leave out {', '.join(extra)}")


def _on_device(
    names: tuple[str, ...] | None, versions: tuple[str, ...] | None, repeats: int, json: Path | None
) -> None:
    from uanref import files
    from uanref.bench import device, device_report

    rows = [row for name in names or (None,) for row in device.run(repeats=repeats, only=name, versions=versions)]
    wide().print(device_report.report(rows))
    if json:
        files.write_json(json, device_report.rows_as_json(rows))


def _on_host(plan: Plan, out: Path | None, json: Path | None, page: Path | None, quiet: bool) -> None:
    from uanref import files
    from uanref.bench import session

    record, there = session.begin(plan)
    record.picture = "" if out is None else out.as_posix()
    total = session.total(plan, there)
    with progress(total, "measured", quiet) as finished:
        try:
            for what in session.run(plan, there, record):
                if json:
                    files.write_json(json, record.as_json())
                finished(what)
        except KeyboardInterrupt:
            record.interrupted = True
    if json and (record.rows or record.points):
        files.write_json(json, record.as_json())
    _show(record)
    if record.interrupted:
        kept = f", {json} has what was" if json and (record.rows or record.points) else ""
        fail(f"interrupted: {len(record.rows) + len(record.points)} of {total} were measured{kept}", 130)
    if out is not None:
        from uanref.bench import sweep_picture

        sweep_picture.draw(record.points, out)
    if page is not None:
        from uanref.bench import page as pages

        pages.write(page, record)


def _show(record: Record) -> None:
    from uanref.bench import report, sweep_report

    console = wide()
    if record.rows:
        console.print(report.report(record.rows, [*record.limits.values()], record.machine))
    for sentence in record.missing:
        print_plain(console, sentence)
    if record.points:
        console.print(sweep_report.report(record.points))
