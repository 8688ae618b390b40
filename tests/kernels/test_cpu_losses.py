"""Cross-entropy on the host in blocks: as defined, also where terms vanish or are infinite; threads."""

from __future__ import annotations

import numpy as np
import pytest
from support.arrays import LAYOUTS
from support.layouts import laid_out

from uanref import backend, kernels
from uanref.kernels.cpu import blocks, losses
from uanref.losses import cross_entropy, cross_entropy_backward

INF, NAN = np.inf, np.nan


def both(logits: np.ndarray, targets: np.ndarray, smoothing: float) -> list[list[np.ndarray]]:
    """Return loss, log p and gradient, by the definitions and by the versions."""
    found = []
    for plain in (True, False):
        with backend.plain(plain), np.errstate(all="ignore"), kernels.watched() as served:
            loss, log_p = cross_entropy(logits, targets, smoothing)
            found.append([loss, log_p, cross_entropy_backward(log_p, targets, smoothing)])
        assert len(served) == (0 if plain else 2)
    return found


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0, 1e-60])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize(
    "values", [[0.0, 1.0, -2.0], [-INF, 1.0, 2.0], [-INF, -INF, 3.0], [3e38, -3e38, 0.0], [NAN, 1.0, -INF], [INF, 1.0]]
)
def test_as_defined_where_terms_vanish_or_are_infinite(
    values: list[float], soft: bool, smoothing: float, dtype: str
) -> None:
    rng = np.random.default_rng(0)
    for samples in [1] * 30 + [3] * 10 * (max(values) < 1e38):  # the sum of several losses may exceed the range
        logits = rng.choice(values, (samples, 4)).astype(dtype)
        targets = rng.choice([0.0, 0.25, 1.0], (samples, 4)).astype(dtype) if soft else rng.integers(0, 4, samples)
        for one, other in zip(*both(logits, targets, smoothing), strict=True):
            assert one.dtype == other.dtype == dtype
            assert one.shape == other.shape
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("soft", [False, True])
def test_any_layout_in_several_blocks(
    layout: str, soft: bool, smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks.sample_blocks, "__defaults__", (1 << 12,))
    rng = np.random.default_rng(1)
    logits = laid_out(3.0 * rng.standard_normal((61, 7)), layout)
    targets = laid_out(rng.dirichlet(np.ones(7), 61), layout) if soft else rng.integers(0, 7, 122)[::2]
    before = logits.copy(), targets.copy()
    for one, other in zip(*both(logits, targets, smoothing), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(logits, before[0])
    np.testing.assert_array_equal(targets, before[1])


@pytest.mark.parametrize("soft", [False, True])
def test_threads_share_the_blocks_and_change_no_bit(soft: bool) -> None:
    rng = np.random.default_rng(2)
    logits = rng.standard_normal((900, 300)).astype("float32")
    targets = rng.dirichlet(np.ones(300), 900).astype("float32") if soft else rng.integers(0, 300, 900)
    assert len(losses.sample_blocks(logits, losses.NUMBERS * 300)) > 2
    found = []
    for threads in (1, 2):
        with backend.limit_threads(threads):
            found.append(both(logits, targets, 0.1)[1])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
