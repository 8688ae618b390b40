"""A whole epoch of ``compare``'s default training on the emulated device: rounding grows, the loss curve stays."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from support.devices import Device

from uanref import backend, data, models
from uanref.data.splits import Splits
from uanref.experiments import recipe
from uanref.experiments.compare import Settings
from uanref.losses import SoftmaxCrossEntropy

SETTINGS = Settings()
TOLERANCES = {"float64": 1e-8, "float32": 1e-3}


class Noting(SoftmaxCrossEntropy):
    """The loss, which keeps its values: of training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Any] = []

    def forward(self, logits: Any, targets: Any) -> Any:
        value = super().forward(logits, targets)
        if not backend.is_inference():
            self.values.append(value)
        return value


def loss_curve(norm: str, dtype: str, splits: Splits, where: str) -> np.ndarray:
    """Train for an epoch as ``uanref compare`` does for a seed; return all losses, then the reported ones."""
    with backend.using(where):
        model = models.build(
            SETTINGS.model,
            norm,
            image_shape=splits.image_shape,
            num_classes=splits.num_classes,
            num_components=SETTINGS.components,
            dtype=dtype,
        )
        trainer = recipe.make_trainer(
            model,
            splits,
            optimizer=SETTINGS.optimizer,
            lr=None,
            schedule="cosine",
            epochs=1,
            batch_size=SETTINGS.batch_size,
            seed=0,
            progress="none",
        )
        trainer.loss = loss = Noting()
        (epoch,) = trainer.fit(1).epochs
        steps = [float(backend.to_host(value)) for value in loss.values]
    return np.array([*steps, epoch.train_loss, epoch.validation_loss])


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "dtype"), [*((norm, "float32") for norm in SETTINGS.norms), ("uan", "float64")])
def test_the_loss_curve_of_an_epoch_is_the_hosts(norm: str, dtype: str, emulated: Device) -> None:
    splits = data.load(SETTINGS.dataset)
    splits = dataclasses.replace(splits, validation=splits.validation.subset(np.arange(64), "digits"))
    expected = loss_curve(norm, dtype, splits, "numpy")
    found = loss_curve(norm, dtype, splits, "cupy")
    assert len(found) == len(expected) == -(-len(splits.train) // SETTINGS.batch_size) + 2
    assert expected[-3] < 0.9 * expected[0], "it should have learned something"
    np.testing.assert_allclose(found, expected, rtol=TOLERANCES[dtype])
