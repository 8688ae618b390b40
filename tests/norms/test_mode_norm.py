from __future__ import annotations

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import LAYOUTS, channel_shapes, close, draw_array, shake
from support.heavy import every
from support.mutants import both, outcome

from uanref import backend, gradcheck
from uanref.kernels.cpu import blocks
from uanref.norms.batch import BatchNorm
from uanref.norms.mode import ModeNorm

SEEDS = st.integers(0, 2**32 - 1)
MODES = st.integers(1, 4)


def make(channels, modes=3, seed=0, **options):
    """A float64 layer off its start."""
    options = {"dtype": "float64", "rng": np.random.default_rng(seed)} | options
    return shake(ModeNorm(channels, modes, **options), seed + 1)


def place(layer, seed):
    """Give the running moments values as after some training."""
    shape, dtype = layer.running_mean.shape, layer.running_mean.dtype
    layer.running_mean = draw_array(shape, seed, dtype=dtype)
    layer.running_var = 0.2 + draw_array(shape, seed + 1, dtype=dtype) ** 2
    return layer


def definition(layer, x, moments=None):
    """The paper's equations in plain NumPy, float64: y, gates (N, K), mean and variance (K, C)."""
    rows = x.astype("float64").reshape(*x.shape[:2], -1)
    weight, bias, gamma, beta = (
        p.value.astype("float64") for p in (layer.gate_weight, layer.gate_bias, layer.gamma, layer.beta)
    )
    logits = rows.mean(2) @ weight.T + bias
    gate = np.exp(logits - logits.max(1, keepdims=True))
    gate /= gate.sum(1, keepdims=True)
    y, means, variances = 0.0, [], []
    for k in range(layer.num_modes):
        g = gate[:, k]
        if moments is None:
            mean = (g[:, None] * rows.mean(2)).sum(0) / g.sum()
            variance = (g[:, None] * ((rows - mean[:, None]) ** 2).mean(2)).sum(0) / g.sum()
        else:
            mean, variance = moments[0][k], moments[1][k]
        y = y + g[:, None, None] * (rows - mean[:, None]) / np.sqrt(variance + layer.eps)[:, None]
        means.append(mean)
        variances.append(variance)
    return (gamma[:, None] * y + beta[:, None]).reshape(x.shape), gate, np.array(means), np.array(variances)


# --- gradients ----------------------------------------------------------------------------------


@given(channel_shapes(), MODES, SEEDS, st.booleans(), st.sampled_from(LAYOUTS))
def test_gradients_in_train_mode(shape, modes, seed, affine, layout):
    layer = make(shape[1], modes, seed, affine=affine, eps=0.05)
    gradcheck.assert_ok(layer, draw_array(shape, seed, layout=layout), seed=seed, complex_step=True)


@given(channel_shapes(min_samples=1), MODES, SEEDS, st.booleans(), st.sampled_from(LAYOUTS))
def test_gradients_in_eval_mode(shape, modes, seed, affine, layout):
    layer = place(make(shape[1], modes, seed, affine=affine), seed + 2).eval()
    gradcheck.assert_ok(layer, draw_array(shape, seed, layout=layout), seed=seed, complex_step=True)


@pytest.mark.versions("blocks")
def test_gradients_over_many_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "THREADED_ELEMENTS", 0)
    monkeypatch.setattr(blocks.sample_blocks, "__defaults__", (1,))
    x = draw_array((5, 3, 2, 2), 0)
    with backend.limit_threads(2):
        assert len(blocks.sample_blocks(x, 12)) == 5
        gradcheck.assert_ok(make(3, eps=0.05), x)


# --- identities -----------------------------------------------------------------------------------


@given(channel_shapes(), SEEDS)
def test_one_mode_is_batch_norm(shape, seed):
    x, dy = draw_array(shape, seed), draw_array(shape, seed + 1)
    mode, bn = ModeNorm(shape[1], 1, dtype="float64"), BatchNorm(shape[1], dtype="float64")
    gamma, beta = draw_array((shape[1],), seed + 2), draw_array((shape[1],), seed + 3)
    for layer in (mode, bn):
        layer.gamma.value, layer.beta.value = gamma, beta
    assert close(mode.forward(x), bn.forward(x), 1e-12)
    assert close(mode.backward(dy), bn.backward(dy), 1e-12)
    assert close(mode.gamma.grad, bn.gamma.grad, 1e-12)
    assert close(mode.beta.grad, bn.beta.grad, 1e-12)
    np.testing.assert_array_equal(mode.gate_weight.grad, 0.0)
    np.testing.assert_array_equal(mode.gate_bias.grad, 0.0)


def test_in_eval_one_mode_differs_from_batch_norm_by_the_unbiased_factor():
    x = draw_array((6, 2), 0)
    mode, bn = ModeNorm(2, 1, momentum=1.0, dtype="float64"), BatchNorm(2, momentum=1.0, dtype="float64")
    mode.forward(x)
    bn.forward(x)
    np.testing.assert_allclose(bn.running_var, mode.running_var[0] * 6 / 5, rtol=1e-13)


@given(channel_shapes(), SEEDS)
def test_modes_have_no_order(shape, seed):
    x, dy = draw_array(shape, seed), draw_array(shape, seed + 1)
    layer = make(shape[1], 3, seed)
    permuted, order = copy.deepcopy(layer), [2, 0, 1]
    for parameter in (permuted.gate_weight, permuted.gate_bias):
        parameter.value = parameter.value[order]
    assert close(permuted.forward(x), layer.forward(x), 1e-10)
    assert close(permuted.backward(dy), layer.backward(dy), 1e-10)
    assert close(permuted.gate_weight.grad, layer.gate_weight.grad[order], 1e-10)
    assert close(permuted.running_var, layer.running_var[order], 1e-10)


@given(channel_shapes(), MODES, SEEDS)
def test_every_channel_has_mean_zero_so_ones_upstream_give_zero(shape, modes, seed):
    layer = make(shape[1], modes, seed, affine=False, eps=0.05)
    y = layer.forward(draw_array(shape, seed))
    axes = (0, *range(2, len(shape)))
    assert (np.abs(y.sum(axes)) <= 1e-10 * (1.0 + np.abs(y).sum(axes))).all()
    assert np.abs(layer.backward(np.ones_like(y))).max() < 1e-10  # all ones on purpose
    assert np.abs(layer.gate_weight.grad).max() < 1e-10


@given(channel_shapes(), SEEDS)
def test_gauge_of_the_gate(shape, seed):
    """A number added to every mode's logit changes nothing, so the gate's gradients sum to 0 over the modes."""
    layer = make(shape[1], 3, seed, eps=0.05)
    layer.forward(draw_array(shape, seed))
    layer.backward(draw_array(shape, seed + 1))
    for grad in (layer.gate_bias.grad, layer.gate_weight.grad):
        assert (np.abs(grad.sum(0)) <= 1e-10 * (1e-3 + np.abs(grad).sum(0))).all()


def test_a_decided_gate_normalizes_each_group_by_itself():
    """Two groups of samples that the gate tells apart: each gets batch normalization of its own."""
    a, b = draw_array((6, 2, 3), 0), 40.0 + 3.0 * draw_array((5, 2, 3), 1)
    layer = ModeNorm(2, 2, dtype="float64")
    layer.gate_weight.value = np.array([[-10.0, -10.0], [10.0, 10.0]])
    layer.gate_bias.value = np.array([400.0, -400.0])
    y = layer.forward(np.concatenate([a, b]))
    assert close(y[:6], BatchNorm(2, dtype="float64").forward(a), 1e-12)
    assert close(y[6:], BatchNorm(2, dtype="float64").forward(b), 1e-12)


# --- definition -----------------------------------------------------------------------------------


@given(channel_shapes(), MODES, SEEDS, st.sampled_from(["float32", "float64"]), st.sampled_from(LAYOUTS))
def test_output_and_running_moments_are_the_definition(shape, modes, seed, dtype, layout):
    x = draw_array(shape, seed, dtype=dtype, layout=layout)
    before = x.copy()
    layer = make(shape[1], modes, seed, dtype=dtype, eps=0.01, momentum=0.25)
    expected, _, mean, variance = definition(layer, x)
    y = layer.forward(x)
    assert y.dtype == x.dtype
    assert y.shape == x.shape
    np.testing.assert_array_equal(x, before)
    tolerance = 1e-4 if dtype == "float32" else 1e-11
    assert close(y, expected, tolerance)
    assert layer.running_mean.dtype == layer.running_var.dtype == dtype
    assert close(layer.running_mean, 0.25 * mean, tolerance)
    assert close(layer.running_var, 0.75 + 0.25 * variance, tolerance)
    dx = layer.backward(draw_array(shape, seed + 1, dtype=dtype))
    assert dx.dtype == x.dtype
    assert all(p.grad.dtype == dtype for p in layer.parameters().values())


@given(channel_shapes(min_samples=1), MODES, SEEDS)
def test_eval_is_the_definition_with_running_moments(shape, modes, seed):
    layer = place(make(shape[1], modes, seed), seed).eval()
    x, before = draw_array(shape, seed), layer.state_dict()
    assert close(layer.forward(x), definition(layer, x, (before["running_mean"], before["running_var"]))[0], 1e-11)
    assert close(layer.forward(x[:1]), layer.forward(x)[:1], 1e-12), "neighbours do not matter"
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_momentum_one_makes_eval_repeat_training():
    x = draw_array((9, 3, 2), 0)
    layer = make(3, momentum=1.0)
    y = layer.forward(x)
    assert close(layer.eval().forward(x), y, 1e-12)


def test_a_large_offset_costs_no_digits():
    """Means of 1e4 and deviations of 1 in float32: the format keeps three decimals of x, and so does the layer of y."""
    base = draw_array((16, 3, 8), 0)
    x = (1e4 + base).astype("float32")
    layer = make(3, 2, dtype="float32")
    layer.gate_weight.value *= np.float32(1e-4)
    y, expected = layer.forward(x), definition(layer, x)[0]
    assert close(y, expected, 2e-4)


def test_the_gate_starts_awake():
    layer = ModeNorm(4, 3, dtype="float64")
    bound = np.sqrt(6.0 / 7.0)
    assert 0.3 * bound < np.abs(layer.gate_weight.value).max() <= bound
    np.testing.assert_array_equal(layer.gate_bias.value, 0.0)
    layer.forward(draw_array((6, 4), 0))
    layer.backward(draw_array((6, 4), 1))
    assert np.abs(layer.gate_weight.grad).max() > 1e-2
    asleep = ModeNorm(4, 3, dtype="float64")
    asleep.gate_weight.value *= 0.0
    asleep.forward(draw_array((6, 4), 0))
    asleep.backward(draw_array((6, 4), 1))
    assert np.abs(np.diff(asleep.gate_weight.grad, axis=0)).max() < 1e-12, "all modes alike: no direction to part"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_dead_mode_is_masked(dtype):
    layer = shake(ModeNorm(2, 3, dtype=dtype), 0)
    layer.gate_bias.value[2] = -2000.0
    place(layer, 1)
    kept_mean, kept_var = layer.running_mean[2].copy(), layer.running_var[2].copy()
    x, dy = draw_array((8, 2, 3), 0, dtype=dtype), draw_array((8, 2, 3), 1, dtype=dtype)
    y = layer.forward(x)
    dx = layer.backward(dy)
    for array in (y, dx, *(p.grad for p in layer.parameters().values())):
        assert np.isfinite(array).all()
    np.testing.assert_array_equal(layer.running_mean[2], kept_mean)
    np.testing.assert_array_equal(layer.running_var[2], kept_var)
    np.testing.assert_array_equal(layer.gate_weight.grad[2], 0.0)

    alive = ModeNorm(2, 2, dtype=dtype)  # the same without the dead one
    alive.gamma.value, alive.beta.value = layer.gamma.value, layer.beta.value
    alive.gate_weight.value, alive.gate_bias.value = layer.gate_weight.value[:2], layer.gate_bias.value[:2]
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    assert close(y, alive.forward(x), tolerance)
    assert close(dx, alive.backward(dy), tolerance)
    assert close(layer.gate_weight.grad[:2], alive.gate_weight.grad, tolerance)


@pytest.mark.parametrize("faint", [-60.0, -86.0, -87.3, -87.4, -100.0, -700.0])
def test_a_faint_mode_stays_finite(faint):
    """Gates around the smallest number of float32, on both sides of the mask."""
    layer = ModeNorm(2, 2)
    layer.gate_weight.value *= 0
    layer.gate_bias.value = np.array([0.0, faint], "float32")
    x = draw_array((1, 2, 3), 0, dtype="float32")
    y = layer.forward(x)
    dx = layer.backward(draw_array(x.shape, 1, dtype="float32"))
    for array in (y, dx, *(p.grad for p in layer.parameters().values()), layer.running_var):
        assert np.isfinite(array).all()


def test_a_constant_channel_stays_finite():
    x = draw_array((8, 3, 2), 0, dtype="float32")
    x[:, 1] = 7.0
    layer = ModeNorm(3, 2)
    y = layer.forward(x)
    dx = layer.backward(draw_array(x.shape, 1, dtype="float32"))
    assert np.isfinite(dx).all()
    assert np.abs(y[:, 1]).max() < 1e-3


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:underflow:RuntimeWarning")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(8, 3), (8, 3, 4), (1, 3, 4)])
@pytest.mark.parametrize("exponent", [-40, -30, -10, 10, 18, 20, 30, "outlier"])
def test_every_scale_and_an_outlier_leave_all_finite(dtype, shape, exponent):
    x = draw_array(shape, 0, dtype=dtype)
    if exponent == "outlier":
        x.reshape(-1)[0] = 1e30
    else:
        x = (10.0**exponent * x).astype(dtype)
    layer = ModeNorm(3, 3, dtype=dtype)
    for _ in range(2):
        y = layer.forward(x)
        dx = layer.backward(draw_array(shape, 1, dtype=dtype))
        for array in (y, dx, layer.gamma.grad, layer.gate_bias.grad, *layer.state_dict().values()):
            assert np.isfinite(array).all()


# --- state ----------------------------------------------------------------------------------------


@pytest.mark.versions("threads")
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_no_bit(threads):
    x, dy = draw_array((32, 16, 16, 16), 0, dtype="float32"), draw_array((32, 16, 16, 16), 1, dtype="float32")
    results = []
    for count in (1, threads):
        layer = ModeNorm(16)
        with backend.limit_threads(count):
            results.append((layer.forward(x), layer.backward(dy), layer.gate_weight.grad, layer.running_var))
    for one, several in zip(*results, strict=True):
        np.testing.assert_array_equal(one, several)


def test_two_forwards_then_two_backwards():
    layer = make(2)
    x1, x2, dy = draw_array((4, 2), 1), draw_array((5, 2), 2), draw_array((5, 2), 3)
    layer.forward(x2)
    alone = layer.backward(dy)
    layer.forward(x1)
    layer.forward(x2)
    np.testing.assert_array_equal(layer.backward(dy), alone)
    assert layer.backward(dy[:4]).shape == x1.shape
    with pytest.raises(RuntimeError, match="without a pending forward"):
        layer.backward(dy)


def test_gradients_accumulate_only_when_told():
    layer = make(2)
    x, dy = draw_array((4, 2), 1), draw_array((4, 2), 2)
    layer.forward(x)
    layer.backward(dy)
    once = {name: p.grad.copy() for name, p in layer.parameters().items()}
    assert set(once) == {"gate_weight", "gate_bias", "gamma", "beta"}
    with backend.accumulating():
        layer.forward(x)
        layer.backward(dy)
    for name, p in layer.parameters().items():
        np.testing.assert_allclose(p.grad, 2 * once[name], rtol=1e-13)


def test_state_dict_round_trip():
    layer = make(3, dtype="float32")
    layer.forward(draw_array((9, 3), 0, dtype="float32"))
    other = ModeNorm(3, 3, rng=np.random.default_rng(99))
    assert np.abs(other.gate_weight.value - layer.gate_weight.value).max() > 0.01
    other.load_state_dict(layer.state_dict())
    x = draw_array((8, 3), 1, dtype="float32")
    np.testing.assert_array_equal(layer.forward(x), other.forward(x))
    np.testing.assert_array_equal(layer.eval().forward(x), other.eval().forward(x))


def test_the_device_is_never_waited_for(strict_cupy):
    x, dy = draw_array((6, 3, 4), 0), draw_array((6, 3, 4), 1)
    host, device = (make(3) for _ in range(2))
    device.to("cupy")
    x_device, dy_device = backend.to_device(x, "cupy"), backend.to_device(dy, "cupy")
    for training in (True, False):
        host.train(training)
        device.train(training)
        with strict_cupy.sealed():
            found = [device.forward(x_device), device.backward(dy_device)]
        found += [p.grad for p in device.parameters().values()] + [device.running_mean, device.running_var]
        expected = [host.forward(x), host.backward(dy)]
        expected += [p.grad for p in host.parameters().values()] + [host.running_mean, host.running_var]
        for actual, wanted in zip(found, expected, strict=True):
            assert close(backend.to_host(actual), wanted, 1e-12)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "error", "words"),
    [
        (np.zeros(3, "f4"), ValueError, r"expects \(N, 3, ...\), got \(3,\)"),
        (np.zeros((4, 2), "f4"), ValueError, r"expects \(N, 3, ...\), got \(4, 2\)"),
        (np.zeros((4, 3)), TypeError, "float32 parameters but got an input of float64"),
        (np.zeros((0, 3), "f4"), ValueError, "empty batch"),
        (np.zeros((1, 3), "f4"), ValueError, "ModeNorm in train mode needs >= 2 samples per channel"),
        (np.zeros((1, 3, 1, 1), "f4"), ValueError, "ModeNorm in train mode needs >= 2 samples per channel"),
        ([[1.0, 2.0, 3.0]], TypeError, "expected a NumPy or CuPy array, got list"),
    ],
)
def test_bad_input(x, error, words):
    layer = ModeNorm(3)
    with pytest.raises(error, match=words):
        layer.forward(x)
    np.testing.assert_array_equal(layer.running_mean, 0.0)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"num_features": 0}, ValueError),
        ({"num_modes": 0}, ValueError),
        ({"num_modes": 1.5}, TypeError),
        ({"eps": -1.0}, ValueError),
        ({"momentum": 1.5}, ValueError),
        ({"dtype": "int32"}, TypeError),
        ({"rng": 3}, TypeError),
    ],
)
def test_bad_options(options, error):
    with pytest.raises(error):
        ModeNorm(**{"num_features": 2} | options)


# --- planted mistakes -----------------------------------------------------------------------------

PLANTED = "plants in definitions, with versions off, and in versions, with them on"
CHAIN, VERSIONS = ["norms.mode"], ["kernels.cpu.mode"]
(MODE,), (CPU_MODE,) = CHAIN, VERSIONS

# (module, what stands there, what a slip would write)
MISTAKES = {
    "dgamma without A": (MODE, "centred_sum * a + plain * d).sum", "centred_sum + plain * d).sum"),
    "dgamma without D": (MODE, "centred_sum * a + plain * d).sum", "centred_sum * a).sum"),
    "dgamma from the wrong sums": (MODE, "centred_sum * a + plain * d).sum", "plain * a + centred_sum * d).sum"),
    "dgamma's sign": (MODE, "(centred_sum * a + plain * d).sum", "(centred_sum * a - plain * d).sum"),
    "dbeta negated": (MODE, "dbeta.astype", "(-dbeta).astype"),
    "dbeta from the wrong sum": (MODE, "plain.sum(axis=0)  # (C,)", "centred_sum.sum(axis=0)  # (C,)"),
    "sums of x, not x - p": (MODE, "(dy * (x - p[:, :, None])).sum(", "(dy * x).sum("),
    "gamma missing in dD and dA": (MODE, "(plain, centred_sum) if gamma is None else (plain * gamma, centred_sum * gamma)", "(plain, centred_sum)"),  # noqa: E501
    "gamma missing in dA": (MODE, "(plain * gamma, centred_sum * gamma)", "(plain * gamma, centred_sum)"),
    "gamma missing in dD": (MODE, "(plain * gamma, centred_sum * gamma)", "(plain, centred_sum * gamma)"),
    "A's part of the scaled gate": (MODE, "dscaled = da[:, None] + dd", "dscaled = dd"),
    "D's part of the scaled gate": (MODE, "dscaled = da[:, None] + dd[:, None] * centred", "dscaled = da[:, None] + 0 * centred"),  # noqa: E501
    "D's part without c": (MODE, "dd[:, None] * centred  # d(g", "dd[:, None] + 0 * centred  # d(g"),
    "gate constant in the output": (MODE, "dlog_gate = gate *", "dlog_gate = 0.0 * gate *"),
    "gate instead of its logarithm": (MODE, "dlog_gate = gate * (dscaled * inverse_std)", "dlog_gate = (dscaled * inverse_std)"),  # noqa: E501
    "i_k missing for the gate": (MODE, "(dscaled * inverse_std).sum(axis=2)", "dscaled.sum(axis=2)"),
    "moments constant": (MODE, "if share is not None:", "if False:"),
    "di_k without the gate": (MODE, "(gate[:, :, None] * dscaled).sum(axis=0)", "dscaled.sum(axis=0)"),
    "dv's half": (MODE, "dvar = -0.5 *", "dvar = -1.0 *"),
    "dv's sign": (MODE, "dvar = -0.5 *", "dvar = 0.5 *"),
    "dv with i squared": (MODE, "inverse_std * inverse_std * inverse_std * dinverse_std", "inverse_std * inverse_std * dinverse_std"),  # noqa: E501
    "dv dropped": (MODE, "dvar = -0.5 *", "dvar = 0.0 *"),
    "dmu's sign": (MODE, "dmean = -inverse_std *", "dmean = inverse_std *"),
    "dmu without i": (MODE, "dmean = -inverse_std * xp", "dmean = -1.0 * xp"),
    "dmu without the gate": (MODE, "xp.matmul(gate.T, dd)", "dd.sum(axis=0)"),
    "dmu dropped": (MODE, "dmean = -inverse_std *", "dmean = -0.0 *"),
    "ds with the gate for the share": (MODE, "ds = xp.matmul(share, dvar)", "ds = xp.matmul(gate, dvar)"),
    "ds dropped": (MODE, "ds = xp.matmul(share, dvar)", "ds = xp.matmul(0.0 * share, dvar)"),
    "dp with the gate for the share": (MODE, "dp = (share[:, :, None]", "dp = (gate[:, :, None]"),
    "dp without mu": (MODE, "(dmean + 2.0 * dvar * centred)).sum", "(2.0 * dvar * centred)).sum"),
    "dp without v": (MODE, "(dmean + 2.0 * dvar * centred)).sum", "(dmean + 0.0 * centred)).sum"),
    "dp's factor 2": (MODE, "2.0 * dvar * centred", "1.0 * dvar * centred"),
    "dp's sign of v": (MODE, "dmean + 2.0 * dvar", "dmean - 2.0 * dvar"),
    "v_k missing in the deviation": (MODE, "+ centred * centred - var", "+ centred * centred"),
    "v_k's sign in the deviation": (MODE, "+ centred * centred - var", "+ centred * centred + var"),
    "s_n missing in the deviation": (MODE, "deviation = s[:, None] + centred", "deviation = centred"),
    "c squared missing in the deviation": (MODE, "s[:, None] + centred * centred - var", "s[:, None] - var"),
    "gate constant in the moments": (MODE, "dlog_gate += share *", "dlog_gate += 0.0 * share *"),
    "gate for the share in the moments": (MODE, "dlog_gate += share *", "dlog_gate += gate *"),
    "gate constant in mu": (MODE, "(dmean * centred + dvar * deviation)", "(dvar * deviation)"),
    "gate constant in v": (MODE, "(dmean * centred + dvar * deviation)", "(dmean * centred)"),
    "mu's c missing for the gate": (MODE, "(dmean * centred + dvar", "(dmean + dvar"),
    "softmax's second term": (MODE, " - gate * dlog_gate.sum(axis=1, keepdims=True)", ""),
    "softmax's second term's sign": (MODE, "dlog_gate - gate * dlog", "dlog_gate + gate * dlog"),
    "softmax's second term without the gate": (MODE, "dlog_gate - gate * dlog_gate.sum", "dlog_gate - dlog_gate.sum"),
    "softmax over samples": (MODE, "dlog_gate.sum(axis=1, keepdims=True)", "dlog_gate.sum(axis=0, keepdims=True)"),
    "dW negated": (MODE, "self.gate_weight.receive(xp", "self.gate_weight.receive(-xp"),
    "dW from s": (MODE, "xp.matmul(dlogits.T, p.astype(gate.dtype))", "xp.matmul(dlogits.T, s.astype(gate.dtype))"),
    "dW not received": (MODE, "self.gate_weight.receive(", "abs("),
    "db negated": (MODE, "self.gate_bias.receive(dlogits", "self.gate_bias.receive(-dlogits"),
    "db not received": (MODE, "self.gate_bias.receive(", "abs("),
    "the pooled features' path dropped": (MODE, "dp += xp.matmul(dlogits, weight)", "dp += 0.0"),
    "the pooled features' path's sign": (MODE, "dp += xp.matmul", "dp -= xp.matmul"),
    "direct path without gamma": (MODE, "direct, spatial = a if gamma is None else a * gamma,", "direct, spatial = a,"),
    "direct path without A": (MODE, "direct, spatial = a if gamma is None else a * gamma,", "direct, spatial = 0 * a + gamma,"),  # noqa: E501
    "ds's factor 2": (MODE, "2.0 * ds / spatial", "1.0 * ds / spatial"),
    "ds's divisor S": (MODE, "2.0 * ds / spatial", "2.0 * ds"),
    "dp's divisor S": (MODE, "ds / spatial, dp / spatial", "ds / spatial, dp"),
    "direct path dropped": (MODE, "dx: Array = dy * direct[:, :, None] + (x", "dx: Array = (x"),
    "spatial variance of x, not x - p": (MODE, "+ (x - p[:, :, None]) * through_s", "+ x * through_s"),
    "spatial variance's path dropped": (MODE, " + (x - p[:, :, None]) * through_s[:, :, None]", ""),
    "spatial variance's path's sign": (MODE, "+ (x - p[:, :, None]) * through_s", "- (x - p[:, :, None]) * through_s"),
    "spatial variance's slope dropped": (MODE, "* through_s[:, :, None] ", ""),
    "spatial mean's path dropped": (MODE, " + through_p[:, :, None]\n", "\n"),
    "spatial mean's path's sign": (MODE, " + through_p[:, :, None]\n", " - through_p[:, :, None]\n"),
}  # fmt: skip

# The same where a version has the text; the rest stands in the layer, one text with and without versions.
CPU_MISTAKES = {
    "sums of x, not x - p": (CPU_MODE, "        xp.subtract(rows[block], p[block, :, None], out=product)\n        product *= dy", "        product[...] = rows[block]\n        product *= dy"),  # noqa: E501
    "direct path dropped": (CPU_MODE, "xp.multiply(dy[block], direct_[block], out=out)", "out[...] = 0.0"),
    "spatial variance of x, not x - p": (CPU_MODE, "xp.subtract(rows[block], p[block, :, None], out=term)", "term[...] = rows[block]"),  # noqa: E501
    "spatial variance's path dropped": (CPU_MODE, "        out += term\n", ""),
    "spatial variance's path's sign": (CPU_MODE, "out += term", "out -= term"),
    "spatial variance's slope dropped": (CPU_MODE, "        term *= s_[block]\n", ""),
    "spatial mean's path dropped": (CPU_MODE, "        out += p_[block]\n", ""),
    "spatial mean's path's sign": (CPU_MODE, "out += p_[block]", "out -= p_[block]"),
}  # fmt: skip


def check_all(cls):
    """Return whether each mode passes."""
    passed = []
    for training in (True, False):
        layer = place(shake(cls(2, 3, eps=0.05, dtype="float64"), 1), 2).train(training)
        passed.append(gradcheck.check(layer, draw_array((4, 2, 3), 4), directions=2, jacobian=False).ok)
    return passed


@pytest.mark.versions(PLANTED)
@pytest.mark.parametrize("module", [MODE, CPU_MODE])
def test_without_a_mistake_all_is_green(module):
    assert outcome(check_all, "ModeNorm", CHAIN, VERSIONS, (module, "", "")) == [True, True]
    assert set(CPU_MISTAKES) < set(MISTAKES)


@pytest.mark.versions(PLANTED)
@pytest.mark.parametrize(("text", "name"), every(4, both(MISTAKES, CPU_MISTAKES)))
def test_a_mistake_is_caught(text, name):
    mistake = (MISTAKES if text == "definition" else CPU_MISTAKES)[name]
    try:
        passed = outcome(check_all, "ModeNorm", CHAIN, VERSIONS, mistake)
    except (ValueError, IndexError, ZeroDivisionError) as error:
        pytest.fail(f"{name} breaks the code ({error}) and is no fair mistake")
    assert not all(passed), f"survived: {name}"
