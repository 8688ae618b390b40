"""Every layer, norm, loss and optimizer under the strict CuPy double: same numbers as NumPy, nothing read back.

The double itself is tested at the end: it must refuse what a device refuses.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest
from support import requirements, strictcp

from uanref import backend, gradcheck
from uanref.experiments import check
from uanref.layers.base import Parameter
from uanref.layers.linear import Linear
from uanref.training import optimizers

CASES = check.cases()
TOLERANCES = {"float64": 1e-12, "float32": 1e-5}


def input_of(case: check.Case, dtype: str, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(case.shape).astype(dtype)


# --- layers, norms, losses ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_device_equals_host(case: check.Case, dtype: str, strict_cupy: strictcp.Device) -> None:
    x = input_of(case, dtype)
    expected = check.outputs(case.make().to(dtype), x, seed=1)
    layer, x_device = case.make().to(dtype).to("cupy"), backend.to_device(x, "cupy")
    found = check.outputs(layer, x_device, seed=1)

    assert found.keys() == expected.keys()
    for name, array in expected.items():
        error = check.difference(found[name], array)
        assert error <= TOLERANCES[dtype], f"{name} differs by {error:.2e} of its largest entry"
        assert found[name].dtype == array.dtype, name
    assert found["y"].dtype == x.dtype
    assert found["dx"].dtype == x.dtype
    assert (backend.to_host(x_device) == x).all(), "forward or backward changed its input"


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_nothing_is_read_back(case: check.Case, strict_cupy: strictcp.Device) -> None:
    layer, x = case.make().to("float32").to("cupy"), backend.to_device(input_of(case, "float32"), "cupy")
    dy = np.random.default_rng(1).standard_normal(
        size=case.make().to("float32").forward(input_of(case, "float32")).shape
    )
    dy = backend.to_device(dy.astype("float32"), "cupy")
    with strict_cupy.sealed():
        y = layer.forward(x)
        dx = layer.backward(dy)
    assert backend.name_of(y) == backend.name_of(dx) == "cupy"
    assert all(backend.name_of(p.grad) == "cupy" for p in layer.parameters().values())


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_there_and_back_again(case: check.Case, strict_cupy: strictcp.Device) -> None:
    layer = case.make()
    before = layer.state_dict()
    after = layer.to("cupy").to("numpy").state_dict()
    assert before.keys() == after.keys()
    assert all((before[name] == after[name]).all() for name in before)


def test_a_gradient_check_runs_on_the_device(strict_cupy: strictcp.Device) -> None:
    layer = Linear(3, 2, dtype="float64").to("cupy")
    x = backend.to_device(np.random.default_rng(0).standard_normal((4, 3)), "cupy")
    report = gradcheck.check(layer, x, complex_step=True)
    assert report.ok, report


def test_mixed_arrays_are_refused_by_name(strict_cupy: strictcp.Device) -> None:
    layer = Linear(3, 2)
    with pytest.raises(backend.BackendMismatch, match=r"numpy .* cupy"):
        layer.forward(backend.to_device(np.ones((4, 3), dtype="float32"), "cupy"))


# --- optimizers -----------------------------------------------------------------------------------

OPTIMIZERS = {
    "SGD": lambda p: optimizers.SGD(p, lr=0.1),
    "SGD nesterov, decay": lambda p: optimizers.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "Adam": lambda p: optimizers.Adam(p, lr=0.01),
    "AdamW": lambda p: optimizers.AdamW(p, lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_move_alike(name: str, strict_cupy: strictcp.Device) -> None:
    draw = np.random.default_rng(2)
    start = draw.standard_normal((3, 4)).astype("float32")
    gradients = draw.standard_normal((5, 3, 4)).astype("float32")
    moved = {}
    for where in ("numpy", "cupy"):
        parameter = Parameter(backend.to_device(start.copy(), where))
        optimizer = OPTIMIZERS[name]({"w": parameter})
        for gradient in (backend.to_device(g.copy(), where) for g in gradients):
            parameter.grad = gradient
            with strict_cupy.sealed():
                optimizers.clip_grad_norm({"w": parameter}, 1.0)
                optimizer.step()
        moved[where] = backend.to_host(parameter.value)
    assert check.difference(moved["cupy"], moved["numpy"]) <= 1e-6
    assert moved["cupy"].dtype == np.float32
    assert not np.array_equal(moved["cupy"], start)


# --- the double -----------------------------------------------------------------------------------


@pytest.fixture
def on_device(strict_cupy: strictcp.Device) -> strictcp.DeviceArray:
    return backend.module("cupy").asarray(np.arange(6.0).reshape(2, 3))


def test_the_double_is_in_place_only_inside(strict_cupy: strictcp.Device) -> None:
    usable, reason = backend.available("cupy")
    assert usable, reason
    assert sys.modules["cupy"].ndarray is strictcp.DeviceArray


def test_the_real_cupy_comes_back() -> None:
    real = requirements.require_cupy()
    with strictcp.strict():
        assert sys.modules["cupy"] is not real
    assert sys.modules["cupy"] is real


REFUSED = {
    "implicit conversion": lambda xp, a: np.asarray(a),
    "host operand": lambda xp, a: a + np.ones((2, 3)),
    "host operand on the left": lambda xp, a: np.ones((2, 3)) + a,
    "host operand in place": lambda xp, a: a.__iadd__(np.ones((2, 3))),
    "host argument": lambda xp, a: xp.add(a, np.ones((2, 3))),
    "host array among arrays": lambda xp, a: xp.concatenate([a, np.ones((2, 3))]),
    "host value assigned": lambda xp, a: a.__setitem__(0, np.ones(3)),
    "list as an operand": lambda xp, a: xp.add(a, [1.0, 2.0, 3.0]),
    "host index": lambda xp, a: a[np.array([0, 1])],
    "list index": lambda xp, a: a[[0, 1]],
    "mask read": lambda xp, a: a[a > 1],
    "mask assigned": lambda xp, a: a.__setitem__(a > 1, 0.0),
    "where= in a ufunc": lambda xp, a: xp.add(a, a, where=a > 1),
    "where= in a reduction": lambda xp, a: xp.sum(a, where=a > 1),
    "where= in a method": lambda xp, a: a.sum(where=a > 1),
    "initial= in a reduction": lambda xp, a: a.max(initial=0.0),
    "at= of a ufunc without it": lambda xp, a: xp.exp.at(a, 0),
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_double_refuses(what: str, on_device: strictcp.DeviceArray) -> None:
    with pytest.raises((TypeError, AttributeError)):
        REFUSED[what](backend.module("cupy"), on_device)


@pytest.mark.parametrize("name", ["errstate", "nditer", "insert", "block"])
def test_the_double_lacks_what_cupy_lacks(name: str, strict_cupy: strictcp.Device) -> None:
    assert hasattr(np, name)
    assert not hasattr(backend.module("cupy"), name)


WAITING = {
    "float": float,
    "bool": lambda a: bool(a),
    "int": int,
    "item": lambda a: a.item(),
    "print": str,
    "format": lambda a: f"{a:.3f}",
    "nonzero": lambda a: backend.module("cupy").nonzero(a),
    "synchronize": lambda a: backend.synchronize("cupy"),
}


@pytest.mark.parametrize("what", WAITING)
def test_waiting_is_counted_and_refused_when_sealed(what: str, strict_cupy: strictcp.Device) -> None:
    value = backend.module("cupy").asarray(2.0)
    before = strict_cupy.syncs
    WAITING[what](value.reshape(1) if what == "nonzero" else value)
    assert strict_cupy.syncs == before + 1
    with pytest.raises(strictcp.HostAccess), strict_cupy.sealed():
        WAITING[what](value.reshape(1) if what == "nonzero" else value)


def test_copies_are_counted(strict_cupy: strictcp.Device) -> None:
    cupy = backend.module("cupy")
    device = cupy.asarray(np.ones(3))
    assert (strict_cupy.to_device, strict_cupy.to_host) == (1, 0)
    assert cupy.asarray(device) is device
    host = cupy.asnumpy(device)
    assert (strict_cupy.to_device, strict_cupy.to_host) == (1, 1)
    host[0] = 5.0
    assert float(device[0]) == 1.0, "a copy must not share memory with the device"
    with pytest.raises(strictcp.HostAccess), strict_cupy.sealed():
        device.get()


def test_what_stays_on_the_device(on_device: strictcp.DeviceArray) -> None:
    cupy = backend.module("cupy")
    total = on_device.sum()
    assert isinstance(total, cupy.ndarray)
    assert total.shape == ()
    on_device[0] += 1.0  # views share memory
    assert float(on_device[0, 0]) == 1.0
    assert isinstance(2.0 * on_device, cupy.ndarray)
    assert isinstance(np.float64(2.0) * on_device, cupy.ndarray)
    assert isinstance(on_device > 1, cupy.ndarray)
    assert isinstance(cupy.where(on_device > 1, on_device, 0.0), cupy.ndarray)
    index = cupy.asarray(np.array([1, 1]))
    assert backend.to_host(on_device[index]).tolist() == [[3.0, 4.0, 5.0]] * 2
    backend.scatter_add(on_device, index, cupy.ones((2, 3)))
    assert backend.to_host(on_device[1]).tolist() == [5.0, 6.0, 7.0]


def test_a_missing_cupy_skips_and_fails_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)  # import cupy now raises ImportError
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="emulate"):
        requirements.require_cupy()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="on CI"):
        requirements.require_cupy()
