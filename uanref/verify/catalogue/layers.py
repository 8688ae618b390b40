"""Cases of the layers that are no norms, and of layers that hold others."""

from __future__ import annotations

from uanref.layers.activation import GELU, LeakyReLU, ReLU, Sigmoid, Tanh
from uanref.layers.base import Layer, Sequential
from uanref.layers.conv import Conv2d
from uanref.layers.dropout import Dropout
from uanref.layers.flatten import Flatten
from uanref.layers.linear import Linear
from uanref.layers.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from uanref.layers.residual import Residual
from uanref.norms.batch import BatchNorm
from uanref.norms.uan import UAN
from uanref.verify.catalogue.case import Case, spread


def layer_cases() -> list[Case]:
    """Return every layer with its options, and two short networks."""

    def f64(layer: Layer) -> Layer:
        return spread(layer.to("float64"))

    image = (2, 3, 6, 5)
    return [
        Case("Linear", lambda: f64(Linear(4, 3)), (5, 4), True),
        Case("Linear no bias, glorot", lambda: f64(Linear(4, 3, bias=False, init="glorot")), (5, 4), True),
        Case("Conv2d 3x3", lambda: f64(Conv2d(3, 4, 3)), image, True),
        Case("Conv2d 1x1 no bias", lambda: f64(Conv2d(3, 2, 1, bias=False)), image, True),
        Case("Conv2d same", lambda: f64(Conv2d(3, 2, 3, padding="same")), image, True),
        Case("Conv2d same, even kernel", lambda: f64(Conv2d(3, 2, (2, 4), padding="same")), image, True),
        Case("Conv2d stride 2, padding 1", lambda: f64(Conv2d(3, 8, 3, stride=2, padding=1)), image, True),
        Case("Conv2d stride (1, 3)", lambda: f64(Conv2d(3, 2, (3, 2), stride=(1, 3), padding=(2, 0))), image, True),
        Case("Conv2d dilation 2", lambda: f64(Conv2d(3, 7, 3, padding=2, dilation=2)), image, True),
        Case("MaxPool2d 2", lambda: MaxPool2d(2), (2, 3, 6, 4), False),
        Case("MaxPool2d 3, stride 2, padding 1", lambda: MaxPool2d(3, stride=2, padding=1), image, False),
        Case("AvgPool2d 2", lambda: AvgPool2d(2), (2, 3, 6, 4), True),
        Case("AvgPool2d 3, stride 2, padding 1", lambda: AvgPool2d(3, stride=2, padding=1), image, True),
        Case("GlobalAvgPool2d", lambda: GlobalAvgPool2d(), image, True),
        Case("ReLU", lambda: ReLU(), (4, 7), False),
        Case("LeakyReLU", lambda: LeakyReLU(0.1), (4, 7), False),
        Case("Tanh", lambda: Tanh(), (4, 7), True),
        Case("Sigmoid", lambda: Sigmoid(), (4, 7), True),
        Case("GELU", lambda: GELU(), (4, 7), True),
        Case("Dropout train", lambda: Dropout(0.4), (4, 7), True),
        Case("Dropout eval", lambda: Dropout(0.4).eval(), (4, 7), True),
        Case("Flatten", lambda: Flatten(), (2, 3, 4), True),
        Case("Residual", lambda: f64(Residual(Sequential(Linear(4, 4), Tanh()))), (5, 4), True),
        Case(
            "Residual, shortcut 1x1",
            lambda: f64(Residual(Conv2d(3, 4, 3, padding="same"), Conv2d(3, 4, 1, bias=False))),
            (2, 3, 4, 3),
            True,
        ),
        Case(
            "Sequential conv, norm, pool",
            lambda: f64(
                Sequential(
                    Conv2d(2, 3, 3, padding=1, bias=False), BatchNorm(3), ReLU(), MaxPool2d(2), Flatten(), Linear(12, 3)
                )
            ),
            (4, 2, 4, 4),
            False,
        ),
        Case(
            "Sequential linear, UAN, dropout",
            lambda: f64(Sequential(Linear(5, 4, bias=False), UAN(4, 2), Tanh(), Dropout(0.25), Linear(4, 3))),
            (8, 5),
            True,
        ),
    ]
