"""``uanref info``: versions and backends."""

from __future__ import annotations

from uanref.cli.app import app


@app.command()
def info() -> None:
    """Show versions, usable backends, cores and threads.

    And for how many definitions faster versions serve here.
    """
    from rich.console import Console

    from uanref.verify import info as facts

    Console().print(facts.table())
