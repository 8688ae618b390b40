"""Components that hardly any sample belongs to: dead below the smallest normal number, alive above, never NaN.

Between 0 and that number lie the subnormal ones, whose reciprocals may be infinite: the window of these tests.
"""

from __future__ import annotations

import numpy as np
import pytest
from support.arrays import close, draw_array

from uanref import backend
from uanref.kernels.cpu.blocks import BLOCK_SAMPLES
from uanref.kernels.cpu.merging import merge_moments
from uanref.layers.activation import ReLU
from uanref.layers.base import Sequential
from uanref.layers.linear import Linear
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mixture_constraints import constrained_backward, log_softmax
from uanref.norms.mixture_em import em_step, em_step_of_weights, moved, moved_moments
from uanref.norms.mixture_weights import Mixture, posterior
from uanref.norms.mode import ModeNorm
from uanref.norms.uan import UAN

pytestmark = pytest.mark.filterwarnings("error")

# Distances of the second component at which the sum of its posteriors crosses the window and both its ends.
SCAN = {"float64": np.linspace(30.0, 45.0, 151), "float32": np.linspace(12.5, 15.5, 121)}
CORNER = {"float64": (37.5, 38.1, 38.6, 39.5), "float32": (13.3, 13.7, 14.4, 15.5)}  # alive, dead, dead, nothing at all
SAMPLES = np.linspace(-0.5, 0.1, 40)
ONE = np.log(np.expm1(1.0))  # softplus of it is 1


def far_component(distance, dtype="float64", channels=1, **options):
    """A UAN whose second component stands ``distance`` away from the first, both of variance 1."""
    layer = UAN(channels, options.pop("num_components", 2), dtype=dtype, **options)
    layer.mean.value = np.zeros_like(layer.mean.value)
    layer.mean.value[1] = distance
    layer.raw_variance.value = np.full_like(layer.raw_variance.value, ONE)
    return layer


def log_share(x, layer):
    """Log S_k of each component, in float64 without its smallest number: by logarithms. (K, P)"""
    log_prior = layer.prior_logits.value.astype("float64")
    log_prior = log_prior - np.logaddexp.reduce(log_prior, axis=0)
    variance = np.logaddexp(layer.raw_variance.value.astype("float64"), 0.0) + layer.eps
    mean = layer.mean.value.astype("float64")
    log_density = -0.5 * np.log(variance)[:, None] - (x - mean[:, None]) ** 2 / (2.0 * variance[:, None])  # (K, N, C)
    if log_prior.shape[1] != mean.shape[1]:
        log_density = log_density.sum(axis=2, keepdims=True)
    joint = log_prior[:, None] + log_density
    return np.logaddexp.reduce(joint - np.logaddexp.reduce(joint, axis=0), axis=1)


def run(layer, x, device=None):
    """Return what a training forward and backward pass give, and the state after it."""
    dy = draw_array(x.shape, 1, dtype=str(x.dtype))
    if device is not None:
        layer = layer.to(device.backend)
        x, dy = (backend.to_device(a, device.backend) for a in (x, dy))
    found = {"y": layer.forward(x), "dx": layer.backward(dy)}
    found |= {f"d{name}": p.grad for name, p in layer.parameters().items()} | layer.state_dict()
    return {name: a if isinstance(a, bool) else backend.to_host(a) for name, a in found.items()}


def assert_finite(found, note=""):
    for name, array in found.items():
        assert np.isfinite(array).all(), f"{name} is not finite {note}"


def assert_dead(found, before, k, note=""):
    """Component k has no gradient but its prior's share, and its state is what it was, to the bit."""
    for name in ("running_mean", "running_var", "mean", "raw_variance"):
        if name in found:
            np.testing.assert_array_equal(found[name][k], before[name][k], err_msg=f"{name} {note}")
    for name in ("dmean", "draw_variance"):
        if name in found:
            np.testing.assert_array_equal(found[name][k], 0.0, err_msg=f"{name} {note}")
    if "dprior_logits" in found:
        total = found["dprior_logits"].sum(axis=0)
        assert close(total, np.zeros_like(total), 1e-4 if total.dtype == "float32" else 1e-12), note
        assert (found["dprior_logits"][k] != 0.0).all(), note


def scan(distances, dtype, device=None, **options):
    """Run through the distances; return how many were alive and how many dead, those next to the border not counted."""
    x, alive, dead = SAMPLES[:, None].astype(dtype), 0, 0
    for distance in distances:
        layer = far_component(distance, dtype, **options)
        before, apart = layer.state_dict(), log_share(x, layer)[1, 0] - np.log(np.finfo(dtype).tiny)
        found, note = run(layer, x, device), f"at {distance}"
        assert_finite(found, note)
        if apart > 0.01:
            alive += 1
            if options.get("statistics") != "learned":
                assert found["running_mean"][1, 0] != before["running_mean"][1, 0], note
        if apart < -0.01:
            dead += 1
            if options.get("statistics") != "learned" or options.get("update") == "em":
                assert_dead(found, before, 1, note)
    return alive, dead


@pytest.mark.parametrize("update", ["backprop", "em"])
@pytest.mark.parametrize("statistics", ["batch", "learned"])
@pytest.mark.parametrize("posterior", ["channel", "joint"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_through_the_window(dtype, posterior, statistics, update):
    alive, dead = scan(SCAN[dtype], dtype, posterior=posterior, statistics=statistics, update=update)
    assert min(alive, dead) > 10


@pytest.mark.parametrize("eps", [0.0, 1e-5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_through_the_window_without_eps(dtype, eps):
    """A dead component has the variance 0, which eps = 0 does not lift."""
    assert min(scan(SCAN[dtype], dtype, eps=eps)) > 10


@pytest.mark.smoke
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"update": "em"},
        {"statistics": "learned"},
        {"posterior": "joint"},
        {"prior": "shared"},
        {"prior": "shared", "update": "em"},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_through_the_window_on_every_backend(device, dtype, options):
    scan(CORNER[dtype], dtype, device, **options)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("components", [3, 5])
def test_several_components_in_the_window_at_once(components, dtype):
    x = SAMPLES[:, None].astype(dtype)
    for distance in SCAN[dtype]:
        layer = far_component(distance, dtype, num_components=components)
        layer.mean.value[2:] = -np.linspace(0.999, 1.001, components - 2)[:, None] * distance
        assert_finite(run(layer, x), f"at {distance}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_many_channels_jointly(dtype):
    """Distances of 32 channels add up to the window."""
    for distance in SCAN[dtype][::5] / np.sqrt(32.0):
        layer = far_component(distance, dtype, channels=32, posterior="joint")
        before, x = layer.state_dict(), (0.1 * draw_array((20, 32), 0)).astype(dtype)
        apart, found = log_share(x, layer)[1, 0] - np.log(np.finfo(dtype).tiny), run(layer, x)
        assert_finite(found)
        if apart < -0.01:
            assert_dead(found, before, 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dead_in_the_window_as_beyond_it(dtype):
    """y, dx and the gradients of the others are those with the component so far away that nothing reaches it."""
    window, beyond = CORNER[dtype][1], 100.0
    x = SAMPLES[:, None].astype(dtype)
    assert -20.0 < log_share(x, far_component(window, dtype))[1, 0] - np.log(np.finfo(dtype).tiny) < -0.01
    found, expected = run(far_component(window, dtype), x), run(far_component(beyond, dtype), x)
    for name in ("y", "dx", "dgamma", "dbeta", "dprior_logits", "dmean", "draw_variance", "running_mean"):
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


# --- across blocks --------------------------------------------------------------------------------------------------


def blocks_of(lower, upper, dtype):
    """Samples of two blocks of the host and two parts of the kernels: the first ends at ``lower``, the second at
    ``upper``."""
    x = np.full((2 * BLOCK_SAMPLES, 1), -0.5)
    x[:BLOCK_SAMPLES][::64, 0] = lower - 0.01 * np.arange(BLOCK_SAMPLES // 64)
    x[BLOCK_SAMPLES:][::64, 0] = upper - 0.01 * np.arange(BLOCK_SAMPLES // 64)
    return x.astype(dtype)


@pytest.mark.smoke
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ends", [(0.1, 0.1), (0.09, 0.1), (0.1, 0.05), (0.1, -0.3)])
def test_one_block_in_the_window(device, ends, dtype):
    """Blocks whose weights are subnormal add up to the component's moments as any others, where the sum is not."""
    x, tiny = blocks_of(*ends, dtype), np.log(np.finfo(dtype).tiny)
    found_alive = found_dead = 0
    for distance in np.linspace(35.8, 38.5, 10) if dtype == "float64" else np.linspace(12.6, 14.0, 10):
        layer = far_component(distance, dtype)
        apart, before = log_share(x, layer)[1, 0] - tiny, layer.state_dict()
        # Weights relative to the largest, which no number is too small for.
        wide, far = x.astype("float64"), float(layer.mean.value[1, 0])
        log_w = (wide**2 - (wide - far) ** 2) / 2.0 / (1.0 + layer.eps)  # the first component has all the rest
        w = np.exp(log_w - log_w.max())
        mean = (w * x).sum() / w.sum()
        variance = (w * (x - mean) ** 2).sum() / w.sum()
        found = run(far_component(distance, dtype), x, device)
        assert_finite(found, f"at {distance}")
        if apart < -0.01:
            found_dead += 1
            assert_dead(found, before, 1, f"at {distance}")
        elif apart > 0.01:
            found_alive += 1
            # Each weight is rounded to a multiple of the smallest number, eps tiny: there are 8192 of them.
            tolerance = 1e-2 if dtype == "float32" else 1e-9
            assert abs(found["running_mean"][1, 0] - 0.1 * mean) < 0.1 * tolerance, distance
            assert abs(found["running_var"][1, 0] - 0.9 - 0.1 * variance) < 0.1 * tolerance, distance
    assert min(found_alive, found_dead) > 0


@pytest.mark.versions("the merge of blocks: a definition has none")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_reciprocal_of_a_subnormal_weight(dtype):
    tiny, double = np.finfo(dtype).tiny, np.dtype("float64")
    below, zero = np.array([[0.4 * tiny, 0.5 * tiny, 5e-324]]), np.array([[0.0] * 3])
    moments = np.array([[3.0, 3.0, 3.0]])
    for parts in ([(below, moments, below)], [(below, moments, below), (zero, zero, zero)]):
        _, mean, variance = merge_moments(parts, np.dtype(dtype))
        np.testing.assert_array_equal(mean, 0.0)
        np.testing.assert_array_equal(variance, 0.0)
    # Two halves of the smallest normal number are that number.
    half = np.array([[0.5 * tiny]])
    total, mean, variance = merge_moments(
        [(half, np.array([[1.0]]), half * 2.0), (half, np.array([[3.0]]), half * 4.0)], double
    )
    if dtype == "float64":
        assert (total, mean, variance) == (tiny, 2.0, 4.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_state_keeps_what_it_has_whatever_is_found(dtype):
    old, found, alive = np.array([[-0.0, 7.0]], dtype), np.array([[np.nan, np.inf]], dtype), np.zeros((1, 1), dtype)
    assert moved(old, found, alive, 0.3).tobytes() == old.tobytes()
    assert [a.tobytes() for a in moved_moments(old, old, found, found, alive, 0.3)] == [old.tobytes()] * 2
    total, log_prior = np.ones((1, 1), dtype), np.zeros((1, 1), dtype)
    _, mean, variance = em_step(log_prior, old, old, total, found, found, alive, 0.3)
    assert mean.tobytes() == variance.tobytes() == old.tobytes()
    _, mean, raw = em_step_of_weights(log_prior, old, old, np.ones_like(old), total, found, found, alive, 0.3, 0.1)
    assert mean.tobytes() == raw.tobytes() == old.tobytes()
    back = constrained_backward(log_prior, found, found, None, None, log_prior, old, alive)
    np.testing.assert_array_equal(back[1:], 0.0)


# --- tiny priors ----------------------------------------------------------------------------------------------------


@pytest.mark.smoke
@pytest.mark.parametrize("posterior", ["channel", "joint"])
@pytest.mark.parametrize("gap", [90.0, 131.0, 133.0, 150.0, 190.0, 300.0, 1000.0])
def test_a_tiny_prior_wins(device, gap, posterior):
    """Samples that belong to a component whose prior float32 does not hold: posterior, and signs of the gradients."""
    x = 50.0 + draw_array((20, 1), 0, dtype="float32")
    expected = run(winner_of_tiny_prior(gap, posterior, "float64"), x.astype("float64"))
    found = run(winner_of_tiny_prior(gap, posterior, "float32"), x, device)
    assert_finite(found)
    if gap < 131.0:
        np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-3)
    for name in ("y", "dprior_logits"):
        np.testing.assert_array_equal(np.sign(found[name]), np.sign(expected[name]), err_msg=name)
    for name in ("running_mean", "running_var"):
        np.testing.assert_allclose(found[name][1], expected[name][1], rtol=1e-4, err_msg=name)


def winner_of_tiny_prior(gap, posterior, dtype):
    layer = far_component(50.0, dtype, posterior=posterior)
    layer.prior_logits.value[0] = gap
    return layer


@pytest.mark.parametrize("gap", [0.0, 100.0, 132.0, 180.0, 220.0, 1000.0])
def test_the_posterior_sums_to_one_for_every_prior(gap):
    log_prior = log_softmax(np.array([[0.0], [-gap]], "float32"))
    mixture = Mixture(log_prior, *np.array([[[0.0], [50.0]], [[1.0], [1.0]]], "float32"))
    tau = posterior(np.array([0.0, 25.0, 50.0], "float32").reshape(3, 1, 1), mixture)
    np.testing.assert_allclose(tau.sum(axis=0), 1.0, rtol=1e-6)
    np.testing.assert_allclose(tau[1, 2], 1.0, rtol=1e-6)


# --- the other layers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [0.0, 1e-5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_mode_in_the_window(dtype, eps):
    for logit in np.linspace(-750.0, -690.0, 61) if dtype == "float64" else np.linspace(-110.0, -80.0, 61):
        layer = ModeNorm(2, 2, eps=eps, dtype=dtype)
        layer.gate_weight.value[...] = 0.0
        layer.gate_bias.value[1] = logit
        before, found = layer.state_dict(), run(layer, draw_array((5, 2, 3), 0, dtype=dtype))
        assert_finite(found, f"at {logit}")
        apart = float(layer.gate_bias.value[1]) + np.log(5.0) - np.log(np.finfo(dtype).tiny)
        for name in ("running_mean", "running_var"):
            if apart < -0.01:
                np.testing.assert_array_equal(found[name][1], before[name][1], err_msg=f"{name} at {logit}")
            elif apart > 0.01:
                assert (found[name][1] != before[name][1]).all(), logit


@pytest.mark.parametrize("posterior", ["channel", "joint"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_fitted_component_in_the_window(dtype, posterior):
    """Mixture Normalization starts EM from its running parameters: a component there that has lost its samples."""
    window = np.array([[0.0], [1.0]])
    for distance in SCAN[dtype][::3]:
        layer = MixtureNorm(1, 2, posterior=posterior, dtype=dtype)
        layer.initialized = True
        layer.mean, before = (distance * window).astype(dtype), layer.state_dict()
        before["mean"] = layer.mean.copy()
        found = run(layer, SAMPLES[:, None].astype(dtype))
        assert_finite(found, f"at {distance}")
        if distance == SCAN[dtype][::3][-1]:
            for name in ("mean", "variance", "running_mean", "running_var"):
                np.testing.assert_array_equal(found[name][1], before[name][1], err_msg=name)


def train(norm_of, seed, steps, width=32):
    """Train a small classifier on random data by plain gradient descent; every number of its state stays finite."""
    rng = np.random.default_rng(seed)
    dtype = "float32" if seed % 4 == 3 else "float64"
    net = Sequential(
        Linear(8, width, dtype=dtype, rng=rng),
        norm_of(width, dtype=dtype, rng=rng),
        ReLU(),
        Linear(width, 4, dtype=dtype, rng=rng),
    )
    centres = 7.0 * rng.standard_normal((4, 8))  # far apart: components lose their samples
    for step in range(steps):
        labels = rng.integers(0, 4, 16)
        z = net.forward((centres[labels] + rng.standard_normal((16, 8))).astype(dtype))
        p = np.exp(z - z.max(axis=1, keepdims=True))
        dz = p / p.sum(axis=1, keepdims=True)
        dz[np.arange(16), labels] -= 1.0
        net.backward((dz / 16).astype(dtype))
        for name, parameter in net.parameters().items():
            assert np.isfinite(parameter.grad).all(), f"{name}.grad, seed {seed}, step {step}"
            parameter.value = parameter.value - np.asarray(0.3, dtype) * parameter.grad
    for name, value in net.state_dict().items():
        assert np.isfinite(value).all(), f"{name}, seed {seed}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_training_with_mixture_norm_stays_finite(seed):
    train(MixtureNorm, seed, 200)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24))
def test_training_with_joint_uan_stays_finite(seed):
    train(lambda channels, **options: UAN(channels, posterior="joint", **options), seed, 200)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_training_with_mode_norm_stays_finite(seed):
    train(lambda channels, **options: ModeNorm(channels, 4, **options), seed, 200)
