from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import LAYOUTS, channel_shapes, close, draw_array, shake
from support.mutants import Mistake, plant

from uanref import backend, gradcheck
from uanref.norms.uan_public import UANPublic

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "uan_public_layer.npz")
CASES = ["case1", "case2", "case5", "case7", "case1_f32"]
SEEDS = st.integers(0, 2**32 - 1)


def golden(case: str, name: str) -> np.ndarray:
    """Return a golden array; those shaped like x with the channels moved to axis 1."""
    array = GOLDEN[f"{case}/{name}"]
    return np.moveaxis(array, -1, 1) if name.split("_")[0] in ("x", "g", "y", "dx") else array


def golden_layer(case: str) -> UANPublic:
    x, momentum = golden(case, "x"), float(golden(case, "momentum"))
    layer = UANPublic(x.shape[1], int(golden(case, "K")), float(golden(case, "eps")), momentum, dtype=x.dtype)
    for name, parameter in layer.parameters().items():
        parameter.value = golden(case, name)
    return layer


def moved(cls: type, channels: int, components: int, seed: int, **options: object) -> UANPublic:
    """Return a layer with general parameters: raw variances of both signs."""
    return shake(cls(channels, components, dtype="float64", **options), seed, scale=1.0)


# --- the recorded numbers -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "mode"), [(case, "eval") for case in CASES] + [("case2", "train"), ("case7", "train")]
)
def test_golden_arrays(case, mode):
    layer = golden_layer(case).train(mode == "train")
    found = {f"y_{mode}": layer.forward(golden(case, "x")), f"dx_{mode}": layer.backward(golden(case, "g"))}
    for name, parameter in layer.parameters().items():
        found[f"d{name}_{mode}"] = parameter.grad
        if mode == "train":
            found[f"{name}_after_train"] = parameter.value

    assert len(found) == (8 if mode == "train" else 5)
    for name, array in found.items():
        assert array.dtype == golden(case, "x").dtype
        assert close(array, golden(case, name), 1e-4 if case == "case1_f32" else 1e-10), name
        if not name.startswith("dprior"):
            assert np.abs(golden(case, name)).max() > 1e-2, f"{name}: nothing to compare"


def test_golden_float32_relative_to_a_small_scale():
    """The same in float32 for arrays far from unit scale: relative to each array's own largest entry."""
    layer = golden_layer("case1_f32").eval()
    y, dx = layer.forward(golden("case1_f32", "x")), layer.backward(golden("case1_f32", "g"))
    for name, array in {"y": y, "dx": dx, "dmean": layer.mean.grad, "dvariance": layer.variance.grad}.items():
        expected = golden("case1_f32", f"{name}_eval")
        assert np.abs(array - expected).max() <= 1e-4 * np.abs(expected).max(), name


# --- the definition, element by element -----------------------------------------------------------


def by_hand(layer: UANPublic, x: np.ndarray) -> np.ndarray:
    """Return the terms y_k (K, N, C, S), one number after the other."""
    rows, eps = x.reshape(*x.shape[:2], -1), layer.eps
    (samples, channels, spatial), components = rows.shape, layer.num_components
    tau, terms = np.zeros((components, *rows.shape)), np.zeros((components, *rows.shape))
    for c in range(channels):
        q = np.log1p(np.exp(layer.variance.value[:, c])) + eps
        for n in range(samples):
            for s in range(spatial):
                p = np.exp(-((rows[n, c, s] - layer.mean.value[:, c]) ** 2) / (2 * q))
                tau[:, n, c, s] = p / (p.sum() + eps)
        for k in range(components):
            h = tau[k, :, c] / (tau[k, :, c].sum() + eps)
            for n in range(samples):
                weighted = h[n] * rows[n, c]
                e, v = weighted.mean(), (h[n] * weighted**2).mean()
                terms[k, n, c] = tau[k, n, c] / np.sqrt(1 + eps) * (rows[n, c] - e) / np.sqrt(v + eps)
    return terms


@given(channel_shapes(min_samples=1), SEEDS, st.integers(1, 3), st.sampled_from(LAYOUTS))
def test_output_is_the_definition_in_both_modes(shape, seed, components, layout):
    x = draw_array(shape, seed, layout=layout)
    before = x.copy()
    layer = moved(UANPublic, shape[1], components, seed)
    expected = by_hand(layer, x).sum(axis=0).reshape(shape)
    assert close(layer.eval().forward(x), expected, 1e-12)
    assert close(layer.train().forward(x), expected, 1e-12)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("shape", [(6, 2), (3, 2, 5), (2, 2, 3, 4)])
def test_training_moves_the_parameters_by_the_weight_of_the_old_value(shape):
    layer, x = moved(UANPublic, 2, 3, 1, momentum=0.75), draw_array(shape, 0)
    terms = by_hand(layer, x)
    mean, variance, prior = (p.value.copy() for p in layer.parameters().values())
    layer.eval().forward(x)
    np.testing.assert_array_equal(layer.mean.value, mean)

    layer.train().forward(x)
    np.testing.assert_allclose(layer.mean.value, 0.75 * mean + 0.25 * terms.mean((1, 3)), rtol=1e-12)
    np.testing.assert_allclose(layer.variance.value, 0.75 * variance + 0.25 * terms.var((1, 3)), rtol=1e-12)
    rows = x.reshape(*shape[:2], -1)
    q = np.log1p(np.exp(variance)) + layer.eps
    p = np.exp(-((rows - mean[:, None, :, None]) ** 2) / (2 * q[:, None, :, None]))
    tau = p / (p.sum(0) + layer.eps)
    np.testing.assert_allclose(layer.prior.value[:, 0], 0.75 * prior[:, 0] + 0.25 * tau.mean((1, 2, 3)), rtol=1e-12)


def test_start():
    layer = UANPublic(200, 3, rng=np.random.default_rng(5))
    assert (np.abs(layer.mean.value) <= 1.0).all()
    assert 0.4 < np.abs(layer.mean.value).mean() < 0.6
    assert ((layer.variance.value >= 0.001) & (layer.variance.value <= 0.01)).all()
    assert layer.prior.shape == (3, 1)
    assert layer.prior.value.sum() == pytest.approx(1.0, abs=1e-6)
    priors = UANPublic(1, 2000).prior.value
    assert priors.max() / priors.min() <= 99.0
    assert {name: p.value.dtype for name, p in layer.parameters().items()} == dict.fromkeys(
        ("mean", "variance", "prior"), np.dtype("float32")
    )


# --- gradients ------------------------------------------------------------------------------------


@given(channel_shapes(min_samples=1), SEEDS, st.integers(1, 3), st.booleans(), st.sampled_from(LAYOUTS))
def test_gradients(shape, seed, components, training, layout):
    layer = moved(UANPublic, shape[1], components, seed, eps=0.05).train(training)
    x = draw_array(shape, seed, layout=layout)
    gradcheck.assert_ok(layer, x, seed=seed, directions=2, jacobian=False, complex_step=True)


@pytest.mark.parametrize("eps", [1e-3, 0.05])
@pytest.mark.parametrize("shape", [(4, 2), (2, 2, 3)])
def test_the_whole_jacobian(shape, eps):
    gradcheck.assert_ok(moved(UANPublic, 2, 2, 3, eps=eps), draw_array(shape, 4), jacobian=True)


STEPS, LAYER = "norms.uan_public_terms", "norms.uan_public"
CONSTANT = "g = dy * (1.0 + eps) ** -0.5  # (N, C, S)\n    dtau = g * "
MISTAKES: dict[str, Mistake] = {
    "constant of step 6 dropped": (STEPS, CONSTANT + "v", "g = dy\n    dtau = g * v"),
    "tau's direct path dropped": (STEPS, "dtau = g * v * inverse_std", "dtau = 0.0 * g * v * inverse_std"),
    "tau's direct path without inverse_std": (STEPS, "dtau = g * v * inverse_std", "dtau = g * v"),
    "dv without tau": (STEPS, "dv = g * tau * inverse_std", "dv = g + 0.0 * tau * inverse_std"),
    "dv without inverse_std": (STEPS, "dv = g * tau * inverse_std", "dv = g * tau"),
    "dV's half": (STEPS, "dV = -0.5 *", "dV = -1.0 *"),
    "dV's sign": (STEPS, "dV = -0.5 *", "dV = 0.5 *"),
    "dV's power": (STEPS, "inverse_std**3", "inverse_std**2"),
    "dE's sign": (STEPS, "dE = -sum_rows(dv)", "dE = sum_rows(dv)"),
    "dE dropped in h": (STEPS, "dh = (dE * x + 3.0", "dh = (0.0 * dE * x + 3.0"),
    "V a square in h, not a cube": (STEPS, "3.0 * dV", "2.0 * dV"),
    "dV dropped in h": (STEPS, "3.0 * dV", "0.0 * dV"),
    "S missing in dh": (STEPS, "h_x * h_x) / spatial\n    dx", "h_x * h_x)\n    dx"),
    "dE dropped in x": (STEPS, "dx += ((dE * h + 2.0", "dx += ((0.0 * dE * h + 2.0"),
    "dV dropped in x": (STEPS, "2.0 * dV", "0.0 * dV"),
    "dV's two in x": (STEPS, "2.0 * dV", "1.0 * dV"),
    "S missing in dx": (STEPS, "h * h * h_x) / spatial)", "h * h * h_x))"),
    "h's sum constant": (STEPS, "(dh - column(through_sum))", "dh"),
    "h's sum's sign": (STEPS, "(dh - column", "(dh + column"),
    "h's sum over dh alone": (STEPS, "sum_samples(dh * h)", "sum_samples(dh)"),
    "tau_sum missing": (STEPS, "column(through_sum)) / tau_sum", "column(through_sum))"),
    "h dropped": (STEPS, "dtau + (dh -", "dtau + 0.0 * (dh -"),
    "gate's sum constant": (STEPS, "dl = tau * (dtau - (tau * dtau).sum(axis=0))", "dl = tau * dtau"),
    "gate's sum's sign": (STEPS, "(dtau - (tau * dtau).sum", "(dtau + (tau * dtau).sum"),
    "gate's sum without tau": (STEPS, "(tau * dtau).sum(axis=0)", "dtau.sum(axis=0)"),
    "dl without tau": (STEPS, "dl = tau * (", "dl = ("),
    "precision missing": (STEPS, "u = distance / q", "u = distance + 0.0 * q"),
    "density constant in x": (STEPS, "return -dl_u.sum(axis=0)", "return -0.0 * dl_u.sum(axis=0)"),
    "density's sign in x": (STEPS, "return -dl_u.sum(axis=0)", "return dl_u.sum(axis=0)"),
    "dmean's sign": (STEPS, ", sum_samples(dl_u), 0.5", ", -sum_samples(dl_u), 0.5"),
    "dvariance's square dropped": (STEPS, "sum_samples(dl_u * u)", "sum_samples(dl_u)"),
    "dvariance's half": (STEPS, "0.5 * sum_samples(dl_u", "1.0 * sum_samples(dl_u"),
    "the terms' way to x dropped": (LAYER, "(dx + dx_terms)", "dx"),
    "the gate's way to x dropped": (LAYER, "(dx + dx_terms)", "dx_terms"),
    "softplus dropped": (LAYER, "softplus_backward(dq + dq_terms, raw_variance)", "dq + dq_terms"),
    "softplus at the moved variance": (LAYER, "dq_terms, raw_variance)", "dq_terms, self.variance.value)"),
    "prior given a gradient": (LAYER, "self.prior.receive(xp.zeros", "self.prior.receive(xp.ones"),
}  # fmt: skip


def passes(cls: type) -> bool:
    """Run the gradient checks that a mistake must not pass: rank 2 and 3, a small eps so that V_k shows, both modes."""
    reports = [
        gradcheck.check(
            moved(cls, 2, 2, 3, eps=eps).train(training), draw_array(shape, 4), directions=2, jacobian=False
        )
        for shape, eps in (((3, 2), 0.02), ((2, 2, 3), 0.02))
        for training in (True, False)
    ]
    return all(report.ok for report in reports)


def test_without_a_mistake_all_is_green():
    assert passes(plant([STEPS, LAYER], "", "", "").UANPublic)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_caught(name):
    assert not passes(plant([STEPS, LAYER], *MISTAKES[name]).UANPublic), f"survived: {name}"


# --- what it does and does not do -----------------------------------------------------------------


def test_it_does_not_normalize():
    """The output follows the input's scale; a norm would give 1 in each place."""
    z = draw_array((64, 4, 8, 8), 0)
    layer = UANPublic(4, 3, dtype="float64").eval()
    spread = [float(layer.forward(scale * z).std()) for scale in (0.01, 0.1, 1.0)]
    np.testing.assert_allclose(spread, [0.316, 3.16, 31.6], rtol=0.03)


def test_the_output_is_a_gate_times_a_constant_times_x():
    x = draw_array((32, 3, 6, 6), 1)
    layer = UANPublic(3, 2, dtype="float64").eval()
    q = np.log1p(np.exp(layer.variance.value)) + layer.eps
    p = np.exp(-((x - layer.mean.value[:, None, :, None, None]) ** 2) / (2 * q[:, None, :, None, None]))
    gate = p.sum(0) / (p.sum(0) + layer.eps)
    expected = x / np.sqrt(layer.eps) * gate
    assert np.abs(layer.forward(x) - expected).max() <= 0.003 * np.abs(expected).max()


def test_far_samples_are_shut_out():
    """x ~ N(10, 1): all densities lie far below eps, so y = 0 and nothing learns."""
    layer = UANPublic(2, 3, dtype="float64")
    x = 10.0 + draw_array((16, 2, 4), 0)
    y = layer.eval().forward(x)
    assert np.abs(y).max() < 1e-3
    assert np.abs(layer.backward(draw_array(x.shape, 1))).max() < 1e-2
    assert np.abs(layer.mean.grad).max() < 1e-1


def test_the_prior_changes_nothing():
    layer, x = UANPublic(2, 3, dtype="float64").eval(), draw_array((4, 2, 3), 0)
    y = layer.forward(x)
    layer.backward(draw_array(x.shape, 1))
    np.testing.assert_array_equal(layer.prior.grad, np.zeros((3, 1)))
    layer.prior.value = np.array([[100.0], [-3.0], [0.0]])
    np.testing.assert_array_equal(layer.forward(x), y)


def test_a_sample_depends_on_its_batch_in_eval_mode_too():
    layer, x = UANPublic(2, 3, dtype="float64").eval(), draw_array((64, 2), 0)
    assert not np.allclose(layer.forward(x)[:1], layer.forward(x[:1]), rtol=0.1)


@pytest.mark.parametrize(("dtype", "largest"), [("float32", 1e30), ("float64", 1e300)])
def test_huge_and_tiny_inputs_stay_finite(dtype, largest):
    for scale in (largest, 1.0, 1.0 / largest):
        layer = UANPublic(2, 3, dtype=dtype)
        x = (scale * draw_array((6, 2, 3), 0)).astype(dtype)
        x[0, 0, 0] = 0.5
        y, dx = layer.forward(x), layer.backward(draw_array(x.shape, 1, dtype=dtype))
        for array in (y, dx, *(p.grad for p in layer.parameters().values()), layer.variance.value):
            assert np.isfinite(array).all()


def test_state_dict_round_trip():
    layer, x = UANPublic(3, 2), draw_array((5, 3, 2), 0, dtype="float32")
    layer.forward(x)
    other = UANPublic(3, 2, rng=np.random.default_rng(9))
    other.load_state_dict(layer.state_dict())
    assert set(layer.state_dict()) == {"mean", "variance", "prior"}
    np.testing.assert_array_equal(layer.eval().forward(x), other.eval().forward(x))


def test_device_equals_host(strict_cupy):
    x, dy = draw_array((4, 2, 3), 0), draw_array((4, 2, 3), 1)
    host, device = (moved(UANPublic, 2, 3, 2) for _ in range(2))
    device.to("cupy")
    x_device, dy_device = backend.to_device(x, "cupy"), backend.to_device(dy, "cupy")
    with strict_cupy.sealed():
        y = device.forward(x_device)
        dx = device.backward(dy_device)
    assert close(backend.to_host(y), host.forward(x), 1e-13)
    assert close(backend.to_host(dx), host.backward(dy), 1e-13)
    for name, parameter in device.parameters().items():
        assert close(backend.to_host(parameter.grad), host.parameters()[name].grad, 1e-13)
        assert close(backend.to_host(parameter.value), host.parameters()[name].value, 1e-13)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"num_features": 0}, ValueError, "num_features must be >= 1, got 0"),
        ({"num_components": 0}, ValueError, "num_components must be >= 1, got 0"),
        ({"num_components": 2.0}, TypeError, "num_components must be an integer"),
        ({"eps": 0.0}, ValueError, "eps must be finite and > 0"),
        ({"momentum": 1.5}, ValueError, "momentum must be finite and >= 0 and <= 1"),
        ({"generation": 3}, ValueError, "generation must be 1 or 2, got 3"),
        ({"generation": 0}, ValueError, "generation must be >= 1, got 0"),
        ({"generation": "2"}, TypeError, "generation must be an integer, got '2'"),
        ({"dtype": "int32"}, TypeError, "layers compute in float32 or float64"),
        ({"rng": 7}, TypeError, "rng must be a numpy.random.Generator or None, got int"),
    ],
)
def test_bad_options(options, error, words):
    with pytest.raises(error, match=words):
        UANPublic(**{"num_features": 3, "num_components": 2, **options})


def test_bad_input():
    layer = UANPublic(3, 2)
    with pytest.raises(ValueError, match=r"UANPublic expects \(N, 3, ...\), got \(4, 2\)"):
        layer.forward(np.zeros((4, 2), "f4"))
    with pytest.raises(TypeError, match="float32 parameters but got an input of float64"):
        layer.forward(np.zeros((4, 3)))
    with pytest.raises(ValueError, match="empty batch"):
        layer.forward(np.zeros((0, 3), "f4"))
    with pytest.raises(RuntimeError, match="without a pending forward"):
        layer.backward(np.zeros((4, 3), "f4"))
