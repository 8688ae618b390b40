"""Optimizers: their equations, PyTorch's numbers, continuation, ownership of arrays."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import draw_array
from support.devices import Device
from support.requirements import require_cupy, require_torch

from uanref import backend
from uanref.layers.base import Parameter
from uanref.layers.linear import Linear
from uanref.norms.uan import UAN
from uanref.optimizers import SGD, Adam, AdamW, Optimizer, clip_grad_norm

SHAPES = {"0.weight": (3, 4), "0.bias": (3,), "2.gamma": (1,)}
Make = Callable[[dict[str, Parameter]], Optimizer]
SETTINGS: list[tuple[str, type[Optimizer], dict]] = [
    ("sgd", SGD, {"lr": 0.1}),
    ("sgd decay", SGD, {"lr": 0.1, "weight_decay": 0.2}),
    ("momentum", SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}),
    ("nesterov", SGD, {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01}),
    ("adam", Adam, {"lr": 0.01}),
    ("adam L2", Adam, {"lr": 0.1, "betas": (0.5, 0.8), "eps": 1e-3, "weight_decay": 0.3}),
    ("adam no memory", Adam, {"lr": 0.1, "betas": (0.0, 0.0)}),
    ("adamw", AdamW, {"lr": 0.01}),
    ("adamw decay", AdamW, {"lr": 0.1, "betas": (0.5, 0.8), "weight_decay": 0.3}),
]
every = pytest.mark.parametrize(("kind", "options"), [s[1:] for s in SETTINGS], ids=[s[0] for s in SETTINGS])


def draw_parameters(seed: int = 0, dtype: str = "float64") -> dict[str, Parameter]:
    return {name: Parameter(draw_array(shape, seed + i, dtype=dtype)) for i, (name, shape) in enumerate(SHAPES.items())}


def give_gradients(parameters: dict[str, Parameter], step: int) -> None:
    for i, parameter in enumerate(parameters.values()):
        parameter.grad = draw_array(parameter.shape, 100 * (step + 1) + i, dtype=str(parameter.value.dtype))


def values(parameters: dict[str, Parameter]) -> dict[str, np.ndarray]:
    return {name: p.value.copy() for name, p in parameters.items()}


def plain(kind: type[Optimizer], theta: float, gradients: list[float], o: dict) -> float:
    """One number, stepped with Python floats straight from the published equations."""
    if kind is SGD:
        lr, mu, w, v = o["lr"], o.get("momentum", 0.0), o.get("weight_decay", 0.0), 0.0
        for g in gradients:
            g += w * theta
            v = mu * v + g
            theta -= lr * (g + mu * v if o.get("nesterov") else v)
        return theta
    lr, (b1, b2), eps = o["lr"], o.get("betas", (0.9, 0.999)), o.get("eps", 1e-8)
    decoupled = kind is AdamW
    w = o.get("weight_decay", 0.01 if decoupled else 0.0)
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        if decoupled:
            theta -= lr * w * theta
        else:
            g += w * theta
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        theta -= lr * (m / (1 - b1**t)) / (math.sqrt(v / (1 - b2**t)) + eps)
    return theta


@every
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
def test_five_steps_are_the_equations(kind: type[Optimizer], options: dict, dtype: str, tolerance: float) -> None:
    parameters = draw_parameters(dtype=dtype)
    start = values(parameters)
    optimizer, gradients = kind(parameters, **options), []
    for step in range(5):
        give_gradients(parameters, step)
        gradients.append({name: p.grad.copy() for name, p in parameters.items()})
        optimizer.step()
        for name, p in parameters.items():
            np.testing.assert_array_equal(p.grad, gradients[-1][name])  # only read
    for name, parameter in parameters.items():
        assert parameter.value.dtype == dtype
        for index in np.ndindex(*parameter.shape):
            expected = plain(kind, float(start[name][index]), [float(g[name][index]) for g in gradients], options)
            assert float(parameter.value[index]) == pytest.approx(expected, rel=tolerance, abs=tolerance)


@every
def test_five_steps_are_pytorchs(kind: type[Optimizer], options: dict) -> None:
    torch = require_torch()
    parameters = draw_parameters()
    theirs = [torch.nn.Parameter(torch.tensor(p.value)) for p in parameters.values()]
    reference = getattr(torch.optim, kind.__name__)(theirs, **options)
    optimizer = kind(parameters, **options)
    for step in range(5):
        optimizer.lr = reference.param_groups[0]["lr"] = options["lr"] / (step + 1)
        give_gradients(parameters, step)
        for tensor, parameter in zip(theirs, parameters.values(), strict=True):
            tensor.grad = torch.tensor(parameter.grad)
        optimizer.step()
        reference.step()
        for tensor, parameter in zip(theirs, parameters.values(), strict=True):
            np.testing.assert_allclose(parameter.value, tensor.detach().numpy(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_defaults_are_the_documented_ones(kind: type[Optimizer]) -> None:
    defaults: dict[type[Optimizer], dict] = {
        SGD: {"lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0},
        Adam: {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0},
        AdamW: {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 1e-2},
    }
    optimizer = kind(draw_parameters())  # type: ignore[call-arg]
    assert {name: getattr(optimizer, name) for name in defaults[kind]} == defaults[kind]


# --- continuation -------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_continuation_from_a_state_is_bit_identical(kind: type[Optimizer], options: dict, dtype: str) -> None:
    whole = draw_parameters(dtype=dtype)
    optimizer = kind(whole, **options)
    for step in range(6):
        if step == 3:
            state, stopped = optimizer.state_dict(), values(whole)
        optimizer.lr = 0.1 / (step + 1) if step < 4 else optimizer.lr
        give_gradients(whole, step)
        optimizer.step()

    resumed = draw_parameters(seed=50, dtype=dtype)
    for name, p in resumed.items():
        p.value = stopped[name]
    continued = kind(resumed, **options)
    continued.load_state_dict(state)
    assert (continued.steps, continued.lr) == (3, 0.1 / 3)
    for step in range(3, 6):
        continued.lr = 0.1 / (step + 1) if step < 4 else continued.lr
        give_gradients(resumed, step)
        continued.step()
    for name in whole:
        np.testing.assert_array_equal(resumed[name].value, whole[name].value)
    for name, array in continued.state_dict().items():
        np.testing.assert_array_equal(array, optimizer.state_dict()[name])


def test_names_and_kinds_in_the_state() -> None:
    state = Adam(draw_parameters()).state_dict()
    slots = [f"{slot}.{name}" for slot in ("first_moment", "second_moment") for name in SHAPES]
    assert list(state) == ["step", "lr", *slots]
    assert all(isinstance(value, np.ndarray) for value in state.values())
    assert list(SGD(draw_parameters(), momentum=0.9).state_dict()) == [
        "step",
        "lr",
        *(f"momentum.{name}" for name in SHAPES),
    ]
    assert list(SGD(draw_parameters()).state_dict()) == ["step", "lr"]


@pytest.mark.parametrize("make", [lambda p: SGD(p, momentum=0.9), Adam, AdamW], ids=["sgd", "adam", "adamw"])
def test_steps_do_not_reach_into_states_taken_or_loaded(make: Make) -> None:
    layer = Linear(4, 3, dtype="float64")
    parameters = layer.parameters()
    optimizer = make(parameters)
    give_gradients(parameters, 0)
    optimizer.step()
    held = [layer.state_dict(), optimizer.state_dict()]
    copies = [{name: value.copy() for name, value in state.items()} for state in held]
    for step in (1, 2):
        give_gradients(parameters, step)
        optimizer.step()
    layer.load_state_dict(held[0])
    optimizer.load_state_dict(held[1])
    give_gradients(parameters, 3)
    optimizer.step()
    for state, copy in zip(held, copies, strict=True):
        for name, value in state.items():
            np.testing.assert_array_equal(value, copy[name])


def everything(optimizer: Optimizer) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in optimizer.state_dict().items()}


def test_a_state_that_does_not_fit_is_refused_and_nothing_changes() -> None:
    parameters = draw_parameters()
    optimizer = Adam(parameters)
    give_gradients(parameters, 0)
    optimizer.step()
    good, before = Adam(draw_parameters(7)).state_dict(), everything(optimizer)

    def without(name: str) -> dict[str, np.ndarray]:
        return {key: value for key, value in good.items() if key != name}

    with pytest.raises(KeyError, match=r"does not fit this Adam: missing \['second_moment.0.bias'\], unexpected none"):
        optimizer.load_state_dict(without("second_moment.0.bias"))
    with pytest.raises(KeyError, match=r"missing \['step'\]"):
        optimizer.load_state_dict(without("step"))
    with pytest.raises(KeyError, match=r"unexpected \['momentum.0.bias'\]"):
        optimizer.load_state_dict(good | {"momentum.0.bias": np.zeros(3)})
    with pytest.raises(ValueError, match=r"first_moment.0.bias has shape \(4,\) in the state, expected \(3,\)"):
        optimizer.load_state_dict(good | {"first_moment.0.bias": np.zeros(4)})
    for step in (np.asarray(-1), np.asarray(1.5)):
        with pytest.raises(ValueError, match="step in the state must be a whole number >= 0, got"):
            optimizer.load_state_dict(good | {"step": step})
    for step in (np.asarray(2**53 + 1), np.asarray(2**63, dtype=np.uint64)):
        with pytest.raises(ValueError, match=r"step in the state must be at most 9007199254740992, got"):
            optimizer.load_state_dict(good | {"step": step})
    with pytest.raises(TypeError, match="lr in the state must be a number, got bool"):
        optimizer.load_state_dict(good | {"lr": np.asarray(True)})
    with pytest.raises(TypeError, match=r"first_moment\.0\.bias in the state holds bool, expected numbers"):
        optimizer.load_state_dict(good | {"first_moment.0.bias": np.ones(3, dtype=bool)})
    with pytest.raises(ValueError, match="lr in the state must be finite"):
        optimizer.load_state_dict(good | {"lr": np.asarray(math.nan)})
    with pytest.raises(ValueError, match=r"step has shape \(1,\) in the state, expected \(\)"):
        optimizer.load_state_dict(good | {"step": np.ones(1, dtype=int)})
    with pytest.raises(TypeError, match="expected a NumPy or CuPy array, got int"):
        optimizer.load_state_dict(good | {"step": 3})
    with pytest.raises(TypeError, match=r"first_moment\.0\.bias in the state holds complex128, expected numbers"):
        optimizer.load_state_dict(good | {"first_moment.0.bias": np.zeros(3, dtype=complex)})
    with pytest.raises(TypeError, match="masked array"):
        optimizer.load_state_dict(good | {"first_moment.0.bias": np.ma.masked_array(np.zeros(3), [0, 1, 0])})
    with pytest.raises(ValueError, match=r"second_moment\.0\.bias in the state holds numbers below 0"):
        optimizer.load_state_dict(good | {"second_moment.0.bias": np.array([1.0, -1e-30, 0.0])})
    assert everything(optimizer) == before
    optimizer.load_state_dict(good)
    assert everything(optimizer) != before


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e39])
@pytest.mark.parametrize("name", ["momentum.2.gamma", "first_moment.0.bias", "second_moment.2.gamma", "lr"])
def test_numbers_in_a_state_that_the_dtype_cannot_hold_are_refused(name: str, bad: float, device) -> None:
    parameters = draw_parameters(dtype="float32")
    give_gradients(parameters, 0)
    for parameter in parameters.values():
        parameter.value = backend.to_device(parameter.value, device.backend)
        parameter.grad = backend.to_device(parameter.grad, device.backend)
    optimizer = SGD(parameters, momentum=0.9) if name.startswith("momentum") else Adam(parameters)
    optimizer.step()
    state, before = optimizer.state_dict(), everything(optimizer)
    spoiled = state[name].astype("float64")
    spoiled[...] = bad
    sentence = rf"{name} in the state (holds (NaN or infinity|numbers that float32 cannot hold)|must be finite)"
    with pytest.raises(ValueError, match=sentence):
        optimizer.load_state_dict(state | {name: spoiled})
    assert everything(optimizer) == before


# --- whose arrays -------------------------------------------------------------------------------


def test_assigned_arrays_of_any_kind_are_stepped_and_left_alone() -> None:
    read_only = draw_array((3, 4), 1)
    read_only.flags.writeable = False
    owners = [draw_array((3, 4), 1), draw_array((3, 4), 1, layout="strided"), draw_array((4, 3), 1).T, read_only]
    owners.append(np.broadcast_to(np.array(2.0), (3, 4)))
    for owner in owners:
        parameter, copy, grad = Parameter(owner), owner.copy(), draw_array((3, 4), 9)
        optimizer = SGD({"w": parameter}, lr=0.5)
        for _ in range(2):
            parameter.grad = grad
            optimizer.step()
        np.testing.assert_allclose(parameter.value, copy - grad, rtol=1e-14)
        np.testing.assert_array_equal(owner, copy)


def test_a_step_changes_no_array_that_was_there() -> None:
    parameter = Parameter(np.ones(3))
    optimizer = SGD({"w": parameter}, lr=1.0)
    parameter.grad = np.full(3, 0.25)
    optimizer.step()
    first = parameter.value
    optimizer.step()
    np.testing.assert_array_equal(first, np.full(3, 0.75))
    parameter.value = assigned = np.full(3, 10.0)
    optimizer.step()
    np.testing.assert_array_equal(parameter.value, np.full(3, 9.75))
    np.testing.assert_array_equal(assigned, np.full(3, 10.0))


@every
@pytest.mark.parametrize(
    "make",
    [
        lambda: Linear(3, 3, dtype="float64"),
        lambda: UAN(3, 2, dtype="float64"),
        lambda: UAN(3, 2, statistics="learned", dtype="float64"),
    ],
    ids=["linear", "uan", "uan-learned"],
)
def test_a_pending_forward_keeps_its_values(kind: type[Optimizer], options: dict, make) -> None:
    """Two forwards, then backward and step for the second: the first one's gradient must not notice the step."""
    layer, x1, x2, dy = make(), draw_array((4, 3), 1), draw_array((4, 3), 2), draw_array((4, 3), 3)
    layer.forward(x1)
    expected = layer.backward(dy)
    optimizer = kind(layer.parameters(), **options)
    layer.forward(x1)
    layer.forward(x2)
    layer.backward(dy)
    optimizer.step()
    np.testing.assert_array_equal(layer.backward(dy), expected)


@every
def test_a_model_that_changes_its_dtype_takes_the_optimizer_along(kind: type[Optimizer], options: dict) -> None:
    layer = Linear(4, 3)
    parameters = layer.parameters()
    optimizer = kind(parameters, **options)
    give_gradients(parameters, 0)
    optimizer.step()
    layer.to("float64")
    give_gradients(parameters, 1)
    optimizer.step()
    assert all(p.value.dtype == "float64" for p in parameters.values())
    slots = {name: value for name, value in optimizer.state_dict().items() if name not in ("step", "lr")}
    assert all(value.dtype == "float64" for value in slots.values())


def test_a_parameter_under_two_names_is_refused() -> None:
    first, second = Linear(2, 2, dtype="float64"), Linear(2, 2, dtype="float64")
    second.bias = first.bias
    parameters = {
        f"{place}.{name}": p
        for place, one in zip("ab", (first, second), strict=True)
        for name, p in one.parameters().items()
    }
    for parameter in parameters.values():
        parameter.grad = draw_array(parameter.shape, 1)
    for refuse in (SGD, Adam, AdamW, lambda p: clip_grad_norm(p, 1.0)):
        with pytest.raises(
            ValueError, match=r"the same Parameter in two places, a\.bias and b\.bias: the second gradient"
        ):
            refuse(parameters)


def test_a_gradient_of_another_shape_is_refused() -> None:
    parameter = Parameter(np.ones((2, 2)))
    parameter.grad = np.ones(1)
    with pytest.raises(ValueError, match=r"'w' of shape \(2, 2\) has a gradient of shape \(1,\)"):
        SGD({"w": parameter}).step()


def spoil_dtype(grad: np.ndarray) -> np.ndarray:
    return grad.astype("float64" if grad.dtype == "float32" else "float32")


BAD_GRADIENTS: list[tuple[str, Callable[[np.ndarray], object], type[Exception], str]] = [
    (
        "dtype",
        spoil_dtype,
        TypeError,
        r"'2\.gamma' of float\d\d has a gradient of float\d\d: convert it with grad\.astype",
    ),
    ("half", lambda grad: grad.astype("float16"), TypeError, "has a gradient of float16"),
    ("integers", lambda grad: grad.astype("int64"), TypeError, "has a gradient of int64"),
    ("shape", lambda grad: grad.reshape(1, 1), ValueError, r"of shape \(1,\) has a gradient of shape \(1, 1\)"),
    ("list", lambda grad: [1.0], TypeError, "expected a NumPy or CuPy array, got list"),
]


@pytest.mark.parametrize(
    ("spoil", "error", "sentence"), [b[1:] for b in BAD_GRADIENTS], ids=[b[0] for b in BAD_GRADIENTS]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every
def test_a_bad_gradient_is_found_before_anything_moves(
    kind: type[Optimizer], options: dict, dtype: str, spoil, error: type[Exception], sentence: str, device
) -> None:
    parameters = draw_parameters(dtype=dtype)
    give_gradients(parameters, 0)
    for parameter in parameters.values():
        parameter.value = backend.to_device(parameter.value, device.backend)
        parameter.grad = backend.to_device(parameter.grad, device.backend)
    optimizer = kind(parameters, **options)
    parameters["2.gamma"].grad = spoil(parameters["2.gamma"].grad)  # the last one
    held, before = {name: (p.value, p.grad) for name, p in parameters.items()}, everything(optimizer)
    for move in (optimizer.step, lambda: clip_grad_norm(parameters, 1e-3)):
        with pytest.raises(error, match=sentence):
            move()
    assert optimizer.steps == 0
    assert everything(optimizer) == before
    for name, parameter in parameters.items():
        assert parameter.value is held[name][0]
        assert parameter.grad is held[name][1]


@pytest.mark.parametrize("wrap", [lambda grad: np.ma.masked_array(grad, grad > 0), lambda grad: grad.view(np.matrix)])
def test_gradients_of_a_subclass_are_refused(wrap) -> None:
    parameters = draw_parameters()
    give_gradients(parameters, 0)
    parameters["0.weight"].grad = wrap(parameters["0.weight"].grad)
    for move in (Adam(parameters).step, lambda: clip_grad_norm(parameters, 1.0)):
        with pytest.raises(TypeError, match=r"expected a NumPy or CuPy array, got (a masked array|matrix)"):
            move()


@pytest.mark.parametrize("wrong", [[Parameter(np.ones(2))], Linear(2, 2)])
def test_parameters_must_be_a_dict(wrong) -> None:
    with pytest.raises(TypeError, match=r"takes model.parameters\(\), a dict"):
        SGD(wrong)


# --- refusals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_a_missing_gradient_is_named_and_nothing_moves(kind: type[Optimizer]) -> None:
    parameters = draw_parameters()
    optimizer = kind(parameters, lr=0.1)
    give_gradients(parameters, 0)
    parameters["2.gamma"].grad = None
    before = values(parameters)
    with pytest.raises(
        RuntimeError, match=rf"parameter '2\.gamma' has no gradient: call backward before {kind.__name__}"
    ):
        optimizer.step()
    assert optimizer.steps == 0
    for name, value in values(parameters).items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
@pytest.mark.parametrize("lr", [0.0, -1.0, math.nan, math.inf])
def test_a_learning_rate_that_is_not_positive_is_refused(kind: type[Optimizer], lr: float) -> None:
    with pytest.raises(ValueError, match="lr must be finite and > 0, got"):
        kind(draw_parameters(), lr=lr)


def test_lr_may_be_assigned_zero_but_nothing_below() -> None:
    parameters = draw_parameters()
    optimizer = SGD(parameters)
    optimizer.lr = 0
    before = values(parameters)
    give_gradients(parameters, 0)
    optimizer.step()
    for name, value in values(parameters).items():
        np.testing.assert_array_equal(value, before[name])
    for wrong in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match="lr must be finite and >= 0"):
            optimizer.lr = wrong
    assert optimizer.lr == 0.0


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        (SGD, {"momentum": 1.0}, r"momentum must be >= 0 and < 1, got 1\.0"),
        (SGD, {"momentum": -0.1}, "momentum must be finite and >= 0"),
        (SGD, {"weight_decay": -1.0}, "weight_decay must be finite and >= 0"),
        (SGD, {"weight_decay": math.inf}, "weight_decay must be finite and >= 0"),
        (SGD, {"nesterov": True}, r"nesterov=True needs a momentum > 0, got momentum=0\.0"),
        (Adam, {"betas": (1.0, 0.9)}, r"betas\[0\] must be >= 0 and < 1, got 1\.0"),
        (Adam, {"betas": (0.9, math.nan)}, r"betas\[1\] must be finite"),
        (Adam, {"eps": 0.0}, "eps must be finite and > 0"),
        (AdamW, {"weight_decay": math.nan}, "weight_decay must be finite and >= 0"),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(kind: type[Optimizer], options: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        kind(draw_parameters(), **options)


ROUNDED: list[tuple[type[Optimizer], dict, str]] = [
    (Adam, {"eps": 1e-50}, "eps must be > 0, but float32 rounds 1e-50 to 0: raise it"),
    (AdamW, {"eps": 1e-46}, "eps must be > 0, but float32 rounds 1e-46 to 0"),
    (Adam, {"eps": 1e39}, r"eps must be finite, but 1e\+39 is beyond float32: lower it"),
    (Adam, {"betas": (1 - 1e-9, 0.9)}, r"betas\[0\] must be < 1, but float32 rounds 0\.999999999 to 1: lower it"),
    (AdamW, {"betas": (0.9, 1 - 1e-9)}, r"betas\[1\] must be < 1, but float32 rounds"),
    (SGD, {"momentum": 1 - 1e-9}, "momentum must be < 1, but float32 rounds"),
    (SGD, {"weight_decay": 1e39}, "weight_decay must be finite, but"),
    (AdamW, {"weight_decay": 1e39}, "weight_decay must be finite, but"),
    (SGD, {"lr": 1e39}, "lr must be finite, but"),
    (Adam, {"lr": 1e39}, "lr must be finite, but"),
]


@pytest.mark.parametrize(("kind", "options", "sentence"), ROUNDED)
def test_hyper_parameters_that_rounding_takes_out_of_range_are_refused(
    kind: type[Optimizer], options: dict, sentence: str
) -> None:
    mixed = draw_parameters() | {"last": Parameter(np.ones(2, dtype="float32"))}
    with pytest.raises(ValueError, match=sentence):
        kind(mixed, **options)
    # Right in float64, until the model is converted.
    layer = Linear(2, 2, dtype="float64")
    optimizer = kind(layer.parameters(), **options)
    give_gradients(optimizer.parameters, 0)
    layer.to("float32")
    held, before = layer.weight.value, everything(optimizer)
    with pytest.raises(ValueError, match=sentence):
        optimizer.step()
    assert layer.weight.value is held
    assert everything(optimizer) == before


def test_the_smallest_eps_that_is_none_of_zero_divides() -> None:
    parameter = Parameter(np.zeros(2, dtype="float32"))
    parameter.grad = np.zeros(2, dtype="float32")
    optimizer = Adam({"w": parameter}, eps=1e-45)
    optimizer.step()
    np.testing.assert_array_equal(parameter.value, np.zeros(2))


def test_a_slot_that_the_new_dtype_cannot_hold_stops_the_step() -> None:
    layer = Linear(2, 2, dtype="float64")
    optimizer = Adam(layer.parameters())
    layer.weight.grad, layer.bias.grad = np.full((2, 2), 1e-3), np.array([1.0, 1e30])  # squared: beyond float32
    optimizer.step()
    layer.to("float32")
    held, before = layer.weight.value, everything(optimizer)
    with pytest.raises(ValueError, match="second_moment of bias holds numbers beyond float32"):
        optimizer.step()
    assert layer.weight.value is held
    assert everything(optimizer) == before


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"SGD got no parameters: pass model\.parameters\(\)"):
        SGD({})
    with pytest.raises(TypeError, match=r"Adam takes model\.parameters\(\), got ndarray under 'w'"):
        Adam({"w": np.ones(2)})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match=r"betas must be a pair of numbers, got 0\.9"):
        Adam(draw_parameters(), betas=0.9)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="lr must be a number"):
        SGD(draw_parameters(), lr="fast")  # type: ignore[arg-type]
    parameters = draw_parameters()
    give_gradients(parameters, 0)
    with pytest.raises(NotImplementedError, match="Optimizer does not define _update"):
        Optimizer(parameters, 0.1, ()).step()


# --- clipping -----------------------------------------------------------------------------------


@given(seed=st.integers(0, 10**6), max_norm=st.floats(1e-3, 1e3), dtype=st.sampled_from(["float32", "float64"]))
def test_clipping_scales_all_gradients_together(seed: int, max_norm: float, dtype: str) -> None:
    parameters = draw_parameters(dtype=dtype)
    give_gradients(parameters, seed)
    before = {name: (p.grad, p.grad.copy()) for name, p in parameters.items()}
    joint = np.sqrt(sum((copy.astype("float64") ** 2).sum() for _, copy in before.values()))
    norm = clip_grad_norm(parameters, max_norm)
    assert float(norm) == pytest.approx(joint, rel=1e-12)
    assert (norm.shape, norm.dtype) == ((), "float64")
    scale = min(1.0, max_norm / (joint + 1e-6))
    for name, parameter in parameters.items():
        held, copy = before[name]
        assert parameter.grad.dtype == dtype
        np.testing.assert_allclose(parameter.grad, copy * scale, rtol=1e-6 if dtype == "float32" else 1e-12)
        np.testing.assert_array_equal(held, copy)  # assigned, not written into


def test_clipping_is_pytorchs() -> None:
    torch = require_torch()
    parameters = draw_parameters()
    give_gradients(parameters, 0)
    theirs = [torch.nn.Parameter(torch.tensor(p.value)) for p in parameters.values()]
    for tensor, parameter in zip(theirs, parameters.values(), strict=True):
        tensor.grad = torch.tensor(parameter.grad)
    expected = torch.nn.utils.clip_grad_norm_(theirs, 0.7)
    assert float(clip_grad_norm(parameters, 0.7)) == pytest.approx(expected.item(), rel=1e-13)
    for tensor, parameter in zip(theirs, parameters.values(), strict=True):
        np.testing.assert_allclose(parameter.grad, tensor.grad.numpy(), rtol=1e-12)


def test_huge_zero_and_broken_gradients() -> None:
    parameters = draw_parameters(dtype="float32")

    def fill(value: float) -> None:
        for parameter in parameters.values():
            parameter.grad = np.full(parameter.shape, value, dtype="float32")

    fill(1e30)  # its square overflows in float32
    assert float(clip_grad_norm(parameters, 1.0)) == pytest.approx(4e30, rel=1e-6)
    assert float(clip_grad_norm(parameters, 9.0)) == pytest.approx(1.0, rel=1e-6)
    fill(0.0)
    assert float(clip_grad_norm(parameters, 1.0)) == 0.0
    assert all((p.grad == 0).all() for p in parameters.values())
    fill(0.5)
    parameters["0.bias"].grad[1] = np.nan
    assert np.isnan(clip_grad_norm(parameters, 1.0))
    assert all(np.isnan(p.grad).all() for p in parameters.values())


def test_clipping_refuses() -> None:
    parameters = draw_parameters()
    give_gradients(parameters, 0)
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="max_norm must be finite and > 0"):
            clip_grad_norm(parameters, wrong)
    with pytest.raises(ValueError, match="clip_grad_norm got no parameters"):
        clip_grad_norm({}, 1.0)
    held = parameters["0.weight"].grad
    parameters["2.gamma"].grad = None
    with pytest.raises(
        RuntimeError, match=r"parameter '2\.gamma' has no gradient: call backward before clip_grad_norm"
    ):
        clip_grad_norm(parameters, 1.0)
    assert parameters["0.weight"].grad is held


# --- on a device --------------------------------------------------------------------------------


@every
def test_steps_and_clipping_read_nothing_from_a_device(kind: type[Optimizer], options: dict) -> None:
    require_cupy()
    from support.strictcp import strict

    host, moved = draw_parameters(dtype="float32"), draw_parameters(dtype="float32")
    on_host = kind(host, **options)
    with strict() as device:
        for parameter in moved.values():
            parameter.value = backend.to_device(parameter.value, "cupy")
        on_device = kind(moved, **options)
        for step in range(3):
            give_gradients(host, step)
            for name, parameter in moved.items():
                parameter.grad = backend.to_device(host[name].grad, "cupy")
            clip_grad_norm(host, 1.0)
            on_host.step()
            with device.sealed():
                clip_grad_norm(moved, 1.0)
                on_device.step()
        for name, parameter in moved.items():
            assert backend.name_of(parameter.value) == "cupy"
            np.testing.assert_array_equal(backend.to_host(parameter.value), host[name].value)
        on_device.load_state_dict(on_host.state_dict())
        for name, value in on_device.state_dict().items():
            np.testing.assert_array_equal(value, on_host.state_dict()[name])
        moved["0.bias"].grad = host["0.bias"].grad
        with pytest.raises(backend.BackendMismatch):
            on_device.step()


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_a_large_gradient_s_average_of_squares_is_finite(kind: type[Optimizer], device: Device) -> None:
    """(1 - beta2) g^2 is 1e37 for a g of 1e20, whose square float32 cannot hold."""
    parameter = Parameter(backend.to_device(np.array([1.0, 2.0], dtype="float32"), device.backend))
    parameter.grad = backend.to_device(np.array([1e20, -3e20], dtype="float32"), device.backend)
    optimizer = kind({"w": parameter}, lr=0.5, weight_decay=0.0)
    optimizer.step()
    np.testing.assert_allclose(backend.to_host(parameter.value), [0.5, 2.5], rtol=1e-5)
    np.testing.assert_allclose(optimizer.state_dict()["second_moment.w"], [1e37, 9e37], rtol=1e-5)
