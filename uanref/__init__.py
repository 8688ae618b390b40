"""uanref: normalization in neural networks, from scratch, with hand-derived backward passes."""

from uanref import startup  # noqa: F401  # isort: skip  # first of all: it guards the command line's start
from typing import TYPE_CHECKING, Any

from uanref import backend, data
from uanref.layers.activation import GELU, LeakyReLU, ReLU, Sigmoid, Tanh
from uanref.layers.base import Layer, Parameter, Sequential
from uanref.layers.conv import Conv2d
from uanref.layers.dropout import Dropout
from uanref.layers.flatten import Flatten
from uanref.layers.linear import Linear
from uanref.layers.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from uanref.layers.residual import Residual
from uanref.losses import MSE, SoftmaxCrossEntropy
from uanref.norms.batch import BatchNorm
from uanref.norms.group import GroupNorm
from uanref.norms.instance import InstanceNorm
from uanref.norms.layer import LayerNorm
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mode import ModeNorm
from uanref.norms.uan import UAN
from uanref.norms.uan_public import UANPublic
from uanref.optimizers import SGD, Adam, AdamW, clip_grad_norm
from uanref.torch_state import from_torch, to_torch
from uanref.training.checkpoint import load_model as load
from uanref.training.schedules import Constant, Cosine, StepDecay
from uanref.training.trainer import Trainer

if TYPE_CHECKING:  # who trains does without it, and need not wait for it
    from uanref import gradcheck

__version__ = "0.1.0"

__all__ = [
    "GELU",
    "MSE",
    "SGD",
    "UAN",
    "Adam",
    "AdamW",
    "AvgPool2d",
    "BatchNorm",
    "Constant",
    "Conv2d",
    "Cosine",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "GroupNorm",
    "InstanceNorm",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool2d",
    "MixtureNorm",
    "ModeNorm",
    "Parameter",
    "ReLU",
    "Residual",
    "Sequential",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "StepDecay",
    "Tanh",
    "Trainer",
    "UANPublic",
    "backend",
    "clip_grad_norm",
    "data",
    "from_torch",
    "gradcheck",
    "load",
    "to_torch",
]


def __getattr__(name: str) -> Any:
    """Import :mod:`uanref.gradcheck` where it is first asked for."""
    if name == "gradcheck":
        import importlib

        return importlib.import_module("uanref.gradcheck")
    raise AttributeError(f"module 'uanref' has no attribute {name!r}")
