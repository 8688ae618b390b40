"""What this machine can do at most, measured in the same process as the cases: products, copies, exponentials."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from uanref.bench.timing import calls_for, seconds

REPEATS = 5
PRODUCT = 1024
COPIED = 2**24  # 64 MB, beyond any cache
EXPONENTIALS = 2**16  # 256 KB each, inside the cache of a core


@dataclass(frozen=True)
class Limits:
    """Best of a few repeats, float32, with ``threads`` threads.

    Attributes:
        threads: of each of them.
        gemm: 10^9 operations a second of a product of two 1024 x 1024 matrices, NumPy's BLAS.
        copy: 10^9 bytes a second, read and written, of a copy of 64 MB.
        exp: 10^9 exponentials a second by ``numpy.exp``, in the cache.
    """

    threads: int
    gemm: float
    copy: float
    exp: float


def measured(threads: int, size: int = 1) -> Limits:
    """Measure; the caller has limited BLAS to ``threads``. ``size`` divides all sizes, for tests."""
    draw = np.random.default_rng(0)
    side, copied, each = PRODUCT // size, COPIED // size, EXPONENTIALS // size
    a, b = (draw.standard_normal((side, side)).astype("float32") for _ in range(2))
    product = np.empty_like(a)
    source = draw.standard_normal(copied).astype("float32")
    target = np.zeros_like(source)
    parts = [slice(i * copied // threads, (i + 1) * copied // threads) for i in range(threads)]
    numbers = [draw.standard_normal(each).astype("float32") for _ in range(threads)]
    powers = [np.zeros_like(one) for one in numbers]

    def exponentials(i: int) -> None:
        for _ in range(16):
            np.exp(numbers[i], out=powers[i])

    with ThreadPoolExecutor(threads) as pool:

        def copy() -> None:
            list(pool.map(lambda part: np.copyto(target[part], source[part]), parts))

        def exp() -> None:
            list(pool.map(exponentials, range(threads)))

        return Limits(
            threads,
            gemm=2 * side**3 / _best(lambda: np.matmul(a, b, out=product)) / 1e9,
            copy=2 * source.nbytes / _best(copy) / 1e9,
            exp=16 * threads * each / _best(exp) / 1e9,
        )


def _best(task: Callable[[], object]) -> float:
    task()
    calls = calls_for(task)
    return min(seconds(task, calls) for _ in range(REPEATS))
