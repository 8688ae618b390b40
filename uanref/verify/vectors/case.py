"""One case of the vectors: a norm with its options, a shape, a mode."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

from uanref.layers.base import Layer

MODES = ("train", "eval")
RANK_2, RANK_3, RANK_4 = (8, 2), (5, 2, 2), (3, 2, 2, 3)  # (N, C), (N, C, L), (N, C, H, W)


class Case(NamedTuple):
    """One entry of the list.

    Attributes:
        name: ``"folder/file"``, without a suffix; the random numbers are seeded with it.
        norm: the layer's class.
        options: its arguments; what is left out has its default.
        shape: of x.
        mode: ``"train"`` or ``"eval"``.
        first_batch: True if no batch was seen before this one; else the layer has seen two.
    """

    name: str
    norm: type[Layer]
    options: dict[str, Any]
    shape: tuple[int, ...]
    mode: str
    first_batch: bool = False

    def all_options(self) -> dict[str, Any]:
        """Return the layer's arguments with defaults filled in, without dtype and generator."""
        bound = inspect.signature(self.norm).bind(**self.options)
        bound.apply_defaults()
        return {name: value for name, value in bound.arguments.items() if name not in ("dtype", "rng")}
