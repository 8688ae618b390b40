"""The norms by name, and the reader's own in their place."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from uanref import backend, factories, own_code
from uanref.backend import DTypeLike, Generator
from uanref.factories import Factory, Norm
from uanref.layers.base import Layer, choice
from uanref.norms.batch import BatchNorm
from uanref.norms.group import GroupNorm
from uanref.norms.instance import InstanceNorm
from uanref.norms.layer import LayerNorm
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mode import ModeNorm
from uanref.norms.uan import UAN
from uanref.norms.uan_public import UANPublic

_CLASSES: dict[str, tuple[Callable[..., Layer] | None, dict[str, Any]]] = {
    "none": (None, {}),
    "bn": (BatchNorm, {}),
    "ln": (LayerNorm, {}),
    "gn": (GroupNorm, {}),
    "in": (InstanceNorm, {}),
    "mn": (MixtureNorm, {}),
    "mode": (ModeNorm, {}),
    "uan": (UAN, {}),
    "uan-learned": (UAN, {"statistics": "learned"}),
    "uan-joint": (UAN, {"posterior": "joint"}),
    "uan-public": (UANPublic, {}),
}
"""What a name stands for: a class, and those of its options that the name decides."""

NORMS = tuple(_CLASSES)
"""Names of norms, as :func:`make_norm` tells them."""

_GIVEN = {"num_features", "num_channels", "num_groups", "num_components", "num_modes", "dtype", "rng"}
"""Arguments that :func:`make_norm` gives itself: no options."""


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
    options: Mapping[str, Any] | None = None,
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
        options: more keywords of the norm's class, such as ``{"update": "em"}`` for ``"uan"``.
        dtype: dtype of the parameters.
        rng: where mixtures and gates draw their start from.

    Raises:
        ValueError: no such norm, or one that lacks an option; the message names the choices. An option out of range.
        TypeError: an option of another type.
    """
    if isinstance(name, Factory):
        if options:
            raise ValueError(f"{name.label} takes no options, got {next(iter(options))!r}: give them in its function")
        generator = backend.module("numpy").random.default_rng() if rng is None else rng
        return name(num_features, generator).to(dtype)
    made, preset = _CLASSES[choice("norm", name, NORMS)]
    known = {} if made is None else inspect.signature(made).parameters
    _check_options(name, options or {}, [key for key in known if key not in _GIVEN | preset.keys()])
    if made is None:
        return None
    if made is GroupNorm:
        return GroupNorm(math.gcd(num_features, 8), num_features, dtype=dtype, **options or {})
    sizes = {"num_components": num_components, "num_modes": num_components, "rng": rng}
    given = {key: value for key, value in sizes.items() if key in known}
    return made(num_features, **given, dtype=dtype, **preset, **options or {})


def _check_options(name: str, options: Mapping[str, Any], known: Sequence[str]) -> None:
    unknown = next((key for key in options if key not in known), None)
    if unknown is not None:
        takes = f"takes {', '.join(known)}" if known else "takes none"
        raise ValueError(f"norm {name!r} has no option {unknown!r}: it {takes}")
