from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import LAYOUTS, channel_shapes, close, draw_array, shake
from support.mutants import plant

from uanref import backend, gradcheck
from uanref.layers.base import Layer
from uanref.neighbours.clade import ClassAdaptiveNorm
from uanref.norms.batch import BatchNorm

SEEDS = st.integers(0, 2**32 - 1)


class WithClasses(Layer):
    """The layer with its class map held fixed: a function of one input, as the gradient check wants it."""

    def __init__(self, inner: ClassAdaptiveNorm, class_map: np.ndarray) -> None:
        super().__init__()
        self.inner, self.class_map = inner, class_map

    def forward(self, x):
        y = self.inner.forward(x, self.class_map)
        self._keep(y)
        return y

    def backward(self, dy):
        self._take(dy)
        return self.inner.backward(dy)


def draw_classes(shape: tuple[int, ...], classes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, classes, (shape[0], *shape[2:]))


@given(channel_shapes(), SEEDS, st.integers(1, 4), st.booleans(), st.sampled_from(LAYOUTS))
def test_gradients(shape, seed, classes, training, layout):
    inner = shake(ClassAdaptiveNorm(shape[1], classes, eps=1e-2, dtype="float64"), seed)
    inner.normalization.running_mean = draw_array((shape[1],), seed + 1)
    inner.normalization.running_var = 0.1 + draw_array((shape[1],), seed + 2) ** 2
    layer = WithClasses(inner, draw_classes(shape, classes, seed)).train(training)
    x = draw_array(shape, seed, layout=layout)
    gradcheck.assert_ok(layer, x, seed=seed, directions=2, complex_step=True)


@given(channel_shapes(), SEEDS, st.integers(1, 4), st.sampled_from(["float32", "float64"]))
def test_output_is_the_definition(shape, seed, classes, dtype):
    x, class_map = draw_array(shape, seed, dtype=dtype), draw_classes(shape, classes, seed)
    before = x.copy()
    layer = shake(ClassAdaptiveNorm(shape[1], classes, dtype=dtype), seed)
    y = layer(x, class_map)

    axes = (0, *range(2, len(shape)))
    wide = x.astype("float64")
    x_hat = (wide - wide.mean(axes, keepdims=True)) / np.sqrt(wide.var(axes, keepdims=True) + 1e-5)
    expected = np.empty(shape)
    for index in np.ndindex(shape):
        k = class_map[(index[0], *index[2:])]
        expected[index] = layer.gamma.value[k, index[1]] * x_hat[index] + layer.beta.value[k, index[1]]
    assert y.dtype == x.dtype
    np.testing.assert_allclose(y, expected, atol=1e-4 if dtype == "float32" else 1e-11)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("training", [True, False])
def test_one_class_is_batch_normalization(training):
    x, dy = draw_array((3, 2, 4, 5), 0), draw_array((3, 2, 4, 5), 1)
    clade = shake(ClassAdaptiveNorm(2, 1, dtype="float64"), 2).train(training)
    norm = BatchNorm(2, dtype="float64").train(training)
    norm.gamma.value, norm.beta.value = clade.gamma.value[0], clade.beta.value[0]
    class_map = np.zeros((3, 4, 5), dtype="int32")
    assert close(clade.forward(x, class_map), norm.forward(x), 1e-12)
    assert close(clade.backward(dy), norm.backward(dy), 1e-12)
    assert close(clade.gamma.grad[0], norm.gamma.grad, 1e-12)
    assert close(clade.beta.grad[0], norm.beta.grad, 1e-12)


def test_a_class_without_pixels_gets_no_gradient():
    layer = ClassAdaptiveNorm(2, 3, dtype="float64")
    class_map = np.array([[[0, 2], [2, 0]]])
    layer.forward(draw_array((1, 2, 2, 2), 0), class_map)
    layer.backward(draw_array((1, 2, 2, 2), 1))
    for parameter in layer.parameters().values():
        np.testing.assert_array_equal(parameter.grad[1], 0.0)
        assert (parameter.grad[[0, 2]] != 0.0).all()


MISTAKES = {
    "x_hat missing in dgamma": ("_sum_by_class(dy * x_hat,", "_sum_by_class(dy,"),
    "beta given gamma's gradient": ("_sum_by_class(dy, class_map", "_sum_by_class(dy * x_hat, class_map"),
    "gamma missing in dx": ("backward(gamma * dy)", "backward(dy)"),
    "gamma's sign": ("backward(gamma * dy)", "backward(-gamma * dy)"),
    "classes averaged": ("rows.swapaxes(1, 2)).sum(axis=0)", "rows.swapaxes(1, 2)).mean(axis=0)"),
    "classes forgotten": ("members.astype(values.dtype)", "(members | True).astype(values.dtype)"),
    "normalization constant": ("return self.normalization.backward(gamma * dy)", "return gamma * dy"),
}


@pytest.mark.parametrize("name", ["none", *MISTAKES])
def test_mistake_is_caught(name):
    old, new = MISTAKES.get(name, ("", ""))
    module = plant(["neighbours.clade"], "neighbours.clade" if old else "", old, new)
    shape = (3, 2, 2, 2)
    layer = shake(module.ClassAdaptiveNorm(2, 3, eps=0.05, dtype="float64"), 1)
    report = gradcheck.check(WithClasses(layer, draw_classes(shape, 3, 2)), draw_array(shape, 3), jacobian=False)
    assert report.ok is (name == "none"), report


def test_state_dict_round_trip():
    x, class_map = draw_array((3, 2, 4), 0, dtype="float32"), draw_classes((3, 2, 4), 3, 1)
    layer = shake(ClassAdaptiveNorm(2, 3), 2)
    layer.forward(x, class_map)
    other = ClassAdaptiveNorm(2, 3)
    other.load_state_dict(layer.state_dict())
    assert set(layer.state_dict()) == {"gamma", "beta", "normalization.running_mean", "normalization.running_var"}
    np.testing.assert_array_equal(other.eval().forward(x, class_map), layer.eval().forward(x, class_map))


def test_device_equals_host(strict_cupy):
    x, dy, class_map = draw_array((3, 2, 4, 2), 0), draw_array((3, 2, 4, 2), 1), draw_classes((3, 2, 4, 2), 3, 2)
    host, device = (shake(ClassAdaptiveNorm(2, 3, dtype="float64"), 3) for _ in range(2))
    device.to("cupy")
    moved = [backend.to_device(a, "cupy") for a in (x, class_map, dy)]
    with strict_cupy.sealed():
        y = device.forward(*moved[:2])
        dx = device.backward(moved[2])
    assert close(backend.to_host(y), host.forward(x, class_map), 1e-13)
    assert close(backend.to_host(dx), host.backward(dy), 1e-13)
    for name, parameter in device.parameters().items():
        assert close(backend.to_host(parameter.grad), host.parameters()[name].grad, 1e-13)
    with pytest.raises(backend.BackendMismatch):
        device.forward(moved[0], class_map)


def test_bad_input():
    layer, x = ClassAdaptiveNorm(2, 3), np.zeros((2, 2, 4, 4), "f4")
    with pytest.raises(ValueError, match=r"expects a class map \(2, 4, 4\) for an input \(2, 2, 4, 4\), got \(2, 4\)"):
        layer.forward(x, np.zeros((2, 4), int))
    with pytest.raises(TypeError, match="expects integer classes, got float64"):
        layer.forward(x, np.zeros((2, 4, 4)))
    for bad, span in ((-1, "-1 to 0"), (3, "0 to 3")):
        class_map = np.zeros((2, 4, 4), int)
        class_map[1, 2, 3] = bad
        with pytest.raises(ValueError, match=f"has the classes 0 to 2, got {span}"):
            layer.forward(x, class_map)
    with pytest.raises(ValueError, match=r"ClassAdaptiveNorm expects \(N, 2, ...\)"):
        layer.forward(np.zeros((2, 3, 4, 4), "f4"), np.zeros((2, 4, 4), int))
    with pytest.raises(ValueError, match="needs >= 2 samples per channel"):
        layer.forward(np.zeros((1, 2), "f4"), np.zeros(1, int))
    with pytest.raises(ValueError, match="num_classes must be >= 1"):
        ClassAdaptiveNorm(2, 0)
