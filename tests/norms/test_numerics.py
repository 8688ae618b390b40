"""Where floating point is thin: every norm stays finite, and right as far as its format goes."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
from support.arrays import draw_array

from uanref import backend
from uanref.norms.batch import BatchNorm
from uanref.norms.group import GroupNorm
from uanref.norms.instance import InstanceNorm
from uanref.norms.layer import LayerNorm
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mode import ModeNorm
from uanref.norms.uan import UAN
from uanref.norms.uan_public import UANPublic

# In float32 squares of 1e30 overflow and NumPy says so; what must hold is that no NaN or infinity comes out.
pytestmark = [
    pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore:underflow:RuntimeWarning"),
]

NORMS = {
    "bn": BatchNorm,
    "ln": LayerNorm,
    "gn": lambda channels, **options: GroupNorm(2, channels, **options),
    "in": InstanceNorm,
    "uan": UAN,
    "uan learned": lambda channels, **options: UAN(channels, statistics="learned", **options),
    "uan joint": lambda channels, **options: UAN(channels, posterior="joint", **options),
    "uan joint learned": lambda channels, **options: UAN(channels, posterior="joint", statistics="learned", **options),
    "uan em": lambda channels, **options: UAN(channels, update="em", **options),
    "uan shared": lambda channels, **options: UAN(channels, prior="shared", **options),
    "uan shared em": lambda channels, **options: UAN(channels, prior="shared", update="em", **options),
    "uan by the mixture": lambda channels, **options: UAN(channels, inference="mixture", **options),
    "mn": MixtureNorm,
    "mn channel": lambda channels, **options: MixtureNorm(channels, posterior="channel", **options),
    "mode": ModeNorm,
    "uan public": lambda channels, **options: UANPublic(channels, 3, **options),
    "uan data": lambda channels, **options: UAN(channels, start="data", **options),
}
BATCH_STATISTICS = {"bn", "uan", "uan joint", "uan em", "uan data", "mn", "mn channel", "mode"}
BATCH_STATISTICS |= {"uan shared", "uan shared em", "uan by the mixture"}
SINGLE_PIXEL = [name for name in NORMS if name != "in"]


def run(layer, x, seed=9):
    """Return the output, dx and every parameter's gradient for a random upstream gradient."""
    y = layer.forward(x)
    dx = layer.backward(backend.to_device(draw_array(x.shape, seed, dtype=str(x.dtype)), backend.name_of(x)))
    return {"y": y, "dx": dx} | {name: p.grad for name, p in layer.parameters().items()}


def assert_finite(found):
    for name, array in found.items():
        assert np.isfinite(array).all(), f"{name} is not finite"


def in_float64(layer):
    return copy.deepcopy(layer).to("float64")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("exponent", [-30, -20, -10, 10, 15, 18, 20, 30])
@pytest.mark.parametrize("name", NORMS)
def test_scales(name, exponent, dtype):
    """Outputs and dx from 1e-30 to 1e30. Parameter gradients of the learned mixture are of order x^2: see below."""
    layer = NORMS[name](4, dtype=dtype)
    found = run(layer, (10.0**exponent * draw_array((6, 4, 3, 3), 0)).astype(dtype))
    assert_finite({"y": found["y"], "dx": found["dx"]})
    for value in layer.state_dict().values():
        assert np.isfinite(value).all()
    assert_finite({key: value for key, value in found.items() if key in ("gamma", "beta")})
    if exponent <= 15:
        assert_finite(found)


@pytest.mark.parametrize("exponent", [-10, 3, 8, 12, 17])
@pytest.mark.parametrize("name", ["bn", "ln", "gn", "in"])
def test_float32_is_right_at_every_scale_that_it_can_square(name, exponent):
    layer = NORMS[name](4)
    x = (10.0**exponent * draw_array((6, 4, 3, 3), 0)).astype("float32")
    expected = run(in_float64(layer), x.astype("float64"))
    for key, value in run(layer, x).items():
        scale = np.abs(expected[key]).max()
        assert np.abs(value - expected[key]).max() <= 1e-5 * scale, key


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [0.0, 1.0, -1e4, 1e-38, 3.3e7, -7e11, 1.7e15])
@pytest.mark.parametrize("name", NORMS)
def test_constant_channels(name, value, dtype):
    layer = NORMS[name](4, dtype=dtype)
    x = draw_array((6, 4, 3, 3), 0, dtype=dtype)
    x[:, 1:] = value
    assert_finite(run(layer, x))
    assert_finite(run(layer, np.full_like(x, value)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("outlier", [1e4, 1e8, 1e15, -1e20, 1e30])
@pytest.mark.parametrize("name", NORMS)
def test_one_huge_outlier(name, outlier, dtype):
    layer = NORMS[name](4, dtype=dtype)
    x = draw_array((6, 4, 3, 3), 0, dtype=dtype)
    x[2, 1, 0, 0] = outlier
    found = run(layer, x)
    assert_finite({"y": found["y"], "dx": found["dx"]})


@pytest.mark.parametrize("exponent", range(5, 16, 2))
@pytest.mark.parametrize("name", ["bn", "uan", "uan joint", "mn"])
def test_a_variance_is_never_negative_by_rounding(name, exponent):
    """Constant float32 channels far from 0: what is left of the first moment must not outweigh the scatter."""
    for seed in range(20):
        layer = NORMS[name](3)
        value = np.float32(10.0**exponent * (1.0 + np.random.default_rng(seed).random()))
        assert_finite(run(layer, np.full((7, 3, 5), value)))
        assert (layer.running_var >= 0.0).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NORMS)
def test_subnormal_inputs(name, dtype):
    tiny = np.finfo(dtype).tiny
    assert_finite(run(NORMS[name](4, dtype=dtype), (0.01 * tiny * draw_array((6, 4, 3, 3), 0)).astype(dtype)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NORMS)
def test_one_sample_with_pixels(name, dtype):
    assert_finite(run(NORMS[name](4, dtype=dtype), draw_array((1, 4, 5, 5), 0, dtype=dtype)))


@pytest.mark.parametrize("shape", [(1, 4), (1, 4, 1, 1)])
@pytest.mark.parametrize("name", SINGLE_PIXEL)
def test_one_sample_and_one_pixel(name, shape):
    layer, x = NORMS[name](4, dtype="float64"), draw_array(shape, 0)
    if name in BATCH_STATISTICS:
        with pytest.raises(ValueError, match="needs >= 2 samples per channel"):
            layer.forward(x)
    else:
        assert_finite(run(layer, x))
    assert_finite(run(layer.eval(), x))


@pytest.mark.parametrize("name", [name for name in NORMS if name.startswith("uan") and name != "uan public"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_components_far_away_or_tiny(name, dtype):
    """Some components see nothing, one is a needle, one is as wide as the format allows."""
    layer = NORMS[name](4, num_components=5, dtype=dtype)
    if name == "uan data":
        layer.initialized = True
    layer.mean.value[1], layer.mean.value[2] = 1e6, -1e12
    layer.raw_variance.value[3], layer.raw_variance.value[4] = -80.0, 1e6
    assert_finite(run(layer, draw_array((6, 4, 3, 3), 0, dtype=dtype)))
    assert_finite(run(layer.eval(), draw_array((6, 4, 3, 3), 1, dtype=dtype)))


IMAGES = (1, 2, 1000, 1000)
MILLIONS = [
    (name, shape)
    for name in ("bn", "uan", "uan learned", "uan joint")
    for shape in ((10**6, 1), (1000, 1, 1000), IMAGES)
]
MILLIONS += [(name, IMAGES) for name in ("ln", "gn", "in")]  # whose statistics are one sample's


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize(("name", "shape"), MILLIONS)
def test_a_million_samples_in_float32(name, shape, offset):
    """Against the same layer in float64 on the same numbers: 1e-5 of the largest entry."""
    layer = NORMS[name](shape[1])
    if name.startswith("uan"):
        layer.mean.value += np.float32(offset)
    x = (offset + draw_array(shape, 0)).astype("float32")
    wide = in_float64(layer)
    found, expected = run(layer, x), run(wide, x.astype("float64"))
    for key in found:
        # A sum of a million terms of both signs: measured against the size of what was added up.
        terms = np.sqrt(x.size / shape[1]) if found[key].size <= 3 * shape[1] else 1.0
        scale = max(np.abs(expected[key]).max(), terms)
        tolerance = 1e-5 * (1.0 + offset)  # x itself is rounded to offset * 6e-8
        assert np.abs(found[key] - expected[key]).max() <= tolerance * scale, key
    for key, value in layer.state_dict().items():
        np.testing.assert_allclose(value, wide.state_dict()[key], rtol=1e-5, atol=1e-5, err_msg=key)


def test_ordinary_numbers_raise_no_warning():
    for name, make in NORMS.items():
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for dtype in ("float32", "float64"):
                assert_finite(run(make(4, dtype=dtype), draw_array((6, 4, 3, 3), 0, dtype=dtype))), name


@pytest.mark.parametrize("missing", ["gamma", "beta"])
@pytest.mark.parametrize("name", [name for name in NORMS if getattr(NORMS[name](4), "gamma", None) is not None])
def test_gamma_or_beta_alone_gets_its_gradient(name, missing):
    """A norm without a shift still has a scale: its gradient is neither left out nor last step's."""
    both, one = NORMS[name](4, dtype="float64"), NORMS[name](4, dtype="float64")
    setattr(one, missing, None)
    x = draw_array((6, 4, 3, 3), 0)
    expected, found = run(both, x), run(one, x)
    assert expected.keys() - found.keys() == {missing}
    for key in found:
        np.testing.assert_allclose(found[key], expected[key], rtol=1e-9, atol=1e-9, err_msg=key)


@pytest.mark.parametrize("posterior", ["channel", "joint"])
@pytest.mark.parametrize("logits", [(0.0, 0.0, 0.0), (0.3, -1.1, 0.7), (1.7, 0.2, -0.4)])
@pytest.mark.parametrize("scale", [1e4, 1e10])
def test_far_out_the_posterior_has_no_slope(posterior, logits, scale, device):
    """One component has all the weight: tau is 1, and no rounding of it, times x / s, becomes a gradient."""
    layer = UAN(2, 3, posterior=posterior)
    layer.prior_logits.value[...] = np.array(logits, dtype="float32")[:, None]
    x = scale * (1.0 + np.abs(draw_array((50, 2, 3), 0, dtype="float32")))
    expected = run(in_float64(layer).eval(), x.astype("float64"))
    there = backend.to_device(x, device.backend)
    found = {key: backend.to_host(value) for key, value in run(layer.eval().to(device.backend), there).items()}
    for key in ("dx", "mean", "raw_variance"):
        limit = 1e-4 * max(np.abs(expected[key]).max(), np.abs(expected["y"]).max() / scale)
        assert np.abs(found[key] - expected[key]).max() <= limit, key
