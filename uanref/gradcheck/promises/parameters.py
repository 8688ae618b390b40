"""Parameters may be assigned at any time, and their gradients are assigned or added up."""

from __future__ import annotations

import contextlib

from uanref import backend
from uanref.gradcheck.points import drawn
from uanref.gradcheck.subject import Results, Subject, call, pulled


def assigned_parameters(subject: Subject) -> str:
    """A parameter may be assigned at any time, by its ``value`` or by ``load_state_dict``; the next call uses it."""
    target = drawn(subject.layer, subject.seed, 1).state_dict()
    names = list(subject.layer.parameters())
    if not names:
        return ""
    fresh = subject.new()
    fresh.load_state_dict({name: target[name] for name in names}, strict=False)
    expected = call(fresh, subject.x.copy(), subject.dy.copy()).copied()
    for way in ("assigning a parameter's value", "load_state_dict"):
        layer = subject.new()
        call(layer, subject.x.copy(), subject.dy.copy())
        subject.rewind(layer)
        if way == "load_state_dict":
            layer.load_state_dict({name: target[name] for name in names}, strict=False)
        else:
            for name, parameter in layer.parameters().items():
                parameter.value = target[name].copy()
        wrong = subject.differs(call(layer, subject.x.copy(), subject.dy.copy()), expected, subject.dy)
        if wrong:
            return f"after {way} {wrong}: read parameter.value at every call, store nothing made of it"
    return ""


def pending_parameters(subject: Subject) -> str:
    """A pending forward pass keeps the parameters that it was computed with, whatever is assigned before backward."""
    target = drawn(subject.layer, subject.seed, 1).state_dict()
    layer = subject.new()
    layer.forward(subject.x.copy())
    for name, parameter in layer.parameters().items():
        parameter.value = target[name].copy()
    expected = subject.reference(subject.x, subject.dy)
    expected.arrays.pop("y")
    wrong = subject.differs(pulled(layer, subject.dy.copy()), expected, subject.dy)
    if wrong:
        return f"after assigning a parameter between forward and backward {wrong}: keep the value that forward read"
    return ""


def accumulation(subject: Subject) -> str:
    """Gradients are assigned; inside ``backend.accumulating()`` they add up."""
    names = list(subject.layer.parameters())
    first, second = subject.pairs
    of_first, of_second = (_only(subject.reference(*pair), names) for pair in (first, second))
    for inside, expected in ((True, of_first.plus(of_second)), (False, of_second)):
        layer = subject.new()
        for parameter in layer.parameters().values():
            parameter.grad = None
        with backend.accumulating() if inside else contextlib.nullcontext():
            for x, dy in (first, second):
                subject.rewind(layer)
                found = call(layer, x.copy(), dy.copy())
        wrong = subject.differs(_only(found, names), expected, subject.dy)
        if wrong and inside:
            return f"inside backend.accumulating() {wrong}: hand gradients over with parameter.receive(grad)"
        if wrong:
            return f"after two calls outside backend.accumulating() {wrong}: assign the gradient, do not add"
    return ""


def _only(results: Results, names: list[str]) -> Results:
    return Results({name: results.arrays[name] for name in names})
