"""Dropout."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array, Generator
from uanref.kernels import accelerated
from uanref.layers.base import Layer, number


@accelerated
def drop(x: Array, kept: Array, p: float) -> Array:
    """Return ``x / (1 - p)`` where ``kept`` holds, else 0: not a product, since a dropped infinity is 0 too."""
    y: Array = backend.namespace(x, kept).where(kept, x, 0.0) * (1.0 / (1.0 - p))
    return y


class Dropout(Layer):
    r"""Zeroes each entry with probability p while training (Srivastava et al. 2014).

    Inverted dropout: the survivors are scaled up at once, so that the expected output is x and
    eval mode is the identity. With a fresh mask :math:`m_i \in \{0, 1\}`, :math:`P(m_i = 1) = 1 - p`,

    .. math::
        y_i = \frac{m_i x_i}{1 - p}, \qquad dx_i = \frac{m_i dy_i}{1 - p}.

    The mask is drawn on the host and then moved, so that every backend drops the same entries.

    Args:
        p: probability of dropping an entry, in [0, 1).
        rng: generator that each training forward draws from, ``default_rng(0)`` if None.

    Attributes:
        rng: that generator; its state is part of a checkpoint.

    Raises:
        ValueError: p outside [0, 1).
    """

    rng: Generator

    def __init__(self, p: float = 0.5, rng: Generator | None = None) -> None:
        super().__init__()
        self.p = number("p", p, 0.0)
        if self.p >= 1.0:
            raise ValueError(f"p must be >= 0 and < 1, got {self.p}: at 1 nothing would be left")
        self.rng = backend.as_generator(rng)

    def forward(self, x: Array) -> Array:
        """Return the masked and rescaled x, or in eval mode (and for p = 0) x itself.

        Args:
            x: any shape.

        Returns:
            The same shape.

        Raises:
            TypeError: not a floating dtype.
            ValueError: an empty array.
        """
        self._check_input(x)
        if not self.training or self.p == 0.0:
            self._keep(x, None)
            return x
        shape: tuple[int, ...] = x.shape
        drawn = self.rng.random(shape, dtype="float32")
        mask = backend.to_device(drawn >= self.p, backend.name_of(x))  # True: kept
        y = drop(x, mask, self.p)
        self._keep(y, mask)
        return y

    def backward(self, dy: Array) -> Array:
        """Return ``dy`` through the same mask and scale."""
        (mask,) = self._take(dy)
        if mask is None:
            return dy
        return drop(dy, mask, self.p)
