"""``uanref check``: every layer, norm and loss against numerical derivatives, or a device against the host.

:func:`cases` is the catalogue: what is checked, at which size, and which code is analytic and
therefore gets the complex step too. Losses take part as layers with one output.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from rich.table import Table
from rich.text import Text

from uanref import backend as arrays
from uanref import gradcheck
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
from uanref.norms.batch import BatchNorm
from uanref.norms.group import GroupNorm
from uanref.norms.instance import InstanceNorm
from uanref.norms.layer import LayerNorm
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mode import ModeNorm
from uanref.norms.uan import UAN
from uanref.norms.uan_public import UANPublic

# A device adds in another order than the host; nothing else may differ.
DEVICE_TOLERANCE = 1e-11


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
        worst: the largest error in units of the larger value or of the floor, see :mod:`uanref.gradcheck`;
            on a device the largest difference from the host, in units of the tensor's largest entry.
        tensors: how many were checked: gradients of the input and of each parameter; on a device y and the state too.
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
    """Return the catalogue: every layer and norm with its options, and the losses."""
    return [*_layer_cases(), *_norm_cases(), *_loss_cases()]


def _layer_cases() -> list[Case]:
    def f64(layer: Layer) -> Layer:
        return _spread(layer.to("float64"))

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
    return Case(name, lambda: _spread(make()), shape, True)


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
    _spread(layer)
    if mode == "eval":
        draw = np.random.default_rng(8)
        with arrays.inference():
            for _ in range(2):
                layer.forward(0.4 + 1.5 * draw.standard_normal(shape))
        layer.eval()
    return layer


def _spread(layer: Layer) -> Layer:
    """Move every parameter off its start: a scale of 1 or a bias of 0 would hide a missing factor."""
    draw = np.random.default_rng(7)
    for parameter in layer.parameters().values():
        parameter.value = parameter.value + draw.uniform(-0.4, 0.4, size=parameter.shape)
    return layer


# --- running it -----------------------------------------------------------------------------------


def run(backend: str = "numpy", seed: int = 0, only: str | None = None) -> list[CheckRow]:
    """Check every case.

    Args:
        backend: ``"numpy"`` compares with numerical derivatives (:mod:`uanref.gradcheck`);
            ``"cupy"`` compares outputs and gradients on the device with those on the host, in float64.
        seed: of inputs, upstream gradients and directions.
        only: check the cases whose name contains this, in any case of letters.

    Returns:
        One row per case, in the catalogue's order. A case that raises is a row that failed.

    Raises:
        ValueError: no such backend, or ``only`` fits no case.
        BackendUnavailable: the backend cannot run here.
    """
    arrays.require(backend)
    chosen = [case for case in cases() if only is None or only.lower() in case.name.lower()]
    if not chosen:
        names = sorted({case.name.split()[0].rstrip(",") for case in cases()})
        raise ValueError(f"no case has {only!r} in its name: try one of {', '.join(names)}")
    examine = _check_derivatives if backend == "numpy" else _check_device
    return [_outcome(examine, case, seed) for case in chosen]


def _outcome(examine: Callable[[Case, int], CheckRow], case: Case, seed: int) -> CheckRow:
    try:
        return examine(case, seed)
    except Exception as error:  # one broken layer must not hide the others
        return CheckRow(case.name, float("nan"), 0, 0, False, f"{case.name}: {type(error).__name__}: {error}")


def _check_derivatives(case: Case, seed: int) -> CheckRow:
    x = np.random.default_rng(seed).standard_normal(case.shape)
    report = gradcheck.check(case.make(), x, seed=seed, complex_step=case.analytic)
    worst = 0.0 if report.worst is None else report.worst.relative
    return CheckRow(case.name, worst, len(report.tensors), len(report.kinks), report.ok, f"{case.name}: {report}")


def _check_device(case: Case, seed: int) -> CheckRow:
    x = np.random.default_rng(seed).standard_normal(case.shape)
    expected = outputs(case.make(), x, seed)
    found = outputs(case.make().to("cupy"), arrays.to_device(x, "cupy"), seed)
    errors = {name: difference(found[name], expected[name]) for name in expected}
    worst = max(errors.values())
    listing = ", ".join(f"{name} {error:.2e}" for name, error in errors.items())
    details = f"{case.name}: largest difference between device and host, relative to the largest entry: {listing}"
    return CheckRow(case.name, worst, len(expected), 0, bool(worst <= DEVICE_TOLERANCE), details)


def outputs(layer: Layer, x: Array, seed: int) -> dict[str, Array]:
    """Return what a layer computes from ``x``, as host arrays: ``y``, ``dx``, each parameter's ``grad`` and the state.

    The upstream gradient is drawn on the host from ``seed``, so every backend gets the same one.
    """
    y = layer.forward(x)
    dy = np.random.default_rng(seed + 1).standard_normal(size=tuple(y.shape)).astype(y.dtype)
    dx = layer.backward(arrays.to_device(dy, arrays.name_of(y)))
    found = {"y": arrays.to_host(y), "dx": arrays.to_host(dx)}
    for name, parameter in layer.parameters().items():
        if parameter.grad is None:
            raise RuntimeError(f"backward left no gradient for {name}")
        found[f"{name}.grad"] = arrays.to_host(parameter.grad)
    return found | layer.state_dict()


def difference(found: Array, expected: Array) -> float:
    """Return the largest difference in units of the largest entry of ``expected`` (or 1e-8, if all are smaller)."""
    if found.shape != expected.shape:
        return float("inf")
    scale = max(float(np.max(np.abs(expected), initial=0.0)), 1e-8)
    return float(np.max(np.abs(found.astype("float64") - expected), initial=0.0)) / scale


def table(rows: list[CheckRow]) -> Table:
    """Return the rows as a table of at most 80 columns; failures are red."""
    failed = sum(not row.ok for row in rows)
    caption = f"{len(rows)} checked, {failed} failed" if failed else f"{len(rows)} checked, all passed"
    made = Table(caption=caption, caption_justify="left", show_edge=False)
    made.add_column("layer", overflow="fold")
    made.add_column("worst\nerror", justify="right", no_wrap=True)
    made.add_column("tensors", justify="right", no_wrap=True)
    made.add_column("kinks", justify="right", no_wrap=True)
    made.add_column("status", no_wrap=True)
    for row in rows:
        status = Text(row.status, style="green" if row.ok else "bold red")
        made.add_row(row.name, f"{row.worst:.1e}", str(row.tensors), str(row.kinks), status)
    return made
