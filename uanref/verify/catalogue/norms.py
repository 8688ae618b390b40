"""Cases of the norms: every option, in train and in eval mode."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

from uanref.layers.base import Layer
from uanref.norms.batch import BatchNorm
from uanref.norms.group import GroupNorm
from uanref.norms.instance import InstanceNorm
from uanref.norms.layer import LayerNorm
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mode import ModeNorm
from uanref.norms.uan import UAN
from uanref.norms.uan_public import UANPublic
from uanref.verify.catalogue.case import Case, prepared, spread


def norm_cases() -> list[Case]:
    """Return every norm with its options."""

    found = []
    for affine, shape in ((True, (6, 3)), (True, (3, 3, 4)), (False, (3, 2, 2, 3)), (True, (2, 2))):
        label = (
            f"BatchNorm rank {len(shape)}" + ("" if affine else ", no affine") + (", M = 2" if shape[0] == 2 else "")
        )
        found += [_batch_norm_case(f"{label} {mode}", shape, mode, affine) for mode in ("train", "eval")]
    found += [
        _sample_norm_case("LayerNorm rank 2", lambda: LayerNorm(4, dtype="float64"), (3, 4)),
        _sample_norm_case("LayerNorm rank 4", lambda: LayerNorm(3, dtype="float64"), (2, 3, 2, 3)),
        _sample_norm_case("LayerNorm no affine", lambda: LayerNorm(3, affine=False, dtype="float64"), (2, 3, 4)),
        _sample_norm_case("GroupNorm 2 groups", lambda: GroupNorm(2, 6, dtype="float64"), (2, 6, 2)),
        _sample_norm_case("GroupNorm 3 groups, rank 2", lambda: GroupNorm(3, 6, dtype="float64"), (3, 6)),
        _sample_norm_case("GroupNorm no affine", lambda: GroupNorm(2, 4, affine=False, dtype="float64"), (2, 4, 3)),
        _sample_norm_case("InstanceNorm", lambda: InstanceNorm(3, dtype="float64"), (2, 3, 2, 3)),
        _sample_norm_case("InstanceNorm no affine", lambda: InstanceNorm(3, affine=False, dtype="float64"), (2, 3, 5)),
    ]
    for mode in ("train", "eval"):
        for posterior in ("joint", "channel"):
            found.append(_mixture_norm_case(f"MixtureNorm {posterior} {mode}", (6, 2, 3), mode, posterior))
        found.append(_norm_case(f"ModeNorm {mode}", ModeNorm, (5, 3, 4), mode))
        found.append(_norm_case(f"ModeNorm K = 3, rank 2 {mode}", lambda c, **o: ModeNorm(c, 3, **o), (6, 3), mode))
        found.append(_norm_case(f"UANPublic {mode}", lambda c, **o: UANPublic(c, 3, **o), (3, 2, 2, 3), mode))
        found.append(_norm_case(f"UANPublic rank 2 {mode}", lambda c, **o: UANPublic(c, 2, **o), (6, 3), mode))
    # Its training is that of the first generation. Not after training passes: these leave its components alike.
    found += [
        _sample_norm_case(f"UANPublic generation 2 {label}", partial(_later_public, shape), shape)
        for label, shape in (("eval", (3, 2, 2, 3)), ("rank 2 eval", (6, 3)))
    ]
    for posterior, statistics, update, start, mode in itertools.product(
        ("channel", "joint"), ("batch", "learned"), ("backprop", "em"), ("paper", "data"), ("train", "eval")
    ):
        found.append(
            _uan_case(
                f"UAN {posterior} {statistics} {update} {start} {mode}",
                (4, 2, 3),
                mode,
                posterior=posterior,
                statistics=statistics,
                update=update,
                start=start,
            )
        )
    for posterior, statistics, update, mode in itertools.product(
        ("channel", "joint"), ("batch", "learned"), ("backprop", "em"), ("train", "eval")
    ):
        name = f"UAN {'joint ' if posterior == 'joint' else ''}shared {statistics} {update} {mode}"
        options = {"posterior": posterior, "statistics": statistics, "update": update}
        found.append(_uan_case(name, (4, 2, 3), mode, **options, prior="shared"))
    for (posterior, prior), update, mode in itertools.product(
        (("channel", "channel"), ("channel", "shared"), ("joint", "channel")), ("backprop", "em"), ("train", "eval")
    ):
        name = f"UAN {'shared' if prior == 'shared' else posterior} mixture {update} {mode}"
        options = {"posterior": posterior, "prior": prior, "update": update}
        found.append(_uan_case(name, (4, 2, 3), mode, **options, inference="mixture"))
    for posterior in ("channel", "joint"):
        found.append(_uan_case(f"UAN {posterior} K = 1", (5, 2), "train", num_components=1, posterior=posterior))
        found.append(
            _uan_case(f"UAN {posterior} K = 5, image", (2, 2, 3, 2), "train", num_components=5, posterior=posterior)
        )
        found.append(_uan_case(f"UAN {posterior} no affine", (4, 2, 3), "train", affine=False, posterior=posterior))
        found.append(_uan_case(f"UAN {posterior} no rescale", (4, 2, 3), "train", rescale=False, posterior=posterior))
    return found


def _later_public(shape: tuple[int, ...]) -> Layer:
    return UANPublic(shape[1], 3, generation=2, dtype="float64").eval()


def _sample_norm_case(name: str, make: Callable[[], Layer], shape: tuple[int, ...]) -> Case:
    return Case(name, lambda: spread(make()), shape, True)


def _norm_case(name: str, kind: Callable[..., Layer], shape: tuple[int, ...], mode: str) -> Case:
    return Case(name, lambda: prepared(kind(shape[1], dtype="float64"), shape, mode), shape, True)


def _mixture_norm_case(name: str, shape: tuple[int, ...], mode: str, posterior: str) -> Case:
    def make() -> Layer:
        layer = MixtureNorm(shape[1], 2, posterior=posterior, dtype="float64")
        layer.frozen_fit = True  # the fit is outside the gradient
        return prepared(layer, shape, mode)

    return Case(name, make, shape, True)


def _batch_norm_case(name: str, shape: tuple[int, ...], mode: str, affine: bool) -> Case:
    def make() -> Layer:
        return prepared(BatchNorm(shape[1], affine=affine, dtype="float64"), shape, mode)

    return Case(name, make, shape, True)


def _uan_case(name: str, shape: tuple[int, ...], mode: str, **options: object) -> Case:
    def make() -> Layer:
        return prepared(UAN(shape[1], **options, dtype="float64"), shape, mode)  # type: ignore[arg-type]

    return Case(name, make, shape, True)
