"""Exactly numpy.ndarray and cupy.ndarray, of float32 or float64: subclasses and other numbers are refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.arrays import draw_array

from uanref import backend
from uanref.layers.activation import GELU, LeakyReLU, ReLU, Sigmoid, Tanh
from uanref.layers.base import Layer, Parameter, Sequential
from uanref.layers.conv import Conv2d
from uanref.layers.dropout import Dropout
from uanref.layers.flatten import Flatten
from uanref.layers.linear import Linear
from uanref.layers.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from uanref.layers.residual import Residual
from uanref.losses import MSE, SoftmaxCrossEntropy
from uanref.norms.batch import BatchNorm
from uanref.norms.group import GroupNorm
from uanref.norms.instance import InstanceNorm
from uanref.norms.layer import LayerNorm
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mode import ModeNorm
from uanref.norms.uan import UAN

IMAGES, ROWS = (4, 2, 6, 6), (6, 2)
# Without parameters, each with the shape of an input.
PLAIN: list[tuple[Callable[[], Layer], tuple[int, ...]]] = [
    *((kind, ROWS) for kind in (ReLU, LeakyReLU, Tanh, Sigmoid, GELU, Dropout)),
    (Flatten, IMAGES),
    (lambda: MaxPool2d(2), IMAGES),
    (lambda: AvgPool2d(2), IMAGES),
    (GlobalAvgPool2d, IMAGES),
    (lambda: Residual(Tanh()), ROWS),
    (lambda: Sequential(Tanh()), ROWS),
]
# With parameters of float64.
TRAINED: list[tuple[Callable[[], Layer], tuple[int, ...]]] = [
    (lambda: Linear(2, 3, dtype="float64"), ROWS),
    (lambda: Conv2d(2, 3, 3, dtype="float64"), IMAGES),
    (lambda: BatchNorm(2, dtype="float64"), ROWS),
    (lambda: LayerNorm(2, dtype="float64"), ROWS),
    (lambda: GroupNorm(1, 2, dtype="float64"), ROWS),
    (lambda: InstanceNorm(2, dtype="float64"), IMAGES),
    (lambda: UAN(2, 2, dtype="float64"), ROWS),
    (lambda: MixtureNorm(2, 2, dtype="float64"), ROWS),
    (lambda: ModeNorm(2, 2, dtype="float64"), ROWS),
]
every_layer = pytest.mark.parametrize(("make", "shape"), PLAIN + TRAINED)
every_plain_layer = pytest.mark.parametrize(("make", "shape"), PLAIN)


class Subclass(np.ndarray):
    """An array in all but its type."""


def as_subclass(x: np.ndarray, kind: str, folder: Path) -> Any:
    if kind == "memmap":
        mapped = np.memmap(folder / "x", dtype=x.dtype, shape=x.shape, mode="w+")
        mapped[...] = x
        return mapped
    if kind == "masked":
        return np.ma.masked_array(x, mask=x > 0)
    return (
        x.view({"matrix": np.matrix, "recarray": np.recarray, "own": Subclass}[kind])
        if x.ndim == 2
        else x.view(Subclass)
    )


SENTENCES = {
    "matrix": "got (matrix|Subclass), a subclass that may compute otherwise: convert it with numpy.asarray",
    "recarray": "got (recarray|Subclass), a subclass that may compute otherwise: convert it with numpy.asarray",
    "own": "got Subclass, a subclass that may compute otherwise: convert it with numpy.asarray",
    "memmap": "got memmap, a subclass that may compute otherwise: convert it with numpy.asarray",
    "masked": r"got a masked array, whose mask would be lost: fill it with x\.filled",
}
every_subclass = pytest.mark.parametrize("kind", SENTENCES)
FOREIGN = ["float16", "longdouble", "complex64", "clongdouble", "int64", ">f4" if sys.byteorder == "little" else "<f4"]
every_foreign = pytest.mark.parametrize("dtype", FOREIGN)


@every_subclass
@every_layer
def test_layers_refuse_subclasses(make: Callable[[], Layer], shape: tuple[int, ...], kind: str, tmp_path: Path) -> None:
    layer, x = make(), draw_array(shape, 1)
    with pytest.raises(TypeError, match=SENTENCES[kind]):
        layer.forward(as_subclass(x, kind, tmp_path))
    y = layer.forward(x)
    dy = draw_array(y.shape, 2)
    with pytest.raises(TypeError, match=SENTENCES[kind]):
        layer.backward(as_subclass(dy, kind, tmp_path))
    assert type(layer.backward(dy)) is np.ndarray  # the pass was still pending


@every_foreign
@every_layer
def test_layers_refuse_dtypes_that_they_do_not_compute_in(
    make: Callable[[], Layer], shape: tuple[int, ...], dtype: str
) -> None:
    layer, x = make(), draw_array(shape, 1)
    with pytest.raises(TypeError, match=r"floating point but got|float64 parameters but got"):
        layer.forward(x.astype(dtype))
    y = layer.forward(x)
    with pytest.raises(TypeError, match="backward got a gradient of"):
        layer.backward(draw_array(y.shape, 2).astype(dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@every_plain_layer
def test_layers_without_parameters_keep_the_dtype(
    make: Callable[[], Layer], shape: tuple[int, ...], dtype: str
) -> None:
    layer = make()
    y = layer.forward(draw_array(shape, 1, dtype=dtype))
    assert y.dtype == layer.backward(draw_array(y.shape, 2, dtype=dtype)).dtype == dtype


def test_a_byte_order_is_not_offered_as_the_layers_dtype() -> None:
    with pytest.raises(TypeError, match=r"convert the input with x\.astype\('float32'\)$"):
        Linear(2, 2).forward(draw_array((3, 2), 1).astype(">f4" if sys.byteorder == "little" else "<f4"))


def test_a_number_is_no_array() -> None:
    with pytest.raises(
        TypeError, match=r"ReLU computes in floating point but got np\.float32\(1\.0\), which is no array"
    ):
        ReLU().forward(np.float32(1.0))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"prediction must be floating point, got .*which is no array"):
        MSE().forward(np.float32(1.0), np.float32(2.0))  # type: ignore[arg-type]


# --- losses ---------------------------------------------------------------------------------------


@every_subclass
def test_losses_refuse_subclasses(kind: str, tmp_path: Path) -> None:
    prediction, target = draw_array(ROWS, 1), draw_array(ROWS, 2)
    labels = np.array([0, 1, 0, 1, 1, 0])
    for loss in (MSE(), SoftmaxCrossEntropy()):
        with pytest.raises(TypeError, match=SENTENCES[kind]):
            loss.forward(as_subclass(prediction, kind, tmp_path), target)
        with pytest.raises(TypeError, match=SENTENCES[kind]):
            loss.forward(prediction, as_subclass(target, kind, tmp_path))
    with pytest.raises(TypeError, match=SENTENCES[kind]):
        SoftmaxCrossEntropy().forward(prediction, as_subclass(labels, kind, tmp_path))


@every_foreign
def test_losses_refuse_dtypes_that_they_do_not_compute_in(dtype: str) -> None:
    prediction, target = draw_array(ROWS, 1), draw_array(ROWS, 2)
    for loss in (MSE(), SoftmaxCrossEntropy()):
        with pytest.raises(
            TypeError, match=f"must be floating point, got {np.dtype(dtype)}, expected float32 or float64"
        ):
            loss.forward(prediction.astype(dtype), target.astype(dtype))
        if dtype != "int64":
            with pytest.raises(TypeError, match=f"got targets of {np.dtype(dtype)}"):
                loss.forward(prediction, target.astype(dtype))


# --- parameters and states ------------------------------------------------------------------------


@every_subclass
def test_parameters_and_states_refuse_subclasses(kind: str, tmp_path: Path) -> None:
    layer, value = Linear(2, 2, dtype="float64"), draw_array((2, 2), 1)
    held = layer.weight.value
    with pytest.raises(TypeError, match=SENTENCES[kind]):
        layer.weight.value = as_subclass(value, kind, tmp_path)
    with pytest.raises(TypeError, match=SENTENCES[kind]):
        Parameter(as_subclass(value, kind, tmp_path))
    with pytest.raises(TypeError, match=SENTENCES[kind]):
        layer.load_state_dict(layer.state_dict() | {"weight": as_subclass(value, kind, tmp_path)})
    assert layer.weight.value is held


@every_foreign
def test_parameters_refuse_dtypes_that_layers_do_not_compute_in(dtype: str) -> None:
    with pytest.raises(TypeError, match="a parameter must be floating point, got"):
        Parameter(np.ones(2).astype(dtype))
    with pytest.raises(TypeError, match="float32 or float64"):
        Linear(2, 2, dtype=dtype)


def test_device_arrays_of_a_subclass_are_refused(device) -> None:
    if device.backend == "numpy":
        with pytest.raises(TypeError, match="got Subclass"):
            backend.name_of(np.ones(2).view(Subclass))
        return
    with backend.using("cupy") as cupy:
        x = cupy.ones(2)
        assert backend.name_of(x) == "cupy"
        kind = type("Derived", (cupy.ndarray,), {})
        derived = x.view(kind) if device.kind == "emulated" else kind(np.ones(2))
        with pytest.raises(TypeError, match=r"got Derived, a subclass .* convert it with .*\.asarray"):
            backend.name_of(derived)
