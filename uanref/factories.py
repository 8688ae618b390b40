"""A norm of the reader's own, wherever a norm is chosen: a function ``make(num_features, rng) -> Layer``.

On the command line it is named by text, ``mine.py:make`` or ``package.module:make``; in Python it may be the function
itself. Everything that can be wrong with it is told before anything is trained (:meth:`Factory.check`). A checkpoint
stores label and digest; what a file holds is run only where the reader names the function.
"""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any

from uanref import backend, own_code
from uanref.backend import Generator
from uanref.layers.base import Layer, refuse_shared
from uanref.own_errors import OwnCodeError as OwnCodeError
from uanref.own_errors import explained, remember

_PROCESS = uuid.uuid4().hex
EXPECTED = "a function make(num_features, rng) that returns a new Layer at each call"


@dataclass(frozen=True)
class Factory:
    """A norm of the reader's own.

    Attributes:
        label: short and distinct, for tables, pictures and JSON: ``mine.py:make``.
        make: takes the number of channels and a generator, returns a new layer.
        digest: SHA-256 of the file that defines it, hexadecimal; None for a function of a notebook. Of this file
            alone: what it imports is not seen.
        origin: the text that finds it again, with an absolute path; empty for a function that was handed over.
    """

    label: str
    make: Callable[..., Any]
    digest: str | None
    origin: str = ""

    def __call__(self, num_features: int, rng: Generator) -> Layer:
        """Return a new layer for ``num_features`` channels.

        Raises:
            OwnCodeError: the function fails, or returns something else; the sentence has its file and line.
        """
        with explained(self.label):
            layer = self.make(num_features, rng)
        if not isinstance(layer, Layer):
            if isinstance(layer, type):
                found = f"the class {layer.__name__}, not a layer: call it"
            else:
                found = "None: is a return missing?" if layer is None else f"{type(layer).__name__}, no Layer of uanref"
            raise OwnCodeError(f"{self.label} returned {found} ({EXPECTED} is expected)")
        return layer

    @property
    def identity(self) -> str:
        """Return what tells two versions of it apart: the digest, or without a file what no other process returns."""
        return self.digest or _PROCESS

    def stored(self) -> dict[str, Any]:
        """Return what JSON keeps of it: a name and a digest, never code."""
        return {"factory": self.label, "digest": self.digest}

    def tried(self, num_features: int) -> Layer:
        """Return a new layer, once everything was looked at that can be wrong before it is called.

        Raises:
            OwnCodeError: no new layer at each call, or other numbers from the same generator; one sentence.
        """
        _check_signature(self.label, self.make)
        host = backend.module("numpy")
        layer, other = (self(num_features, host.random.default_rng(0)) for _ in range(2))
        if layer is other:
            raise OwnCodeError(f"{self.label} returned the same {type(layer).__name__} twice: make a new one each time")
        with explained(self.label):
            refuse_shared(self.label, layer, other)
            states = layer.state_dict(), other.state_dict()
        same = states[0].keys() == states[1].keys()
        if not (same and all(host.array_equal(states[0][name], states[1][name]) for name in states[0])):
            raise OwnCodeError(f"{self.label} makes other numbers from the same generator: draw from rng alone")
        return layer

    def check(self, shape: tuple[int, ...]) -> None:
        """Make layers and push a batch of float32 forward and backward through one.

        Args:
            shape: of the batch, (N, C, ...).

        Raises:
            OwnCodeError: whatever is wrong; one sentence.
        """
        layer = self.tried(shape[1])
        host = backend.module("numpy")
        draw = host.random.default_rng(1)
        x, dy = (draw.standard_normal(shape).astype("float32") for _ in range(2))
        with (
            explained(f"{self.label}, tried with an input {backend.shape_text(shape)},"),
            backend.using("numpy"),
        ):
            layer.to("float32")
            _check_array(f"forward of {self.label}", layer.forward(x), x)
            _check_array(f"backward of {self.label}", layer.backward(dy), x)
            missing = [name for name, parameter in layer.parameters().items() if parameter.grad is None]
        if missing:
            raise OwnCodeError(
                f"backward of {self.label} leaves no gradient for {missing[0]}: hand it to its receive()"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        from uanref import own_sending  # which imports this module

        return own_sending.reduced(self)


Norm = str | Factory
"""A name of ``models.NORMS``, or a factory."""


def find(given: str | Callable[..., Any] | Factory) -> Factory:
    """Return the factory that a text or a function means, its signature checked.

    Raises:
        OwnCodeError: there is none, or it is no function of (num_features, rng).
        TypeError: neither text nor function.
    """
    if isinstance(given, Factory):
        return given
    if isinstance(given, str):
        make, origin, digest = own_code.find(given)
        place, _, name = origin.rpartition(":")
        if not place.endswith(".py"):  # a module may have been imported long ago
            own_code.refuse_stale(given, make)
        label = f"{PurePath(place).name if place.endswith('.py') else place}:{name}"
    else:
        if isinstance(given, Layer):
            raise TypeError(f"a norm must be a name or {EXPECTED}, got a {type(given).__name__} that is made already")
        if not callable(given):
            raise TypeError(f"a norm must be a name or {EXPECTED}, got {given!r}")
        make, origin, digest = given, "", own_code.digest_of(given)
        inner = getattr(given, "func", given)  # what a partial calls
        name = getattr(inner, "__name__", type(inner).__name__)
        label = f"{getattr(inner, '__module__', None) or '__main__'}:{name}"
        own_code.refuse_stale(label, make)
        remember(make)
    _check_signature(label, make)
    return Factory(_printable(label), make, digest, origin)


def distinct(factories: Iterable[Factory]) -> list[Factory]:
    """Give factories different labels: of two files with one name, as much of the path as tells them apart.

    Raises:
        ValueError: one is given twice.
    """
    found = list(factories)
    for i, one in enumerate(found):
        if any(_same(one, other) for other in found[:i]):
            raise ValueError(f"norms: {one.label} is listed twice, give each entry once")
    for depth in range(2, 100):
        labels = [one.label for one in found]
        twice = {label for label in labels if labels.count(label) > 1}
        if not twice:
            break
        found = [
            replace(one, label=_longer(one, depth, labels[:i].count(one.label))) if one.label in twice else one
            for i, one in enumerate(found)
        ]
    return found


def differs(stored: dict[str, Any], given: Factory) -> str:
    """Return how ``given`` is not what a checkpoint was trained with, in words; empty if it is, as far as is known."""
    name, own = str(stored["factory"]).rpartition(":")[2], given.label.rpartition(":")[2]
    if name != own:
        return f"it was trained with {stored['factory']}, and {given.label} is given"
    if stored["digest"] is not None and stored["digest"] != given.digest:
        return f"the file of {given.label} is not the one that it was trained with (another digest)"
    return ""


def _same(one: Factory, other: Factory) -> bool:
    return one.make is other.make and one.origin == other.origin


def _longer(one: Factory, depth: int, before: int) -> str:
    place, _, name = one.origin.rpartition(":")
    parts = PurePath(place).parts
    if place.endswith(".py") and depth <= len(parts):
        return _printable(f"{'/'.join(parts[-depth:])}:{name}")
    return f"{one.label} ({before + 1})" if before else one.label  # functions of one name: lambdas


def _printable(text: str) -> str:
    """Return ``text`` without what breaks lines or cannot be encoded."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _check_signature(label: str, make: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(make)
    except (TypeError, ValueError):  # some built-in functions tell none
        return
    second = [*signature.parameters][1:2]
    if isinstance(make, type) and issubclass(make, Layer) and second != ["rng"]:
        rest = ", rng=rng" if "rng" in signature.parameters else ""
        raise OwnCodeError(
            f"{label} is a layer's class, which takes {second[0] if second else 'nothing'} where rng would come: "
            f"wrap it, def make(num_features, rng): return {make.__name__}(num_features{rest})"
        )
    try:
        signature.bind(16, None)
    except TypeError:
        raise OwnCodeError(f"{label} takes {signature}, expected {EXPECTED}") from None


def _check_array(what: str, found: Any, like: Any) -> None:
    shape = getattr(found, "shape", None)
    if shape is None:
        raise OwnCodeError(f"{what} returned {type(found).__name__}, expected an array")
    if shape != like.shape or found.dtype != like.dtype:
        raise OwnCodeError(
            f"{what} returned {backend.shape_text(shape)} of {found.dtype} for {backend.shape_text(like.shape)} of "
            f"{like.dtype}: a norm keeps shape and dtype"
        )
