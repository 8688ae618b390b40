"""Elementwise activations: each ``dx = f'(x) dy``, with f' written beside f.

All take arrays of any shape and any float dtype, and return the same shape and dtype. Where f' is a choice between
constants, y tells which and is all that is kept: the next layer usually keeps it anyway. A slope that dies away is
taken from x: once y is rounded to 1, ``1 - y`` has no digits left.

At x = NaN both y and dx are NaN. At x = +-inf they are the limits. A choice is made by selection, never by a product
with 0 or 1, so an infinite dy does not leak into a 0; where a slope has merely become 0 (``Tanh``, ``Sigmoid`` and
``GELU`` far out), 0 times an infinite dy is a product, and NaN.
"""

from __future__ import annotations

import math

from uanref import backend
from uanref.backend import Array
from uanref.kernels import accelerated
from uanref.layers.base import Layer, number


@accelerated
def relu(x: Array) -> Array:
    """Return ``max(x, 0)``."""
    y: Array = backend.namespace(x).maximum(x, 0)
    return y


@accelerated
def relu_backward(dy: Array, y: Array) -> Array:
    """Return ``dy`` where y is positive, else y itself, which is 0, or NaN."""
    dx: Array = backend.namespace(dy, y).where(y > 0, dy, y)
    return dx


@accelerated
def leaky_relu(x: Array, slope: float) -> Array:
    """Return ``max(x, a x)``, which needs a <= 1."""
    y: Array = backend.namespace(x).maximum(x, leak(x, slope))
    return y


@accelerated
def leaky_relu_backward(dy: Array, y: Array, slope: float) -> Array:
    """Return ``dy`` where y is positive, else ``a dy``; a NaN, which equals nothing, stays one."""
    xp = backend.namespace(dy, y)
    dx: Array = xp.where(y == y, xp.where(y > 0, dy, leak(dy, slope)), y)
    return dx


def leak(x: Array, slope: float) -> Array:
    """Return ``a x``, and 0 for an a that is 0 in the dtype of x, also where x is infinite."""
    y: Array = slope * x if x.dtype.type(slope) else backend.namespace(x).zeros_like(x)
    return y


def tanh_backward(dy: Array, x: Array) -> Array:
    """Return ``(1 - tanh(x)^2) dy``, from ``q = e^-2|x|`` with all digits where the slope is tiny."""
    xp = backend.namespace(dy, x)
    q = xp.exp(xp.minimum(x, -x)) ** 2
    dx: Array = (2.0 / (1.0 + q)) ** 2 * q * dy
    return dx


def sigmoid(x: Array) -> Array:
    """Return ``1 / (1 + e^-x)`` in the form that only raises e to negative powers."""
    xp = backend.namespace(x)
    # Numerator 1 for x > 0 and e^x for x < 0; denominator 1 + e^-|x|.
    y: Array = xp.exp(xp.minimum(x, 0)) / (1.0 + xp.exp(xp.minimum(x, -x)))
    return y


def sigmoid_backward(dy: Array, x: Array) -> Array:
    """Return ``f(x) f(-x) dy``, from ``q = e^-|x|`` with all digits where the slope is tiny."""
    xp = backend.namespace(dy, x)
    q = xp.exp(xp.minimum(x, -x))
    dx: Array = (1.0 / (1.0 + q)) ** 2 * q * dy
    return dx


@accelerated
def gelu(x: Array) -> tuple[Array, Array]:
    """Return ``f(x) = x Phi(x)`` and ``f'(x) = Phi(x) + x phi(x)``: erf and erfcx are the dearest steps of both."""
    xp = backend.namespace(x)
    # Below -40 f is 0 in float64 too, and so is the density beyond 40. Infinity times 0 would be NaN.
    low = xp.maximum(x.astype(backend.wide(x)), -40.0)
    near = xp.minimum(low, 40.0)
    bell = gaussian(near)  # e^(-x^2/2)
    centre = 0.5 + 0.5 * backend.erf(low * math.sqrt(0.5))  # Phi, where it does not cancel
    tail = 0.5 * backend.erfcx(xp.maximum(-near, 0.0) * math.sqrt(0.5))  # Phi / e^(-x^2/2)
    # The density comes last: Phi alone would leave the range of normal numbers before f does.
    y = xp.where(low > -1.0, low * centre, near * tail * bell)
    slope = xp.where(low > -1.0, centre, tail * bell) + near * bell * (1.0 / math.sqrt(2.0 * math.pi))
    return y.astype(x.dtype), slope.astype(x.dtype)


@accelerated
def gelu_backward(dy: Array, slope: Array) -> Array:
    """Return ``f'(x) dy``."""
    dx: Array = slope * dy
    return dx


def gaussian(x: Array) -> Array:
    """Return ``exp(-x^2/2)`` for double-precision x in [-40, 40].

    The square is rounded, by up to 10^-13, and the exponential would turn that into a relative error. So what
    the rounding took, ``x^2 - fl(x^2)``, is put back: x = h + (x - h), and the square of h, of 26 bits, is exact.
    """
    xp = backend.namespace(x)
    square = x * x
    head = xp.rint(x * 2.0**20) * 2.0**-20
    lost = head * head - square + (x - head) * (x + head)
    bell: Array = xp.exp(-0.5 * square) * (1.0 - 0.5 * lost)
    return bell


class ReLU(Layer):
    r"""The positive part, :math:`f(x) = \max(x, 0)` (Nair & Hinton 2010).

    :math:`f'(x) = 1` for x > 0, else 0. At the kink, x = 0, the gradient is 0: this project's choice, and PyTorch's.
    """

    def forward(self, x: Array) -> Array:
        """Return ``max(x, 0)``.

        Args:
            x: any shape.

        Returns:
            The same shape.

        Raises:
            TypeError: not a floating dtype.
            ValueError: an empty array.
        """
        self._check_input(x)
        y = relu(x)
        self._keep(y, y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return ``dy`` where x, and so y, was positive, else 0."""
        (y,) = self._take(dy)
        return relu_backward(dy, y)


class LeakyReLU(Layer):
    r"""ReLU with a slope on the negative side, :math:`f(x) = \max(x, a x)` (Maas et al. 2013).

    :math:`f'(x) = 1` for x > 0, else a. At x = 0 it is a: this project's choice, and PyTorch's.

    Args:
        negative_slope: a, in [0, 1].

    Raises:
        ValueError: a slope outside [0, 1].
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = number("negative_slope", negative_slope, 0.0, 1.0)

    def forward(self, x: Array) -> Array:
        """Return ``max(x, a x)``, which needs a <= 1; any shape. Raises as :meth:`ReLU.forward`."""
        self._check_input(x)
        y = leaky_relu(x, self.negative_slope)
        self._keep(y, y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return ``dy`` where y was positive, else ``a dy``."""
        (y,) = self._take(dy)
        return leaky_relu_backward(dy, y, self.negative_slope)


class Tanh(Layer):
    r"""The hyperbolic tangent, with :math:`f'(x) = 1 - \tanh^2 x = 4 e^{-2|x|} / (1 + e^{-2|x|})^2`."""

    def forward(self, x: Array) -> Array:
        """Return ``tanh(x)`` in [-1, 1]; any shape. Raises as :meth:`ReLU.forward`."""
        self._check_input(x)
        y: Array = backend.namespace(x).tanh(x)
        self._keep(y, x)
        return y

    def backward(self, dy: Array) -> Array:
        """Return ``(1 - tanh(x)^2) dy``, with all digits where the slope is tiny."""
        (x,) = self._take(dy)
        return tanh_backward(dy, x)


class Sigmoid(Layer):
    r"""The logistic function, :math:`f(x) = 1 / (1 + e^{-x})`, with :math:`f'(x) = f(x) f(-x)`.

    Since :math:`1/(1 + e^{-x}) = e^x/(1 + e^x)`, the form that only raises e to negative
    powers is chosen for each sign of x: nothing overflows, and tiny outputs keep their digits. So do tiny slopes,
    :math:`f'(x) = e^{-|x|} / (1 + e^{-|x|})^2`.
    """

    def forward(self, x: Array) -> Array:
        """Return ``1 / (1 + exp(-x))`` in [0, 1]; any shape. Raises as :meth:`ReLU.forward`."""
        self._check_input(x)
        y = sigmoid(x)
        self._keep(y, x)
        return y

    def backward(self, dy: Array) -> Array:
        """Return ``f(x) f(-x) dy``, with all digits where the slope is tiny."""
        (x,) = self._take(dy)
        return sigmoid_backward(dy, x)


class GELU(Layer):
    r"""The Gaussian error linear unit, exact form (Hendrycks & Gimpel 2016; PyTorch's default).

    With the normal distribution :math:`\Phi(x) = \frac12 (1 + \mathrm{erf}(x / \sqrt 2))` and its density
    :math:`\varphi(x) = e^{-x^2/2} / \sqrt{2\pi}`,

    .. math::
        f(x) = x \Phi(x), \quad f'(x) = \Phi(x) + x \varphi(x).

    Below -1 the sum in :math:`\Phi` cancels; there :math:`\Phi(x) = \frac12 e^{-x^2/2} \mathrm{erfcx}(-x / \sqrt 2)`
    with :math:`\mathrm{erfcx}(a) = e^{a^2} (1 - \mathrm{erf}(a))`. On the host the relative error of f is at most 4
    machine epsilons wherever f is a normal number. So is that of f' for x > 0 and -37 < x < -2 (in float32 -13 < x); in
    between, about its zero at -0.75, the error is as small beside the larger of its two terms.
    """

    def forward(self, x: Array) -> Array:
        """Return ``x Phi(x)``; any shape. Raises as :meth:`ReLU.forward`."""
        self._check_input(x)
        y, slope = gelu(x)
        self._keep(y, slope)
        return y

    def backward(self, dy: Array) -> Array:
        """Return ``(Phi(x) + x phi(x)) dy``."""
        (slope,) = self._take(dy)
        return gelu_backward(dy, slope)
