"""``uanref check --norm mine.py:make``: a norm of the reader's own, its gradients and everything that a layer promises.

It gets vectors and images, with as many channels as the networks of ``uanref compare`` give it. An input that its
forward pass refuses (a ValueError, TypeError or NotImplementedError) is left out, if it takes the other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from uanref import backend, gradcheck, kernels
from uanref.factories import Factory
from uanref.gradcheck.promises import PROMISES
from uanref.layers.base import Layer
from uanref.norms.mixture import MixtureNorm
from uanref.own_errors import OwnCodeError, explained
from uanref.verify.catalogue import Case
from uanref.verify.check import CheckRow
from uanref.verify.versions import running, wanted

SAMPLES = {"vectors": (5,), "images": (3, 2, 3)}  # N, then H and W
CHANNELS = (16, 64)  # a norm of many groups may take the second alone

NOTE = f"Beside the gradients, in train and in eval mode: {', '.join(p.__name__.replace('_', ' ') for p in PROMISES)}."


def cases(factory: Factory) -> tuple[list[Case], list[str]]:
    """Return the inputs that the norm takes, each with what makes the layer, and a sentence on each that it refuses.

    Raises:
        OwnCodeError: ``factory`` makes no usable layer; one sentence.
    """
    channels = _channels(factory)
    found, refused = [], []
    for n, *space in SAMPLES.values():
        case = Case(
            f"{factory.label} {backend.shape_text((n, channels, *space))}",
            partial(_layer, factory, channels),
            (n, channels, *space),
            False,
        )
        if sentence := _refusal(case):
            refused.append((case, sentence))
        else:
            found.append(case)
    if not found:  # it works nowhere: that is a failure, which the check will show
        return [case for case, _ in refused], []
    return found, [f"Not checked: {sentence}" for _, sentence in refused]


def run(
    factory: Factory, found: Sequence[Case], seed: int = 0, versions: Sequence[str] | None = None
) -> list[CheckRow]:
    """Check a norm with :func:`uanref.gradcheck.check_layer`, and that it keeps shape and dtype.

    Args:
        factory: makes it.
        found: from :func:`cases`.
        seed: of inputs, upstream gradients and directions.
        versions: ``"definition"``, ``"fast"`` or both, see :mod:`uanref.verify.versions`.

    Returns:
        One row per case. A case that raises is a row that failed.

    Raises:
        ValueError: an unknown version.
    """
    chosen = wanted(versions)
    return [_outcome(factory, case, seed, chosen) for case in found]


def _channels(factory: Factory) -> int:
    first: OwnCodeError | None = None
    for channels in CHANNELS:
        try:
            factory.tried(channels)
        except OwnCodeError as error:
            first = first or error
        else:
            return channels
    assert first is not None
    raise first


def _layer(factory: Factory, channels: int) -> Layer:
    layer = factory(channels, np.random.default_rng(0)).to("float64")
    for _, module in layer.modules():
        if isinstance(module, MixtureNorm):
            module.frozen_fit = True  # EM is outside the gradient
    return layer


def _refusal(case: Case) -> str:
    """Return why the forward pass does not take the case's input; empty if it does, or fails in another way."""
    try:
        with explained(case.name):
            case.make().forward(np.random.default_rng(0).standard_normal(case.shape))
    except OwnCodeError as error:
        return str(error) if isinstance(error.__cause__, ValueError | TypeError | NotImplementedError) else ""
    return ""


def _outcome(factory: Factory, case: Case, seed: int, versions: Sequence[str]) -> CheckRow:
    x = np.random.default_rng(seed).standard_normal(case.shape)
    errors: dict[str, float | None] = dict.fromkeys(versions, float("nan"))
    failed, tensors, kinks = [], 0, 0
    for version in versions:
        try:
            with running(version), kernels.watched() as served:
                factory.check(case.shape)
                with explained(case.name):
                    report = gradcheck.check_layer(case.make, x, seed=seed)
        except OwnCodeError as error:
            failed.append(f"{case.name}, {version}: {error}")
            continue
        worst = [found.worst.relative for found in report.gradients if found.worst is not None]
        if report.gradients:
            errors[version] = max(worst, default=0.0) if version == "definition" or served else None
        tensors = max([tensors, *(len(found.tensors) for found in report.gradients)])
        kinks = max(kinks, sum(len(found.kinks) for found in report.gradients))
        if not report.ok:
            failed.append(f"{case.name}, {version}: {report}")
    return CheckRow(case.name, errors, tensors, kinks, not failed, "\n".join(failed))
