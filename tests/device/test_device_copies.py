"""What a training step may cost at the boundary, by the counters of the strict double and of the emulator."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest
from support.devices import Device

from uanref import backend, models
from uanref.data.sets import Dataset
from uanref.data.splits import Splits
from uanref.experiments import recipe
from uanref.layers.base import Sequential
from uanref.layers.dropout import Dropout
from uanref.losses import SoftmaxCrossEntropy
from uanref.training.trainer import Trainer

STEPS, STEPS_PER_REPORT = 8, 2


class Crossed(NamedTuple):
    """Copies each way and synchronizations."""

    to_device: int
    to_host: int
    synchronizations: int


def noise(samples: int, seed: int) -> Dataset:
    draw = np.random.default_rng(seed)
    return Dataset("noise", draw.standard_normal((samples, 1, 8, 8)).astype("float32"), draw.integers(0, 3, samples), 3)


def make_trainer(norm: str, optimizer: str = "adam", dropouts: int = 0, augment: Any = None) -> Trainer:
    """The CNN on 8 batches of 4, with a schedule, clipping and a report after every second step."""
    splits = Splits("noise", 3, (1, 8, 8), noise(4 * STEPS, 0), noise(4, 1), noise(4, 2))
    body = models.build("cnn", norm, image_shape=(1, 8, 8), num_classes=3)
    model = Sequential(*(Dropout(0.2, np.random.default_rng(i)) for i in range(dropouts)), body)
    return Trainer(
        model,
        SoftmaxCrossEntropy(),
        recipe.make_optimizer(optimizer, model.parameters(), None),
        splits,
        batch_size=4,
        schedule=lambda step: 0.01 / (1 + step),
        clip_norm=1.0,
        augment=augment,
        report_every=STEPS_PER_REPORT,
        progress="none",
    )


def between_reports(monkeypatch: pytest.MonkeyPatch, device: Device, trainer: Trainer) -> list[Crossed]:
    """Train an epoch; return what crossed from the end of each report to the beginning of the next.

    A report is a call of ``backend.to_host``. The first stretch begins with ``fit`` and holds the data set's move.
    """
    stretches: list[Crossed] = []
    to_host = backend.to_host
    with device.counting() as counts:

        def now() -> Crossed:
            return Crossed(counts.to_device, counts.to_host, counts.synchronizations)

        def report(array: Any) -> Any:
            stretches.append(Crossed(*(b - a for a, b in zip(last[0], now(), strict=True))))
            host = to_host(array)
            last[0] = now()
            return host

        last = [now()]
        with monkeypatch.context() as patch:
            patch.setattr(backend, "to_host", report)
            trainer.fit(1)
    assert len(stretches) == STEPS // STEPS_PER_REPORT + 1  # the reports, and the validation's result
    return stretches


NOTHING = Crossed(0, 0, 0)


def test_a_step_of_the_cnn_with_uan_crosses_nothing(accelerator: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The epoch's indices went before its first step."""
    with backend.using("cupy"):
        first, *later, validation = between_reports(monkeypatch, accelerator, make_trainer("uan"))
    assert later == [NOTHING] * 3
    assert first == Crossed(to_device=3, to_host=0, synchronizations=0)  # images, labels, the order of the epoch
    assert validation == Crossed(to_device=2, to_host=0, synchronizations=0)  # its images and labels


@pytest.mark.parametrize(
    ("norm", "optimizer"), [*((norm, "adam") for norm in models.NORMS), ("bn", "sgd"), ("bn", "adamw")]
)
def test_nor_with_other_norms_and_optimizers(
    norm: str, optimizer: str, accelerator: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    with backend.using("cupy"):
        trainer = make_trainer(norm, optimizer)
        for plain in (False, True):
            with backend.plain(plain):
                stretches = between_reports(monkeypatch, accelerator, trainer)
                assert stretches[1:4] == [NOTHING] * 3


def test_a_second_epoch_moves_its_indices_alone(accelerator: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    with backend.using("cupy"):
        trainer = make_trainer("uan")
        trainer.fit(1)
        first, *later = between_reports(monkeypatch, accelerator, trainer)
    assert first == Crossed(to_device=1, to_host=0, synchronizations=0)
    assert later == [NOTHING] * 4


def test_dropout_moves_a_mask_a_step(accelerator: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    with backend.using("cupy"):
        stretches = between_reports(monkeypatch, accelerator, make_trainer("uan", dropouts=2))
    assert stretches[1:4] == [Crossed(to_device=2 * STEPS_PER_REPORT, to_host=0, synchronizations=0)] * 3


def test_augmentation_moves_a_batch_a_step(accelerator: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    with backend.using("cupy"):
        trainer = make_trainer("uan", augment=lambda images, rng: -images)
        stretches = between_reports(monkeypatch, accelerator, trainer)
    assert stretches[1:4] == [Crossed(to_device=STEPS_PER_REPORT, to_host=0, synchronizations=0)] * 3
