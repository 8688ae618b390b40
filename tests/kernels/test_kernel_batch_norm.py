"""The kernels of batch normalization where parity's small arrays do not reach, and the layer on them."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.arrays import LAYOUTS, channel_shapes, close, draw_array, shake
from support.definitions import exactly
from support.layouts import on_device

from uanref import backend, gradcheck
from uanref.kernels.cuda import batch as kernels
from uanref.kernels.cuda import launch
from uanref.norms import batch
from uanref.norms.batch import BatchNorm

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
SEEDS = st.integers(0, 2**32 - 1)
# Channels of several parts: at a part's end, one beyond it, images longer and shorter than a step of the threads.
SEVERAL_PARTS = [
    (1, 2, 4096),
    (1, 2, 4097),
    (2, 2, 65, 65),
    (3, 1, 4500),
    (4100, 2),
    (1400, 2, 3),
    (6000, 3, 2),
    (30, 2, 300),
]
FORWARD = ["batch_norm_moments", "batch_norm_merge", "batch_norm_normalize"]
BACKWARD = ["batch_norm_sums", "batch_norm_merge_sums", "batch_norm_dx"]
# Where a block has a whole channel.
FORWARD_OF_ONE, BACKWARD_OF_ONE = [FORWARD[0], FORWARD[2]], ["batch_norm_backward"]

with_device = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=settings.default.max_examples // 2,
)


def to_cuda(*arrays, layout="C"):
    return tuple(None if a is None else on_device(a, layout) for a in arrays)


def assert_close(found, expected, tolerance):
    for name, value in expected.items():
        on_host = backend.to_host(found[name])
        assert on_host.shape == value.shape, name
        assert close(on_host, value, tolerance), f"{name}: {np.abs(on_host - value).max():.1e}"


def draw(shape, seed, dtype, offset=0.0):
    """Return x, dy (N, C, S) and running mean, running variance, gamma, beta (C,), off their starts."""
    x = (offset + 2.0 * draw_array(shape, seed)).astype(dtype)
    dy = draw_array(shape, seed + 1, dtype=dtype)
    mean, var, gamma, beta = (draw_array((shape[1],), seed + i, dtype=dtype) for i in range(2, 6))
    return x, dy, mean, 0.25 + var**2, gamma, beta


def outcome(layer, x, dy):
    """Return all that a forward and a backward pass compute or change."""
    y = layer.forward(x)
    dx = layer.backward(dy)
    found = {"y": y, "dx": dx, "running_mean": layer.running_mean, "running_var": layer.running_var}
    return found | {name: parameter.grad for name, parameter in layer.parameters().items()}


def in_float64(layer, x, dy):
    """Return the outcome on the host in double precision; the layer stays as it was."""
    host = copy.deepcopy(layer).to("numpy").to("float64")
    return outcome(host, x.astype("float64"), dy.astype("float64"))


def on_cuda(layer, x, dy, layout="C"):
    """Return the outcome on the device, as device arrays."""
    return outcome(copy.deepcopy(layer).to("cupy"), *to_cuda(x, dy, layout=layout))


# --- the kernels and their definitions --------------------------------------------------------------


def compare_with_definitions(x, dy, running_mean, running_var, gamma, beta, tolerance):
    eps, momentum = 0.05, 0.3
    x, dy, running_mean, running_var, gamma, beta = to_cuda(
        *(a.reshape(*a.shape[:2], -1) for a in (x, dy)), running_mean, running_var, gamma, beta
    )
    names = ("mean", "var", "moved_mean", "moved_var")
    found = kernels.statistics(x, running_mean, running_var, momentum)
    expected = exactly(batch.statistics, x, running_mean, running_var, momentum)
    assert_close(dict(zip(names, found, strict=True)), dict(zip(names, expected, strict=True)), tolerance)

    y = kernels.normalize(x, *found[:2], gamma, beta, eps)
    assert_close({"y": y}, {"y": exactly(batch.normalize, x, *found[:2], gamma, beta, eps)[0]}, tolerance)

    names = ("dx", "dgamma", "dbeta")
    for name, moments in (("backward", found[:2]), ("backward_fixed", (running_mean, running_var))):
        arguments = dy, x, *moments, gamma, eps
        gradients = dict(zip(names, getattr(kernels, name)(*arguments), strict=True))
        assert_close(gradients, dict(zip(names, exactly(getattr(batch, name), *arguments), strict=True)), tolerance)


@pytest.mark.smoke
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SEVERAL_PARTS)
def test_kernels_equal_their_definitions_over_several_parts(cuda, shape, dtype):
    compare_with_definitions(*draw(shape, 1, dtype, offset=3.0), tolerance=TOLERANCE[dtype])


# --- the layer on a device --------------------------------------------------------------------------


@pytest.mark.smoke
@given(
    shape=channel_shapes(),
    seed=SEEDS,
    dtype=st.sampled_from(["float32", "float64"]),
    affine=st.booleans(),
    training=st.booleans(),
    layout=st.sampled_from(LAYOUTS),
)
@with_device
def test_the_layer_equals_the_hosts(cuda, shape, seed, dtype, affine, training, layout):
    x, dy, mean, var, *_ = draw(shape, seed, dtype)
    layer = shake(BatchNorm(shape[1], eps=0.05, affine=affine, dtype=dtype), seed).train(training)
    layer.running_mean, layer.running_var = mean, var
    found = on_cuda(layer, x, dy, layout)
    assert_close(found, in_float64(layer, x, dy), TOLERANCE[dtype])
    assert all(value.dtype == x.dtype for value in found.values())


@given(channel_shapes(max_channels=2), SEEDS, st.booleans(), st.booleans())
@settings(with_device, max_examples=6)
def test_gradients(cuda, shape, seed, affine, training):
    layer = shake(BatchNorm(shape[1], eps=1e-2, affine=affine, dtype="float64"), seed).train(training)
    layer.running_mean, layer.running_var = draw_array((shape[1],), 2), 0.5 + draw_array((shape[1],), 3) ** 2
    (x,) = to_cuda(draw_array(shape, seed))
    gradcheck.assert_ok(layer.to("cupy"), x, seed=seed, directions=2, jacobian=False)


def test_gradients_over_several_parts(cuda):
    layer = shake(BatchNorm(2, eps=1e-2, dtype="float64"), 0).to("cupy")
    (x,) = to_cuda(draw_array((1, 2, 4100), 0))
    gradcheck.assert_ok(layer, x, directions=1, jacobian=False)


@pytest.mark.smoke
@pytest.mark.parametrize("shape", [(2, 2, 3), (1, 2, 9000)], ids=["one part", "three parts"])
def test_launches(cuda, shape):
    """What the table of uanref.kernels.cuda.batch says."""
    if not cuda.counts:
        pytest.skip("a real device does not count launches")
    one_part = np.prod(shape) < 2 * launch.CHUNK
    layer = BatchNorm(2).to("cupy")
    x, dy = to_cuda(draw_array(shape, 0, dtype="float32"), draw_array(shape, 1, dtype="float32"))
    with cuda.counting() as forward:
        layer.forward(x)
    with cuda.counting() as backward:
        layer.backward(dy)
    assert [launched.name for launched in forward.launches] == (FORWARD_OF_ONE if one_part else FORWARD)
    assert [launched.name for launched in backward.launches] == (BACKWARD_OF_ONE if one_part else BACKWARD)
    layer.eval()
    with cuda.counting() as forward:
        layer.forward(x)
    with cuda.counting() as backward:
        layer.backward(dy)
    assert [launched.name for launched in forward.launches] == FORWARD[2:]
    fixed = BACKWARD_OF_ONE if one_part else [*BACKWARD[:2], "batch_norm_scale"]
    assert [launched.name for launched in backward.launches] == fixed
    for counts in (forward, backward):
        assert (counts.to_device, counts.to_host, counts.synchronizations) == (0, 0, 0)


def test_an_input_with_gaps_is_copied_once(cuda):
    if not cuda.counts:
        pytest.skip("a real device does not count launches")
    layer = BatchNorm(2).to("cupy")
    x, dy = to_cuda(*draw((4, 2, 3, 3), 0, "float32")[:2], layout="strided")
    with cuda.counting() as forward:
        layer.forward(x)
    with cuda.counting() as backward:
        layer.backward(dy)
    assert len(forward.launches) == 1 + len(FORWARD_OF_ONE)
    assert len(backward.launches) == 1 + len(BACKWARD_OF_ONE)


def test_a_million_samples_of_a_channel_keep_many_blocks_busy(cuda):
    if not cuda.counts:
        pytest.skip("a real device does not count launches")
    (x,) = to_cuda(draw_array((1, 1, 1000, 1001), 0, dtype="float32"))
    with cuda.counting() as counts:
        BatchNorm(1).to("cupy").forward(x)
    blocks = {launched.name: int(np.prod(launched.grid)) for launched in counts.launches}
    assert blocks == {"batch_norm_moments": 245, "batch_norm_merge": 1, "batch_norm_normalize": 245}


def test_the_definitions_launch_none_and_the_numbers_are_the_same(cuda):
    x, dy, *_ = draw((4, 2, 6), 0, "float64")
    layer = shake(BatchNorm(2, dtype="float64"), 0)
    with backend.plain():
        if cuda.counts:
            with cuda.counting() as counts:
                plain = on_cuda(layer, x, dy)
            assert not [launched.name for launched in counts.launches if launched.name.startswith("batch_norm")]
        plain = on_cuda(layer, x, dy)
    assert_close(on_cuda(layer, x, dy), {name: backend.to_host(value) for name, value in plain.items()}, 1e-13)


def test_the_same_input_gives_the_same_bits(cuda):
    x, dy, *_ = draw((2, 2, 5000), 0, "float32")
    first, second = on_cuda(BatchNorm(2), x, dy), on_cuda(BatchNorm(2), x, dy)
    for name, value in first.items():
        np.testing.assert_array_equal(backend.to_host(value), backend.to_host(second[name]), err_msg=name)


def test_the_order_of_threads_changes_no_bit(emulated):
    from support import cupysim

    x, dy, *_ = draw((2, 2, 2500), 0, "float32")
    first = on_cuda(BatchNorm(2), x, dy)
    with cupysim.threads_reversed():
        second = on_cuda(BatchNorm(2), x, dy)
    for name, value in first.items():
        np.testing.assert_array_equal(backend.to_host(value), backend.to_host(second[name]), err_msg=name)


def test_inputs_and_old_running_moments_stay_as_they_are(cuda):
    layer = BatchNorm(2).to("cupy")
    x, dy = to_cuda(draw_array((3, 2, 4), 0, dtype="float32"), draw_array((3, 2, 4), 1, dtype="float32"))
    given = [x, dy, layer.running_mean, layer.running_var, layer.gamma.value, layer.beta.value]
    before = [backend.to_host(a).copy() for a in given]
    layer.forward(x)
    layer.backward(dy)
    for array, copied in zip(given, before, strict=True):
        np.testing.assert_array_equal(backend.to_host(array), copied)


def test_arrays_per_channel_of_another_kind(cuda):
    """Another dtype, every second number of an array, one number for all channels; and what does not fit."""
    x, _, mean, var, gamma, beta = draw((4, 3, 2), 0, "float32")
    (x_,) = to_cuda(x)
    odd = to_cuda(mean.astype("float64"), var.repeat(2), gamma[:1], beta)
    found = kernels.normalize(x_, odd[0], odd[1][::2], odd[2], odd[3], 0.1)
    expected = exactly(batch.normalize, x, mean, var, gamma[:1].repeat(3), beta, 0.1)[0]
    assert_close({"y": found}, {"y": expected}, 1e-5)
    with pytest.raises(ValueError, match="broadcast"):
        kernels.normalize(x_, *to_cuda(mean[:2], var, gamma, beta), 0.1)


def test_more_channels_than_blocks_fit_along_an_axis(cuda):
    one, several = (backend.module("cupy").ones(kernels.CHANNELS + more, dtype="float32") for more in (0, 1))
    assert kernels.normalize(one[None, :, None], one, one, None, None, 0.1) is not NotImplemented
    assert kernels.normalize(several[None, :, None], several, several, None, None, 0.1) is NotImplemented
    x, dy, *_ = draw((2, kernels.CHANNELS + 1), 0, "float64")
    layer = BatchNorm(kernels.CHANNELS + 1, eps=0.05, dtype="float64")
    assert_close(on_cuda(layer, x, dy), in_float64(layer, x, dy), 1e-12)


def test_a_part_is_a_whole_number_of_steps():
    assert launch.CHUNK % launch.THREADS == 0


# --- where floating point is thin -------------------------------------------------------------------
# The properties of tests/norms/test_numerics.py, by the kernels and by the definitions.

# A channel of this number alone: the kernels' mean is that number to the bit, a plain sum's need not be.
BEYOND_THE_DEFINITIONS = {"test_constant_channels": [(1e-38, "float64")]}


def assert_finite(found):
    for name, value in found.items():
        assert np.isfinite(backend.to_host(value)).all(), f"{name} is not finite"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("exponent", [-30, -20, -10, 10, 15, 18, 20, 30])
def test_scales(cuda, plain, exponent, dtype):
    x = (10.0**exponent * draw_array((6, 4, 3, 3), 0)).astype(dtype)
    dy = draw_array(x.shape, 1, dtype=dtype)
    layer = BatchNorm(4, dtype=dtype)
    found = on_cuda(layer, x, dy)
    assert_finite(found)
    if dtype == "float64" or exponent < 19:
        expected = in_float64(layer, x, dy)
        for name, value in expected.items():
            worst = np.abs(backend.to_host(found[name]) - value).max()
            assert worst <= TOLERANCE[dtype] * np.abs(value).max(), name


@pytest.mark.parametrize("exponent", [19.5, 20, 30, 37])
def test_a_variance_beyond_the_format_saturates(cuda, plain, exponent):
    x, dy = draw((6, 2, 700), 0, "float32")[:2]
    found = on_cuda(BatchNorm(2, momentum=0.5), np.float32(10.0**exponent) * np.sign(x), dy)
    assert_finite(found)
    np.testing.assert_allclose(backend.to_host(found["running_var"]), 0.5 * np.finfo("f4").max, rtol=1e-3)
    largest = float(np.abs(backend.to_host(found["y"])).max())
    np.testing.assert_allclose(largest, 10.0**exponent / np.sqrt(np.finfo("f4").max), rtol=0.2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [0.0, 1.0, -1e4, 1e-38, 3.3e7, -7e11, 1.7e15])
def test_constant_channels(cuda, plain, value, dtype):
    """Exactly: y is beta and the variance 0, over one part and over several."""
    if plain and (value, dtype) in BEYOND_THE_DEFINITIONS["test_constant_channels"]:
        pytest.skip("holds for faster versions alone")
    for shape in ((6, 3, 3, 3), (3, 3, 3000)):
        layer, x = shake(BatchNorm(3, momentum=1.0, dtype=dtype), 0), draw_array(shape, 0, dtype=dtype)
        x[:, 1:] = value
        found = {
            name: backend.to_host(array) for name, array in on_cuda(layer, x, draw_array(shape, 1, dtype=dtype)).items()
        }
        assert_finite(found)
        np.testing.assert_array_equal(found["running_var"][1:], 0.0)
        np.testing.assert_array_equal(found["running_mean"][1:], np.array(value, dtype))
        for c in (1, 2):
            np.testing.assert_array_equal(found["y"][:, c], layer.beta.value[c])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("place", [0, 2, 4500])
@pytest.mark.parametrize("outlier", [1e4, 1e8, 1e15, -1e20, 1e30])
def test_one_huge_outlier(cuda, plain, outlier, place, dtype):
    """Wherever it is, also where it is the sample that distances are taken from."""
    x, dy = draw((1, 2, 5000), 0, dtype)[:2]
    x[0, 1, place] = outlier
    layer = BatchNorm(2, dtype=dtype)
    found = on_cuda(layer, x, dy)
    assert_finite(found)
    if dtype == "float64" or abs(outlier) < 1e19:
        assert_close(found, in_float64(layer, x, dy), TOLERANCE[dtype])


@pytest.mark.parametrize("offset", [1e2, 1e4, -1e6, 1e7])
@pytest.mark.parametrize("shape", [(6, 2, 50), (2, 2, 4100)])
def test_far_from_zero(cuda, shape, offset):
    """The moments keep their digits: the variance, and the mean in units of the standard deviation."""
    x = draw(shape, 0, "float32", offset=offset)[0]
    arguments = *to_cuda(x.reshape(*x.shape[:2], -1), np.zeros(2, "f4"), np.ones(2, "f4")), 0.0
    mean, var, *_ = exactly(batch.statistics, *arguments)
    found = kernels.statistics(*arguments)
    np.testing.assert_allclose(backend.to_host(found[1]), var, rtol=1e-5)
    np.testing.assert_allclose(backend.to_host(found[0]), mean, rtol=1e-7)


def test_a_variance_is_not_below_zero_where_squares_underflow(cuda):
    """Not even -0, whose inverse root would be minus infinity for eps = 0."""
    x = (1e-30 * draw_array((1, 50, 30), 0)).astype("float32")
    _, var, _, moved = kernels.statistics(*to_cuda(x, np.zeros(50, "f4"), np.zeros(50, "f4")), 1.0)
    assert not np.signbit(backend.to_host(var)).any()
    assert not np.signbit(backend.to_host(moved)).any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_subnormal_inputs(cuda, plain, dtype):
    x = (0.01 * np.finfo(dtype).tiny * draw_array((6, 4, 3, 3), 0)).astype(dtype)
    assert_finite(on_cuda(BatchNorm(4, dtype=dtype), x, draw_array(x.shape, 1, dtype=dtype)))


def test_nan_and_infinity_stay_visible_in_their_channel(cuda, plain):
    x, dy = draw((3, 3, 4), 0, "float32")[:2]
    x[1, 0, 2], x[0, 2, 0] = np.nan, np.inf
    found = {name: backend.to_host(array) for name, array in on_cuda(BatchNorm(3), x, dy).items()}
    for c in (0, 2):
        assert not np.isfinite(found["running_mean"][c])
        assert np.isnan(found["running_var"][c])
        assert np.isnan(found["y"][:, c]).any()
    assert np.isfinite(found["running_var"][1])
    assert np.isfinite(found["y"][:, 1]).all()
    assert np.isfinite(found["dx"][:, 1]).all()


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_a_million_samples_in_float32(cuda, plain, offset):
    x = (offset + draw_array((1, 1, 1000, 1000), 0)).astype("float32")
    dy = draw_array(x.shape, 1, dtype="float32")
    layer = BatchNorm(1)
    found, expected = on_cuda(layer, x, dy), in_float64(layer, x, dy)
    for name, value in expected.items():
        terms = 1000.0 if name in ("gamma", "beta") else 1.0  # a sum of a million terms of both signs
        scale = max(np.abs(value).max(), terms) * (1.0 + offset)  # x itself is rounded to offset * 6e-8
        assert np.abs(backend.to_host(found[name]) - value).max() <= 1e-5 * scale, name


def test_numbers_that_are_no_python_floats(cuda):
    """A kernel takes eps and momentum as doubles, whatever a user assigns: an int's bits would be another number."""
    x, dy = draw((5, 3, 4), 0, "float64")[:2]
    layer = BatchNorm(3, dtype="float64")
    layer.eps, layer.momentum = 1, 1
    expected = in_float64(layer, x, dy)
    assert_close(on_cuda(layer, x, dy), expected, TOLERANCE["float64"])


def test_arrays_of_another_device_are_left_to_cupy(cuda, monkeypatch):
    """Our kernels run on the current device, where another one's addresses mean nothing."""
    (rows,) = to_cuda(draw((2, 3, 4), 0, "float32")[0])
    runtime = backend.module("cupy").cuda.runtime
    here = runtime.getDevice()
    assert launch.serves(rows)
    monkeypatch.setattr(runtime, "getDevice", lambda: here + 1)
    assert not launch.serves(rows)
