"""The residual connection."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.layers.base import Layer, refuse_shared


class Residual(Layer):
    r"""A body with a way around it, :math:`y = F(x) + s(x)` (He et al. 2016, eq. 1 and 2).

    x reaches y by two paths and the chain rule adds them: :math:`dx = F'(x)^T dy + s'(x)^T dy`,
    the second term being dy itself when the shortcut is the identity.

    Args:
        body: F.
        shortcut: s, such as a 1x1 convolution where F changes the shape; the identity if None.

    Raises:
        TypeError: an argument is no Layer.
        ValueError: a layer with parameters, or a Parameter (tied weights), stands on both paths.
    """

    def __init__(self, body: Layer, shortcut: Layer | None = None) -> None:
        super().__init__()
        for name, layer in (("body", body), ("shortcut", shortcut)):
            if not isinstance(layer, Layer) and not (name == "shortcut" and layer is None):
                raise TypeError(f"Residual takes a layer as {name}, got {type(layer).__name__}")
        refuse_shared("Residual", body, *([] if shortcut is None else [shortcut]))
        self.body = body
        self.shortcut = shortcut

    def forward(self, x: Array) -> Array:
        """Return ``body(x) + shortcut(x)``.

        Args:
            x: what body and shortcut take.

        Returns:
            The shape that both return.

        Raises:
            ValueError: the two shapes differ (nothing is broadcast), or an empty array.
            TypeError: not a floating dtype.
        """
        self._check_input(x)
        through = self.body.forward(x)
        around = x if self.shortcut is None else self.shortcut.forward(x)
        if through.shape != around.shape:
            raise ValueError(
                f"Residual cannot add a body output of shape {backend.shape_text(through.shape)} to a shortcut output "
                f"of shape {backend.shape_text(around.shape)}: give a shortcut that maps x to the body's shape"
            )
        y: Array = through + around  # a new array: either may be x itself
        self._keep(y)
        return y

    def backward(self, dy: Array) -> Array:
        """Return the sum of both paths' gradients."""
        self._take(dy)
        # Reverse order of forward, in case one layer stands on both paths.
        d_around = dy if self.shortcut is None else self.shortcut.backward(dy)
        d_through = self.body.backward(dy)
        dx: Array = d_through + d_around
        return dx
