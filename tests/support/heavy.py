"""Lists of cases of which a quick run takes some: the others are marked ``slow``, and run in CI."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def every(step: int, values: Iterable[Any]) -> list[Any]:
    """Return ``values`` for ``parametrize``: of ``step`` of them the first is for every run, the rest are slow."""
    return [value if i % step == 0 else slow(value) for i, value in enumerate(values)]


def slow(value: Any) -> Any:
    """Return one value of ``parametrize`` (a tuple stands for several arguments), marked slow."""
    return pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow)
