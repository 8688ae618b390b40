"""The promise that float32 gives what float64 gives, as far as rounding lets it."""

from __future__ import annotations

import copy

import numpy as np

from uanref.backend import Array
from uanref.gradcheck.subject import Results, Subject, call, spoken

TRIALS = 4
LAST_DIGITS = 64.0  # sums, exponentials and cancelled terms round more than once
AMPLIFIED = 2e-4  # what rounding may grow to where it is no systematic error


def single_precision(subject: Subject) -> str:
    """In float32 y, dx and the parameters' gradients have that dtype, and the values of float64 up to rounding.

    Both start from the same float32 numbers. Rounding is measured: as much as moving every number by a last digit
    of float32 changes the float64 result, and 64 last digits of an ordinary value for what is rounded on the way.
    Layers that cancel or amplify round more. So an error beyond that is accepted up to 2e-4 of an ordinary value if
    it looks like rounding: if, over four inputs that differ in the last digit, it is scattered and not systematic.
    """
    layer = subject.new().to("float32")
    eps = float(np.finfo("float32").eps)
    draw = np.random.default_rng([subject.seed, 0xF32])
    errors: dict[str, list[Array]] = {}
    exact: list[Results] = []
    for trial in range(TRIALS):
        x, dy = (a if trial == 0 else _last_digit(a, eps, draw) for a in (subject.x, subject.dy))
        x32, dy32 = x.astype("float32"), dy.astype("float32")
        twin = copy.deepcopy(layer)
        if trial > 0:
            for parameter in twin.parameters().values():
                parameter.value = _last_digit(parameter.value, eps, draw).astype("float32")
        expected = call(copy.deepcopy(twin).to("float64"), x32.astype("float64"), dy32.astype("float64"))
        found = call(twin, x32, dy32)
        for name, array in found.arrays.items():
            if array.dtype != np.float32:
                return f"{spoken(name)} has dtype {array.dtype}: keep the dtype of x, Python numbers do not change it"
            if array.shape != expected.arrays[name].shape:
                return f"{spoken(name)} has another shape than in float64"
            errors.setdefault(name, []).append(array.astype("float64") - expected.arrays[name])
        exact.append(expected)
    for name, found32 in errors.items():
        values = np.stack([results.arrays[name] for results in exact])  # (trials, ...)
        error = np.stack(found32)
        ordinary = max(float(abs(values).max(initial=0.0)), subject.ordinary(name, subject.dy, values[0].size))
        moved = abs(values - values[0]).max(axis=0)
        rounding = 8.0 * moved + LAST_DIGITS * eps * ordinary
        excess = ~(abs(error).max(axis=0) <= rounding)  # NaN is in excess
        mean, spread = error.mean(axis=0), error.std(axis=0)
        scattered = (abs(mean) <= 4.0 * spread) & (abs(error).max(axis=0) <= AMPLIFIED * ordinary)
        wrong = excess & ~scattered
        if wrong.any():
            gap = float(abs(error).max(axis=0)[wrong].max())
            return (
                f"{spoken(name)} differs from float64 by up to {gap:.3g}, which rounding does not explain: look for "
                "code that depends on the dtype, and for sums and differences that lose digits"
            )
    return ""


def _last_digit(array: Array, eps: float, draw: np.random.Generator) -> Array:
    moved: Array = array * (1.0 + eps * draw.choice((-1.0, 1.0), size=array.shape))
    return moved
