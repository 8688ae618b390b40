"""What a recorder takes from a norm layer in the middle of a training step: small copies, on the layer's backend."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

from uanref.backend import Array
from uanref.layers import passes
from uanref.layers.base import Layer
from uanref.norms.affine import ScaleAndShift
from uanref.norms.batch import BatchNorm
from uanref.norms.group import GroupNorm
from uanref.norms.instance import InstanceNorm
from uanref.norms.layer import LayerNorm
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mode import ModeNorm
from uanref.norms.standardize import as_rows, channel_moments
from uanref.norms.uan import UAN
from uanref.norms.uan_public import UANPublic
from uanref.reasons import message
from uanref.training.recording_checks import cleaned

VALUES = 2048
"""At most so many activations of a channel are counted."""

_MODES = {
    BatchNorm: "batch",
    GroupNorm: "sample",
    InstanceNorm: "sample",
    LayerNorm: "sample",
    ModeNorm: "gate",
    UANPublic: "public",
}


@dataclass(frozen=True)
class Place:
    """A norm layer that is looked at, see :class:`~uanref.training.recording.NormRecording` for the attributes."""

    name: str
    layer: Layer
    mode: str

    @property
    def kind(self) -> str:
        """The name of the layer's class."""
        return type(self.layer).__name__

    @property
    def is_mixture(self) -> bool:
        """Whether the layer has a mixture for each channel."""
        return type(self.layer) in (UAN, MixtureNorm) and self.mode != "joint"

    @property
    def eps(self) -> float:
        """What the layer adds to variances."""
        return 0.0 if self.mode == "own" else float(getattr(self.layer, "eps", 0.0))

    @property
    def rescale(self) -> bool:
        """Whether a mixture's output is multiplied by 1 / sqrt(K)."""
        return self.is_mixture and bool(getattr(self.layer, "rescale", True))

    @property
    def shared_prior(self) -> bool:
        """Whether one prior serves all channels of a mixture."""
        return self.is_mixture and isinstance(self.layer, UAN) and self.layer.prior == "shared"


def places(model: Layer) -> list[Place]:
    """Return the norm layers of ``model`` with their dotted names, each once; the reader's own among them.

    A class of another package counts as a norm if it holds no other layers than norms. What is inside it is its own.
    """
    found: dict[int, Place] = {}
    inside: list[str] = []
    for name, layer in model.modules():
        if any(name.startswith(outer) for outer in inside):
            continue
        mode = _mode(layer)
        if mode == "own" and name:
            inside.append(f"{name}.")
        if mode and (name or mode != "own"):
            found.setdefault(id(layer), Place(cleaned(name), layer, mode))
    return list(found.values())


def _mode(layer: Layer) -> str:
    """Return what a layer normalizes by, empty if it is no norm."""
    if type(layer) is UAN:
        return "joint" if layer.posterior == "joint" else layer.statistics
    if type(layer) is MixtureNorm:
        return "joint" if layer.posterior == "joint" else "batch"
    if type(layer) in _MODES:
        return _MODES[type(layer)]
    own = all(_is_foreign(one) or type(one) in (*_MODES, UAN, MixtureNorm) for _, one in layer.modules())
    return "own" if own and _is_foreign(layer) else ""


def _is_foreign(layer: Layer) -> bool:
    return type(layer).__module__.partition(".")[0] != "uanref"


def chosen(channels: int, most: int) -> slice:
    """Return which of a layer's channels are looked at: evenly spaced, by a slice, which copies nothing to a device."""
    number = min(channels, most)
    step = channels // number
    return slice(0, number * step, step)


class Looks(passes.Watch):
    """Takes a :class:`dict` of small copies from each place that a forward pass comes through.

    Args:
        places: the layers to look at.
        channels: at most so many of each.

    Attributes:
        taken: by the places' names.
        channels: which channels those are of.
        trouble: what went wrong, a sentence; empty if nothing did.
    """

    def __init__(self, places: list[Place], channels: int) -> None:
        self.taken: dict[str, dict[str, Array]] = {}
        self.channels: dict[str, list[int]] = {}
        self.trouble = ""
        self._places = {id(place.layer): place for place in places}
        self._most = channels
        self._names = {key: [place.name] for key, place in self._places.items()}
        self._passes, self._calls, self._running = {}, {}, set()

    def _state(self) -> tuple[dict[int, int], dict[int, list[str]]]:
        return {}, {}  # nothing is counted

    def _before(self, layer: object, which: str, given: Any) -> None:
        if self._places[id(layer)].mode == "own":  # it may compute in place
            self._look(layer, which, given)

    def _note(self, layer: object, which: str, given: Any, result: Any) -> None:
        self._look(layer, which, given)  # what it used is known by now

    def _look(self, layer: object, which: str, given: Any) -> None:
        place = self._places[id(layer)]
        if which != "forward" or place.name in self.taken or self.trouble:
            return
        try:
            channels = chosen(given.shape[1], self._most)
            self.taken[place.name] = look(place, given, channels)
            self.channels[place.name] = list(range(channels.stop))[channels]
        except Exception as error:  # the reader's own norm may be given anything; the training goes on
            self.trouble = f"{place.name} ({place.kind}) cannot be looked at ({message(error)})"


def look(place: Place, x: Array, which: slice) -> dict[str, Array]:
    """Return copies of what a norm layer has just seen and used; nothing waits for a device.

    Args:
        place: the layer, right after its forward pass in train mode; the reader's own, right before.
        x: what it was given, ``(N, C, ...)``.
        which: of its channels.

    Returns:
        ``values (C, n)`` and ``samples (C, E)``; ``mean`` and ``variance (C,)`` of the whole batch where ``values`` are
        not all of it; ``gamma`` and ``beta (C,)`` where the layer has them; of a mixture per channel its parameters,
        ``(K, C)`` or ``(K, 1)``, and its batch moments.
    """
    rows = x[:, which].reshape(x.shape[0], -1, math.prod(x.shape[2:]))  # (N, C, S)
    flat = rows.swapaxes(0, 1).reshape(rows.shape[1], -1)  # (C, N S)
    spread = value_slice(rows.shape[0], rows.shape[2])
    # Copies: a view would keep the whole activation, and what it holds may change.
    taken = {
        "values": flat[:, spread].copy(),
        "samples": flat[:, sample_slice(rows.shape[0], rows.shape[2])].copy(),
    }
    if spread.step > 1:
        taken["mean"], taken["variance"] = channel_moments(as_rows(rows))
    layer = place.layer
    if isinstance(layer, ScaleAndShift) and place.mode != "own":
        for name, parameter in (("gamma", layer.gamma), ("beta", layer.beta)):
            if parameter is not None:
                taken[name] = parameter.value[which].copy()
    if place.is_mixture:
        taken |= _mixture(layer, which)
    return taken


def _mixture(layer: Layer, which: slice) -> dict[str, Array]:
    """Return the mixture that a layer's latest forward pass used, and the moments that standardized each component."""
    _, mixture, moments, *_ = passes.latest(type(layer).__name__, layer._pending).cache
    if isinstance(layer, UAN) and layer.update == "backprop":
        logits, raw = layer.prior_logits.value, layer.raw_variance.value
        taken = {"prior_logits": _columns(logits, which), "raw_variance": raw[:, which].copy()}
    else:  # EM has moved the layer's own by now
        taken = {
            "prior_logits": _columns(mixture.log_prior, which),
            "variance_with_eps": mixture.variance[:, which].copy(),
        }
    taken["component_mean"] = mixture.mean[:, which].copy()
    if not (isinstance(layer, UAN) and layer.statistics == "learned"):
        taken |= {
            "moment_mean": moments.mean[:, which].copy(),
            "moment_variance": moments.variance[:, which].copy(),
        }
    return taken


def _columns(logits: Array, which: slice) -> Array:
    """Return the chosen columns of logits ``(K, C)``, or the one that serves all, ``(K, 1)``."""
    return logits.copy() if logits.shape[1] == 1 else logits[:, which].copy()


@functools.lru_cache
def sample_slice(samples: int, positions: int, entries: int = 8) -> slice:
    """Return eight places of a batch: the first samples, of images each at another pixel.

    Args:
        samples: N.
        positions: S, pixels of each.
        entries: how many places; fewer where the batch has fewer.
    """
    total = samples * positions
    if positions == 1 or total < entries:
        return slice(0, entries)
    shift = max(1, positions // entries - 1)  # with - 1 no column of an image of 8 x 8, 16 x 16 ... alone
    step = positions + shift
    start = positions // (2 * entries)
    if start + (entries - 1) * step >= total:
        start, step = 0, total // entries
    return slice(start, start + (entries - 1) * step + 1, step)


@functools.lru_cache
def value_slice(samples: int, positions: int) -> slice:
    """Return at most :data:`VALUES` places of a batch, spread over samples and positions alike."""
    step = max(1, math.ceil(samples * positions / VALUES))
    while math.gcd(step, positions) > 1:  # else some positions would never come
        step += 1
    return slice(None, None, step)
