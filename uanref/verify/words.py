"""Errors, outcomes and counts as the tables of ``uanref check`` have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.text import Text


def error_text(error: float | None) -> str:
    """Return an error in two digits, ``-`` for None."""
    return "-" if error is None else f"{error:.1e}"


def summary(rows: Sequence[Any]) -> str:
    """Return how many of the rows failed, in words."""
    failed = sum(not row.ok for row in rows)
    return f"{len(rows)} checked, " + (f"{failed} failed" if failed else "all passed")


def status(ok: bool) -> Text:
    """Return ``ok``, or a red ``FAIL``."""
    return Text("ok", style="green") if ok else Text("FAIL", style="bold red")
