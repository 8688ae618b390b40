"""Elementwise activations: each ``dx = f'(x) dy``, with f' written beside f.

All take arrays of any shape and any float dtype, and return the same shape and dtype. Where
f' can be told from y alone, y is all that is kept: the next layer usually keeps it anyway.
"""

from __future__ import annotations

import math

from uanref import backend
from uanref.backend import Array
from uanref.layers.base import Layer, number


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
        y: Array = backend.namespace(x).maximum(x, 0)
        self._keep(y, y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return ``dy`` where x, and so y, was positive, else 0."""
        (y,) = self._take(dy)
        dx: Array = (y > 0).astype(dy.dtype)  # f'
        dx *= dy
        return dx


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
        xp = backend.namespace(x)
        y: Array = x * self.negative_slope
        y = xp.maximum(x, y)
        self._keep(y, y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return ``dy`` where y was positive, else ``a dy``."""
        (y,) = self._take(dy)
        xp = backend.namespace(dy, y)
        dx: Array = xp.maximum((y > 0).astype(dy.dtype), self.negative_slope)  # f': 1 or a
        dx *= dy
        return dx


class Tanh(Layer):
    r"""The hyperbolic tangent, with :math:`f'(x) = 1 - \tanh^2 x = 1 - y^2`."""

    def forward(self, x: Array) -> Array:
        """Return ``tanh(x)`` in [-1, 1]; any shape. Raises as :meth:`ReLU.forward`."""
        self._check_input(x)
        y: Array = backend.namespace(x).tanh(x)
        self._keep(y, y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return ``(1 - y^2) dy``."""
        (y,) = self._take(dy)
        dx: Array = 1.0 - y * y  # f'
        dx *= dy
        return dx


class Sigmoid(Layer):
    r"""The logistic function, :math:`f(x) = 1 / (1 + e^{-x})`, with :math:`f'(x) = y (1 - y)`.

    Since :math:`1/(1 + e^{-x}) = e^x/(1 + e^x)`, the form that only raises e to negative
    powers is chosen for each sign of x: nothing overflows, and tiny outputs keep their digits.
    """

    def forward(self, x: Array) -> Array:
        """Return ``1 / (1 + exp(-x))`` in [0, 1]; any shape. Raises as :meth:`ReLU.forward`."""
        self._check_input(x)
        xp = backend.namespace(x)
        # Numerator 1 for x > 0 and e^x for x < 0; denominator 1 + e^-|x|.
        y: Array = xp.exp(xp.minimum(x, 0))
        y /= 1.0 + xp.exp(xp.minimum(x, -x))
        self._keep(y, y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return ``y (1 - y) dy``."""
        (y,) = self._take(dy)
        dx: Array = 1.0 - y
        dx *= y  # f'
        dx *= dy
        return dx


class GELU(Layer):
    r"""The Gaussian error linear unit, exact form (Hendrycks & Gimpel 2016; PyTorch's default).

    With the normal distribution :math:`\Phi(x) = \frac12 (1 + \mathrm{erf}(x / \sqrt 2))` and its density
    :math:`\varphi(x) = e^{-x^2/2} / \sqrt{2\pi}`,

    .. math::
        f(x) = x \Phi(x), \quad f'(x) = \Phi(x) + x \varphi(x).
    """

    def forward(self, x: Array) -> Array:
        """Return ``x Phi(x)``; any shape. Raises as :meth:`ReLU.forward`."""
        self._check_input(x)
        slope = backend.erf(x * math.sqrt(0.5))
        slope *= 0.5
        slope += 0.5  # Phi
        y: Array = x * slope
        if not backend.is_inference():
            # f' is computed beside f, where Phi is at hand: erf is by far the dearest step.
            slope += x * self._density(x)
        self._keep(y, slope)
        return y

    def backward(self, dy: Array) -> Array:
        """Return ``(Phi(x) + x phi(x)) dy``."""
        (slope,) = self._take(dy)
        dx: Array = slope
        dx *= dy
        return dx

    @staticmethod
    def _density(x: Array) -> Array:
        xp = backend.namespace(x)
        # Beyond 40 the density is 0 in float64 too, and the square of a larger x could overflow.
        near = xp.clip(x, -40.0, 40.0)
        near *= near
        near *= -0.5
        density: Array = xp.exp(near)
        density *= 1.0 / math.sqrt(2.0 * math.pi)
        return density
