"""The networks of the experiments: one body each, with any of the norms in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from uanref import backend, factories, own_code
from uanref.backend import DTypeLike, Generator
from uanref.factories import Factory, Norm
from uanref.layers.activation import ReLU
from uanref.layers.base import Layer, Sequential, choice, count
from uanref.layers.conv import Conv2d
from uanref.layers.flatten import Flatten
from uanref.layers.linear import Linear
from uanref.layers.pooling import GlobalAvgPool2d, MaxPool2d
from uanref.norms.batch import BatchNorm
from uanref.norms.group import GroupNorm
from uanref.norms.instance import InstanceNorm
from uanref.norms.layer import LayerNorm
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mode import ModeNorm
from uanref.norms.uan import UAN
from uanref.norms.uan_public import UANPublic

MODELS = ("mlp", "cnn")
NORMS = ("none", "bn", "ln", "gn", "in", "mn", "mode", "uan", "uan-learned", "uan-joint", "uan-public")


class Model(Sequential):
    """A :class:`Sequential` that remembers how it was built.

    Attributes:
        config: the arguments of :func:`build`, JSON-able: ``build(**model.config)`` makes the same network. Of a norm
            of the reader's own it has name and digest: ``build(**model.config | {"norm": make})``.
    """

    def __init__(self, *layers: Layer, config: dict[str, Any]) -> None:
        super().__init__(*layers)
        self.config = config


def find_norm(given: str | Callable[..., Any] | Factory) -> Norm:
    """Return a name of :data:`NORMS` as it is, and the factory that anything else means.

    Args:
        given: a name; ``mine.py:make`` or ``package.module:make``; or a function ``make(num_features, rng)``.

    Raises:
        ValueError: no such norm, or a function that cannot be used; the sentence says why.
        TypeError: neither text nor function.
    """
    if isinstance(given, Mapping):
        raise ValueError(f"the norm is {given.get('factory')}, of the reader's own code: pass norm= with its function")
    if isinstance(given, str) and (given in NORMS or not own_code.looks_like_code(given)):
        if given not in NORMS:
            names = ", ".join(map(repr, NORMS))
            raise ValueError(f"norm must be one of {names}, or a function of your own, mine.py:make, got {given!r}")
        return given
    return factories.find(given)


def find_norms(given: Sequence[str | Callable[..., Any] | Factory]) -> list[Norm]:
    """Return what :func:`find_norm` finds for each, factories with labels that tell them apart.

    Raises:
        ValueError, TypeError: as :func:`find_norm`, or one function is given twice.
    """
    found = [find_norm(one) for one in given]
    named = iter(factories.distinct(one for one in found if isinstance(one, Factory)))
    return [next(named) if isinstance(one, Factory) else one for one in found]


def label(norm: Norm) -> str:
    """Return how tables and files call a norm."""
    return norm.label if isinstance(norm, Factory) else norm


def check_norm(norm: Norm, model: str) -> None:
    """Try a factory with a batch such as ``model`` gives to its norms; names of :data:`NORMS` are known to work.

    Raises:
        OwnCodeError: whatever is wrong with it.
    """
    if isinstance(norm, Factory):
        norm.check((4, 64) if model == "mlp" else (4, 16, 4, 4))


def make_norm(
    name: Norm,
    num_features: int,
    *,
    num_components: int = 3,
    dtype: DTypeLike = "float32",
    rng: Generator | None = None,
) -> Layer | None:
    """Return the norm called ``name``, or None for ``"none"``.

    Args:
        name: ``"none"``; ``"bn"``; ``"ln"``; ``"gn"`` (8 groups, or as many as divide 8 and the channels);
            ``"in"`` (images only); ``"mn"`` (mixture normalization); ``"mode"`` (mode normalization); ``"uan"``
            (a posterior per channel, statistics of the batch); ``"uan-learned"`` (the same with learned
            statistics); ``"uan-joint"`` (one posterior per position, statistics of the batch);
            ``"uan-public"`` (what the authors' released layer computes); or a :class:`~uanref.factories.Factory`.
        num_features: channels, >= 1.
        num_components: K of the mixtures, and the number of modes.
        dtype: dtype of the parameters.
        rng: where mixtures and gates draw their start from.

    Raises:
        ValueError: no such norm; the message names the choices.
    """
    if isinstance(name, Factory):
        generator = backend.module("numpy").random.default_rng() if rng is None else rng
        return name(num_features, generator).to(dtype)
    match choice("norm", name, NORMS):
        case "bn":
            return BatchNorm(num_features, dtype=dtype)
        case "ln":
            return LayerNorm(num_features, dtype=dtype)
        case "gn":
            return GroupNorm(math.gcd(num_features, 8), num_features, dtype=dtype)
        case "in":
            return InstanceNorm(num_features, dtype=dtype)
        case "mn":
            return MixtureNorm(num_features, num_components, dtype=dtype, rng=rng)
        case "mode":
            return ModeNorm(num_features, num_components, dtype=dtype, rng=rng)
        case "uan":
            return UAN(num_features, num_components, dtype=dtype, rng=rng)
        case "uan-learned":
            return UAN(num_features, num_components, statistics="learned", dtype=dtype, rng=rng)
        case "uan-joint":
            return UAN(num_features, num_components, posterior="joint", dtype=dtype, rng=rng)
        case "uan-public":
            return UANPublic(num_features, num_components, dtype=dtype, rng=rng)
    return None


def build(
    model: str,
    norm: str | Callable[..., Any] | Factory,
    *,
    image_shape: tuple[int, ...],
    num_classes: int,
    num_components: int = 3,
    seed: int = 0,
    dtype: str = "float32",
) -> Model:
    """Build a classifier for images or vectors ``(N, *image_shape)`` that returns logits ``(N, num_classes)``.

    The weights of convolutions and linear layers are drawn apart from the norms' start, so
    that one ``seed`` gives the same weights whatever the norm. A layer before a norm has no bias:
    the norm would subtract it again, or has a shift of its own.

    Args:
        model: ``"mlp"`` (two hidden layers) or ``"cnn"`` (three 3x3 convolutions).
        norm: one of :data:`NORMS`, or one of the reader's own, see :func:`find_norm`; its layers are converted to
            ``dtype``.
        image_shape: (channels, height, width), of which the CNN needs height and width >= 4; (features,) of vectors,
            for the MLP.
        num_classes: >= 2.
        num_components: K of the UANs, >= 1.
        seed: >= 0.
        dtype: ``"float32"`` or ``"float64"``.

    Raises:
        ValueError: an unknown name, a size too small, ``"in"`` where a channel has a single pixel, or a function of the
            reader's that fails.
        TypeError: a size that is no integer, another dtype.
    """
    choice("model", model, MODELS)
    norm = find_norm(norm)
    if len(image_shape) not in (1, 3):
        got = backend.shape_text(image_shape)
        raise ValueError(f"image_shape must be (channels, height, width), got {got}; (features,) for vectors")
    if model == "cnn" and len(image_shape) == 1:
        raise ValueError(f"the cnn takes images, and the data are vectors of {image_shape[0]} numbers: choose the mlp")
    channels, height, width = (*(count("image_shape", size) for size in image_shape), 1, 1)[:3]
    count("num_classes", num_classes, least=2)
    config = {
        "model": model,
        "norm": norm.stored() if isinstance(norm, Factory) else norm,
        "image_shape": [channels, height, width][: len(image_shape)],
        "num_classes": num_classes,
        "num_components": count("num_components", num_components),
        "seed": count("seed", seed, least=0),
        "dtype": str(backend.dtype_of(dtype)),
    }
    weights, starts = backend.module("numpy").random.default_rng(seed).spawn(2)
    bias = norm == "none"

    def normalized(layer: Layer, features: int) -> list[Layer]:
        middle = make_norm(norm, features, num_components=num_components, dtype=dtype, rng=starts)
        return [layer, ReLU()] if middle is None else [layer, middle, ReLU()]

    def linear(inputs: int, outputs: int) -> list[Layer]:
        return normalized(Linear(inputs, outputs, bias=bias, dtype=dtype, rng=weights), outputs)

    def conv(inputs: int, outputs: int) -> list[Layer]:
        layer = Conv2d(inputs, outputs, 3, padding="same", bias=bias, dtype=dtype, rng=weights)
        return normalized(layer, outputs)

    def output(inputs: int) -> Layer:
        return Linear(inputs, num_classes, init="glorot", dtype=dtype, rng=weights)

    if norm == "in" and (model == "mlp" or min(height, width) < 8):
        raise ValueError(
            "norm 'in' normalizes over the pixels of a channel and needs several: choose the cnn and images of at "
            f"least 8 x 8, got the {model} and {height} x {width}"
        )
    if model == "mlp":
        pixels = math.prod(image_shape)
        return Model(Flatten(), *linear(pixels, 128), *linear(128, 64), output(64), config=config)

    if min(height, width) < 4:
        raise ValueError(f"the cnn halves images twice: height and width must be >= 4, got {height} x {width}")
    return Model(
        *conv(channels, 16),
        MaxPool2d(2),
        *conv(16, 32),
        MaxPool2d(2),
        *conv(32, 64),
        GlobalAvgPool2d(),
        output(64),
        config=config,
    )
