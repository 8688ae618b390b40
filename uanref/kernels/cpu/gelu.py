r"""The Gaussian error linear unit in float32, without the error function.

With :math:`a = |x|` and the density :math:`\varphi(a) = e^{-a^2/2} / \sqrt{2\pi}`, Mills' ratio

.. math::
    R(a) = \frac{\Phi(-a)}{\varphi(a)} = \frac{1}{a + r(a)}

is smooth and never near 0, and so is r, which falls from :math:`\sqrt{2/\pi}` like 1/a: a quotient P/Q of two small
polynomials. All the rest is a product of R, in the tail as in the middle:

.. math::
    \Phi(x) = |s - R \varphi|, \quad s = 1 \text{ for } x > 0, \text{ else } 0, \qquad
    f(x) = x \Phi, \quad f'(x) = \Phi + x \varphi.

The density alone needs double precision: of :math:`a^2/2 = 80` float32 keeps five digits behind the point, and the
exponential would turn what is lost into a relative error.
"""

from __future__ import annotations

import functools
import math

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch, walk

P, P3 = (69.18175711315455, 34.50606674227615, 8.895854555340417), 0.9991660554234382
Q = (86.70647804773196, 82.73540149422674, 36.985785966540085, 8.864864606508204)
"""Coefficients of a^0, a^1 ...; P3 is that of a^3 in P, and that of a^4 in Q is 1.

Q / (a Q + P) is R to 4.4e-8 of itself for 0 <= a <= 14.5.

No P and Q of these degrees have a smaller largest error. They come from linear least squares for P - r Q = 0 at 400
places (R by mpmath with 40 digits), solved again and again, each place divided by the Q before and weighted by its own
error before, until all peaks were level. All coefficients are positive, so no sum cancels, and where a is large the
rounding of P and Q hardly matters.
"""
DENSITY = 1.0 / math.sqrt(2.0 * math.pi)
FAR = 12.5
"""Beyond it R times the density nears the end of float32's range, and f is x or nearly 0."""
RUN = 1 << 16
"""So many numbers at a time: what a run computes on the way takes 2 MiB. Half of that suits one thread better by a
tenth; two, which wait for the interpreter lock after each operation, take a third longer then."""
PRODUCTS = 1 << 18
"""A single product waits for memory however short its runs are: so many that the threads' waits do not show."""
LINE = 64
"""Bytes of a cache line. A long operation whose result begins inside one takes twice the time."""


def gelu_float32(x: Array) -> tuple[Array, Array]:
    """Return f(x) and f'(x) of a host array of any shape in float32; both in C order."""
    xp = backend.namespace(x)
    flat = xp.ascontiguousarray(x).reshape(-1)
    y, slope = (_aligned(xp.empty(flat.size + LINE // 4, dtype="float32"), flat.size) for _ in range(2))

    def task(run: slice, scratch: Scratch) -> None:
        _run(flat[run], y[run], slope[run], scratch)

    walk(task, _runs(flat.size, RUN), flat.size)
    return y.reshape(x.shape), slope.reshape(x.shape)


def product(a: Array, b: Array) -> Array:
    """Return ``a b`` of two host arrays of one shape and dtype, in C order."""
    xp = backend.namespace(a, b)
    flat_a, flat_b = xp.ascontiguousarray(a).reshape(-1), xp.ascontiguousarray(b).reshape(-1)
    found = _aligned(xp.empty(flat_a.size + LINE // flat_a.itemsize, dtype=flat_a.dtype), flat_a.size)

    def task(run: slice, scratch: Scratch) -> None:
        xp.multiply(flat_a[run], flat_b[run], found[run])

    walk(task, _runs(flat_a.size, PRODUCTS), flat_a.size)
    made: Array = found.reshape(a.shape)
    return made


def _runs(size: int, length: int) -> list[slice]:
    """Cut so many numbers into runs of this length, the last one perhaps shorter."""
    return [slice(i, min(i + length, size)) for i in range(0, size, length)]


def _aligned(raw: Array, size: int) -> Array:
    """Return ``size`` entries of a rank-1 array, from the first cache line that begins in it."""
    start = -raw.ctypes.data % LINE // raw.dtype.itemsize
    return raw[start : start + size]


def _run(x: Array, y: Array, slope: Array, scratch: Scratch) -> None:
    """Write f(x) into ``y`` and f'(x) into ``slope``, all of one rank-1 shape."""
    xp = backend.namespace(x)
    width = -(-x.size // (LINE // 4)) * (LINE // 4)
    rows = _aligned(scratch("rows", (7 * width + LINE // 4,), x), 7 * width).reshape(7, width)
    a = xp.abs(x, rows[0, : x.size])
    if a.max() <= FAR:
        _near(x, a, y, slope, rows)
        return
    far = xp.flatnonzero(~(a <= FAR))  # NaN among them
    near = xp.clip(x, -FAR, FAR)
    _near(near, xp.abs(near, a), y, slope, rows)
    y[far], slope[far] = _far(x[far].astype("float64"))


def _near(x: Array, a: Array, y: Array, slope: Array, rows: Array) -> None:
    """Do as :func:`_run` for ``|x| = a <= FAR``; ``rows[1:]`` may be overwritten."""
    xp = backend.namespace(x)
    bell, q, p, side = rows[1:5, : x.size]
    (half,), (density, lead) = _numbers((-0.5,), "d"), _numbers((DENSITY, P3), "f")
    exact = rows[5:].reshape(-1).view("float64")[: x.size]
    # 1. The density.
    exact[...] = a
    xp.multiply(exact, exact, exact)
    xp.multiply(exact, half, exact)
    bell[...] = xp.exp(exact, exact)
    xp.multiply(bell, density, bell)
    # 2. Its product with R = Q / (a Q + P).
    _horner(a, Q, a, q)
    _horner(xp.multiply(a, lead, p), P, a, p)
    xp.multiply(a, q, side)
    side += p
    q /= side
    q *= bell
    # 3. Phi, from the side where it does not cancel.
    positive, one = side.view("i4"), _numbers((1.0,), "f")[0].view("i4")
    xp.invert(x.view("i4"), positive)
    xp.right_shift(positive, 31, positive)  # all bits, or none
    positive &= one  # s, which a comparison gives as truth values: numbers only after a conversion
    side -= q
    xp.abs(side, side)
    # 4. f and f'.
    xp.multiply(x, side, y)
    bell *= x
    xp.add(side, bell, slope)


def _far(x: Array) -> tuple[Array, Array]:
    """Return f(x) and f'(x) for far x in float64; at plus and minus infinity the limits, at NaN NaN."""
    xp = backend.namespace(x)
    a = xp.clip(-x, 0.0, 20.0)
    bell = DENSITY * xp.exp(-0.5 * a * a)
    q, p = _horner(a, Q, a, xp.empty_like(a)), _horner(P3 * a, P, a, xp.empty_like(a))
    ratio = q / (a * q + p)
    return xp.where(x > 0, x, -a * ratio * bell), xp.where(x > 0, 1.0, (ratio - a) * bell)


def _horner(first: Array, coefficients: tuple[float, ...], a: Array, out: Array) -> Array:
    """Return ``c_0 + a (c_1 + a (... + a (c_n + first)))`` in ``out``."""
    xp = backend.namespace(a)
    *others, last = _numbers(coefficients, a.dtype.char)
    xp.add(first, last, out)
    for coefficient in reversed(others):
        xp.multiply(out, a, out)
        xp.add(out, coefficient, out)
    return out


@functools.cache
def _numbers(values: tuple[float, ...], dtype_char: str) -> tuple[Array, ...]:
    """Return numbers as NumPy takes them soonest: a Python float is looked at again by every operation."""
    return tuple(backend.module("numpy").asarray(value, dtype=dtype_char) for value in values)
