"""The optimizers' kernels: one launch a parameter, the array code's numbers, nobody else's array changed."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import draw_array
from support.definitions import exactly

from uanref import backend
from uanref.kernels.cuda import adam as adam_kernel
from uanref.kernels.cuda import sgd as sgd_kernel
from uanref.layers.base import Parameter
from uanref.optimizers import SGD, Adam, AdamW, Optimizer, adam, sgd

TOLERANCES = {"float64": 1e-12, "float32": 1e-6}
# One element, a whole block of threads and its neighbours, several blocks.
SHAPES = {"a": (1,), "b": (5, 51), "c": (16, 16), "d": (257,), "e": (3, 4, 5, 6), "f": ()}
SETTINGS: list[tuple[str, type[Optimizer], dict]] = [
    ("sgd", SGD, {"lr": 0.1}),
    ("sgd decay", SGD, {"lr": 0.1, "weight_decay": 0.2}),
    ("momentum", SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}),
    ("nesterov", SGD, {"lr": 0.05, "momentum": 0.8, "nesterov": True}),
    ("adam", Adam, {"lr": 0.01}),
    ("adam L2", Adam, {"lr": 0.1, "betas": (0.5, 0.8), "eps": 1e-3, "weight_decay": 0.3}),
    ("adam no memory", Adam, {"lr": 0.1, "betas": (0.0, 0.0)}),
    ("adamw", AdamW, {"lr": 0.1, "betas": (0.5, 0.8), "weight_decay": 0.3}),
]
every = pytest.mark.parametrize(("kind", "options"), [s[1:] for s in SETTINGS], ids=[s[0] for s in SETTINGS])


@pytest.fixture(autouse=True)
def _a_device_with_kernels(accelerator) -> None:
    if accelerator.kind == "strict":
        pytest.skip("the strict double runs no kernels")


def draw_parameters(where: str, dtype: str = "float64") -> dict[str, Parameter]:
    drawn = {
        name: draw_array(shape or (1,), i, dtype=dtype).reshape(shape) for i, (name, shape) in enumerate(SHAPES.items())
    }
    return {name: Parameter(backend.to_device(value, where)) for name, value in drawn.items()}


def give_gradients(parameters: dict[str, Parameter], step: int) -> None:
    for i, parameter in enumerate(parameters.values()):
        drawn = draw_array(parameter.shape or (1,), 100 * (step + 1) + i, dtype=str(parameter.value.dtype))
        parameter.grad = backend.to_device(drawn.reshape(parameter.shape), backend.name_of(parameter.value))


def states(optimizer: Optimizer) -> dict[str, np.ndarray]:
    """Every parameter and everything that lives from step to step, on the host."""
    values = {name: backend.to_host(p.value).copy() for name, p in optimizer.parameters.items()}
    return values | optimizer.state_dict()


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


@every
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_five_steps_equal_the_hosts(kind: type[Optimizer], options: dict, dtype: str) -> None:
    host, card = (kind(draw_parameters(where, dtype), **options) for where in ("numpy", "cupy"))
    for step in range(5):
        for optimizer in (host, card):
            give_gradients(optimizer.parameters, step)
            optimizer.lr = 0.1 / (step + 1)
            optimizer.step()
        assert_same(states(card), states(host), TOLERANCES[dtype])


@every
def test_one_launch_per_parameter(kind: type[Optimizer], options: dict, accelerator) -> None:
    if accelerator.kind != "emulated":
        pytest.skip("only the emulator counts launches")
    optimizer = kind(draw_parameters("cupy", "float32"), **options)
    give_gradients(optimizer.parameters, 0)
    with accelerator.counting() as counts:
        optimizer.step()
    assert [launch.name for launch in counts.launches] == ["sgd" if kind is SGD else "adam"] * len(SHAPES)
    assert [launch.grid[0] for launch in counts.launches] == [1, 1, 1, 2, 2, 1]
    assert (counts.to_host, counts.to_device, counts.synchronizations) == (0, 0, 0)


@every
def test_a_step_makes_a_new_value_and_moves_its_own_slots_alone(kind: type[Optimizer], options: dict) -> None:
    optimizer = kind(draw_parameters("cupy"), **options)
    give_gradients(optimizer.parameters, 0)
    given = {name: (p.value, p.grad) for name, p in optimizer.parameters.items()}
    before = {name: [backend.to_host(a).copy() for a in arrays] for name, arrays in given.items()}
    slots = {slot: dict(arrays) for slot, arrays in optimizer._slots.items()}
    optimizer.step()
    for name, parameter in optimizer.parameters.items():
        assert parameter.value is not given[name][0]
        assert (backend.to_host(parameter.value) != before[name][0]).all()
        for array, copy in zip(given[name], before[name], strict=True):
            np.testing.assert_array_equal(backend.to_host(array), copy)
        for slot, arrays in slots.items():
            assert optimizer._slots[slot][name] is arrays[name], "a slot moves in place"


@every
@pytest.mark.parametrize("turned", ["value", "grad", "both"])
def test_arrays_in_any_order_of_memory(kind: type[Optimizer], options: dict, turned: str) -> None:
    value, grad = draw_array((4, 70), 1), draw_array((4, 70), 2)
    results = []
    for where in ("numpy", "cupy"):
        straight = [backend.to_device(a, where) for a in (value, grad)]
        moved = [backend.to_device(np.ascontiguousarray(a.T), where).T for a in (value, grad)]
        parameter = Parameter(moved[0] if turned != "grad" else straight[0])
        optimizer = kind({"w": parameter}, **options)
        for _ in range(2):
            parameter.grad = moved[1] if turned != "value" else straight[1]
            optimizer.step()
        results.append(states(optimizer))
    assert_same(results[1], results[0], 1e-12)


@every
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gradient_of_another_dtype_is_refused_and_nothing_moves(
    kind: type[Optimizer], options: dict, dtype: str
) -> None:
    parameters = draw_parameters("cupy", dtype)
    optimizer = kind(parameters, **options)
    give_gradients(parameters, 0)
    parameters["e"].grad = parameters["e"].grad.astype("float64" if dtype == "float32" else "float32")
    before = states(optimizer)
    with pytest.raises(TypeError, match=f"parameter 'e' of {dtype} has a gradient of float"):
        optimizer.step()
    assert_same(states(optimizer), before, 0.0)


@every
def test_the_order_of_threads_changes_no_bit(kind: type[Optimizer], options: dict, accelerator) -> None:
    reversed_threads = contextlib.nullcontext
    if accelerator.kind == "emulated":
        from support.cupysim import threads_reversed as reversed_threads
    results = []
    for context in (contextlib.nullcontext, reversed_threads):
        optimizer = kind(draw_parameters("cupy", "float32"), **options)
        for step in range(2):
            give_gradients(optimizer.parameters, step)
            with context():
                optimizer.step()
        results.append(states(optimizer))
    assert_same(results[1], results[0], 0.0)


@given(
    size=st.integers(1, 600),
    dtype=st.sampled_from(["float64", "float32"]),
    penalty=st.sampled_from([0.0, 0.3]),
    momentum=st.sampled_from([None, 0.0, 0.9]),
    nesterov=st.booleans(),
    seed=st.integers(0, 10**6),
)
def test_kernels_equal_their_definitions_and_stay_in_bounds(
    size: int, dtype: str, penalty: float, momentum: float | None, nesterov: bool, seed: int
) -> None:
    """The value anew, slots where they stand, and nothing beside them."""
    arrays = [draw_array((size + 3,), seed + i, dtype=dtype) for i in range(4)]
    arrays[3] = np.abs(arrays[3])
    gentle = {"betas": (0.9, 0.99), "eps": 1e-3, "rate": 0.02, "correction": 1.5, "penalty": penalty, "shrink": 0.98}
    descent = {"lr": 0.1, "momentum": momentum or 0.0, "nesterov": nesterov, "penalty": penalty}
    for kernel, definition, used, numbers in (
        (adam_kernel.step, adam.step, 4, gentle),
        (sgd_kernel.step, sgd.step, 2 if momentum is None else 3, descent),
    ):
        on_card = [backend.to_device(a.copy(), "cupy") for a in arrays[:used]]
        slots = [None] if used == 2 else []
        expected = exactly(definition, *(a[:size] for a in arrays[:used]), *slots, **numbers)
        found = kernel(*(a[:size] for a in on_card), *slots, **numbers)
        assert found[0].shape == (size,)
        moved = [found[0], *(a[:size] for a in on_card[2:])]
        for ours, value in zip(moved, expected, strict=True):
            np.testing.assert_allclose(backend.to_host(ours), value, rtol=TOLERANCES[dtype], atol=TOLERANCES[dtype])
        for i, (ours, value) in enumerate(zip(on_card, arrays, strict=False)):
            kept = slice(0 if i < 2 else size, None)  # value and gradient are only read
            np.testing.assert_array_equal(backend.to_host(ours)[kept], value[kept])
