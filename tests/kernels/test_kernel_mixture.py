"""The kernels of UAN and Mixture Normalization where parity's small arrays do not reach, and the layers on them."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.arrays import LAYOUTS, channel_shapes, close, draw_array, shake
from support.definitions import changed, exactly
from support.layouts import on_device as place

from uanref import backend, gradcheck
from uanref.kernels.cuda import launch, mixture_launch
from uanref.kernels.cuda import mixture_constraints as small
from uanref.kernels.cuda import mixture_em as em
from uanref.kernels.cuda import mixture_moments as moments_kernel
from uanref.kernels.cuda import mixture_transform as transform_kernel
from uanref.norms import mixture_constraints, mixture_em, mixture_moments, mixture_transform
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mixture_moments import Moments, batch_moments
from uanref.norms.mixture_transform import transform, transform_backward
from uanref.norms.mixture_weights import Mixture
from uanref.norms.uan import UAN

pytestmark = pytest.mark.smoke

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
DTYPES = st.sampled_from(["float32", "float64"])
SEEDS = st.integers(0, 2**32 - 1)
# Channels of several parts: at a part's end, one beyond it, images longer and shorter than a step of the threads.
SEVERAL_PARTS = [(1, 2, 4096), (1, 2, 4097), (2, 2, 65, 65), (3, 1, 4500), (4100, 2), (1400, 2, 3), (30, 2, 300)]
GRADIENTS = ("dx", "dgamma", "dbeta", "dm", "dv", "dlog_prior", "dmean", "dvariance")
MOMENTS = ("mean", "variance", "inverse_std", "total", "alive")

with_device = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    max_examples=settings.default.max_examples // 2,
)


def to_cuda(*arrays):
    return tuple(None if a is None else backend.to_device(a, "cupy") for a in arrays)


def to_host(*arrays):
    return tuple(None if a is None else backend.to_host(a) for a in arrays)


def assert_close(found, expected, tolerance):
    """Compare arrays by name, in units of the largest entry, at least 1."""
    for name, value in expected.items():
        (on_host,) = to_host(found[name])
        assert on_host.shape == value.shape, name
        assert close(on_host, value, tolerance), f"{name}: {np.abs(on_host - value).max():.1e}"


def assert_finite(found):
    for name, value in found.items():
        assert np.isfinite(to_host(value)[0]).all(), f"{name} is not finite"


def draw_mixture(components, channels, seed, dtype, offset=0.0):
    """Return log lambda, mu and s, all different."""
    logits, mean, root = (draw_array((components, channels), seed + i) for i in range(3))
    log_prior = mixture_constraints.log_softmax(logits)
    return mixture_of(log_prior, offset + mean, 0.3 + root**2, dtype)


def mixture_of(log_prior, mean, variance, dtype):
    return Mixture(*(np.array(a, dtype=dtype) for a in (log_prior, mean, variance)))


def there(argument):
    """Move the arrays in an argument, also inside a named tuple, to the device."""
    return changed(argument, lambda a: backend.to_device(a, "cupy"))


# --- the kernels and their definitions ------------------------------------------------------------------------------


def compare_with_definitions(shape, components, dtype, *, offset=0.0, of_mixture=None, tolerance=None):
    """Compare moments, y and all gradients with the definitions in float64 on the host, for the very same numbers."""
    tolerance, channels = TOLERANCE[dtype] if tolerance is None else tolerance, shape[1]
    x = (offset + 1.5 * draw_array(shape, 0)).astype(dtype).reshape(*shape[:2], -1)
    dy = draw_array(shape, 1, dtype=dtype).reshape(x.shape)
    gamma, beta = (draw_array((channels,), i, dtype=dtype) for i in (2, 3))
    mixture = draw_mixture(components, channels, 4, dtype, offset) if of_mixture is None else of_mixture
    rho, eps = components**-0.5, 0.05
    fixed = Moments(*draw_mixture(components, channels, 9, dtype, offset)[1:], mixture.variance**-0.5)
    x, dy, gamma, beta, mixture, fixed = map(there, (x, dy, gamma, beta, mixture, fixed))

    found = Moments(*moments_kernel.batch_moments(x, mixture, eps))
    assert all(a.dtype == dtype for a in found)
    expected = exactly(batch_moments, x, mixture, eps)
    assert_close(dict(zip(MOMENTS, found, strict=True)), dict(zip(MOMENTS, expected, strict=True)), tolerance)

    for moments in (found, fixed):
        y = transform_kernel.transform(x, mixture, moments, rho, gamma, beta)
        assert_close({"y": y}, {"y": exactly(transform, x, mixture, moments, rho, gamma, beta)[0]}, tolerance)
        arguments = dy, x, mixture, moments, rho, gamma
        gradients, expected = transform_kernel.transform_backward(*arguments), exactly(transform_backward, *arguments)
        assert all(a.dtype == dtype for a in (y, *gradients))
        # Sums over m samples of both signs are measured in units of sqrt(m), their terms' size.
        terms = np.sqrt(x[:, 0].size)
        unit = {name: 1.0 if name == "dx" else terms for name in GRADIENTS}
        assert_close(
            {name: a / unit[name] for name, a in zip(GRADIENTS, gradients, strict=True)},
            {name: a / unit[name] for name, a in zip(GRADIENTS, expected, strict=True)},
            tolerance,
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SEVERAL_PARTS)
def test_over_several_parts(cuda, shape, dtype):
    compare_with_definitions(shape, 3, dtype)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_over_more_parts_than_a_block_has_threads(cuda, dtype, monkeypatch):
    """As of a million samples, were a part not cut down to one sample for each thread."""

    def forget_kernels():
        launch.kernel.cache_clear()
        launch._module.cache_clear()

    monkeypatch.setattr(launch, "CHUNK", launch.THREADS)
    forget_kernels()
    try:
        compare_with_definitions((2, 1, 150 * launch.THREADS), 2, dtype)
    finally:
        forget_kernels()


@pytest.mark.parametrize(("dtype", "offset", "tolerance"), [("float32", 1e3, 3e-5), ("float64", 1e6, 1e-9)])
def test_far_from_zero(cuda, dtype, offset, tolerance):
    """The mixture lies where the data do; what is left are the digits of x - mu."""
    compare_with_definitions((30, 2, 200), 3, dtype, offset=offset, tolerance=tolerance)


@pytest.mark.parametrize(
    ("log_prior", "dtype"), [(-30.0, "float32"), (-80.0, "float32"), (-80.0, "float64"), (-650.0, "float64")]
)
def test_a_tiny_prior(cuda, log_prior, dtype):
    _, mean, variance = draw_mixture(3, 2, 0, dtype)
    others = np.log1p(-np.exp(log_prior)) - np.log(2.0)
    tiny = mixture_of([[log_prior] * 2, [others] * 2, [others] * 2], mean, variance, dtype)
    compare_with_definitions((6, 2, 40), 3, dtype, of_mixture=tiny)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_component_without_samples(cuda, dtype):
    mixture = draw_mixture(3, 2, 0, dtype)
    mixture.mean[1], mixture.variance[1] = 1e6, 1.0
    found = moments_kernel.batch_moments(there(draw_array((5, 2, 30), 1, dtype=dtype)), there(mixture), 0.1)
    _, _, inverse_std, total, alive = to_host(*found)
    for array in (inverse_std, total, alive):
        np.testing.assert_array_equal(array[1], 0.0)
        assert (array[[0, 2]] > 0.0).all()
    compare_with_definitions((5, 2, 30), 3, dtype, of_mixture=mixture)


@pytest.mark.parametrize("place", [0, 100, 4500])
@pytest.mark.parametrize(("outlier", "variance"), [(1e8, 1.0), (-1e12, 1.0), (1e5, 1e8)])
def test_an_outlier_costs_the_others_no_digits(cuda, place, outlier, variance):
    """Another component's outlier, at the start of a part, inside one, in the next: a mean that began there forgets."""
    x = (3.0 + draw_array((1, 1, 9000), 0)).astype("float32")
    x[..., place] = outlier
    mixture = mixture_of(np.log([[0.9], [0.1]]), [[3.0], [outlier]], [[variance], [1e4]], "float32")
    found = to_host(*moments_kernel.batch_moments(there(x), there(mixture), 1e-3))
    expected = exactly(batch_moments, x, mixture, 1e-3)
    for name, a, b in zip(MOMENTS, found, expected, strict=True):
        np.testing.assert_allclose(a[0], b[0], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("offset", [1e2, 1e4, 1e6])
def test_the_moments_keep_their_digits_far_from_zero(cuda, offset):
    x = (offset + draw_array((1, 1, 9000), 0)).astype("float32")
    mixture = mixture_of([[-0.7], [-0.7]], [[offset - 1], [offset + 1]], [[1.0], [2.0]], "float32")
    found = to_host(*moments_kernel.batch_moments(there(x), there(mixture), 0.0))
    expected = exactly(batch_moments, x, mixture, 0.0)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-7)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-5)


def compare_in_their_own_format(x, mixture, tolerance, but=(), vanishing=()):
    """As above, but the definitions compute in the dtype, whose limits they share; in units of each one's largest.

    What is named as ``vanishing`` is 0 but for the rounding of terms as large as the prior's gradient.
    """
    dy, rho = draw_array(x.shape, 1, dtype=str(x.dtype)), 0.5
    with backend.plain():
        moments = Moments(*batch_moments(x, mixture, 0.1))
        y = transform(x, mixture, moments, rho, None, None)
        gradients = transform_backward(dy, x, mixture, moments, rho, None)
    x_, dy_, mixture_, moments_ = map(there, (x, dy, mixture, moments))
    found = to_host(*moments_kernel.batch_moments(x_, mixture_, 0.1))
    pairs = dict(zip(MOMENTS, zip(found, moments, strict=True), strict=True))
    pairs["y"] = to_host(transform_kernel.transform(x_, mixture_, moments_, rho, None, None))[0], y
    found = to_host(*transform_kernel.transform_backward(dy_, x_, mixture_, moments_, rho, None))
    pairs |= dict(zip(GRADIENTS, zip(found, gradients, strict=True), strict=True))
    for name, (a, b) in pairs.items():
        assert np.isfinite(a).all(), name
        if name in but:
            continue
        # A device flushes subnormal numbers to 0.
        worst, allowed = np.abs(a - b).max(), tolerance * np.abs(b).max() + 4.0 * backend.tiny(x.dtype)
        if name in vanishing:
            allowed = 10.0 * backend.machine_eps(x.dtype) * np.abs(pairs["dlog_prior"][1]).max()
        assert worst <= allowed, f"{name}: {worst:.1e} > {allowed:.1e}"


@pytest.mark.parametrize(("dtype", "log_prior", "tolerance"), [("float32", -150.0, 1e-3), ("float64", -1100.0, 1e-10)])
def test_weights_at_the_end_of_the_format(cuda, dtype, log_prior, tolerance):
    """Samples that belong to a component of next to no prior: its weights saturate."""
    x = (draw_array((6, 2, 20), 0) + 100.0 * (draw_array((6, 2, 20), 1) > 0.0)).astype(dtype)
    mixture = mixture_of([[0.0] * 2, [log_prior] * 2], [[0.0] * 2, [100.0] * 2], [[1.0] * 2, [1.5] * 2], dtype)
    compare_in_their_own_format(x, mixture, tolerance, vanishing=("dmean", "dvariance"))


@pytest.mark.parametrize(
    ("dtype", "scale", "tolerance"),
    [("float32", 1e8, 1e-4), ("float32", 1e16, 1e-4), ("float64", 1e50, 1e-10), ("float64", 1e124, 1e-10)],
)
def test_where_the_posterior_stops_looking(cuda, dtype, scale, tolerance):
    """Below the bound, where nothing may be cut off, and beyond it."""
    # Out there the definition sums deviations of bounded samples, where the kernels know that the sum would be 0.
    beyond = ("dlog_prior",) if scale in (1e16, 1e124) else ()
    x = (scale * draw_array((6, 2, 20), 0)).astype(dtype)
    _, mean, variance = draw_mixture(2, 2, 0, "float64")
    mixture = mixture_of(np.log([[0.4] * 2, [0.6] * 2]), scale * mean, scale * variance * scale, dtype)
    compare_in_their_own_format(x, mixture, tolerance, beyond)


def small_functions(dtype, seed=0, components=4, channels=5, columns=5):
    """Return each function of the constraints and of EM with arguments that leave no branch out."""
    wide = 1000.0 * draw_array((components, channels), seed, dtype=dtype)
    mixed, other, third = (draw_array((components, channels), seed + i, dtype=dtype) for i in (1, 2, 3))
    log_prior, share = (draw_array((components, columns), seed + i, dtype=dtype) for i in (4, 5))
    alive = (draw_array((components, columns), seed + 6) > 0.0).astype(dtype)
    log_prior[0], share[0] = -40.0, 0.0  # below the floor
    log_prior = mixture_constraints.log_softmax(log_prior)
    same_prior = np.repeat(log_prior[:, :1], columns, axis=1)
    logits = 1000.0 * draw_array((components, columns), seed, dtype=dtype)
    em_step = share**2, third, wide**2, alive, 0.3
    return {
        "softplus": (wide,),
        "softplus_backward": (mixed, wide),
        "constrained": (logits, wide, 0.1, columns),
        "constrained, shared": (logits[:, :1], wide, 0.1, columns),
        "constrained_backward": (share, mixed, other, None, None, log_prior, wide, alive),
        "constrained_backward, shared": (share, mixed, other, None, None, same_prior, wide, alive, True),
        "constrained_backward, learned": (share, mixed, other, third, mixed, log_prior, wide, None),
        "inverse_softplus": (wide, 0.01),
        "inverse_std": (mixed**2, 0.1),
        "moved_moments": (mixed, other, third, wide, alive, 0.3),
        "em_step": (log_prior, mixed, other**2, *em_step),
        "em_step, shared": (same_prior, mixed, other**2, *em_step, True),
        "em_step_of_weights": (
            log_prior,
            mixed,
            third,
            0.01 * other**2,
            *em_step[:2],
            0.01 * mixed**2,
            alive,
            0.3,
            0.003,
        ),
        "em_step_of_weights, of large ones": (log_prior, mixed, third, other**2, *em_step, 0.1),
        "em_step_of_weights, shared": (same_prior, mixed, third, other**2, *em_step, 0.1, True),
    }


def found_in(modules, name):
    (found,) = {id(value): value for module in modules if (value := vars(module).get(name)) is not None}.values()
    return found


DEFINITIONS = mixture_constraints, mixture_moments, mixture_transform, mixture_em
KERNELS = small, moments_kernel, transform_kernel, em


@pytest.mark.parametrize("columns", [5, 1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", list(small_functions("float64")))
def test_small_functions(cuda, name, dtype, columns):
    """Each number in units of itself, where parity measures in units of the largest."""
    arguments = small_functions(dtype, columns=columns)[name]
    name = name.split(",")[0]
    with launches(cuda) as counted:
        found = found_in(KERNELS, name)(*map(there, arguments))
    assert (counted.names or [name.removesuffix("_of_weights")]) == [name.removesuffix("_of_weights")]
    expected = exactly(found_in(DEFINITIONS, name), *arguments)
    for a, b in zip(found if isinstance(found, tuple) else [found], expected, strict=True):
        assert a.dtype == dtype
        # A logarithm beside 1 has few digits; a device flushes subnormal numbers to 0.
        near_zero = backend.tiny(dtype) if name.startswith("softplus") else 0.1 * TOLERANCE[dtype]
        np.testing.assert_allclose(to_host(a)[0], b, rtol=3 * TOLERANCE[dtype], atol=near_zero)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_root_of_a_prior_has_its_bound(cuda, dtype):
    """Where its weight is so large that their product counts."""
    log_prior = np.array([[-0.1, -4000.0], [-0.1, -20.0]], dtype=dtype)
    total = np.array([[1.0, 0.5 * backend.largest(dtype)], [1.0, 1.0]], dtype=dtype)
    mean, alive = np.ones((2, 2), dtype), np.ones((2, 2), dtype)
    arguments = log_prior, mean, mean, total, mean, mean, alive, 0.3
    found, expected = em.em_step(*map(there, arguments))[0], in_its_format(mixture_em.em_step, *arguments)
    np.testing.assert_allclose(to_host(found)[0], expected, rtol=30 * TOLERANCE[dtype])
    assert found[0, 1] > np.log(0.2)


def in_its_format(definition, *arguments):
    """Return the first result by the definition in its own format, whose limits count."""
    with backend.plain():
        return definition(*arguments)[0]


def test_small_functions_reach_over_several_blocks(cuda):
    a, s = draw_array((3, 1000), 0), draw_array((3, 1000), 1)
    expected = exactly(mixture_constraints.softplus, s)[0]
    np.testing.assert_allclose(to_host(small.softplus(there(s)))[0], expected, rtol=1e-12)
    same_prior = np.repeat(mixture_constraints.log_softmax(a[:, :1]), 1000, axis=1)
    alive = (a > -1.0).astype("float64")
    for kernel, definition, arguments in (
        (small.constrained, mixture_constraints.constrained, (a, s, 0.1, 1000)),
        (small.constrained, mixture_constraints.constrained, (a[:, :1], s, 0.1, 1000)),
        (
            small.constrained_backward,
            mixture_constraints.constrained_backward,
            (a, s, a * s, None, None, same_prior, s, alive, True),
        ),
        (em.em_step, mixture_em.em_step, (same_prior, s, s**2, a**2, a, a**2, alive, 0.3, True)),
    ):
        for found, right in zip(to_host(*kernel(*map(there, arguments))), exactly(definition, *arguments), strict=True):
            np.testing.assert_allclose(found, right, rtol=1e-11)


def test_arrays_of_another_kind(cuda):
    """Another dtype, another layout, one number for all channels; and what does not fit."""
    x = draw_array((4, 3, 5), 0, dtype="float32")
    mixture, gamma = draw_mixture(2, 3, 1, "float64"), draw_array((1,), 5)
    moments = Moments(*draw_mixture(2, 3, 6, "float32")[1:], np.ones((2, 6))[:, ::2])
    expected = exactly(transform, x, mixture, moments, 0.7, gamma.repeat(3), None)[0]
    mixture_ = there(mixture)._replace(mean=there(np.ascontiguousarray(mixture.mean.T)).T)
    moments_ = there(moments)._replace(inverse_std=there(np.ones((2, 6)))[:, ::2])
    x_ = there(x)
    found = transform_kernel.transform(x_, mixture_, moments_, 0.7, there(gamma), None)
    assert found.dtype == "float32"
    assert_close({"y": found}, {"y": expected}, 1e-5)
    with pytest.raises(ValueError, match="broadcast"):
        transform_kernel.transform(x_, mixture_, moments_, 0.7, there(gamma.repeat(2)), None)
    old, alive = to_cuda(draw_array((2, 3), 0), np.ones((2, 3)))
    with pytest.raises(ValueError, match="broadcast"):
        em.moved_moments(old, old, there(draw_array((2, 4), 0)), old, alive, 0.5)


# --- the layers on a device -----------------------------------------------------------------------------------------


def outcome(layer, x, dy):
    """Return all that a forward and a backward pass compute or change."""
    y = layer.forward(x)
    found = {"y": y, "dx": layer.backward(dy)} | {name: p.grad for name, p in layer.parameters().items()}
    return found | {name: value for name, value in layer.buffers().items() if not isinstance(value, bool)}


def in_float64(layer, x, dy):
    """Return the outcome on the host in double precision; the layer stays as it was."""
    return outcome(copy.deepcopy(layer).to("numpy").to("float64"), x.astype("float64"), dy.astype("float64"))


def on_device(layer, x, dy):
    return outcome(copy.deepcopy(layer).to("cupy"), *to_cuda(x, dy))


def make(channels, components=3, seed=0, dtype="float64", **options):
    """A layer off its symmetric start, its running moments too."""
    layer = UAN(channels, components, eps=0.05, dtype=dtype, rng=np.random.default_rng(seed), **options)
    shake(layer, seed + 1)
    if layer.statistics == "batch":
        layer.running_mean, layer.running_var = draw_mixture(components, channels, seed + 2, dtype)[1:]
    return layer


def make_mixture_norm(channels, components=3, seed=0, dtype="float64", **options):
    rng = np.random.default_rng(seed)
    layer = MixtureNorm(channels, components, eps=0.05, dtype=dtype, rng=rng, posterior="channel", **options)
    layer.running_mean, layer.running_var = draw_mixture(components, channels, seed + 2, dtype)[1:]
    return shake(layer, seed + 1)


@given(
    shape=channel_shapes(),
    components=st.sampled_from([1, 3]),
    seed=SEEDS,
    dtype=DTYPES,
    statistics=st.sampled_from(["batch", "learned"]),
    update=st.sampled_from(["backprop", "em"]),
    start=st.sampled_from(["paper", "data"]),
    prior=st.sampled_from(["channel", "shared"]),
    inference=st.sampled_from(["running", "mixture"]),
    flags=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    layout=st.sampled_from(LAYOUTS),
)
@with_device
def test_uan_equals_the_hosts(
    cuda, shape, components, seed, dtype, statistics, update, start, prior, inference, flags, layout
):
    affine, rescale, training = flags
    options = {"statistics": statistics, "update": update, "start": start, "affine": affine, "rescale": rescale}
    options |= {"prior": prior, "inference": inference}
    layer = make(shape[1], components, seed, dtype, **options).train(training)
    x, dy = (draw_array(shape, seed + i, dtype=dtype, layout=layout) for i in (3, 4))
    found, expected = on_device(layer, x, dy), in_float64(layer, x, dy)
    assert all(value.dtype == x.dtype for value in found.values())
    # A raw variance is the logarithm of a small one's excess; float32 keeps less of it than of the variance.
    assert_close(found, expected, 5.0 * TOLERANCE[dtype])


def test_more_components_than_the_kernels_take(cuda):
    layer, x, dy = make(2, mixture_launch.MAX_COMPONENTS + 1), draw_array((4, 2, 3), 0), draw_array((4, 2, 3), 1)
    assert_close(on_device(layer, x, dy), in_float64(layer, x, dy), 1e-12)
    if cuda.counts:
        with cuda.counting() as counts:
            on_device(layer, x, dy)
        assert not [launched.name for launched in counts.launches if launched.name.startswith("mixture")]


@given(channel_shapes(), st.sampled_from([1, 3]), SEEDS, st.booleans(), st.booleans())
@settings(with_device, max_examples=10)
def test_mixture_norm_equals_the_hosts(cuda, shape, components, seed, affine, training):
    layer = make_mixture_norm(shape[1], components, seed, affine=affine).train(training)
    x, dy = draw_array(shape, seed + 3), draw_array(shape, seed + 4)
    found, expected = on_device(layer, x, dy), in_float64(layer, x, dy)
    # EM on few samples ends at variances near 0: its rounding errors are divided by them.
    assert_close(found, expected, 1e-9)


def test_mixture_norm_over_several_parts(cuda):
    layer, x, dy = make_mixture_norm(2), draw_array((30, 2, 300), 3), draw_array((30, 2, 300), 4)
    assert_close(on_device(layer, x, dy), in_float64(layer, x, dy), 1e-11)


@pytest.mark.parametrize("channels", [1, 2])
def test_one_posterior_for_all_channels_is_not_for_the_kernels(cuda, channels):
    layer = make(channels, posterior="joint")
    x, dy = draw_array((4, channels, 3), 0), draw_array((4, channels, 3), 1)
    assert_close(on_device(layer, x, dy), in_float64(layer, x, dy), 1e-12)
    layer = make(channels, posterior="joint", update="em")
    assert_close(on_device(layer, x, dy), in_float64(layer, x, dy), 1e-12)


def test_a_second_forward_before_the_first_backward(cuda):
    layer = make(2).to("cupy")
    x, dy = draw_array((4, 2, 3), 0), draw_array((4, 2, 3), 1)
    host = copy.deepcopy(layer).to("numpy")
    for one in (layer, host):
        convert = to_cuda if one is layer else tuple
        (first, second, d_first, d_second) = (
            convert((x, 2.0 * x, dy, -dy)) if one is host else convert(x, 2.0 * x, dy, -dy)
        )
        one.forward(first)
        one.forward(second)
        one.found = {"second": one.backward(d_second), "first": one.backward(d_first)}
    assert_close(layer.found, host.found, 1e-12)


@given(
    channel_shapes(max_channels=2), st.sampled_from([1, 3]), SEEDS, st.sampled_from(["batch", "learned"]), st.booleans()
)
@settings(with_device, max_examples=6)
def test_gradients(cuda, shape, components, seed, statistics, training):
    layer = make(shape[1], components, seed, statistics=statistics).train(training)
    (x,) = to_cuda(draw_array(shape, seed))
    gradcheck.assert_ok(layer.to("cupy"), x, seed=seed, directions=2, jacobian=False)


@pytest.mark.parametrize("statistics", ["batch", "learned"])
def test_gradients_over_several_parts(cuda, statistics):
    (x,) = to_cuda(draw_array((1, 2, 4100), 0))
    gradcheck.assert_ok(make(2, statistics=statistics).to("cupy"), x, directions=1, jacobian=False)


def test_gradients_of_mixture_norm(cuda):
    layer = make_mixture_norm(2).to("cupy")
    (x,) = to_cuda(draw_array((6, 2, 4), 0))
    layer.forward(x)
    layer.clear()
    layer.frozen_fit = True
    gradcheck.assert_ok(layer, x, directions=2, jacobian=False)


# --- launches, bits, memory -----------------------------------------------------------------------------------------


class launches:
    """The names of the kernels launched inside the block, compared as a list; None where the device does not count."""

    def __init__(self, cuda):
        self._context = cuda.counting() if cuda.counts else None

    def __enter__(self):
        self._counts = self._context.__enter__() if self._context else None
        return self

    def __exit__(self, *error):
        if self._context:
            self._context.__exit__(*error)

    @property
    def names(self):
        return [launched.name for launched in self._counts.launches] if self._counts else None

    def __eq__(self, other):
        return self.names == other

    __hash__ = None
    __repr__ = lambda self: repr(self.names)  # noqa: E731


def count(cuda, layer, shape=(2, 2, 3)):
    """Return the launches of a forward and of a backward pass."""
    if not cuda.counts:
        pytest.skip("a real device does not count launches")
    layer = layer.to("cupy")
    x, dy = to_cuda(draw_array(shape, 0, dtype="float32"), draw_array(shape, 1, dtype="float32"))
    with cuda.counting() as forward:
        layer.forward(x)
    with cuda.counting() as backward:
        layer.backward(dy)
    for counts in (forward, backward):
        assert (counts.to_device, counts.to_host, counts.synchronizations) == (0, 0, 0)
    return tuple([launched.name for launched in counts.launches] for counts in (forward, backward))


@pytest.mark.parametrize("shape", [(2, 2, 3), (1, 2, 9000)], ids=["one part", "three parts"])
def test_launches_with_batch_statistics(cuda, shape):
    one_part = np.prod(shape) < 2 * launch.CHUNK
    forward, backward = count(cuda, UAN(2), shape)
    merge = [] if one_part else ["mixture_moments_merge"]
    assert [name for name in forward if name.startswith("mixture")] == [
        "mixture_moments",
        *merge,
        "mixture_transform",
    ]
    sums, propagate = ["mixture_sums", "mixture_sums_merge"], ["mixture_propagate", "mixture_propagate_merge"]
    of_mixture = [name for name in backward if name.startswith("mixture")]
    assert of_mixture == (["mixture_backward"] if one_part else [*sums, *propagate])
    assert (len(forward), len(backward)) == ((4, 2) if one_part else (5, 5))


@pytest.mark.parametrize("shape", [(2, 2, 3), (1, 2, 9000)], ids=["one part", "three parts"])
def test_launches_with_fixed_moments(cuda, shape):
    one_part = np.prod(shape) < 2 * launch.CHUNK
    several = ["mixture_propagate", "mixture_sums_merge", "mixture_propagate_merge"]
    for layer, others in [(UAN(2, statistics="learned"), (2, 1)), (UAN(2).eval(), (2, 1))]:
        forward, backward = count(cuda, layer, shape)
        assert [name for name in forward if name.startswith("mixture")] == ["mixture_transform"]
        of_mixture = [name for name in backward if name.startswith("mixture")]
        assert of_mixture == (["mixture_backward"] if one_part else several)
        assert (len(forward) - 1, len(backward) - len(of_mixture)) == others


def test_an_input_with_gaps_is_copied_once(cuda):
    if not cuda.counts:
        pytest.skip("a real device does not count launches")
    layer = UAN(2).to("cupy")
    x, dy = (place(draw_array((4, 2, 3, 3), seed, dtype="float32"), "strided") for seed in (0, 1))
    with cuda.counting() as forward:
        layer.forward(x)
    with cuda.counting() as backward:
        layer.backward(dy)
    assert (len(forward.launches), len(backward.launches)) == (1 + 4, 1 + 2)


def test_launches_with_em(cuda):
    for prior in ("channel", "shared"):
        forward, backward = count(cuda, UAN(2, update="em", prior=prior))
        assert (len(forward), len(backward)) == (5, 1)


def test_the_definitions_launch_none_and_the_numbers_are_the_same(cuda):
    x, dy, layer = draw_array((4, 2, 6), 0), draw_array((4, 2, 6), 1), make(2)
    with backend.plain():
        plain = on_device(layer, x, dy)
        if cuda.counts:
            with cuda.counting() as counts:
                on_device(layer, x, dy)
            assert not [launched.name for launched in counts.launches if launched.name.startswith("mixture")]
    expected = dict(zip(plain, to_host(*plain.values()), strict=True))
    assert_close(on_device(layer, x, dy), expected, 1e-12)


@pytest.mark.parametrize("statistics", ["batch", "learned"])
def test_threads_in_reverse_order_give_the_same_bits(emulated, statistics):
    from support import cupysim

    x, dy = (draw_array((2, 2, 5000), seed, dtype="float32") for seed in (0, 1))
    layer = make(2, dtype="float32", statistics=statistics)
    first = on_device(layer, x, dy)
    with cupysim.threads_reversed():
        second = on_device(layer, x, dy)
    for name, value in first.items():
        np.testing.assert_array_equal(*to_host(value, second[name]), err_msg=name)


@pytest.mark.parametrize("statistics", ["batch", "learned"])
def test_the_same_input_gives_the_same_bits(cuda, statistics):
    x, dy = (draw_array((2, 2, 5000), seed, dtype="float32") for seed in (0, 1))
    layer = make(2, dtype="float32", statistics=statistics)
    first, second = on_device(layer, x, dy), on_device(layer, x, dy)
    for name, value in first.items():
        np.testing.assert_array_equal(*to_host(value, second[name]), err_msg=name)


def test_nothing_larger_than_the_batch_is_allocated(cuda):
    """The weights of 8 components would take 8 times the bytes of x."""
    cupy = backend.module("cupy")

    class Largest(cupy.cuda.MemoryHook):
        name, size = "largest", 0

        def malloc_preprocess(self, **request):
            self.size = max(self.size, request["size"])

    x, dy = (draw_array((4, 2, 5000), seed, dtype="float32") for seed in (0, 1))
    for options in ({}, {"statistics": "learned"}):
        layer, (x_, dy_) = UAN(2, 8, **options).to("cupy"), to_cuda(x, dy)
        with Largest() as hook:
            layer.forward(x_)
            layer.backward(dy_)
        assert hook.size == x.nbytes


def test_inputs_stay_as_they_are(cuda):
    layer = make(2).to("cupy")
    x, dy = to_cuda(draw_array((3, 2, 4), 0), draw_array((3, 2, 4), 1))
    given = [x, dy, layer.running_mean, layer.running_var, *(p.value for p in layer.parameters().values())]
    before = [a.copy() for a in to_host(*given)]
    layer.forward(x)
    layer.backward(dy)
    for array, copied in zip(given, before, strict=True):
        np.testing.assert_array_equal(*to_host(array), copied)


def test_the_limits(cuda):
    assert launch.CHUNK % launch.THREADS == 0
    assert {variant["COMPONENTS"] for variant in mixture_launch.VARIANTS} == set(
        range(1, mixture_launch.MAX_COMPONENTS + 1)
    )
    # More channels than blocks fit along an axis of the grid.
    channels = mixture_launch.MAX_CHANNELS + 1
    layer, x, dy = make(channels, 2), draw_array((2, channels), 0), draw_array((2, channels), 1)
    assert_close(on_device(layer, x, dy), in_float64(layer, x, dy), 1e-11)


# --- where floating point is thin -----------------------------------------------------------------------------------
# The properties of tests/norms/test_numerics.py, by the kernels and by the definitions.

# In float32 from here on a square, or a weight times a deviation, may leave the format in a definition: the mixtures'
# definitions are for smaller numbers. Faster versions are arranged so that it does not.
LARGE = 1e15
BEYOND_THE_DEFINITIONS = {
    "test_scales": ("float32", LARGE),
    "test_constant_channels": ("float32", LARGE),
    "test_one_huge_outlier": ("float32", LARGE),
}


def skip_if_beyond(test, plain, dtype, magnitude):
    """Leave out what the definitions are not for."""
    of_dtype, limit = BEYOND_THE_DEFINITIONS[test]
    if plain and dtype == of_dtype and abs(magnitude) >= limit:
        pytest.skip("holds for faster versions alone")


THIN = {
    "uan": UAN,
    "uan learned": functools.partial(UAN, statistics="learned"),
    "uan em": functools.partial(UAN, update="em"),
    "uan data": functools.partial(UAN, start="data"),
    "mn channel": functools.partial(MixtureNorm, posterior="channel"),
}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("exponent", [-30, -20, -10, 10, 15, 18, 20, 30])
@pytest.mark.parametrize("name", THIN)
def test_scales(cuda, plain, name, exponent, dtype):
    """Outputs and dx from 1e-30 to 1e30. Parameter gradients of the learned mixture are of order x^2."""
    skip_if_beyond("test_scales", plain, dtype, 10.0**exponent)
    layer = THIN[name](4, dtype=dtype)
    x = (10.0**exponent * draw_array((6, 4, 3, 3), 0)).astype(dtype)
    found = on_device(layer, x, draw_array(x.shape, 9, dtype=dtype))
    of_mixture = ("prior_logits", "mean", "raw_variance") if exponent > 15 and name != "uan em" else ()
    assert_finite({key: value for key, value in found.items() if key not in of_mixture})


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [0.0, 1.0, -1e4, 1e-38, 3.3e7, -7e11, 1.7e15])
@pytest.mark.parametrize("name", THIN)
def test_constant_channels(cuda, plain, name, value, dtype):
    skip_if_beyond("test_constant_channels", plain, dtype, value)
    x, dy = (draw_array((6, 4, 3, 3), seed, dtype=dtype) for seed in (0, 9))
    x[:, 1:] = value
    for one in (x, np.full_like(x, value)):
        found = on_device(THIN[name](4, dtype=dtype), one, dy)
        assert_finite(found)
        assert name == "uan learned" or (to_host(found["running_var"])[0] >= 0.0).all()


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("outlier", [1e4, 1e8, 1e15, -1e20, 1e30])
@pytest.mark.parametrize("name", THIN)
def test_one_huge_outlier(cuda, plain, name, outlier, dtype):
    skip_if_beyond("test_one_huge_outlier", plain, dtype, outlier)
    x, dy = (draw_array((6, 4, 3, 3), seed, dtype=dtype) for seed in (0, 9))
    x[2, 1, 0, 0] = outlier
    found = on_device(THIN[name](4, dtype=dtype), x, dy)
    assert_finite({"y": found["y"], "dx": found["dx"]})


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["uan", "uan learned", "uan em"])
def test_components_far_away_or_tiny(cuda, plain, name, dtype):
    """Some components see nothing, one is a needle, one is as wide as the format allows."""
    layer = THIN[name](4, num_components=5, dtype=dtype)
    layer.mean.value[1], layer.mean.value[2] = 1e6, -1e12
    layer.raw_variance.value[3], layer.raw_variance.value[4] = -80.0, 1e6
    x, dy = (draw_array((6, 4, 3, 3), seed, dtype=dtype) for seed in (0, 9))
    assert_finite(on_device(layer, x, dy))
    assert_finite(on_device(layer.eval(), x, dy))


@pytest.mark.parametrize("statistics", ["batch", "learned"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_shows(cuda, plain, bad, statistics):
    """In the channel where it is, as on the host: the trainer looks for it."""
    x, dy, layer = draw_array((4, 2, 3), 0), draw_array((4, 2, 3), 1), make(2, statistics=statistics)
    x[1, 0, 2] = bad
    with np.errstate(invalid="ignore"):
        expected = in_float64(layer, x, dy)
    found = on_device(layer, x, dy)
    for name in ("y", "dx"):
        on_host = to_host(found[name])[0]
        np.testing.assert_array_equal(np.isfinite(on_host), np.isfinite(expected[name]), err_msg=name)
        assert not np.isfinite(on_host[1, 0, 2])
