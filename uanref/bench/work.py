"""What is timed, told apart from who does it: a shape, the layers that it goes through, and how the pass ends.

Our layers and every peer build their side from the same :class:`Work` and the same :class:`Material`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from uanref.backend import Array

Kind: TypeAlias = Literal["conv", "linear", "bn", "uan", "relu", "gelu", "pool", "global_pool", "flatten"]
Weights: TypeAlias = tuple[Mapping[str, Array], ...]

PARAMETERS: dict[str, tuple[str, ...]] = {
    "conv": ("weight", "bias"),
    "linear": ("weight", "bias"),
    "bn": ("gamma", "beta"),
    "uan": ("prior_logits", "mean", "raw_variance", "gamma", "beta"),
}
"""The parameters of each kind of layer, in the order in which contestants return their gradients."""

RATE = 1e-3
"""Adam's learning rate in a step of training."""


@dataclass(frozen=True)
class Stage:
    """One layer.

    Attributes:
        kind: which.
        inputs: channels or features of a convolution, a linear layer or a norm.
        outputs: those of a convolution or a linear layer.
        kernel: its odd side; the padding keeps height and width.
        bias: whether it has one.
        components: K of a UAN.
    """

    kind: Kind
    inputs: int = 0
    outputs: int = 0
    kernel: int = 3
    bias: bool = True
    components: int = 3


@dataclass(frozen=True)
class Work:
    """A forward and a backward pass in train mode, float32.

    Attributes:
        shape: of the input.
        stages: the layers in their order.
        end: ``"dy"``: a given gradient comes back, also to x; ``"loss"``: softmax cross-entropy of the outputs, back to
            x; ``"step"``: the same, and a step of Adam.
    """

    shape: tuple[int, ...]
    stages: tuple[Stage, ...]
    end: Literal["dy", "loss", "step"] = "dy"

    def shapes(self) -> list[tuple[int, ...]]:
        """Return the shape before each stage, and the one behind the last."""
        found = [self.shape]
        for stage in self.stages:
            n, *rest = found[-1]
            match stage.kind:
                case "conv":
                    rest = [stage.outputs, *rest[1:]]
                case "linear":
                    rest = [stage.outputs]
                case "pool":
                    rest = [rest[0], rest[1] // 2, rest[2] // 2]
                case "global_pool":
                    rest = rest[:1]
                case "flatten":
                    rest = [math.prod(rest)]
            found.append((n, *rest))
        return found


@dataclass(frozen=True)
class Material:
    """What a pass takes.

    Attributes:
        x: the input.
        dy: the gradient that comes back, of the output's shape.
        labels: the classes of a loss.
        weights: the parameters of each stage by name, empty where it has none.
    """

    x: Array
    dy: Array
    labels: Array
    weights: Weights


def material(work: Work, weights: Weights) -> Material:
    """Draw what ``work`` takes beside its ``weights``."""
    draw, last = np.random.default_rng(0), work.shapes()[-1]
    x, dy = (draw.standard_normal(shape).astype("float32") for shape in (work.shape, last))
    return Material(x, dy, draw.integers(0, last[1], last[0]), weights)


@dataclass(frozen=True)
class Amount:
    """How much a pass has to do at least, in the measure that bounds it.

    Attributes:
        limit: ``"gemm"``, ``"copy"`` or ``"exp"``, the limit of the machine that it stands beside.
        number: floating-point operations, bytes or exponentials.
    """

    limit: Literal["gemm", "copy", "exp"]
    number: float


def amount(work: Work) -> Amount:
    """Return what bounds ``work``.

    Products of convolutions and linear layers, if there are any: two operations a multiplication, once forward and
    twice back. Else exponentials: a UAN takes K of each number, forward and again back. Else bytes, see
    :func:`bytes_of`.
    """
    shapes = work.shapes()
    operations = 0
    for stage, before, behind in zip(work.stages, shapes, shapes[1:], strict=False):
        if stage.kind == "conv":
            operations += 6 * math.prod(behind) * before[1] * stage.kernel**2
        elif stage.kind == "linear":
            operations += 6 * math.prod(behind) * before[1]
    if operations:
        return Amount("gemm", operations)
    components = [stage.components for stage in work.stages if stage.kind == "uan"]
    if components:
        return Amount("exp", 2 * sum(components) * math.prod(work.shape))
    return Amount("copy", bytes_of(work))


def bytes_of(work: Work) -> int:
    """Return the bytes that pass at least: forward x is read and y written, back x and dy are read and dx written."""
    shapes = work.shapes()
    x, y = math.prod(shapes[0]), math.prod(shapes[-1])
    return 4 * (2 * x if work.end == "loss" else 3 * x + 2 * y)
