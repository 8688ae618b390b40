"""With faster versions or without, forward and backward in any mixture: the same gradients; and the switch itself.

What passes from a forward to its backward is the definition's, so a backward pass may run under another setting than
its forward pass did.
"""

from __future__ import annotations

import contextvars
import inspect
import itertools
import os
import pickle
import subprocess
import sys
import threading
from typing import Any, NamedTuple

import numpy as np
import pytest
from support.devices import Device

from uanref import backend, kernels
from uanref.kernels import accelerated
from uanref.layers import conv, pooling
from uanref.layers.activation import relu_backward
from uanref.layers.base import Parameter
from uanref.norms import batch
from uanref.norms.batch import BatchNorm
from uanref.verify.catalogue import Case, cases

CASES = cases()
TOLERANCES = {"float64": 1e-10, "float32": 1e-4}
# Of the largest entry, or of this where all are smaller: gradients that vanish but for rounding (of two samples per
# channel BatchNorm's dx, of a logit's mean the bias of a loss).
FLOOR = 0.1


def run(case: Case, dtype: str, where: str, forward: bool, backward: bool) -> dict[str, np.ndarray]:
    """Return y, dx and every gradient, each pass plain or with faster versions."""
    layer = case.make().to(dtype).to(where)
    draw = np.random.default_rng(3)
    x = backend.to_device(draw.standard_normal(case.shape).astype(dtype), where)
    with backend.plain(forward):
        y = layer.forward(x)
    dy = backend.to_device(draw.standard_normal(tuple(y.shape)).astype(dtype), where)
    with backend.plain(backward):
        dx = layer.backward(dy)
    found = {"y": y, "dx": dx} | {name: p.grad for name, p in layer.parameters().items()}
    return {name: backend.to_host(array) for name, array in found.items()}


@pytest.mark.parametrize("dtype", sorted(TOLERANCES))
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_any_mixture_of_settings_gives_the_same_gradients(case: Case, dtype: str, device: Device) -> None:
    settings = list(itertools.product((True, False), repeat=2))
    found = {setting: run(case, dtype, device.backend, *setting) for setting in settings}
    pure, mixed = [(True, True), (False, False)], [(True, False), (False, True)]
    # In float32 a definition rounds, too: its own distance from what it gives in float64 is nobody's fault.
    exact = run(case, "float64", "numpy", True, True)
    for one, other in [*itertools.product(mixed, pure), pure]:
        for name, array in found[other].items():
            assert found[one][name].dtype == dtype
            unit = max(float(np.abs(array).max()), FLOOR)
            own = float(np.abs(array - exact[name]).max()) if dtype == "float32" else 0.0
            error = float(np.abs(found[one][name] - array).max())
            assert error <= max(TOLERANCES[dtype] * unit, 4.0 * own), (name, one, other, error / unit)


def test_versions_serve_only_where_they_may(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above compares two things: under plain no version is asked, else one is, also by a pass alone."""
    asked = []
    versions = kernels.versions
    monkeypatch.setattr(kernels, "versions", lambda *where: asked.append(where[1]) or versions(*where))
    layer = BatchNorm(3, dtype="float64").to(device.backend)
    x = backend.to_device(np.random.default_rng(0).standard_normal((4, 3, 2)), device.backend)
    with backend.plain():
        y = layer.forward(x)
    assert asked == []
    layer.backward(y)
    assert asked == ["backward"]
    layer.forward(x)
    # Where no version serves the batch's statistics, as on the host, their definition asks for the moments'.
    assert [name for name in asked if name != "channel_moments"] == ["backward", "statistics", "normalize"]
    asked.clear()
    with backend.plain():
        layer.backward(y)
    assert asked == []


# --- the switch -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "plain"), [(None, False), ("", False), ("0", False), ("1", True), ("yes", True)])
def test_the_environment_turns_versions_off(value: str | None, plain: bool) -> None:
    environment = {name: text for name, text in os.environ.items() if name != "UANREF_PLAIN"}
    environment |= {} if value is None else {"UANREF_PLAIN": value}
    code = (
        "import threading; from uanref import backend; print(backend.is_plain())\n"
        "with backend.plain(False): print(backend.is_plain())\n"
        "thread = threading.Thread(target=lambda: print(backend.is_plain())); thread.start(); thread.join()"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(plain), "False", str(plain)]


def test_plain_nests_and_an_error_ends_it() -> None:
    before = backend.is_plain()
    with backend.plain():
        assert backend.is_plain()
        with backend.plain(False):
            assert not backend.is_plain()
            with backend.plain(True):
                assert backend.is_plain()
            assert not backend.is_plain()
        assert backend.is_plain()
        with pytest.raises(ArithmeticError), backend.plain(False):
            raise ArithmeticError
        assert backend.is_plain()
    assert backend.is_plain() == before


def test_plain_belongs_to_a_context_and_a_thread() -> None:
    seen: list[bool] = []

    def look() -> None:
        seen.append(backend.is_plain())

    before = backend.is_plain()
    with backend.plain(not before):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        copied = contextvars.copy_context()
        contextvars.Context().run(look)
    copied.run(look)
    look()
    assert seen == [before, before, not before, before]


# --- what an accelerated function is to others ----------------------------------------------------


ACCELERATED = [batch.statistics, batch.backward, pooling.max_pool]


@pytest.mark.parametrize("function", ACCELERATED, ids=lambda function: f"{function.__module__}.{function.__name__}")
def test_pickles_signature_types_and_docstring_are_the_definition_s(function: Any) -> None:
    definition = function.__wrapped__
    assert pickle.loads(pickle.dumps(function)) is function
    assert inspect.signature(function) == inspect.signature(definition)
    assert inspect.getdoc(function) == inspect.getdoc(definition)
    assert inspect.getdoc(function)
    assert function.__annotations__ == definition.__annotations__
    assert inspect.getsource(function) == inspect.getsource(definition)
    for name in ("__name__", "__qualname__", "__module__"):
        assert getattr(function, name) == getattr(definition, name)


def test_a_layer_on_accelerated_functions_pickles_with_a_pass_pending() -> None:
    layer, x = BatchNorm(3, dtype="float64"), np.random.default_rng(0).standard_normal((4, 3, 2))
    dy = np.random.default_rng(1).standard_normal(layer.forward(x).shape)
    copied = pickle.loads(pickle.dumps(layer))
    np.testing.assert_array_equal(copied.backward(dy), layer.backward(dy))


def test_arguments_by_keyword_and_versions_that_do_not_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def definition(x: Any, *, factor: float = 2.0) -> Any:
        calls.append("definition")
        return factor * x

    def refuses(x: Any, *, factor: float = 2.0) -> Any:
        calls.append("refuses")
        return NotImplemented

    def serves(x: Any, *, factor: float = 2.0) -> Any:
        calls.append("serves")
        return factor * x

    known: list[tuple[Any, ...]] = [(refuses, serves), (refuses,), ()]
    monkeypatch.setattr(kernels, "versions", lambda *where: known[0])
    function = accelerated(definition)
    with backend.plain(False):
        for expected in (["refuses", "serves"], ["refuses", "definition"], ["definition"]):
            calls.clear()
            np.testing.assert_array_equal(function(np.ones(2), factor=3.0), [3.0, 3.0])
            assert calls == expected
            del known[0]
        known.append((serves,))
        calls.clear()
        function(np.ones(2, dtype="complex128"))
        assert calls == ["definition"], "complex numbers are the definition's alone"


def test_no_argument_has_to_come_first() -> None:
    x = np.random.default_rng(0).standard_normal((4, 3, 2))
    mean, var, beta = np.random.default_rng(1).uniform(1.0, 2.0, (3, 3))
    named = {"eps": 0.1, "beta": beta, "gamma": None, "var": var, "mean": mean, "x": x}
    with backend.plain(False), kernels.watched() as served:
        y = batch.normalize(**named)
    assert served == {"uanref.kernels.cpu.batch.normalize"}
    np.testing.assert_allclose(y, batch.normalize.__wrapped__(**named), rtol=1e-13)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        batch.normalize(**{name: value for name, value in named.items() if name != "x"})


def test_complex_numbers_at_any_place_are_the_definition_s_alone() -> None:
    x, weight = (np.random.default_rng(i).standard_normal((2, 2, 3, 3)) for i in range(2))
    window = conv.Window((3, 3), (1, 1), (1, 1), (0, 0, 0, 0))
    with backend.plain(False), kernels.watched() as served:
        y = conv.forward(x, weight * (1.0 + 1e-30j), None, window)  # a step of the weights alone
    assert not served
    np.testing.assert_allclose(y.imag, 1e-30 * np.einsum("nihw,oihw->no", x, weight)[:, :, None, None], rtol=1e-12)


# --- both backends in one call ----------------------------------------------------------------------


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_an_array_left_behind_is_named_before_any_state_moves(case: Case, plain: bool, accelerator: Device) -> None:
    x = backend.to_device(np.random.default_rng(3).standard_normal(case.shape), "cupy")
    names = [name for name, array in case.make().state_dict().items() if array.ndim]
    for name in names:
        layer = case.make().to("float64").to("cupy")
        *path, attribute = name.split(".")
        owner = dict(layer.modules())[".".join(path)]
        held = getattr(owner, attribute)
        if isinstance(held, Parameter):
            held.value = backend.to_host(held.value)
        else:
            setattr(owner, attribute, backend.to_host(held))
        before = owner.state_dict()
        with backend.plain(plain), pytest.raises(backend.BackendMismatch, match=r"numpy .* cupy .*layer\.to"):
            layer.forward(x)
        for key, array in owner.state_dict().items():
            np.testing.assert_array_equal(array, before[key])


@pytest.mark.parametrize("plain", [True, False])
def test_a_definition_refuses_both_backends_in_one_call(plain: bool, accelerator: Device) -> None:
    there = backend.to_device(np.random.default_rng(0).standard_normal((4, 3, 2)), "cupy")
    with backend.plain(plain), pytest.raises(backend.BackendMismatch, match=r"numpy .* cupy"):
        batch.normalize(there, np.zeros(3), np.ones(3), None, None, 0.1)
    with backend.plain(plain), pytest.raises(backend.BackendMismatch, match=r"numpy .* cupy"):
        relu_backward(there, y=np.ones((4, 3, 2)))


def test_which_arguments_are_arrays() -> None:
    x, y, z = np.zeros(1), np.ones((2, 2), "float32"), np.array(3)

    class Pair(NamedTuple):
        one: Any
        other: Any

    others = (None, 1.0, 2, True, "numpy", np.float64(1.0), [x], {"x": x}, slice(1), np.dtype("float32"), object())
    found = kernels.arrays((*others, x, Pair(y, (None, z)), (), *others))
    assert [id(a) for a in found] == [id(a) for a in (x, y, z)]
    assert kernels.arrays(others) == []
    masked = np.ma.masked_array([1.0])
    assert kernels.arrays((masked,)) == [masked]  # for namespace to refuse
