"""Cases of the losses, each as a layer with one output."""

from __future__ import annotations

import numpy as np

from uanref.gradcheck import LossLayer
from uanref.losses import MSE, SoftmaxCrossEntropy
from uanref.verify.catalogue.case import Case


def loss_cases() -> list[Case]:
    """Return every loss with its options."""

    labels = np.array([0, 3, 1, 1, 2])
    soft = np.random.default_rng(5).dirichlet(np.ones(4), size=5)
    values = np.random.default_rng(6).standard_normal((5, 4))
    return [
        Case("SoftmaxCrossEntropy labels", lambda: LossLayer(SoftmaxCrossEntropy(), labels), (5, 4), True),
        Case("SoftmaxCrossEntropy soft", lambda: LossLayer(SoftmaxCrossEntropy(), soft), (5, 4), True),
        Case("SoftmaxCrossEntropy smoothed", lambda: LossLayer(SoftmaxCrossEntropy(0.1), labels), (5, 4), True),
        Case("MSE", lambda: LossLayer(MSE(), values), (5, 4), True),
    ]
