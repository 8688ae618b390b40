"""The strict double of CuPy must refuse what a device refuses. What it is for is in ``tests/device``."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from support import requirements, strictcp

from uanref import backend


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
    "sliding_window_view": lambda a: backend.module("cupy").lib.stride_tricks.sliding_window_view(a.reshape(1), 1),
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
