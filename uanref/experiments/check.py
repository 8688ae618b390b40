"""``uanref check``: every layer, norm, neighbour and loss against numerical derivatives.

:func:`cases` is the catalogue: what is checked, at which size, and which code is analytic and
therefore gets the complex step too. Losses take part as layers with one output, layers of two inputs with the second
one fixed or as a parameter. ``uanref check --backend cupy`` is :mod:`uanref.experiments.check_device`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from rich.box import HEAVY_HEAD, MARKDOWN
from rich.table import Table
from rich.text import Text

from uanref import backend, gradcheck
from uanref.backend import Array
from uanref.gradcheck import LossLayer
from uanref.layers.activation import GELU, LeakyReLU, ReLU, Sigmoid, Tanh
from uanref.layers.base import Layer, Sequential
from uanref.layers.conv import Conv2d
from uanref.layers.dropout import Dropout
from uanref.layers.flatten import Flatten
from uanref.layers.linear import Linear
from uanref.layers.pooling import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from uanref.layers.residual import Residual
from uanref.losses import MSE, SoftmaxCrossEntropy
from uanref.neighbours.alcn import AdaptiveLocalContrastNorm
from uanref.neighbours.clade import ClassAdaptiveNorm
from uanref.norms.batch import BatchNorm
from uanref.norms.group import GroupNorm
from uanref.norms.instance import InstanceNorm
from uanref.norms.layer import LayerNorm
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mode import ModeNorm
from uanref.norms.uan import UAN
from uanref.norms.uan_public import UANPublic


class Case(NamedTuple):
    """One entry of the catalogue.

    Attributes:
        name: what it is, with its options.
        make: returns the layer, in float64 on the host, in the mode to be checked; the same at every call.
        shape: of the input.
        analytic: True if the code is analytic from the input and from every parameter to the output, so
            that the complex step must agree as well. A maximum (ReLU, max pooling) and the order that
            decides it are not.
    """

    name: str
    make: Callable[[], Layer]
    shape: tuple[int, ...]
    analytic: bool


@dataclass(frozen=True)
class CheckRow:
    """The outcome of one case.

    Attributes:
        name: the case.
        worst: the largest error in units of the larger value or of the floor, see :mod:`uanref.gradcheck`.
        tensors: how many were checked: gradients of the input and of each parameter.
        kinks: at how many points there was no derivative to compare with.
        ok: whether it passed.
        details: the whole report; the reason if the case broke off.
    """

    name: str
    worst: float
    tensors: int
    kinks: int
    ok: bool
    details: str

    @property
    def status(self) -> str:
        """``"ok"`` or ``"FAIL"``."""
        return "ok" if self.ok else "FAIL"


# --- the catalogue --------------------------------------------------------------------------------


def cases() -> list[Case]:
    """Return the catalogue: every layer and norm with its options, the neighbours that are layers, and the losses."""
    return [*_layer_cases(), *_norm_cases(), *_neighbour_cases(), *_loss_cases()]


def _layer_cases() -> list[Case]:
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


def _norm_cases() -> list[Case]:
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
    for posterior in ("channel", "joint"):
        found.append(_uan_case(f"UAN {posterior} K = 1", (5, 2), "train", num_components=1, posterior=posterior))
        found.append(
            _uan_case(f"UAN {posterior} K = 5, image", (2, 2, 3, 2), "train", num_components=5, posterior=posterior)
        )
        found.append(_uan_case(f"UAN {posterior} no affine", (4, 2, 3), "train", affine=False, posterior=posterior))
        found.append(_uan_case(f"UAN {posterior} no rescale", (4, 2, 3), "train", rescale=False, posterior=posterior))
    return found


def _sample_norm_case(name: str, make: Callable[[], Layer], shape: tuple[int, ...]) -> Case:
    return Case(name, lambda: spread(make()), shape, True)


def _norm_case(name: str, kind: Callable[..., Layer], shape: tuple[int, ...], mode: str) -> Case:
    return Case(name, lambda: _norm(kind(shape[1], dtype="float64"), shape, mode), shape, True)


def _mixture_norm_case(name: str, shape: tuple[int, ...], mode: str, posterior: str) -> Case:
    def make() -> Layer:
        layer = MixtureNorm(shape[1], 2, posterior=posterior, dtype="float64")
        layer.frozen_fit = True  # the fit is outside the gradient
        return _norm(layer, shape, mode)

    return Case(name, make, shape, True)


def _batch_norm_case(name: str, shape: tuple[int, ...], mode: str, affine: bool) -> Case:
    def make() -> Layer:
        return _norm(BatchNorm(shape[1], affine=affine, dtype="float64"), shape, mode)

    return Case(name, make, shape, True)


def _uan_case(name: str, shape: tuple[int, ...], mode: str, **options: object) -> Case:
    def make() -> Layer:
        return _norm(UAN(shape[1], **options, dtype="float64"), shape, mode)  # type: ignore[arg-type]

    return Case(name, make, shape, True)


def _neighbour_cases() -> list[Case]:
    shape = (3, 2, 4, 3)
    classes = np.random.default_rng(9).integers(0, 3, size=(3, 4, 3))
    return [
        Case("AdaptiveLocalContrastNorm, two filters", lambda: spread(_ContrastOfImages((0.6, 1.5), 3)), shape, True),
        *(
            Case(
                f"ClassAdaptiveNorm {mode}",
                lambda mode=mode: _norm(_ClassesOfPixels(2, classes), shape, mode),  # type: ignore[misc]
                shape,
                True,
            )
            for mode in ("train", "eval")
        ),
    ]


class _ContrastOfImages(Layer):
    """Adaptive local contrast normalization; its second input, a weight per image and filter, is a parameter."""

    def __init__(self, sigmas: tuple[float, ...], images: int) -> None:
        super().__init__("float64")
        self.body = AdaptiveLocalContrastNorm(sigmas)
        self.weights = self._new(np.full((images, len(sigmas)), 0.5))

    def forward(self, x: Array) -> Array:
        return self.body.forward(x, self.weights.value)

    def backward(self, dy: Array) -> Array:
        dx, dweights = self.body.backward(dy)
        self.weights.receive(dweights)
        return dx


class _ClassesOfPixels(Layer):
    """Class-adaptive normalization with a fixed class map, which moves with ``to``."""

    buffer_names = ("class_map",)

    def __init__(self, channels: int, class_map: Array) -> None:
        super().__init__()
        self.class_map = class_map
        self.body = ClassAdaptiveNorm(channels, int(class_map.max()) + 1, dtype="float64")

    def forward(self, x: Array) -> Array:
        return self.body.forward(x, self.class_map)

    def backward(self, dy: Array) -> Array:
        return self.body.backward(dy)


def _loss_cases() -> list[Case]:
    labels = np.array([0, 3, 1, 1, 2])
    soft = np.random.default_rng(5).dirichlet(np.ones(4), size=5)
    values = np.random.default_rng(6).standard_normal((5, 4))
    return [
        Case("SoftmaxCrossEntropy labels", lambda: LossLayer(SoftmaxCrossEntropy(), labels), (5, 4), True),
        Case("SoftmaxCrossEntropy soft", lambda: LossLayer(SoftmaxCrossEntropy(), soft), (5, 4), True),
        Case("SoftmaxCrossEntropy smoothed", lambda: LossLayer(SoftmaxCrossEntropy(0.1), labels), (5, 4), True),
        Case("MSE", lambda: LossLayer(MSE(), values), (5, 4), True),
    ]


def _norm(layer: Layer, shape: tuple[int, ...], mode: str) -> Layer:
    """Spread the parameters; in eval mode after two training passes, so that running moments are not 0 and 1."""
    spread(layer)
    if mode == "eval":
        draw = np.random.default_rng(8)
        with backend.inference():
            for _ in range(2):
                layer.forward(0.4 + 1.5 * draw.standard_normal(shape))
        layer.eval()
    return layer


def spread(layer: Layer) -> Layer:
    """Move every parameter off its start: a scale of 1 or a bias of 0 would hide a missing factor."""
    draw = np.random.default_rng(7)
    for parameter in layer.parameters().values():
        parameter.value = parameter.value + draw.uniform(-0.4, 0.4, size=parameter.shape)
    return layer


# --- running it -----------------------------------------------------------------------------------


def run(seed: int = 0, only: str | None = None) -> list[CheckRow]:
    """Compare every case's derivatives with numerical ones, see :mod:`uanref.gradcheck`.

    Args:
        seed: of inputs, upstream gradients and directions.
        only: check the cases whose name contains this, in any case of letters.

    Returns:
        One row per case, in the catalogue's order. A case that raises is a row that failed.

    Raises:
        ValueError: ``only`` fits no case.
    """
    return [_outcome(case, seed) for case in chosen(cases(), only)]


Named = TypeVar("Named", bound=Any)


def chosen(entries: Sequence[Named], only: str | None) -> list[Named]:
    """Return the entries whose ``name`` contains ``only`` in any case of letters; all of them for None.

    Raises:
        ValueError: there are none.
    """
    found = [entry for entry in entries if only is None or only.lower() in entry.name.lower()]
    if not found:
        names = sorted({entry.name.split()[0].rstrip(",") for entry in entries})
        raise ValueError(f"no case has {only!r} in its name: try one of {', '.join(names)}")
    return found


def _outcome(case: Case, seed: int) -> CheckRow:
    try:
        return _check_derivatives(case, seed)
    except Exception as error:  # one broken layer must not hide the others
        return CheckRow(case.name, float("nan"), 0, 0, False, f"{case.name}: {type(error).__name__}: {error}")


def _check_derivatives(case: Case, seed: int) -> CheckRow:
    x = np.random.default_rng(seed).standard_normal(case.shape)
    report = gradcheck.check(case.make(), x, seed=seed, complex_step=case.analytic)
    worst = 0.0 if report.worst is None else report.worst.relative
    return CheckRow(case.name, worst, len(report.tensors), len(report.kinks), report.ok, f"{case.name}: {report}")


def outputs(layer: Layer, x: Array, seed: int) -> dict[str, Array]:
    """Return what a layer computes from ``x``, as host arrays: ``y``, ``dx``, each parameter's ``grad`` and the state.

    The upstream gradient is drawn on the host from ``seed``, so every backend gets the same one.
    """
    y = layer.forward(x)
    dy = np.random.default_rng(seed + 1).standard_normal(size=tuple(y.shape)).astype(y.dtype)
    dx = layer.backward(backend.to_device(dy, backend.name_of(y)))
    found = {"y": backend.to_host(y), "dx": backend.to_host(dx)}
    for name, parameter in layer.parameters().items():
        if parameter.grad is None:
            raise RuntimeError(f"backward left no gradient for {name}")
        found[f"{name}.grad"] = backend.to_host(parameter.grad)
    return found | layer.state_dict()


def difference(found: Array, expected: Array) -> float:
    """Return the largest difference in units of the largest entry of ``expected`` (or 1e-8, if all are smaller)."""
    if found.shape != expected.shape:
        return float("inf")
    scale = max(float(np.max(np.abs(expected), initial=0.0)), 1e-8)
    return float(np.max(np.abs(found.astype("float64") - expected), initial=0.0)) / scale


def table(rows: list[CheckRow], plain: bool = False) -> Table:
    """Return the rows as a table of at most 80 columns; failures are red. ``plain``: as Markdown."""
    made = Table(caption=summary(rows), caption_justify="left", show_edge=plain, box=MARKDOWN if plain else HEAVY_HEAD)
    made.add_column("layer", overflow="fold")
    for heading in ("worst\nerror", "tensors", "kinks"):
        made.add_column(heading.replace("\n", " ") if plain else heading, justify="right", no_wrap=True)
    made.add_column("status", no_wrap=True)
    for row in rows:
        made.add_row(row.name, f"{row.worst:.1e}", str(row.tensors), str(row.kinks), status(row.ok))
    return made


def summary(rows: Sequence[Any]) -> str:
    """Return how many of the rows failed, in words."""
    failed = sum(not row.ok for row in rows)
    return f"{len(rows)} checked, " + (f"{failed} failed" if failed else "all passed")


def status(ok: bool) -> Text:
    """Return ``ok``, or a red ``FAIL``."""
    return Text("ok", style="green") if ok else Text("FAIL", style="bold red")
