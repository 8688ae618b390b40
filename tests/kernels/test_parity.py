"""Every faster version equals its definition: the one test that ties them, over a list that cannot be incomplete."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.arrays import LAYOUTS
from support.definitions import changed, exactly, results
from support.devices import Device
from support.layouts import laid_out, on_device
from support.parity_cases import CASES, Sizes

import uanref
from uanref import backend, kernels
from uanref.kernels.cpu import blocks, columns, elementwise, planes, rectifier

TOLERANCES = {"float64": 1e-12, "float32": 1e-5}
PLACES = ("layers", "norms", "neighbours", "losses", "optimizers")


def definitions() -> dict[str, Callable[..., Any]]:
    """Return every accelerated function by its path below the package."""
    found = {}
    for info in pkgutil.walk_packages(uanref.__path__, "uanref."):
        path = info.name.removeprefix("uanref.")
        if path.split(".")[0] in PLACES:
            module = importlib.import_module(info.name)
            for name, value in vars(module).items():
                if getattr(value, "is_accelerated", False) and value.__module__ == info.name:
                    found[f"{path}.{name}"] = value
    return found


DEFINITIONS = definitions()
ROOMS = ("cpu", "cuda")


def room(name: str) -> list[str]:
    package = importlib.import_module(f"uanref.kernels.{name}")
    return [info.name for info in pkgutil.iter_modules(package.__path__)]


def versions_in(where: str) -> Iterator[tuple[str, str, Callable[..., Any]]]:
    """Yield stem, name and function for each public function of a file that has a definition's name."""
    stems = {path.rpartition(".")[0].rpartition(".")[2] for path in DEFINITIONS}
    for stem in room(where):
        if stem in stems:
            module = importlib.import_module(f"uanref.kernels.{where}.{stem}")
            for name, value in vars(module).items():
                if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"):
                    yield stem, name, value


# --- the list ---------------------------------------------------------------------------------------


def test_every_accelerated_definition_has_a_version_and_a_case() -> None:
    assert sorted(CASES) == sorted(DEFINITIONS)
    for path, definition in DEFINITIONS.items():
        module, name = definition.__module__, definition.__name__
        assert any(kernels.versions(module, name, where) for where in backend.BACKENDS), path


def test_no_two_definitions_share_a_file_name() -> None:
    modules = {definition.__module__ for definition in DEFINITIONS.values()}
    assert len({module.rpartition(".")[2] for module in modules}) == len(modules)


@pytest.mark.parametrize("where", ROOMS)
def test_every_version_has_a_definition(where: str) -> None:
    known = {(path.split(".")[-2], path.split(".")[-1]) for path in DEFINITIONS}
    assert {(stem, name) for stem, name, _ in versions_in(where)} <= known


@pytest.mark.parametrize("where", ROOMS)
def test_versions_have_their_definition_s_signature(where: str) -> None:
    by_name = {tuple(path.split(".")[-2:]): definition for path, definition in DEFINITIONS.items()}
    for stem, name, version in versions_in(where):
        expected, found = inspect.signature(by_name[stem, name]), inspect.signature(version)
        same = [(p.name, p.kind, p.default) for p in expected.parameters.values()]
        assert [(p.name, p.kind, p.default) for p in found.parameters.values()] == same, (where, stem, name)


# --- equal ------------------------------------------------------------------------------------------


def scale(array: np.ndarray) -> float:
    return max(float(np.abs(array).max(initial=0.0)), 1e-30)


def drawn_case(path: str, rng: np.random.Generator, sizes: Sizes) -> tuple[Any, ...]:
    """Draw a function's arguments by definitions alone: a version's slip must not hide in its input."""
    with backend.plain():
        return CASES[path](rng, sizes)


def largest(array: np.ndarray) -> float:
    return float(np.abs(array).max(initial=0.0))


# Where a result is a sum of numbers of both signs, which may cancel: of two samples dx is 0 but for rounding, and the
# gradient of a shift, the sum of dy, may be as near to 0 as chance has it, whatever computes them.
CANCELLING = {
    *("norms.batch.backward", "norms.batch.backward_fixed", "norms.group.backward", "layers.conv.backward"),
    "norms.mixture_transform.transform_backward",
}


def last_digits(path: str, rounded: tuple[Any, ...], exact: np.ndarray, i: int) -> float:
    """Return by how much result ``i`` changes when every last digit of the arguments does."""
    draw = np.random.default_rng(0)

    def shaken(a: np.ndarray) -> np.ndarray:
        return a.astype("float64") * (1.0 + np.finfo(a.dtype).eps * draw.uniform(-1.0, 1.0, a.shape))

    changes = [exactly(DEFINITIONS[path], *(changed(a, shaken) for a in rounded))[i] - exact for _ in range(3)]
    return max(map(largest, changes))


def assert_parity(path: str, arguments: tuple[Any, ...], dtype: str, layout: str, device: Device) -> int:
    """Hold every version that serves against the definition in float64; return how many did."""

    def cast(a: np.ndarray) -> np.ndarray:
        return a.astype(dtype) if a.dtype.kind == "f" else a

    definition = DEFINITIONS[path]
    keywords = arguments[-1] if isinstance(arguments[-1], dict) else {}
    arguments = arguments[:-1] if keywords else arguments
    rounded = tuple(changed(argument, cast) for argument in arguments)
    exact = exactly(definition, *rounded, **keywords)
    with backend.plain():
        own = results(definition(*(changed(a, np.copy) for a in rounded), **keywords))
    served = 0
    for version in kernels.versions(definition.__module__, definition.__name__, device.backend):
        place = (lambda a: laid_out(a, layout)) if device.backend == "numpy" else (lambda a: on_device(a, layout))
        outcome: Any = version(*(changed(argument, place) for argument in rounded), **keywords)
        if outcome is NotImplemented:
            continue
        served += 1
        found = results(outcome)
        assert len(found) == len(exact)
        for i, (one, right, plain) in enumerate(zip(found, exact, own, strict=True)):
            assert one.shape == right.shape, (path, i)
            assert one.dtype == plain.dtype, (path, i)
            error, allowed = largest(one - right), max(TOLERANCES[dtype] * scale(right), 2.0 * largest(plain - right))
            if error > allowed and path in CANCELLING:
                allowed = max(allowed, 4.0 * last_digits(path, rounded, right, i))
            assert error <= allowed, (path, i, version.__module__)
    return served


SIZES = st.builds(
    Sizes,
    samples=st.integers(2, 5),
    channels=st.integers(1, 4),
    spatial=st.integers(1, 5),
    components=st.integers(1, 9),  # more than 8 are not the CUDA kernels'
    joint=st.booleans(),
    affine=st.booleans(),
)


@settings(
    max_examples=max(5, settings.default.max_examples // 2),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    sizes=SIZES, seed=st.integers(0, 10**6), dtype=st.sampled_from(sorted(TOLERANCES)), layout=st.sampled_from(LAYOUTS)
)
@pytest.mark.parametrize("path", sorted(CASES))
def test_a_version_equals_its_definition(
    path: str, sizes: Sizes, seed: int, dtype: str, layout: str, device: Device
) -> None:
    arguments = drawn_case(path, np.random.default_rng(seed), sizes)
    assert_parity(path, arguments, dtype, layout, device)


# Several blocks of samples, several parts of a channel, images longer than a sum in one product.
LARGE = [Sizes(9, 4, 700, 3), Sizes(4100, 3, 1, 2), Sizes(2, 2, 4500, 3, joint=True), Sizes(6, 2, 300, 9)]


@pytest.mark.parametrize("dtype", sorted(TOLERANCES))
@pytest.mark.parametrize("sizes", LARGE, ids=str)
@pytest.mark.parametrize("path", sorted(CASES))
def test_a_version_equals_its_definition_across_blocks(
    path: str, sizes: Sizes, dtype: str, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks.sample_blocks, "__defaults__", (1 << 14,))
    for module, limit in ((columns, "COLUMN_BYTES"), (columns, "DEVICE_COLUMN_BYTES"), (planes, "PLANE_BYTES")):
        monkeypatch.setattr(module, limit, 1 << 14)
    monkeypatch.setattr(rectifier, "RUN", 1 << 11)
    monkeypatch.setattr(rectifier, "ROW", 700)
    monkeypatch.setattr(elementwise, "PIECE", 5000)
    arguments = drawn_case(path, np.random.default_rng(1), sizes)
    if device.backend == "numpy" and not kernels.versions(*_home(path), "numpy"):
        pytest.skip("served on a device alone")
    assert_parity(path, arguments, dtype, "C", device)


@pytest.mark.parametrize("dtype", sorted(TOLERANCES))
@pytest.mark.parametrize("components", range(1, 10))
def test_every_number_of_components(components: int, dtype: str, device: Device) -> None:
    """CUDA sources are compiled for each of 1 to 8, with the batch's moments and with fixed ones."""
    for path in (
        "norms.mixture_moments.batch_moments",
        "norms.mixture_transform.transform",
        "norms.mixture_transform.transform_backward",
    ):
        for samples in (4, 5):  # even: the batch's moments
            for seed in range(3):
                sizes = Sizes(samples, 3, 7, components, affine=seed > 0)
                assert_parity(path, drawn_case(path, np.random.default_rng(seed), sizes), dtype, "C", device)


def _home(path: str) -> tuple[str, str]:
    return DEFINITIONS[path].__module__, DEFINITIONS[path].__name__


@pytest.mark.smoke
def test_a_device_with_kernels_runs_every_definition_by_a_version(accelerator: Device) -> None:
    if not accelerator.has_kernels:
        pytest.skip("the strict double runs no kernels")
    for path in CASES:
        assert assert_parity(
            path, drawn_case(path, np.random.default_rng(2), Sizes(4, 2, 3, 3)), "float32", "C", accelerator
        ), path


@pytest.mark.parametrize("path", sorted(CASES))
def test_cuda_versions_leave_host_arrays_alone(path: str) -> None:
    arguments = drawn_case(path, np.random.default_rng(3), Sizes(4, 2, 3, 3))
    keywords = arguments[-1] if isinstance(arguments[-1], dict) else {}
    _, name = _home(path)
    for stem, found, version in versions_in("cuda"):
        if (stem, found) == (path.split(".")[-2], name):
            assert version(*(arguments[:-1] if keywords else arguments), **keywords) is NotImplemented


# --- where an entry takes no part ---------------------------------------------------------------------


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_an_infinite_value_meets_no_penalty_of_zero(name: str, device: Device) -> None:
    """As defined, and by every version."""
    path, value = f"optimizers.{name}.step", np.array([np.inf, 1.0])
    numbers: dict[str, Any] = {"lr": 0.1, "momentum": 0.0, "nesterov": False, "penalty": 0.0}
    slots: tuple[Any, ...] = (None,)
    if name == "adam":
        numbers = {"betas": (0.5, 0.5), "eps": 1e-3, "rate": 0.1, "correction": 1.0, "penalty": 0.0, "shrink": 1.0}
        slots = np.zeros(2), np.zeros(2)
    arguments = value, np.array([0.5, 0.5]), *slots
    expected = exactly(DEFINITIONS[path], *arguments, **numbers)[0]
    assert np.isposinf(expected[0])
    assert expected[1] < 1.0
    for version in kernels.versions(*_home(path), device.backend):
        moved = [changed(a, lambda a: backend.to_device(a.copy(), device.backend)) for a in arguments]
        outcome: Any = version(*moved, **numbers)
        if outcome is not NotImplemented:
            np.testing.assert_allclose(backend.to_host(outcome[0]), expected, rtol=1e-12)
