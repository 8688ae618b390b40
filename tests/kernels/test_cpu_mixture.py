"""Mixtures on the host: lanes of every kind, posteriors kept for a pass and no longer, the same bits by two threads."""

from __future__ import annotations

import copy
import gc
import pickle
from typing import Any

import numpy as np
import pytest
from support.arrays import draw_array
from support.definitions import changed, exactly, results
from support.parity_cases import CASES, Sizes

from uanref import backend
from uanref.kernels.cpu import mixture_blocks, mixture_kept, mixture_moments, mixture_transform
from uanref.kernels.cpu.mixture_lanes import CACHE_LINE, LANE, Lanes, empty_lines
from uanref.layers.base import Layer
from uanref.norms import mixture_moments as moments_definition
from uanref.norms import mixture_transform as transform_definition
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mixture_moments import Moments, batch_moments, fixed_moments
from uanref.norms.mixture_transform import transform, transform_backward
from uanref.norms.mixture_weights import Mixture
from uanref.norms.uan import UAN

pytestmark = pytest.mark.versions("how faster versions lie in memory, and what they keep")

FUNCTIONS = {
    "norms.mixture_moments.batch_moments": (mixture_moments.batch_moments, moments_definition.batch_moments),
    "norms.mixture_transform.transform": (mixture_transform.transform, transform_definition.transform),
    "norms.mixture_transform.transform_backward": (
        mixture_transform.transform_backward,
        transform_definition.transform_backward,
    ),
}

# --- lanes ------------------------------------------------------------------------------------------

# Samples, channels, spatial: several rows of lanes and a rest; a sample in groups of channels, the last one smaller;
# rows of one channel that are a lane themselves; no spatial axis; fewer samples than a lane holds.
SHAPES = [(23, 4, 700), (4, 5, 4000), (3, 2, LANE + 5), (300, 130, 1), (6, 3, 10)]


@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("path", FUNCTIONS)
def test_every_kind_of_lane(path: str, shape: tuple[int, int, int], dtype: str, layout: str) -> None:
    version, definition = FUNCTIONS[path]
    for samples in (shape[0], shape[0] + 1):  # moments of the batch and fixed ones
        with backend.plain():
            drawn = CASES[path](np.random.default_rng(0), Sizes(samples, *shape[1:], 3))
        given = [changed(a, lambda a: np.asarray(a, dtype, order=layout)) for a in drawn]
        for found, expected in zip(results(version(*given)), exactly(definition, *given), strict=True):
            assert found.dtype == dtype
            tolerance = 3e-5 if dtype == "float32" else 1e-11  # of sums over up to 50 000 numbers
            assert np.abs(found - expected).max() <= tolerance * max(np.abs(expected).max(), 1e-3)


def test_blocks_cover_the_batch_once() -> None:
    for shape in SHAPES:
        for joint in (False, True):
            lanes, seen = Lanes(np.zeros(shape), 3, joint), np.zeros(shape, int)
            for block in lanes.blocks:
                seen[block.samples, lanes.groups[block.group]] += 1
            np.testing.assert_array_equal(seen, 1)
            assert [block.number for block in lanes.blocks] == list(range(len(lanes.blocks)))
    assert len(Lanes(np.zeros((4, 5, 4000)), 3, False).groups) == 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_buffers_begin_at_lines_of_the_cache(dtype: str) -> None:
    like = np.empty(0, dtype)
    for count, shape in ((1, (3, 5)), (3, (2, 1, 17)), (2, (70_000,))):
        arrays = empty_lines(count, shape, like)
        assert [a.shape for a in arrays] == [shape] * count
        assert all(a.ctypes.data % CACHE_LINE == 0 and a.flags.c_contiguous for a in arrays)
        assert not any(np.shares_memory(a, b) for a in arrays for b in arrays if a is not b)


@pytest.mark.parametrize("shape", [(128, 16, 8, 8), (40, 3, 80, 80), (300, 400)], ids=str)
def test_two_threads_give_the_same_bits(shape: tuple[int, ...]) -> None:
    x, dy = (draw_array(shape, seed, dtype="float32") for seed in range(2))
    found = []
    for threads in (1, 2):
        layer = UAN(shape[1])
        with backend.limit_threads(threads):
            found.append([layer.forward(x), layer.backward(dy), *(p.grad for p in layer.parameters().values())])
    assert len(Lanes(x.reshape(*shape[:2], -1), 3, False).blocks) > 1
    for one, two in zip(*found, strict=True):
        assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("value", [1.0, np.nan, np.inf, 1e20])
def test_rows_that_lie_apart_are_bounded_like_others(value: float) -> None:
    apart = draw_array((4, 6), 0, dtype="float32")[:, :3]
    apart[1, 2] = value
    assert not apart.flags.c_contiguous
    with np.errstate(all="raise"):
        found = mixture_blocks.near(apart)
    np.testing.assert_array_equal(found, mixture_blocks.near(np.ascontiguousarray(apart)))
    assert (found is apart) == (value == 1.0)


# --- kept posteriors --------------------------------------------------------------------------------


def posteriors(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the number of every block whose posteriors are computed."""
    noted: list[int] = []
    near = mixture_blocks.near

    def noting(x: Any) -> Any:
        noted.append(x.size)
        return near(x)

    monkeypatch.setattr(mixture_blocks, "near", noting)
    return noted


MAKES = {
    "UAN": lambda: UAN(3),
    "UAN eval": lambda: UAN(3).eval(),
    "UAN learned": lambda: UAN(3, statistics="learned"),
    "UAN joint": lambda: UAN(3, posterior="joint"),
    "MixtureNorm": lambda: MixtureNorm(3),
}


@pytest.mark.parametrize("name", MAKES)
def test_what_a_pass_keeps_goes_with_it(name: str) -> None:
    layer: Layer = MAKES[name]()
    x = draw_array((5, 3, 4), 0, dtype="float32")
    for end in (lambda: layer.backward(x), layer.clear):
        layer.forward(x)
        layer.forward(x + 1)
        assert len(mixture_kept._kept) == 2
        end()
        layer.clear()
        gc.collect()
        assert not mixture_kept._kept
    with backend.inference():
        y = layer.forward(x)
    assert y.shape == x.shape
    gc.collect()
    assert not mixture_kept._kept


@pytest.mark.parametrize(("name", "times"), [("UAN", 1), ("UAN eval", 1), ("UAN learned", 1), ("MixtureNorm", 3)])
def test_posteriors_are_computed_once(name: str, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two EM steps have their own. Above the limit, every walk computes them."""
    layer: Layer = MAKES[name]()
    x = draw_array((5, 3, 4), 0, dtype="float32")
    noted = posteriors(monkeypatch)
    layer.forward(x)
    y = layer.backward(x)
    assert len(noted) == times
    noted.clear()
    monkeypatch.setattr(mixture_kept, "LIMIT_BYTES", 3 * x.nbytes - 1)
    again: Layer = MAKES[name]()
    again.forward(x)
    np.testing.assert_array_equal(again.backward(x), y)
    if name != "MixtureNorm":  # a joint posterior is smaller
        assert len(noted) > times
        assert not mixture_kept._kept


def test_only_the_very_arrays_of_a_pass_are_served() -> None:
    x, dy = draw_array((5, 3, 4), 0), draw_array((5, 3, 4), 1)
    even = np.full((2, 3), np.log(0.5))
    mixture = Mixture(even, draw_array((2, 3), 2), np.ones((2, 3)))
    moments = Moments(*batch_moments(x, mixture, 1e-3))
    assert mixture_kept.recall(moments.inverse_std, x, *mixture) is not None
    for i in range(4):
        given = [x, *mixture]
        given[i] = given[i].copy()
        assert mixture_kept.recall(moments.inverse_std, *given) is None
    assert mixture_kept.recall(moments.inverse_std.copy(), x, *mixture) is None

    # Another x with these moments: computed again, and right.
    other, fixed = draw_array((5, 3, 4), 3), fixed_moments(moments.mean, moments.variance, 1e-3)
    transform(x, mixture, fixed, 1.0, None, None)
    with backend.plain():
        expected = transform(other, mixture, moments, 1.0, None, None)
        back = transform_backward(dy, other, mixture, fixed, 1.0, None)
    np.testing.assert_allclose(transform(other, mixture, moments, 1.0, None, None), expected, rtol=1e-12, atol=1e-14)
    for found, right in zip(transform_backward(dy, other, mixture, fixed, 1.0, None), back, strict=True):
        np.testing.assert_allclose(found, right, rtol=1e-11, atol=1e-12)


def test_fixed_moments_are_given_again_and_again() -> None:
    """They may outlive a pass, and x may be another by then, or hold other numbers."""
    x, mean = draw_array((5, 3, 4), 0), draw_array((2, 3), 2)
    mixture = Mixture(np.full((2, 3), np.log(0.5)), mean, np.ones((2, 3)))
    moments = fixed_moments(mean, np.ones((2, 3)), 1e-3)
    transform(x, mixture, moments, 1.0, None, None)
    x += 1.0
    with backend.plain():
        expected = transform(x, mixture, moments, 1.0, None, None)
    np.testing.assert_allclose(transform(x, mixture, moments, 1.0, None, None), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_a_copy_of_a_pending_layer_computes_its_own(copied: Any) -> None:
    layer, x = UAN(3, dtype="float64"), draw_array((5, 3, 4), 0)
    before = len(mixture_kept._kept)
    layer.forward(x)
    twin = copied(layer)
    assert len(mixture_kept._kept) == before + 1
    expected = layer.backward(x)
    np.testing.assert_allclose(twin.backward(x), expected, rtol=1e-12, atol=1e-14)


def test_one_array_given_twice() -> None:
    """Two passes of one x are pending: each has its own."""
    layer, x = UAN(3, dtype="float64"), draw_array((5, 3, 4), 0)
    layer.forward(x)
    layer.mean.value = layer.mean.value + 0.5
    layer.forward(x)
    second, first = layer.backward(x), layer.backward(x)
    assert np.abs(second - first).max() > 1e-3
    fresh = UAN(3, dtype="float64")
    fresh.forward(x)
    np.testing.assert_array_equal(fresh.backward(x), first)
