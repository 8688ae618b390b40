"""float32 against float64: every norm and every neighbour, y, dx, all gradients and the state, in both modes.

A mistake in one format alone is seen by no gradient check: those run in float64.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
from support.arrays import draw_array, shake

from uanref import backend
from uanref.neighbours.alcn import AdaptiveLocalContrastNorm
from uanref.neighbours.clade import ClassAdaptiveNorm
from uanref.neighbours.inverse_probability import weighted_mean
from uanref.neighbours.streaming import StreamingNorm
from uanref.norms.batch import BatchNorm
from uanref.norms.group import GroupNorm
from uanref.norms.instance import InstanceNorm
from uanref.norms.layer import LayerNorm
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mode import ModeNorm
from uanref.norms.uan import UAN
from uanref.norms.uan_public import UANPublic

SHAPE = (12, 4, 5, 3)
NORMS = {
    "bn": lambda: BatchNorm(4),
    "ln": lambda: LayerNorm(4),
    "gn": lambda: GroupNorm(2, 4),
    "in": lambda: InstanceNorm(4),
    "uan": lambda: UAN(4),
    "uan joint": lambda: UAN(4, posterior="joint"),
    "uan learned": lambda: UAN(4, statistics="learned"),
    "uan joint learned": lambda: UAN(4, posterior="joint", statistics="learned"),
    "uan em": lambda: UAN(4, update="em"),
    "uan learned em": lambda: UAN(4, update="em", statistics="learned"),
    "uan data": lambda: UAN(4, start="data"),
    "uan shared": lambda: UAN(4, prior="shared"),
    "uan shared em": lambda: UAN(4, prior="shared", update="em"),
    "uan by the mixture": lambda: UAN(4, inference="mixture"),
    "uan not rescaled": lambda: UAN(4, rescale=False),
    "mn": lambda: MixtureNorm(4),
    "mn channel": lambda: MixtureNorm(4, posterior="channel"),
    "mode": lambda: ModeNorm(4, 3),
    "uan public": lambda: UANPublic(4, 3),
    "clade": lambda: ClassAdaptiveNorm(4, 3),
    "alcn": lambda: AdaptiveLocalContrastNorm((0.5, 1.2)),
}
SAMPLE_NORMS = ("ln", "gn", "in")


def second_input(layer, x):
    """The class map or the filters' weights, for the layers that take one."""
    rng = np.random.default_rng(5)
    if isinstance(layer, ClassAdaptiveNorm):
        return (rng.integers(0, 3, (x.shape[0], *x.shape[2:])),)
    if isinstance(layer, AdaptiveLocalContrastNorm):
        return (rng.standard_normal((x.shape[0], 2)).astype("float32").astype(x.dtype),)
    return ()


def run(layer, x, dy):
    """Return y, dx, every parameter's gradient and the state after the passes."""
    found = {"y": layer.forward(x, *second_input(layer, x))}
    dx = layer.backward(dy)
    found |= dict(zip(("dx", "dweights"), dx, strict=True)) if isinstance(dx, tuple) else {"dx": dx}
    found |= {f"d{name}": p.grad for name, p in layer.parameters().items()}
    return found | {name: value for name, value in layer.state_dict().items() if value.dtype.kind == "f"}


def compare(layer, x, dy, tolerance):
    """Compare with the same layer in float64 on the very same numbers, in units of each array's largest entry."""
    expected = run(copy.deepcopy(layer).to("float64"), x.astype("float64"), dy.astype("float64"))
    found = run(layer, x, dy)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == "float32", name
        error, scale = np.abs(found[name] - value).max(), np.abs(value).max()
        assert error <= tolerance * scale, f"{name}: {error / scale:.1e}"


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("name", NORMS)
def test_as_in_float64(name, training):
    layer = shake(NORMS[name](), 2, 0.3)
    x, dy = (draw_array(SHAPE, seed, dtype="float32") for seed in (0, 1))
    x = np.float32(1.3) * x + np.float32(0.4)
    if not training:  # a state that some batches have moved
        for seed in range(3):
            z = draw_array(SHAPE, 10 + seed, dtype="float32")
            layer.forward(z, *second_input(layer, z))
    # The public layer in eval mode: its parameters lie where gradients are small differences.
    compare(layer.train(training), x, dy, 5e-4 if name == "uan public" else 2e-5)


@pytest.mark.parametrize("shape", [(12, 4), (700, 4, 8)], ids=["without space", "several blocks"])
@pytest.mark.parametrize("name", [name for name in NORMS if name not in ("in", "alcn")])
def test_other_shapes_as_in_float64(name, shape):
    layer = shake(NORMS[name](), 2, 0.3)
    compare(layer, draw_array(shape, 0, dtype="float32"), draw_array(shape, 1, dtype="float32"), 1e-4)


def test_streaming_as_in_float64():
    stream = (5.0 + draw_array((200, 3), 0)).astype("float32")
    found = StreamingNorm(3, 20, dtype="float32").run(stream)
    expected = StreamingNorm(3, 20).run(stream.astype("float64"))
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_weighted_mean_of_float32_numbers():
    rng = np.random.default_rng(0)
    y, p = rng.standard_normal(50).astype("float32"), rng.uniform(0.2, 1.0, 50).astype("float32")
    observed = rng.uniform(size=50) < p
    found = weighted_mean(y, observed, p)
    assert found == weighted_mean(y.astype("float64"), observed, p.astype("float64"))


# --- far from 0 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [1e3, -1e4, 1e5])
@pytest.mark.parametrize("spatial", [(8, 8), (7, 9, 11), (70, 70)], ids=str)
@pytest.mark.parametrize("name", ["bn", *SAMPLE_NORMS])
def test_unit_spread_far_from_zero(name, spatial, offset):
    """x itself is rounded to offset * 6e-8; of these numbers y is exact, dx as far as the mean fits float32."""
    layer, shape = shake(NORMS[name](), 2, 0.3), (4, 4, *spatial)
    x, dy = (offset + draw_array(shape, 0)).astype("float32"), draw_array(shape, 1, dtype="float32")
    wide = copy.deepcopy(layer).to("float64")
    expected, y = wide.forward(x.astype("float64")), layer.forward(x)
    scale = np.abs(expected).max()
    rounded_mean = 6e-8 * abs(offset)  # by which batch normalization shifts y
    assert np.abs(y - expected).max() <= (2e-6 + (rounded_mean if name == "bn" else 0.0)) * scale
    expected, dx = wide.backward(dy.astype("float64")), layer.backward(dy)
    assert np.abs(dx - expected).max() <= (1e-5 + rounded_mean) * np.abs(expected).max()


@pytest.mark.parametrize("constant", [1.0, 7.7, 252.3, -12345.678, 99999.9, 3.3e7, 1e8])
@pytest.mark.parametrize("spatial", [(64, 64), (17, 31), (300, 100)], ids=str)
@pytest.mark.parametrize("name", ["bn", *SAMPLE_NORMS])
def test_a_constant_image_gives_beta(device, name, spatial, constant):
    """1 / sqrt(eps) = 316 multiplies what rounding leaves of the mean: nothing may be left."""
    layer = NORMS[name]().to(device.backend)
    x = backend.to_device(np.full((2, 4, *spatial), constant, "float32"), device.backend)
    assert np.abs(backend.to_host(layer.forward(x))).max() <= 2e-3


@pytest.mark.parametrize("constant", [7.7, 252.3, 12345.678])
def test_the_public_layer_learns_no_variance_from_a_constant(constant):
    """With ``momentum=0`` its raw variance becomes the variance of its own output, 0 here."""
    layer = UANPublic(1, 1, momentum=0.0)
    layer.mean.value[...] = constant
    layer.forward(np.full((4, 1, 30, 31), constant, "float32"))
    assert layer.mean.value[0, 0] > 10.0 * constant
    np.testing.assert_array_equal(layer.variance.value, 0.0)


# --- the seeds of Mixture Normalization -----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_seeds_do_not_depend_on_the_channels_units(seed):
    """k-means++ measures distances in standard deviations: a channel in other units chooses the same samples."""
    x, unit = draw_array((60, 3), seed), np.array([1.0, 1000.0, 1e-3])
    x[:, 0] += np.where(x[:, 0] > 0.0, 3.0, -3.0)
    plain, scaled = (
        MixtureNorm(3, 4, eps=1e-14, em_steps=1, dtype="float64", rng=np.random.default_rng(seed)) for _ in range(2)
    )
    plain.forward(x)
    scaled.forward(x * unit)
    np.testing.assert_allclose(scaled.fit.mean, plain.fit.mean * unit, rtol=1e-5)
    np.testing.assert_allclose(scaled.fit.variance, plain.fit.variance * unit**2, rtol=1e-4)
