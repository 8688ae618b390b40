"""The contract that every layer inherits: pending passes, gradients, names, modes, state, movement."""

from __future__ import annotations

import contextlib
import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import draw_array, shake

from uanref import backend, gradcheck
from uanref.layers.activation import ReLU, Tanh
from uanref.layers.base import Layer, Parameter, Sequential, choice, count, glorot_uniform, he_normal, number
from uanref.layers.dropout import Dropout
from uanref.layers.linear import Linear
from uanref.layers.residual import Residual
from uanref.norms.batch import BatchNorm


class Scale(Layer):
    """y = scale * x; counts its calls, knows one frozen parameter and a flag: a layer with every kind of state."""

    buffer_names = ("calls", "seen")

    def __init__(self, dtype: str = "float64") -> None:
        super().__init__(dtype)
        self.scale = self._new([2.0])
        self.fixed = self._new([5.0], trainable=False)
        self.calls = np.zeros(1, dtype=dtype)
        self.seen = False

    def forward(self, x: np.ndarray) -> np.ndarray:
        self._check_input(x)
        self.calls, self.seen = self.calls + 1, True
        y = x * self.scale.value
        self._keep(y, x, self.scale.value)
        return y

    def backward(self, dy: np.ndarray) -> np.ndarray:
        x, scale = self._take(dy)
        self.scale.receive((dy * x).sum().reshape(1))
        return dy * scale


def small_model(seed: int = 0, dtype: str = "float64") -> Sequential:
    rng = np.random.default_rng(seed)
    return Sequential(
        Linear(3, 4, dtype=dtype, rng=rng),
        Tanh(),
        Residual(Sequential(Linear(4, 4, dtype=dtype, rng=rng), Scale(dtype))),
        Linear(4, 2, dtype=dtype, rng=rng),
    )


NAMES = [
    "0.weight",
    "0.bias",
    "2.body.0.weight",
    "2.body.0.bias",
    "2.body.1.scale",
    "3.weight",
    "3.bias",
]
BUFFERS = ["2.body.1.fixed", "2.body.1.calls", "2.body.1.seen"]


def everything(model: Layer) -> dict[str, bytes]:
    """All state as bytes, to show that not a bit changed."""
    return {name: value.tobytes() for name, value in model.state_dict().items()}


# --- forward and backward -----------------------------------------------------------------------


def test_pending_passes_are_a_stack() -> None:
    model = small_model()
    passes = [(draw_array((n, 3), n), draw_array((n, 2), 10 + n)) for n in (1, 2, 3)]
    expected = []
    for x, dy in passes:
        model.forward(x)
        dx = model.backward(dy)
        expected.append((dx, {name: p.grad for name, p in model.parameters().items()}))
    for x, _ in passes:
        model.forward(x)
    for (_, dy), (dx, grads) in reversed(list(zip(passes, expected, strict=True))):
        np.testing.assert_array_equal(model.backward(dy), dx)
        for name, parameter in model.parameters().items():
            np.testing.assert_array_equal(parameter.grad, grads[name])
    with pytest.raises(RuntimeError, match=r"Linear\.backward without a pending forward: call forward"):
        model.backward(passes[0][1])


def test_a_gradient_of_another_shape_is_refused_and_the_pass_stays_pending() -> None:
    layer = Linear(3, 4, dtype="float64")
    layer.forward(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"gradient of shape \(2, 5\) for an output of shape \(2, 4\): they must be"):
        layer.backward(np.ones((2, 5)))
    assert layer.backward(draw_array((2, 4), 1)).shape == (2, 3)


def test_gradients_are_assigned_and_add_only_inside_accumulating() -> None:
    layer, x, dy1, dy2 = Scale(), draw_array((2, 3), 0), draw_array((2, 3), 1), draw_array((2, 3), 2)
    one, two = (dy1 * x).sum(), (dy2 * x).sum()

    def run(dy: np.ndarray) -> float:
        layer.forward(x)
        layer.backward(dy)
        return float(layer.scale.grad[0])

    assert run(dy1) == one
    assert run(dy2) == two  # assigned
    with backend.accumulating():
        assert backend.is_accumulating()
        assert run(dy1) == two + one
        with backend.accumulating():
            assert run(dy1) == two + one + one
        assert run(dy2) == two + one + one + two
    assert not backend.is_accumulating()
    assert run(dy1) == one


def test_accumulating_leaves_earlier_gradient_arrays_alone() -> None:
    layer, x = Scale(), draw_array((2, 3), 0)
    layer.forward(x)
    layer.backward(x)
    held, copy = layer.scale.grad, layer.scale.grad.copy()
    with backend.accumulating():
        layer.forward(x)
        layer.backward(x)
    np.testing.assert_array_equal(held, copy)


def test_inference_keeps_nothing_and_ends_with_its_block() -> None:
    model, x = small_model(), draw_array((2, 3), 0)
    y = model.forward(x)
    model.clear()
    with contextlib.suppress(KeyError), backend.inference():
        assert backend.is_inference()
        np.testing.assert_array_equal(model.forward(x), y)
        raise KeyError("an error ends the block too")
    assert not backend.is_inference()
    with pytest.raises(RuntimeError, match="pending"):
        model.backward(y)


def test_clear_forgets_pending_passes_everywhere() -> None:
    model = small_model()
    model.forward(draw_array((2, 3), 0))
    model.clear()
    assert all(not layer._pending for _, layer in model.modules())


def test_a_value_may_be_assigned_and_is_read_at_each_call() -> None:
    layer, x = Scale(), draw_array((2, 3), 0)
    layer.scale.value = np.array([-3.0])
    np.testing.assert_array_equal(layer.forward(x), -3.0 * x)


def test_calling_is_forward() -> None:
    x = draw_array((2, 3), 0)
    np.testing.assert_array_equal(small_model()(x), small_model().forward(x))


@given(
    widths=st.lists(st.integers(1, 4), min_size=2, max_size=4), samples=st.integers(1, 4), seed=st.integers(0, 10**6)
)
def test_sequential_is_the_chain_rule(widths: list[int], samples: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers: list[Layer] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [Linear(inputs, outputs, dtype="float64", rng=rng), Tanh()]
    model = Sequential(*layers)
    shake(model, seed)
    gradcheck.assert_ok(model, draw_array((samples, widths[0]), seed), seed=seed, directions=1, complex_step=True)


def test_an_empty_sequential_is_the_identity() -> None:
    x = draw_array((2, 3), 0)
    model = Sequential()
    np.testing.assert_array_equal(model.forward(x), x)
    np.testing.assert_array_equal(model.backward(-x), -x)
    assert len(model) == 0


def test_the_base_defines_neither_pass() -> None:
    with pytest.raises(NotImplementedError, match="Layer does not define forward"):
        Layer().forward(np.ones(2))
    with pytest.raises(NotImplementedError, match="Layer does not define backward"):
        Layer().backward(np.ones(2))


# --- names, modes -------------------------------------------------------------------------------


def test_names_are_dotted_paths() -> None:
    model = small_model()
    assert list(model.parameters()) == NAMES
    assert sorted(model.buffers()) == sorted(BUFFERS)
    assert sorted(model.state_dict()) == sorted(NAMES + BUFFERS)
    assert [name for name, _ in model.modules()] == ["", "0", "1", "2", "2.body", "2.body.0", "2.body.1", "3"]
    assert model[2].parameters()["body.0.bias"] is model.parameters()["2.body.0.bias"]
    assert len(model) == 4


def test_sequential_takes_layers_only() -> None:
    with pytest.raises(TypeError, match=r"Sequential takes layers, got list: pass Sequential\(a, b, \.\.\.\)"):
        Sequential([ReLU(), ReLU()])  # type: ignore[arg-type]


def test_train_and_eval_reach_every_layer_and_return_the_layer() -> None:
    model = small_model()
    assert all(layer.training for _, layer in model.modules())
    assert model.eval() is model
    assert not any(layer.training for _, layer in model.modules())
    assert model.train() is model
    assert all(layer.training for _, layer in model.modules())
    assert not model.train(False).training


def test_generators_are_found_by_path() -> None:
    rng = np.random.default_rng(4)
    assert Sequential(ReLU(), Sequential(Dropout(0.5, rng=rng))).generators() == {"1.0": rng}


def test_parameter_describes_itself() -> None:
    parameter = Parameter(np.zeros((2, 3), dtype="float32"))
    assert (parameter.shape, parameter.size, parameter.grad, parameter.trainable) == ((2, 3), 6, None, True)
    assert repr(parameter) == "Parameter(shape=(2, 3), dtype=float32)"
    with pytest.raises(ValueError, match="gradient of shape"):
        parameter.receive(np.zeros((3, 2)))
    assert parameter.grad is None


# --- state --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_state_round_trip_is_exact(dtype: str) -> None:
    first, second = shake(small_model(0, dtype), 1), small_model(1, dtype)
    x = draw_array((2, 3), 0, dtype=dtype)
    first.forward(x)  # moves the buffers
    second.load_state_dict(first.state_dict())
    assert everything(second) == everything(first)
    np.testing.assert_array_equal(second.forward(x), first.forward(x))
    assert all(p.value.dtype == dtype for p in second.parameters().values())


def test_state_holds_copies_in_both_directions() -> None:
    model = small_model()
    state = model.state_dict()
    before = everything(model)
    for value in state.values():
        if value.dtype != bool:
            value += 1.0
    assert everything(model) == before
    model.load_state_dict(state)
    after = everything(model)
    state["0.weight"] += 1.0
    assert everything(model) == after != before


def test_the_flag_comes_back_as_a_bool() -> None:
    first, second = Scale(), Scale()
    first.forward(np.ones(2))
    assert first.state_dict()["seen"].dtype == bool
    second.load_state_dict(first.state_dict())
    assert second.seen is True


def test_loading_converts_to_the_layers_dtype() -> None:
    model = small_model(0, "float32")
    model.load_state_dict(small_model(1, "float64").state_dict())
    assert model.parameters()["0.weight"].value.dtype == "float32"
    np.testing.assert_array_equal(
        model.parameters()["0.weight"].value, small_model(1).parameters()["0.weight"].value.astype("float32")
    )


def test_strict_loading_names_what_does_not_fit_and_changes_nothing() -> None:
    model, other = small_model(0), small_model(1).state_dict()
    before = everything(model)
    missing = {name: value for name, value in other.items() if name != "3.bias"}
    with pytest.raises(KeyError, match=r"missing \['3.bias'\], unexpected none"):
        model.load_state_dict(missing)
    with pytest.raises(KeyError, match=r"missing none, unexpected \['9.weight'\]"):
        model.load_state_dict(other | {"9.weight": np.zeros(2)})
    with pytest.raises(ValueError, match=r"3.bias has shape \(3,\) in the state, expected \(2,\)"):
        model.load_state_dict(other | {"3.bias": np.zeros(3)})
    with pytest.raises(ValueError, match=r"2.body.1.seen has shape \(1,\) in the state, expected \(\)"):
        model.load_state_dict(other | {"2.body.1.seen": np.zeros(1, dtype=bool)})
    assert everything(model) == before


def test_lenient_loading_takes_what_fits_by_name_but_no_wrong_shape() -> None:
    model = small_model(0)
    before = everything(model)
    with pytest.raises(ValueError, match=r"3\.bias has shape"):
        model.load_state_dict({"0.bias": np.ones(4), "3.bias": np.ones(9)}, strict=False)
    assert everything(model) == before
    model.load_state_dict({"0.bias": np.ones(4), "unknown": np.ones(9)}, strict=False)
    changed = {name for name, value in everything(model).items() if value != before[name]}
    assert changed == {"0.bias"}


def test_loading_keeps_the_parameter_objects() -> None:
    model = small_model(0)
    held = model.parameters()["0.weight"]
    model.load_state_dict(small_model(1).state_dict())
    assert model.parameters()["0.weight"] is held


# --- movement -----------------------------------------------------------------------------------


def test_to_a_dtype_converts_values_gradients_and_buffers_and_clears() -> None:
    model, x = small_model(0, "float32"), draw_array((2, 3), 0, dtype="float32")
    model.backward(model.forward(x) + 1)
    model.forward(x)
    state = model.state_dict()
    assert model.to("float64") is model
    for name, parameter in model.parameters().items():
        assert parameter.value.dtype == parameter.grad.dtype == "float64", name
        np.testing.assert_array_equal(parameter.value, state[name].astype("float64"))
    scale = model[2].body[1]
    assert scale.fixed.value.dtype == scale.calls.dtype == "float64"
    assert scale.seen is True
    assert all(not layer._pending for _, layer in model.modules())
    assert model.forward(x.astype("float64")).dtype == "float64"
    with pytest.raises(TypeError, match=r"layer.to\('float32'\)"):
        model.forward(x)


def test_to_where_it_is_changes_nothing() -> None:
    model = small_model()
    before = everything(model)
    model.to("numpy").to("float64")
    assert everything(model) == before


@pytest.mark.parametrize("target", ["float16", "int32", "tpu", "complex64"])
def test_to_anything_else_is_refused(target: str) -> None:
    model = small_model()
    before = everything(model)
    with pytest.raises(TypeError, match="float"):
        model.to(target)
    assert everything(model) == before


# --- starts and argument checks -----------------------------------------------------------------


def test_starts_have_the_promised_spread() -> None:
    drawn = he_normal(np.random.default_rng(0), (400, 100), 100)
    assert drawn.std() == pytest.approx(math.sqrt(2 / 100), rel=0.02)
    assert abs(drawn.mean()) < 5 * math.sqrt(2 / 100) / 200
    drawn = glorot_uniform(np.random.default_rng(0), (400, 100), 100, 400)
    assert np.abs(drawn).max() <= math.sqrt(6 / 500)
    assert drawn.std() == pytest.approx(math.sqrt(2 / 500), rel=0.02)


@pytest.mark.parametrize("value", [True, 1.5, "3", None])
def test_count_wants_an_integer(value: object) -> None:
    with pytest.raises(TypeError, match="size must be an integer, got"):
        count("size", value)


def test_count_and_number_check_ranges() -> None:
    assert count("size", np.int64(3)) == 3
    assert type(count("size", np.int64(3))) is int
    assert type(number("eps", np.float32(0.5), 0.0)) is float
    with pytest.raises(ValueError, match="size must be >= 2, got 1"):
        count("size", 1, least=2)
    for value in (-1.0, math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match="eps must be finite and >= 0, got"):
            number("eps", value, 0.0)
    with pytest.raises(ValueError, match="eps must be finite and > 0, got 0"):
        number("eps", 0, 0.0, open_low=True)
    with pytest.raises(ValueError, match="p must be finite and >= 0 and <= 1, got 2"):
        number("p", 2, 0.0, 1.0)
    with pytest.raises(TypeError, match="eps must be a number, got 'small'"):
        number("eps", "small", 0.0)


def test_choice_names_the_options() -> None:
    assert choice("mode", "a", ("a", "b")) == "a"
    with pytest.raises(ValueError, match="mode must be one of 'a', 'b', got 'c'"):
        choice("mode", "c", ("a", "b"))


@pytest.mark.parametrize(
    "build",
    [
        lambda shared: Sequential(shared, shared),
        lambda shared: Sequential(Sequential(shared), shared),
        lambda shared: Residual(shared, Sequential(shared)),
    ],
    ids=["side by side", "nested", "residual"],
)
def test_a_layer_with_parameters_stands_in_one_place(build) -> None:
    with pytest.raises(ValueError, match="the same Linear in two places"):
        build(Linear(2, 2))


def tied() -> tuple[Linear, Linear]:
    first, second = Linear(2, 2, dtype="float64"), Linear(2, 2, dtype="float64")
    second.weight = first.weight
    return first, second


class Twice(Layer):
    """One Parameter under two names."""

    def __init__(self) -> None:
        super().__init__("float64")
        self.one = self.other = self._new([1.0, 2.0])


@pytest.mark.parametrize(
    "build",
    [
        lambda first, second: Sequential(first, second),
        lambda first, second: Sequential(Sequential(first), ReLU(), Residual(second)),
        lambda first, second: Residual(first, Sequential(second)),
        lambda first, second: Sequential(Twice()),
        lambda first, second: Residual(Twice()),
    ],
    ids=["side by side", "nested", "residual", "two names", "two names in a residual"],
)
def test_a_parameter_stands_in_one_place(build) -> None:
    with pytest.raises(
        ValueError, match=r"the same Parameter in two places, \w+ of a \w+ and \w+ of a \w+: the second"
    ):
        build(*tied())


def test_parameters_tied_after_construction_are_refused_when_they_are_asked_for() -> None:
    model = Sequential(Linear(2, 2), Residual(Linear(2, 2)))
    state = model.state_dict()
    model[1].body.weight = model[0].weight
    for ask in (model.parameters, model.buffers, model.state_dict, lambda: model.load_state_dict(state)):
        with pytest.raises(
            ValueError, match=r"same Parameter in two places, 0\.weight and 1\.body\.weight: the second"
        ):
            ask()
    with pytest.raises(ValueError, match="Twice got the same Parameter in two places, one and other"):
        Twice().parameters()


def test_layers_without_parameters_and_shared_arrays_may_stand_twice() -> None:
    act, first, second = Tanh(), Linear(2, 2, dtype="float64"), Linear(2, 2, dtype="float64")
    second.weight.value = first.weight.value  # one array, two parameters: each has its own gradient
    model, x, dy = Sequential(first, act, second, act), draw_array((3, 2), 1), draw_array((3, 2), 2)
    gradcheck.assert_ok(model, x, seed=1)
    model.forward(x)
    model.backward(dy)
    assert (first.weight.grad != second.weight.grad).all()


def test_a_gradient_must_have_the_outputs_dtype_and_leaves_the_pass_pending() -> None:
    layer = Linear(2, 2)
    y = layer.forward(draw_array((3, 2), 0, dtype="float32"))
    with pytest.raises(TypeError, match=r"a gradient of float64 for an output of float32: use dy.astype\('float32'\)"):
        layer.backward(draw_array((3, 2), 1))
    with pytest.raises(TypeError, match="expected a NumPy or CuPy array, got list"):
        layer.backward([[1.0, 2.0]] * 3)
    assert layer.backward(y).dtype == "float32"


def test_a_bad_state_changes_nothing() -> None:
    layer = BatchNorm(3)
    before = layer.state_dict()
    bad = {"gamma": np.full(3, 7.0), "beta": np.array(["a", "b", "c"])}
    with pytest.raises(TypeError, match="beta in the state holds <U1, expected numbers"):
        layer.load_state_dict(bad, strict=False)
    with pytest.raises(TypeError, match="beta in the state holds bool, expected numbers"):
        layer.load_state_dict(bad | {"beta": np.ones(3, dtype=bool)}, strict=False)
    for name, value in layer.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e300])
def test_a_state_that_the_layer_cannot_hold_changes_nothing(bad: float) -> None:
    layer = BatchNorm(3)
    before, state = everything(layer), shake(BatchNorm(3, dtype="float64"), 1).state_dict()
    for name in ("gamma", "running_var"):
        spoiled = state | {name: np.array([1.0, bad, 1.0])}
        with pytest.raises(
            ValueError, match=rf"{name} in the state holds (NaN or infinity|numbers that float32 cannot)"
        ):
            layer.load_state_dict(spoiled)
        assert everything(layer) == before


@pytest.mark.parametrize("bad", [0.5, 2, -1.0])
def test_a_flag_in_a_state_is_yes_or_no(bad: float) -> None:
    layer = Scale()
    state = layer.state_dict() | {"seen": np.asarray(bad)}
    with pytest.raises(ValueError, match="seen in the state holds numbers that bool cannot hold"):
        layer.load_state_dict(state)
    layer.load_state_dict(state | {"seen": np.asarray(1.0)})
    assert layer.seen is True


@pytest.mark.parametrize("where", ["value", "gradient", "buffer"])
def test_a_number_that_another_dtype_cannot_hold_stops_the_conversion(where: str, device) -> None:
    with backend.using(device.backend) as xp:
        model = Sequential(Linear(3, 3, dtype="float64"), BatchNorm(3, dtype="float64"))
        huge = xp.asarray([1.0, -1e300, 1.0])
        if where == "value":
            model[1].gamma.value = huge
        elif where == "gradient":
            model[1].gamma.grad = huge
        else:
            model[1].running_var = huge
        before = everything(model)
        name = {"value": r"1\.gamma", "gradient": r"the gradient of 1\.gamma", "buffer": r"1\.running_var"}[where]
        with pytest.raises(
            ValueError, match=rf"^{name} holds numbers beyond float32, where they would become infinite"
        ):
            model.to("float32")
        assert everything(model) == before
        assert {p.value.dtype.name for p in model.parameters().values()} == {"float64"}
        assert model[0].dtype == model[1].dtype == "float64"


def test_a_conversion_keeps_what_is_not_finite_already() -> None:
    layer = Linear(2, 1, dtype="float64")
    layer.weight.value = np.array([[math.nan, math.inf]])
    np.testing.assert_array_equal(layer.to("float32").weight.value, np.array([[math.nan, math.inf]], dtype="float32"))


def test_complex_numbers_become_real_only_where_they_are() -> None:
    layer = Linear(2, 1, dtype="float64").to("complex128")
    real = layer.weight.value.real.copy()
    layer.weight.value = layer.weight.value + 1e-30j
    with pytest.raises(ValueError, match="weight has imaginary parts, which float64 cannot hold"):
        layer.to("float64")
    layer.weight.value = real + 0j
    np.testing.assert_array_equal(layer.to("float64").weight.value, real)


def test_a_parameter_takes_gradients_of_its_own_kind() -> None:
    parameter = Parameter(np.ones(2, dtype="float32"))
    with pytest.raises(
        TypeError, match=r"a parameter of float32 has a gradient of float64: convert it with grad\.astype"
    ):
        parameter.receive(np.ones(2))
    with pytest.raises(TypeError, match="a masked array"):
        parameter.receive(np.ma.masked_array([1.0, 2.0], [0, 1], dtype="float32"))
    assert parameter.grad is None


def test_a_parameter_without_axes_stays_an_array() -> None:
    parameter = Parameter(np.array(2.0))
    parameter.value = parameter.value - 0.5
    assert type(parameter.value) is np.ndarray
    assert parameter.value == 1.5


def test_none_is_no_dtype() -> None:
    with pytest.raises(TypeError, match="expected a dtype"):
        Linear(2, 2).to(None)
