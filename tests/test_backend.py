"""The backend module: which namespace, what is missing, what crosses the boundary."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
import types

import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from support.arrays import LAYOUTS, draw_array
from support.requirements import require_cupy

from uanref import backend


class FakeDeviceArray:
    """Stands for an array on a device: it has a class of its own and nothing else."""


def fake_cupy(**attributes: object) -> types.ModuleType:
    module = types.ModuleType("cupy")
    module.__version__ = "99.0"
    module.ndarray = FakeDeviceArray
    for name, value in attributes.items():
        setattr(module, name, value)
    return module


@pytest.fixture
def no_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without CuPy: None in sys.modules makes ``import cupy`` raise ModuleNotFoundError."""
    monkeypatch.setitem(sys.modules, "cupy", None)


# --- namespaces ---------------------------------------------------------------------------------


def test_functions_follow_their_data() -> None:
    x = np.ones(2)
    assert backend.namespace(x) is np
    assert backend.namespace(x, None, x) is np
    assert backend.namespace() is np
    assert backend.namespace(None) is np
    assert backend.name_of(x) == backend.name_of(np.float32(1)) == "numpy"


@pytest.mark.parametrize("value", [[1.0], 1.0, None, "x"])
def test_what_is_no_array_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="expected a NumPy or CuPy array, got"):
        backend.name_of(value)


def test_mixed_arrays_are_refused_naming_both(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = fake_cupy()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    device = FakeDeviceArray()
    assert backend.name_of(device) == "cupy"
    assert backend.namespace(device) is cupy
    with pytest.raises(backend.BackendMismatch, match=r"numpy \(host\) and cupy \(device\).*backend\.to_host"):
        backend.namespace(np.ones(2), device)  # type: ignore[arg-type]
    assert issubclass(backend.BackendMismatch, TypeError)


def test_looking_at_an_array_does_not_import_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    backend.namespace(np.ones(2))
    with pytest.raises(TypeError):
        backend.name_of(object())
    assert "cupy" not in sys.modules


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown backend 'jax': expected one of numpy, cupy"):
        backend.module("jax")
    with pytest.raises(ValueError, match="unknown backend 'jax'"):
        backend.use("jax")
    with pytest.raises(ValueError, match="unknown backend 'jax'"), backend.using("jax"):
        pass
    with pytest.raises(ValueError, match="unknown backend 'jax'"):
        backend.to_device(np.ones(2), "jax")
    usable, reason = backend.available("jax")
    assert not usable
    assert "unknown backend 'jax'" in reason


# --- the default backend, and what is missing ---------------------------------------------------


def test_numpy_is_always_there() -> None:
    assert backend.current() == "numpy"
    assert backend.available("numpy") == (True, f"NumPy {np.__version__} on the CPU")
    backend.use("numpy")
    with backend.using("numpy") as xp:
        assert xp is np
        assert backend.current() == "numpy"


@pytest.fixture
def _working_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = types.SimpleNamespace(getDeviceCount=lambda: 2)
    cupy = fake_cupy(cuda=types.SimpleNamespace(runtime=runtime), ones=lambda shape, dtype: np.ones(shape, dtype))
    monkeypatch.setitem(sys.modules, "cupy", cupy)


@pytest.mark.usefixtures("_working_cupy")
def test_a_default_lasts_for_its_block_or_the_process() -> None:
    assert backend.available("cupy") == (True, "CuPy 99.0 with 2 GPUs")
    with backend.using("cupy") as xp:
        assert xp is sys.modules["cupy"]
        assert backend.current() == "cupy"
        assert backend.namespace() is sys.modules["cupy"]
        with backend.using("numpy"):
            assert backend.current() == "numpy"
        assert backend.current() == "cupy"
    assert backend.current() == "numpy"
    with pytest.raises(KeyError), backend.using("cupy"):
        raise KeyError
    assert backend.current() == "numpy"
    try:
        backend.use("cupy")
        assert backend.current() == "cupy"
    finally:
        backend.use("numpy")
    assert backend.current() == "numpy"


@pytest.mark.usefixtures("no_cupy")
def test_without_cupy_the_reason_says_what_to_install() -> None:
    usable, reason = backend.available("cupy")
    assert not usable
    assert reason.startswith("CuPy is not installed")
    assert "pip install" in reason
    for attempt in (backend.use, backend.require, backend.module, lambda name: backend.to_device(np.ones(2), name)):
        with pytest.raises(backend.BackendUnavailable, match="CuPy is not installed"):
            attempt("cupy")
    with pytest.raises(backend.BackendUnavailable, match="not installed"), backend.using("cupy"):
        pass
    assert backend.current() == "numpy"


def test_a_broken_cupy_is_told_from_a_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def find_spec(self, name: str, path: object = None, target: object = None) -> None:
            if name == "cupy":
                raise OSError("libcudart.so.12:\n cannot open shared object file")

    monkeypatch.delitem(sys.modules, "cupy", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    usable, reason = backend.available("cupy")
    assert not usable
    assert "installed but cannot be imported (libcudart.so.12: cannot open shared object file)" in reason
    assert "\n" not in reason
    with pytest.raises(backend.BackendUnavailable, match="cannot be imported"):
        backend.module("cupy")


def _raises() -> int:
    raise RuntimeError("planted")


@pytest.mark.parametrize(
    ("count", "ones", "expected"),
    [
        (_raises, None, "the NVIDIA driver does not answer (planted)"),
        (lambda: 0, None, "no NVIDIA GPU is visible"),
        (lambda: 1, lambda shape, dtype: _raises(), "a first matrix product failed"),
    ],
    ids=["driver", "device", "library"],
)
def test_each_missing_piece_has_its_sentence(
    monkeypatch: pytest.MonkeyPatch, count: object, ones: object, expected: str
) -> None:
    cuda = types.SimpleNamespace(runtime=types.SimpleNamespace(getDeviceCount=count))
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(cuda=cuda, ones=ones))
    usable, reason = backend.available("cupy")
    assert not usable
    assert expected in reason
    assert "\n" not in reason
    with pytest.raises(backend.BackendUnavailable) as caught:
        backend.use("cupy")
    assert str(caught.value) == reason
    assert backend.current() == "numpy"


def test_the_installed_cupy_answers_in_one_sentence() -> None:
    cupy = require_cupy()
    usable, reason = backend.available("cupy")
    assert f"CuPy {cupy.__version__}" in reason
    assert "\n" not in reason
    if usable:
        np.testing.assert_array_equal(backend.to_host(backend.to_device(np.arange(3.0), "cupy")), np.arange(3.0))
    else:
        with pytest.raises(backend.BackendUnavailable, match="CuPy"):
            backend.to_device(np.ones(2), "cupy")


# --- the transfer boundary ----------------------------------------------------------------------


def test_host_arrays_stay_where_they_are() -> None:
    x = np.ones(3)
    assert backend.to_host(x) is x
    assert backend.to_device(x) is x
    assert backend.to_device(x, "numpy") is x
    assert isinstance(backend.to_host(np.float32(2.0)), np.ndarray)
    assert backend.synchronize() is None
    assert backend.synchronize("numpy") is None


def test_to_and_from_the_strict_double() -> None:
    require_cupy()
    from support.strictcp import strict

    x = draw_array((3, 2), 0)
    with strict() as device:
        moved = backend.to_device(x, "cupy")
        assert backend.name_of(moved) == "cupy"
        assert backend.to_device(moved, "cupy") is moved
        # A dropout mask moves in every step: the move itself must not wait for the device.
        assert (device.to_device, device.to_host, device.syncs) == (1, 0, 0)
        np.testing.assert_array_equal(backend.to_device(moved, "numpy"), x)
        np.testing.assert_array_equal(backend.to_host(moved), x)
        assert device.to_host == 2
        np.testing.assert_allclose(backend.to_host(backend.erf(moved)), scipy.special.erf(x))
        waits = device.syncs
        backend.synchronize("cupy")
        assert device.syncs == waits + 1
        with pytest.raises(backend.BackendMismatch):
            backend.scatter_add(moved, 0, x)


# --- what NumPy and CuPy spell differently ------------------------------------------------------


@given(size=st.integers(1, 6), picks=st.lists(st.integers(0, 5), min_size=1, max_size=12), seed=st.integers(0, 10**6))
def test_scatter_add_adds_repeated_indices(size: int, picks: list[int], seed: int) -> None:
    indices = np.array([i % size for i in picks])
    target, values = draw_array((size,), seed), draw_array((len(picks),), seed + 1)
    expected = target.copy()
    for i, value in zip(indices, values, strict=True):
        expected[i] += value
    backend.scatter_add(target, indices, values)
    np.testing.assert_allclose(target, expected, rtol=1e-13, atol=1e-14)


@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    spare=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    lead=st.lists(st.integers(1, 2), max_size=2).map(tuple),
    layout=st.sampled_from(LAYOUTS),
)
def test_windows_are_those_of_the_definition(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    spare: tuple[int, int],
    lead: tuple[int, ...],
    layout: str,
) -> None:
    image = [d * (k - 1) + 1 + s for k, d, s in zip(kernel, dilation, spare, strict=True)]
    x = draw_array((*lead, *image), 1, layout=layout)
    windows = backend.sliding_windows(x, kernel, stride, dilation)
    out = [s // step + 1 for s, step in zip(spare, stride, strict=True)]
    assert windows.shape == (*lead, *out, *kernel)
    assert np.shares_memory(windows, x)
    for i, j in np.ndindex(*out):
        for a, b in np.ndindex(*kernel):
            row, column = i * stride[0] + a * dilation[0], j * stride[1] + b * dilation[1]
            np.testing.assert_array_equal(windows[..., i, j, a, b], x[..., row, column])


def test_windows_are_a_read_only_view_and_wait_for_no_device(device) -> None:
    x = backend.to_device(draw_array((2, 5, 6), 1), device.backend)[:, ::-1, 1:]
    with device.counting() if device.counts else contextlib.nullcontext() as counts:
        windows = backend.sliding_windows(x, (2, 3), (1, 2), (2, 1))
    if device.counts:
        assert (counts.to_device, counts.to_host, counts.synchronizations) == (0, 0, 0)
    expected = backend.sliding_windows(backend.to_host(x), (2, 3), (1, 2), (2, 1))
    np.testing.assert_array_equal(backend.to_host(windows), expected)
    assert not expected.flags.writeable


@pytest.mark.parametrize(("kernel", "dilation"), [((4, 1), (1, 1)), ((1, 5), (1, 1)), ((2, 1), (3, 1))])
def test_a_window_larger_than_the_image_is_refused(kernel: tuple[int, int], dilation: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="does not fit into an image of 3 x 4: enlarge the padding"):
        backend.sliding_windows(np.zeros((3, 4)), kernel, dilation=dilation)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_erf_keeps_the_dtype(dtype: str) -> None:
    x = np.array([-3.0, -0.5, 0.0, 0.5, 3.0], dtype=dtype)
    y = backend.erf(x)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, [math.erf(float(v)) for v in x], rtol=1e-6 if dtype == "float32" else 1e-14)


def test_erf_takes_the_complex_step() -> None:
    x = np.array([-1.0, 0.3])
    slope = backend.erf(x + 1e-30j).imag / 1e-30
    np.testing.assert_allclose(slope, 2 / math.sqrt(math.pi) * np.exp(-(x**2)), rtol=1e-13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_erfcx_keeps_the_dtype_and_the_digits_far_out(dtype: str, device) -> None:
    x = np.array([0.0, 0.5, 3.0, 300.0, 1e10, np.inf], dtype=dtype)
    y = backend.to_host(backend.erfcx(backend.to_device(x, device.backend)))
    assert y.dtype == dtype
    # Far out the asymptotic series: 1 / (sqrt(pi) x) (1 - 1/2 x^-2 + 3/4 x^-4 - 15/8 x^-6).
    series = [(1 - 0.5 * v**-2 + 0.75 * v**-4 - 1.875 * v**-6) / (math.sqrt(math.pi) * v) for v in (300.0, 1e10)]
    expected = [math.exp(v * v) * math.erfc(v) for v in (0.0, 0.5, 3.0)] + [*series, 0.0]
    np.testing.assert_allclose(y, expected, rtol=4 * np.finfo(dtype).eps + 1e-14)


def test_importing_the_package_leaves_scipys_functions_alone() -> None:
    code = "import sys, uanref; sys.exit('scipy.special' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- dtypes, generators, text -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex128", np.float32, np.dtype("float64")])
def test_dtypes_that_layers_compute_in(dtype: object) -> None:
    assert backend.dtype_of(dtype) == np.dtype(dtype)  # type: ignore[arg-type,call-overload]


@pytest.mark.parametrize("dtype", ["float16", "int64", "bool", "complex64", "nonsense"])
def test_other_dtypes_are_refused(dtype: str) -> None:
    with pytest.raises(TypeError, match=r"float32.*float64"):
        backend.dtype_of(dtype)


def test_limits_are_python_numbers() -> None:
    assert backend.tiny("float32") == float(np.finfo("float32").tiny)
    assert backend.machine_eps("float64") == 2.0**-52
    assert backend.machine_eps("complex128") == 2.0**-52
    assert type(backend.tiny("float32")) is type(backend.machine_eps("float32")) is float


def test_floats_are_told_from_the_rest() -> None:
    assert all(backend.is_float(np.zeros(1, dtype=d)) for d in ("float32", "float64", "complex128"))
    others = (
        "int64",
        "uint8",
        "bool",
        "float16",
        "longdouble",
        "complex64",
        ">f4" if sys.byteorder == "little" else "<f4",
    )
    assert not any(backend.is_float(np.zeros(1, dtype=d)) for d in others)


def test_generators() -> None:
    rng = np.random.default_rng(5)
    assert backend.as_generator(rng) is rng
    assert backend.as_generator(None).random() == np.random.default_rng(0).random()
    for wrong in (3, np.random.RandomState(0), np.random):
        with pytest.raises(TypeError, match=r"rng must be a numpy\.random\.Generator or None, got"):
            backend.as_generator(wrong)  # type: ignore[arg-type]


def test_shapes_as_text() -> None:
    assert [backend.shape_text(s) for s in ((), (3,), (8, 3, 28))] == ["()", "(3,)", "(8, 3, 28)"]
