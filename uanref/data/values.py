"""What the small integers stand for of which a set consists on the disk, and in memory until a batch is made."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from uanref.backend import Array


@dataclass(frozen=True)
class Values:
    """The map from stored numbers to float32: divided by ``divisor``, then whatever ``then`` does.

    A set of bytes takes a fourth of the memory of the same set in float32; a batch of it has the same bits.

    Attributes:
        divisor: >= 1, such as 255 for grey values.
        then: takes and returns float32 images (N, C, H, W) or vectors (N, D), such as ``Standardizer.apply``.
    """

    divisor: int = 1
    then: Callable[[Array], Array] | None = None

    def __call__(self, stored: Array) -> Array:
        """Return ``stored``, (N, C, H, W) or (N, D), as float32, as a new array."""
        if stored.dtype != np.uint8 or stored.ndim != 4:
            return self._computed(stored)
        out = np.empty(stored.shape, dtype=np.float32)
        for channel, table in enumerate(self._tables(stored.shape[1])):
            # Faster than to compute: every byte is looked up. "clip" because no index is out of range.
            np.take(table, stored[:, channel], out=out[:, channel], mode="clip")
        return out

    def _computed(self, stored: Array) -> Array:
        scaled: Array = np.divide(stored, self.divisor, dtype=np.float32, casting="unsafe")
        return scaled if self.then is None else self.then(scaled)

    @functools.lru_cache(maxsize=4)  # noqa: B019  the few maps of a process may stay
    def _tables(self, channels: int) -> Array:
        """Return what each byte becomes in each channel, (C, 256)."""
        every = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None, None, None], (256, channels, 1, 1))
        return np.ascontiguousarray(self._computed(every)[:, :, 0, 0].T)
