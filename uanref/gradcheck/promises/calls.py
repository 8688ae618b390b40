"""One call after another: a layer keeps nothing but what is state, and what is pending."""

from __future__ import annotations

from uanref import backend
from uanref.gradcheck.subject import Results, Subject, call, pulled, same, spoken


def later_calls(subject: Subject) -> str:
    """A call gives the same whatever was called before, also when the caller fills the same array again."""
    layer = subject.new()
    pairs = subject.pairs
    x, dy = subject.x.copy(), subject.dy.copy()
    for number, k in enumerate((0, 1, 0, 0, 1), start=1):
        subject.rewind(layer)
        x[...], dy[...] = pairs[k]
        wrong = subject.differs(call(layer, x, dy), subject.reference(*pairs[k]), pairs[k][1])
        if wrong:
            return f"at call {number} {wrong}: keep nothing from one call to the next but what is state"
    return ""


def pending_calls(subject: Subject) -> str:
    """Two forward passes may be pending; backward takes the latest first."""
    layer = subject.new()
    first, second = subject.pairs
    layer.forward(first[0].copy())
    subject.rewind(layer)
    layer.forward(second[0].copy())
    for which, (x, dy) in (("latest", second), ("earlier", first)):
        expected = subject.reference(x, dy)
        expected.arrays.pop("y")
        wrong = subject.differs(pulled(layer, dy.copy()), expected, dy)
        if wrong:
            return f"of two pending forward passes, for the {which} one {wrong}: push with _keep, pop with _take"
    return ""


def one_backward_per_forward(subject: Subject) -> str:
    """A backward pass without a pending forward pass is an error."""
    layer = subject.new()
    for when in ("before any forward", "a second time"):
        try:
            layer.backward(subject.dy.copy())
        except RuntimeError:
            pass
        else:
            return f"backward {when} raises no RuntimeError: pop what forward kept with _take"
        if when == "before any forward":
            call(layer, subject.x.copy(), subject.dy.copy())
    return ""


def inference(subject: Subject) -> str:
    """Inside ``backend.inference()`` y is the same and nothing is kept."""
    layer = subject.new()
    layer.forward(subject.x.copy())
    subject.rewind(layer)
    with backend.inference():
        y = layer.forward(subject.other_x.copy())
    expected = subject.reference(subject.other_x, subject.other_dy)
    wrong = subject.differs(Results({"y": y}), Results({"y": expected.arrays["y"]}), subject.other_dy)
    if wrong:
        return f"{wrong}: compute the same as outside"
    expected = subject.reference(subject.x, subject.dy)
    expected.arrays.pop("y")
    wrong = subject.differs(pulled(layer, subject.dy.copy()), expected, subject.dy)
    return f"for the pass that was pending before {wrong}: keep with _keep, which does nothing there" if wrong else ""


def results_are_kept(subject: Subject) -> str:
    """What a call returned is the caller's: a later call does not change it."""
    layer = subject.new()
    first = call(layer, subject.x.copy(), subject.dy.copy())
    before = first.copied()
    subject.rewind(layer)
    call(layer, subject.other_x.copy(), subject.other_dy.copy())
    for name, array in first.arrays.items():
        if not same(array, before.arrays[name]):
            return f"a later call changes {spoken(name)} of an earlier one: return new arrays, not a buffer"
    return ""
