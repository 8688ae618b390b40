"""The bodies: an MLP, a small CNN, and the shallow CNN of the paper."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from uanref import backend
from uanref.factories import Factory, Norm
from uanref.layers.activation import ReLU
from uanref.layers.base import Layer, Sequential, choice, count, number
from uanref.layers.conv import Conv2d
from uanref.layers.flatten import Flatten
from uanref.layers.linear import Linear
from uanref.layers.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from uanref.models.norms import find_norm, make_norm
from uanref.norms.batch import BatchNorm

MODELS = ("mlp", "cnn", "shallow", "shallow-one")
"""Names of networks, as :func:`build` tells them."""

_LEAST = {"cnn": 4, "shallow": 5, "shallow-one": 5}  # height and width: every pooling has something to halve
_LEAST_OF_IN = {"cnn": 8, "shallow": 9, "shallow-one": 5}  # so that each map that "in" sees has several pixels


class Model(Sequential):
    """A :class:`Sequential` that remembers how it was built.

    Attributes:
        config: the arguments of :func:`build`, JSON-able: ``build(**model.config)`` makes the same network. Of a norm
            of the reader's own it has name and digest: ``build(**model.config | {"norm": make})``.
    """

    def __init__(self, *layers: Layer, config: dict[str, Any]) -> None:
        super().__init__(*layers)
        self.config = config


def build(
    model: str,
    norm: str | Callable[..., Any] | Factory,
    *,
    image_shape: tuple[int, ...],
    num_classes: int,
    num_components: int = 3,
    seed: int = 0,
    dtype: str = "float32",
    width: float = 1.0,
    norm_options: Mapping[str, Any] | None = None,
) -> Model:
    """Build a classifier for images or vectors ``(N, *image_shape)`` that returns logits ``(N, num_classes)``.

    The weights of convolutions and linear layers are drawn apart from the norms' start, so
    that one ``seed`` gives the same weights whatever the norm. A layer before a norm has no bias:
    the norm would subtract it again, or has a shift of its own.

    ``"mlp"`` has hidden layers of 128 and 64, ``"cnn"`` three 3x3 convolutions of 16, 32 and 64 channels, the maximum
    of 2x2 after the first two and of each channel the mean after the third. ``"shallow"`` is the shallow CNN of Faye,
    Azzag, Lebbah & Feng (2024): 5x5 convolutions of 64, 128, 128 and 256 channels, each with norm and ReLU, the
    maximum of 3x3 with stride 2 after the first three, the mean of 4x4 with stride 1 after the last. The norm under
    test stands at all four places. In ``"shallow-one"`` it stands where the paper has it, once: after the second
    convolution; the others have batch normalization. The paper does not tell margins. Here convolutions keep the size
    and the maxima have a margin of 1, so that 28 x 28 and 32 x 32 both arrive at the 4 x 4 that the mean asks for
    (this project's choice); of smaller images it takes what is left, of 8 x 8 one pixel.

    Args:
        model: one of :data:`MODELS`.
        norm: one of :data:`NORMS`, or one of the reader's own, see :func:`find_norm`; its layers are converted to
            ``dtype``.
        image_shape: (channels, height, width), of which ``"cnn"`` needs height and width >= 4, the shallow ones 5;
            (features,) of vectors, for the MLP.
        num_classes: >= 2.
        num_components: K of the UANs, >= 1.
        seed: >= 0.
        dtype: ``"float32"`` or ``"float64"``.
        width: factor of all channels between input and output, > 0; rounded, and at least one is left.
        norm_options: more keywords of the class of the norm under test, see :func:`make_norm`; as JSON has them.

    Raises:
        ValueError: an unknown name, a size too small, ``"in"`` where a channel has a single pixel, an option that the
            norm lacks, or a function of the reader's that fails.
        TypeError: a size that is no integer, another dtype.
    """
    choice("model", model, MODELS)
    norm = find_norm(norm)
    if len(image_shape) not in (1, 3):
        got = backend.shape_text(image_shape)
        raise ValueError(f"image_shape must be (channels, height, width), got {got}; (features,) for vectors")
    if model != "mlp" and len(image_shape) == 1:
        raise ValueError(
            f"the {model} takes images, and the data are vectors of {image_shape[0]} numbers: choose the mlp"
        )
    shape = [count("image_shape", size) for size in image_shape]
    count("num_classes", num_classes, least=2)
    config: dict[str, Any] = {
        "model": model,
        "norm": norm.stored() if isinstance(norm, Factory) else norm,
        "image_shape": shape,
        "num_classes": num_classes,
        "num_components": count("num_components", num_components),
        "seed": count("seed", seed, least=0),
        "dtype": str(backend.dtype_of(dtype)),
    }
    if number("width", width, 0.0, open_low=True) != 1.0:
        config["width"] = float(width)
    if norm_options:
        config["norm_options"] = dict(norm_options)
    _check_size(model, norm, shape)
    parts = _Parts(norm, num_components, norm_options, seed, dtype, float(width))
    match model:
        case "mlp":
            layers = _mlp(parts, shape)
        case "cnn":
            layers = _cnn(parts, shape)
        case _:
            layers = _shallow(parts, shape, alone=model == "shallow-one")
    return Model(*layers, parts.output(num_classes), config=config)


def _check_size(model: str, norm: Norm, shape: list[int]) -> None:
    height, width = (*shape, 1, 1)[1:3]
    needed = _LEAST_OF_IN.get(model)
    if norm == "in" and (needed is None or min(height, width) < needed):
        best, least = ("cnn", 8) if needed is None else (model, needed)
        raise ValueError(
            f"norm 'in' normalizes over the pixels of a channel and needs several: choose the {best} and images of at "
            f"least {least} x {least}, got the {model} and {height} x {width}"
        )
    if min(height, width) < _LEAST.get(model, 1):
        times = "twice" if model == "cnn" else "three times"
        raise ValueError(
            f"the {model} halves images {times}: height and width must be >= {_LEAST[model]}, got {height} x {width}"
        )


class _Parts:
    """Makes the layers of one network, from the input on: each is as wide as the one before it was."""

    def __init__(
        self,
        norm: Norm,
        num_components: int,
        norm_options: Mapping[str, Any] | None,
        seed: int,
        dtype: str,
        width: float,
    ) -> None:
        self.norm, self.dtype, self.width = norm, dtype, width
        self.weights, self.starts = backend.module("numpy").random.default_rng(seed).spawn(2)
        self.options = {"num_components": num_components, "options": norm_options, "dtype": dtype, "rng": self.starts}
        self.inputs = 0

    def linear(self, outputs: int) -> list[Layer]:
        """Return a linear layer, the norm under test and ReLU."""
        inputs, outputs = self._wide(outputs)
        middle = self._normalized(outputs)
        return [Linear(inputs, outputs, bias=not middle, dtype=self.dtype, rng=self.weights), *middle, ReLU()]

    def conv(self, outputs: int, kernel: int, *, tested: bool = True) -> list[Layer]:
        """Return a convolution that keeps the size, the norm under test, or else batch normalization, and ReLU."""
        inputs, outputs = self._wide(outputs)
        middle = self._normalized(outputs, tested)
        bias = not middle
        made = Conv2d(inputs, outputs, kernel, padding="same", bias=bias, dtype=self.dtype, rng=self.weights)
        return [made, *middle, ReLU()]

    def output(self, outputs: int) -> Layer:
        """Return the last layer, which gives logits."""
        return Linear(self.inputs, outputs, init="glorot", dtype=self.dtype, rng=self.weights)

    def _wide(self, outputs: int) -> tuple[int, int]:
        before, self.inputs = self.inputs, max(1, round(self.width * outputs))
        return before, self.inputs

    def _normalized(self, features: int, tested: bool = True) -> list[Layer]:
        made = make_norm(self.norm, features, **self.options) if tested else BatchNorm(features, dtype=self.dtype)
        return [] if made is None else [made]


def _mlp(parts: _Parts, shape: list[int]) -> list[Layer]:
    parts.inputs = math.prod(shape)
    return [Flatten(), *parts.linear(128), *parts.linear(64)]


def _cnn(parts: _Parts, shape: list[int]) -> list[Layer]:
    parts.inputs = shape[0]
    first, second = [*parts.conv(16, 3), MaxPool2d(2)], [*parts.conv(32, 3), MaxPool2d(2)]
    return [*first, *second, *parts.conv(64, 3), GlobalAvgPool2d()]


def _shallow(parts: _Parts, shape: list[int], alone: bool) -> list[Layer]:
    parts.inputs, sides, layers = shape[0], shape[1:], []
    for place, channels in enumerate((64, 128, 128)):
        layers += [*parts.conv(channels, 5, tested=place == 1 or not alone), MaxPool2d(3, 2, 1)]
        sides = [(side + 1) // 2 for side in sides]
    layers += parts.conv(256, 5, tested=not alone)
    window = [min(4, side) for side in sides]
    parts.inputs *= math.prod(side - size + 1 for side, size in zip(sides, window, strict=True))
    return [*layers, AvgPool2d((window[0], window[1]), 1), Flatten()]
