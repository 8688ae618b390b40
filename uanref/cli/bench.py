"""``uanref bench``: how fast layers are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from uanref.cli.app import app
from uanref.cli.options import Backend, Versions, path, wanted_versions, whole
from uanref.cli.output import wide


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
    versions: Versions = None,
    repeats: Annotated[int, typer.Option(metavar="N", parser=whole(1), help="how often each case is timed")] = 7,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", parser=path, help="write the numbers to this file as well")
    ] = None,
) -> None:
    """Measure how fast layers are, beside PyTorch's.

    Each layer twice: as its definition is written, and with the faster versions, which alone have a limit to keep.
    Without PyTorch the layers are measured alone. With --backend cupy: beside the GPU's copy bandwidth instead.
    """
    from uanref.backend import require

    found = wanted_versions(versions)
    require(backend)
    from uanref import files

    if json:
        files.check_target(json, "--json")
    if backend == "cupy":
        from uanref.bench import device, device_report

        measured = device.run(repeats=repeats, only=only, versions=found)
        report, numbers = device_report.report(measured), device_report.rows_as_json(measured)
    else:
        from uanref.bench import suite

        rows = suite.run(repeats=repeats, only=only, versions=found)
        report, numbers = suite.report(rows), suite.rows_as_json(rows)
    wide().print(report)
    if json:
        files.write_json(json, numbers)
