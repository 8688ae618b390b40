"""Heavy cases take turns: each commit runs a part of them, the next commit another one.

``UANREF_WHOLE=1`` runs all of them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

Case = TypeVar("Case")


def part(cases: Sequence[Case], of: int) -> list[Case]:
    """Return every ``of``-th case, beginning where the commit says; ``GITHUB_SHA`` names the commit."""
    if os.environ.get("UANREF_WHOLE"):
        return list(cases)
    return list(cases[int(os.environ.get("GITHUB_SHA", "0")[:8], 16) % of :: of])
