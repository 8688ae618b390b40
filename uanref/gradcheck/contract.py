"""``check_layer``: gradients at drawn points, and everything else that a layer promises to whoever uses it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from uanref import backend
from uanref.backend import Array
from uanref.gradcheck.checks import check
from uanref.gradcheck.points import drawn, settled
from uanref.gradcheck.promises import PROMISES
from uanref.gradcheck.report import Report
from uanref.gradcheck.subject import Subject
from uanref.layers.base import Layer
from uanref.reasons import named


@dataclass
class LayerReport:
    """What :func:`check_layer` found; ``print(report)`` says what was wrong and what to do.

    Attributes:
        subject: the layer's class.
        gradients: the gradient checks, one per mode.
        broken: broken promises, one sentence each.
        kept: names of the promises that were tried and kept, with the mode.
    """

    subject: str
    gradients: list[Report] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True if every gradient check is ok and no promise is broken."""
        return all(report.ok for report in self.gradients) and not self.broken

    def __str__(self) -> str:
        verdict = "passed" if self.ok else "FAILED" if self.broken else "is not ok"
        lines = [f"check of {self.subject} {verdict}: {len(self.broken)} promises broken, {len(self.kept)} kept"]
        lines += [f"  broken {sentence}" for sentence in self.broken]
        for report in self.gradients:
            lines.append(f"  {str(report) if not report.ok else str(report).splitlines()[0]}")
        return "\n".join(lines)


@backend.quiet_underflow()
def check_layer(make: Callable[[], Layer], x: Array, *, seed: int = 0, **options: Any) -> LayerReport:
    """Check a layer's gradients and its contract: all that a gradient check alone cannot see.

    In train mode and, where the layer has a backward pass there, in eval mode: :func:`~uanref.gradcheck.check` at
    drawn points; then, at one of these points and against a first call of the same layer on plain float64 arrays,
    each of :data:`~uanref.gradcheck.promises.PROMISES`: float32, arrays in any order of memory, later calls, pending
    calls, parameters that are assigned before and after forward, kept results, accumulation, arguments that are not
    written to.

    Args:
        make: takes nothing, returns a new layer at each call, on the host, in any dtype.
        x: the input, a float64 host array, about unit scale; never changed.
        seed: of everything that is drawn.
        options: for :func:`~uanref.gradcheck.check`: ``complex_step``, ``jacobian``, ``directions``, ``at``.

    Returns:
        A :class:`LayerReport`; ``report.ok`` tells, ``print(report)`` explains.

    Raises:
        TypeError: x is not a float64 host array, or ``make`` returns no layer.
        ValueError: ``make`` returns the same layer twice.
    """
    if backend.name_of(x) != "numpy" or str(x.dtype) != "float64":
        raise TypeError(f"check_layer needs x as a float64 host array, got {x.dtype} on {backend.name_of(x)}")
    layer = make()
    if not isinstance(layer, Layer):
        raise TypeError(f"check_layer needs a function that returns a layer, got {type(layer).__name__} from it")
    if make() is layer:
        raise ValueError("make() returned the same layer twice: give a function that makes a new one at each call")
    report = LayerReport(type(layer).__name__)
    for training in (True, False):
        layer = make().to("float64").train(training)
        mode = "train" if training else "eval"
        try:
            report.gradients.append(check(layer, x, seed=seed, **options))
        except NotImplementedError:
            if training:
                raise
            continue  # eval mode need not have a backward pass
        except (RuntimeError, ValueError, TypeError) as error:
            report.broken.append(f"in {mode} mode, gradients: the check broke off, {named(error)}")
            continue
        subject = Subject(drawn(settled(layer, x), seed, 0), x, seed)
        for promise in PROMISES:
            name = promise.__name__.replace("_", " ")
            try:
                sentence = promise(subject)
            except Exception as error:  # a layer that breaks off here broke the promise; the others are still tried
                sentence = f"the layer raised {named(error)}"
            if sentence:
                report.broken.append(f"in {mode} mode, {name}: {sentence}")
            else:
                report.kept.append(f"{name} ({mode} mode)")
    return report
