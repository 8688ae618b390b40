"""``UANPublic(generation=2)``: another function in eval mode, the same layer in training."""

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

GOLDEN = np.load(Path(__file__).parent.parent / "golden" / "uan_public_generation2.npz")
CASES = ["gen2_case1", "gen2_case2", "gen2_case3"]
SEEDS = st.integers(0, 2**32 - 1)


def moved(channels: int, components: int, seed: int, cls: type = UANPublic, **options: object) -> UANPublic:
    """Return a layer of generation 2 in eval mode with general parameters: raw variances of both signs."""
    return shake(cls(channels, components, generation=2, dtype="float64", **options), seed, scale=1.0).eval()


# --- the recorded numbers -------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_golden_arrays(case):
    recorded = {name.split("/")[1]: GOLDEN[name] for name in GOLDEN.files if name.startswith(f"{case}/")}
    for name in ("x", "g", "y_eval", "dx_eval"):
        recorded[name] = np.moveaxis(recorded[name], -1, 1)  # channels are last in the file
    x, components = recorded["x"], int(recorded["K"])
    layer = UANPublic(x.shape[1], components, float(recorded["eps"]), generation=2, dtype="float64").eval()
    for name, parameter in layer.parameters().items():
        parameter.value = recorded[name]

    found = {"y_eval": layer.forward(x), "dx_eval": layer.backward(recorded["g"])}
    found |= {"dmean_eval": layer.mean.grad, "dvariance_eval": layer.variance.grad}
    assert set(found) == {name for name in recorded if name.endswith("_eval")}
    for name, array in found.items():
        assert array.shape == recorded[name].shape
        assert np.abs(array - recorded[name]).max() <= 1e-10, name
        assert np.abs(recorded[name]).max() > 0.5, f"{name}: nothing to compare"
    np.testing.assert_array_equal(layer.prior.grad, np.zeros((components, 1)))


def test_every_recorded_array_is_compared():
    assert {name.split("/")[0] for name in GOLDEN.files} == set(CASES)


# --- the definition, element by element -----------------------------------------------------------


def by_hand(layer: UANPublic, x: np.ndarray) -> np.ndarray:
    """Return y in eval mode, one number after the other."""
    y = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        mean, raw = layer.mean.value[:, index[1]], layer.variance.value[:, index[1]]
        q = np.log1p(np.exp(raw)) + layer.eps
        p = np.exp(-((x[index] - mean) ** 2) / (2 * q))
        tau = p / (p.sum() + layer.eps)
        y[index] = (tau / np.sqrt(1 + layer.eps) * (x[index] - mean) / np.sqrt(q)).sum()
    return y


@given(channel_shapes(min_samples=1), SEEDS, st.integers(1, 3), st.sampled_from(LAYOUTS))
def test_output_is_the_definition(shape, seed, components, layout):
    x = draw_array(shape, seed, layout=layout)
    before = x.copy()
    layer = moved(shape[1], components, seed)
    state = layer.state_dict()
    assert close(layer.forward(x), by_hand(layer, x), 1e-12)
    np.testing.assert_array_equal(x, before)
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, state[name])


@pytest.mark.parametrize("shape", [(6, 2), (3, 2, 5), (2, 2, 3, 4)])
def test_it_trains_as_generation_1(shape):
    """Bit for bit: output, gradients and what the running averages move."""
    x, dy, found = draw_array(shape, 0), draw_array(shape, 1), []
    for generation in (1, 2):
        layer = shake(UANPublic(2, 3, generation=generation, dtype="float64"), 2, scale=1.0).train()
        arrays = [layer.forward(x), layer.backward(dy)]
        found.append(arrays + [array for p in layer.parameters().values() for array in (p.grad, p.value)])
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_modes_may_change_between_forward_and_backward():
    """Backward is that of the forward pass that is pending, whatever the mode is by then."""
    x, dy = draw_array((4, 2, 3), 0), draw_array((4, 2, 3), 1)
    expected = moved(2, 3, 2)
    expected.forward(x)
    dx = expected.backward(dy)
    layer = moved(2, 3, 2)
    layer.forward(x)
    np.testing.assert_array_equal(layer.train().backward(dy), dx)


# --- gradients ------------------------------------------------------------------------------------


@given(channel_shapes(min_samples=1), SEEDS, st.integers(1, 3), st.sampled_from(LAYOUTS))
def test_gradients(shape, seed, components, layout):
    x = draw_array(shape, seed, layout=layout)
    layer = moved(shape[1], components, seed, eps=0.05)
    gradcheck.assert_ok(layer, x, seed=seed, directions=2, jacobian=False, complex_step=True)


@pytest.mark.parametrize("eps", [1e-3, 0.05])
@pytest.mark.parametrize("shape", [(4, 2), (2, 2, 3)])
def test_the_whole_jacobian(shape, eps):
    gradcheck.assert_ok(moved(2, 2, 3, eps=eps), draw_array(shape, 4), jacobian=True)


STEPS, LAYER = "norms.uan_public_terms", "norms.uan_public"
CONSTANT = "g = dy * (1.0 + eps) ** -0.5  # (N, C, S)\n    dtau = g * "
MISTAKES: dict[str, Mistake] = {
    "the prior's constant dropped": (STEPS, CONSTANT + "distance", "g = dy\n    dtau = g * distance"),
    "tau's direct path dropped": (STEPS, "g * distance * inverse_std", "0.0 * g * distance * inverse_std"),
    "tau's direct path without the deviation": (STEPS, "g * distance * inverse_std", "g * distance"),
    "distance without tau": (STEPS, "ddistance = g * tau * inverse_std", "ddistance = g * inverse_std + 0.0 * tau"),
    "distance without the deviation": (STEPS, "ddistance = g * tau * inverse_std", "ddistance = g * tau"),
    "the deviation's gradient without tau": (STEPS, "sum_samples(g * tau * distance)", "sum_samples(g * distance)"),
    "the deviation's gradient without x": (STEPS, "sum_samples(g * tau * distance)", "sum_samples(g * tau)"),
    "the deviation's half": (STEPS, "-0.5 * inverse_std[", "-1.0 * inverse_std["),
    "the deviation's sign": (STEPS, "-0.5 * inverse_std[", "0.5 * inverse_std["),
    "the deviation's power": (STEPS, "0, :, 0] ** 3", "0, :, 0] ** 2"),
    "the mean's sign in the terms": (STEPS, "-sum_samples(ddistance)", "sum_samples(ddistance)"),
    "the terms' dx negative": (STEPS, "return ddistance.sum(axis=0)", "return -ddistance.sum(axis=0)"),
    "the mean's way through the terms dropped": (LAYER, "dmean + dmean_terms", "dmean"),
    "the mean's way through the gate dropped": (LAYER, "dmean + dmean_terms", "dmean_terms"),
    "the variance's way through the terms dropped": (LAYER, "dq + dq_terms", "dq"),
    "the variance's way through the gate dropped": (LAYER, "dq + dq_terms", "dq_terms"),
    "the terms' way to x dropped": (LAYER, "(dx + dx_terms)", "dx"),
    "the gate's way to x dropped": (LAYER, "(dx + dx_terms)", "dx_terms"),
    "softplus dropped": (LAYER, "softplus_backward(dq + dq_terms, raw_variance)", "dq + dq_terms"),
    "prior given a gradient": (LAYER, "self.prior.receive(xp.zeros", "self.prior.receive(xp.ones"),
}  # fmt: skip


def passes(cls: type) -> bool:
    """Run the gradient checks that a mistake must not pass."""
    shapes = ((3, 2), (2, 2, 3))
    found = [
        gradcheck.check(moved(2, 2, 3, cls, eps=0.2), draw_array(shape, 4), directions=2, jacobian=False)
        for shape in shapes
    ]
    return all(report.ok for report in found)


def test_without_a_mistake_all_is_green():
    assert passes(plant([STEPS, LAYER], "", "", "").UANPublic)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_caught(name):
    assert not passes(plant([STEPS, LAYER], *MISTAKES[name]).UANPublic), f"survived: {name}"


# --- what it does ---------------------------------------------------------------------------------


def test_the_two_modes_are_two_functions():
    """At the start training multiplies by 31.6, and eval mode divides by a component's deviation."""
    z = 0.3 * draw_array((64, 4, 8, 8), 0)
    one, two = (UANPublic(4, 3, generation=g, dtype="float64").eval() for g in (1, 2))
    trained, used = one.forward(z), two.forward(z)
    assert trained.std() == pytest.approx(0.3 * 31.6, rel=0.03)
    assert used.std() < 1.0
    np.testing.assert_array_equal(two.train().forward(z), trained)


def test_a_sample_does_not_depend_on_its_batch():
    layer, x = moved(2, 3, 0), draw_array((64, 2), 0)
    assert close(layer.forward(x)[:1], layer.forward(x[:1]), 1e-14)


def test_the_prior_changes_nothing():
    layer, x = moved(2, 3, 1), draw_array((4, 2, 3), 0)
    y = layer.forward(x)
    layer.prior.value = np.array([[100.0], [-3.0], [0.0]])
    np.testing.assert_array_equal(layer.forward(x), y)


def test_far_samples_are_shut_out():
    x = 10.0 + draw_array((16, 2, 4), 0)
    layer = UANPublic(2, 3, generation=2, dtype="float64").eval()
    assert np.abs(layer.forward(x)).max() < 1e-3


def test_float32_follows_float64():
    x, dy = draw_array((64, 3, 9), 0), draw_array((64, 3, 9), 1)
    found = []
    for dtype in ("float32", "float64"):
        layer = moved(3, 4, 5).to(dtype)
        found.append([layer.forward(x.astype(dtype)), layer.backward(dy.astype(dtype))])
        found[-1] += [p.grad for p in layer.parameters().values()]
    for single, double in zip(*found, strict=True):
        assert single.dtype == np.float32
        assert close(single, double, 1e-5)


@pytest.mark.parametrize(("dtype", "largest"), [("float32", 1e30), ("float64", 1e300)])
def test_huge_and_tiny_inputs_stay_finite(dtype, largest):
    for scale in (largest, 1.0, 1.0 / largest):
        layer = UANPublic(2, 3, generation=2, dtype=dtype).eval()
        x = (scale * draw_array((6, 2, 3), 0)).astype(dtype)
        x[0, 0, 0] = 0.5
        y, dx = layer.forward(x), layer.backward(draw_array(x.shape, 1, dtype=dtype))
        for array in (y, dx, *(p.grad for p in layer.parameters().values())):
            assert np.isfinite(array).all()


def test_device_equals_host(strict_cupy):
    x, dy = draw_array((4, 2, 3), 0), draw_array((4, 2, 3), 1)
    host, device = (moved(2, 3, 2) for _ in range(2))
    device.to("cupy")
    x_device, dy_device = backend.to_device(x, "cupy"), backend.to_device(dy, "cupy")
    with strict_cupy.sealed():
        y = device.forward(x_device)
        dx = device.backward(dy_device)
    assert close(backend.to_host(y), host.forward(x), 1e-13)
    assert close(backend.to_host(dx), host.backward(dy), 1e-13)
    for name, parameter in device.parameters().items():
        assert close(backend.to_host(parameter.grad), host.parameters()[name].grad, 1e-13)
