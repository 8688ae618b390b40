"""The list of the vectors' cases: every norm with every option."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from uanref.layers.base import Layer
from uanref.norms.batch import BatchNorm
from uanref.norms.group import GroupNorm
from uanref.norms.instance import InstanceNorm
from uanref.norms.layer import LayerNorm
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mode import ModeNorm
from uanref.norms.uan import UAN
from uanref.norms.uan_public import UANPublic
from uanref.verify.vectors.case import MODES, RANK_2, RANK_3, RANK_4, Case


def cases() -> list[Case]:
    """Return the list: every norm with every option."""
    return [
        *_batch_norm(),
        *_sample_norms(),
        *_uan(),
        *_mixture_norm(),
        *_mode_norm(),
        *_uan_public(),
    ]


def _batch_norm() -> Iterator[Case]:
    for mode in MODES:
        yield Case(f"batch_norm/affine-{mode}", BatchNorm, {"num_features": 2}, RANK_3, mode)
        yield Case(f"batch_norm/plain-{mode}", BatchNorm, {"num_features": 2, "affine": False}, RANK_3, mode)
        yield Case(f"batch_norm/rank2-{mode}", BatchNorm, {"num_features": 2}, RANK_2, mode)
        yield Case(f"batch_norm/rank4-{mode}", BatchNorm, {"num_features": 2}, RANK_4, mode)
        options = {"num_features": 2, "eps": 0.0625, "momentum": 0.75}
        yield Case(f"batch_norm/eps-momentum-{mode}", BatchNorm, options, RANK_3, mode)
    yield Case("batch_norm/first-batch-train", BatchNorm, {"num_features": 2}, RANK_3, "train", first_batch=True)


def _sample_norms() -> Iterator[Case]:
    """Layer, group and instance normalization: the same function in both modes, without state."""
    norms: list[tuple[str, type[Layer], dict[str, Any], tuple[int, ...]]] = [
        ("layer_norm/rank2", LayerNorm, {"num_features": 3}, (4, 3)),
        ("layer_norm/rank3", LayerNorm, {"num_features": 2}, RANK_3),
        ("layer_norm/rank4", LayerNorm, {"num_features": 2}, RANK_4),
        ("group_norm/rank2", GroupNorm, {"num_groups": 2, "num_channels": 6}, (3, 6)),
        ("group_norm/rank3", GroupNorm, {"num_groups": 2, "num_channels": 4}, (3, 4, 3)),
        ("group_norm/rank4", GroupNorm, {"num_groups": 2, "num_channels": 4}, (2, 4, 2, 3)),
        ("group_norm/one-group", GroupNorm, {"num_groups": 1, "num_channels": 2}, RANK_3),
        ("group_norm/a-group-per-channel", GroupNorm, {"num_groups": 2, "num_channels": 2}, RANK_3),
        ("instance_norm/rank3", InstanceNorm, {"num_features": 2}, RANK_3),
        ("instance_norm/rank4", InstanceNorm, {"num_features": 2}, RANK_4),
    ]
    for name, norm, options, shape in norms:
        yield Case(f"{name}-affine", norm, options, shape, "train")
        yield Case(f"{name}-plain", norm, {**options, "affine": False}, shape, "train")
        yield Case(f"{name}-eps", norm, {**options, "eps": 0.0625}, shape, "train")


def _uan() -> Iterator[Case]:
    for posterior, statistics, update, start, rescale, affine, mode in itertools.product(
        ("channel", "joint"),
        ("batch", "learned"),
        ("backprop", "em"),
        ("paper", "data"),
        (True, False),
        (True, False),
        MODES,
    ):
        words = (
            posterior,
            statistics,
            update,
            start,
            "rescale" if rescale else "norescale",
            "affine" if affine else "plain",
            mode,
        )
        options = {
            "num_features": 2,
            "num_components": 3,
            "posterior": posterior,
            "statistics": statistics,
            "update": update,
            "start": start,
            "rescale": rescale,
            "affine": affine,
        }
        yield Case(f"uan/{'-'.join(words)}", UAN, options, RANK_3, mode, first_batch=(start, mode) == ("data", "train"))
    yield from _uan_shared_or_by_the_mixture()
    for posterior, mode in itertools.product(("channel", "joint"), MODES):
        options = {"num_features": 2, "posterior": posterior}
        yield Case(f"uan/{posterior}-rank2-{mode}", UAN, options, RANK_2, mode)
        yield Case(f"uan/{posterior}-rank4-{mode}", UAN, options, RANK_4, mode)
        yield Case(f"uan/{posterior}-one-component-{mode}", UAN, {**options, "num_components": 1}, RANK_3, mode)
        more = {**options, "eps": 0.0625, "momentum": 0.75}
        yield Case(f"uan/{posterior}-eps-momentum-{mode}", UAN, more, RANK_3, mode)


def _uan_shared_or_by_the_mixture() -> Iterator[Case]:
    """One prior for all channels, and the mixture's own moments in eval mode, with all that they meet."""
    for posterior, (prior, inference), statistics, update, mode in itertools.product(
        ("channel", "joint"),
        (("shared", "running"), ("channel", "mixture"), ("shared", "mixture")),
        ("batch", "learned"),
        ("backprop", "em"),
        MODES,
    ):
        options = {
            "num_features": 2,
            "posterior": posterior,
            "prior": prior,
            "statistics": statistics,
            "inference": inference,
            "update": update,
        }
        name = f"uan/{posterior}-prior-{prior}-{statistics}-inference-{inference}-{update}-{mode}"
        yield Case(name, UAN, options, RANK_3, mode)


def _mixture_norm() -> Iterator[Case]:
    for posterior in ("joint", "channel"):
        options = {"num_features": 2, "num_components": 3, "posterior": posterior}
        for mode in MODES:
            yield Case(f"mixture_norm/{posterior}-affine-{mode}", MixtureNorm, options, RANK_3, mode)
            plain = {**options, "affine": False}
            yield Case(f"mixture_norm/{posterior}-plain-{mode}", MixtureNorm, plain, RANK_3, mode)
            yield Case(f"mixture_norm/{posterior}-rank2-{mode}", MixtureNorm, options, (20, 2), mode)
            one = {**options, "num_components": 1}
            yield Case(f"mixture_norm/{posterior}-one-component-{mode}", MixtureNorm, one, RANK_3, mode)
            more = {**options, "em_steps": 5, "eps": 0.0625, "momentum": 0.75}
            yield Case(f"mixture_norm/{posterior}-em5-eps-momentum-{mode}", MixtureNorm, more, RANK_3, mode)
        first = f"mixture_norm/{posterior}-first-batch-train"
        yield Case(first, MixtureNorm, options, RANK_3, "train", first_batch=True)


def _mode_norm() -> Iterator[Case]:
    options: dict[str, Any] = {"num_features": 2, "num_modes": 3}
    for mode in MODES:
        yield Case(f"mode_norm/affine-{mode}", ModeNorm, options, RANK_3, mode)
        yield Case(f"mode_norm/plain-{mode}", ModeNorm, {**options, "affine": False}, RANK_3, mode)
        yield Case(f"mode_norm/rank2-{mode}", ModeNorm, options, RANK_2, mode)
        yield Case(f"mode_norm/rank4-{mode}", ModeNorm, options, RANK_4, mode)
        yield Case(f"mode_norm/one-mode-{mode}", ModeNorm, {**options, "num_modes": 1}, RANK_3, mode)
        more = {**options, "eps": 0.0625, "momentum": 0.75}
        yield Case(f"mode_norm/eps-momentum-{mode}", ModeNorm, more, RANK_3, mode)


def _uan_public() -> Iterator[Case]:
    options: dict[str, Any] = {"num_features": 2, "num_components": 3}
    for mode in MODES:
        yield Case(f"uan_public/rank2-{mode}", UANPublic, options, RANK_2, mode)
        yield Case(f"uan_public/rank3-{mode}", UANPublic, options, RANK_3, mode)
        yield Case(f"uan_public/rank4-{mode}", UANPublic, options, RANK_4, mode)
        yield Case(f"uan_public/one-component-{mode}", UANPublic, {**options, "num_components": 1}, RANK_3, mode)
        more = {**options, "eps": 0.0625, "momentum": 0.25}
        yield Case(f"uan_public/eps-momentum-{mode}", UANPublic, more, RANK_3, mode)
