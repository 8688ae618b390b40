"""Heavy cases take turns: each commit runs a part of them, the next commit another one.

``UANREF_WHOLE=1`` runs all of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

Case = TypeVar("Case")


def whole() -> bool:
    """Return whether all cases were asked for."""
    return bool(os.environ.get("UANREF_WHOLE"))


def number(of: int) -> int:
    """Return whose turn it is among ``of``: 0 to ``of`` - 1, as the commit says; ``GITHUB_SHA`` names the commit."""
    return int(os.environ.get("GITHUB_SHA", "0")[:8], 16) % of


def part(cases: Sequence[Case], of: int) -> list[Case]:
    """Return every ``of``-th case, beginning where the commit says."""
    return list(cases) if whole() else list(cases[number(of) :: of])
