"""A trained array and its gradient."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array


class Parameter:
    """A trained array and its gradient.

    Attributes:
        grad: dL/dvalue, same shape and dtype, filled by ``backward``; None before the first one.
        trainable: False for state that moves by another rule than the gradient (UAN's
            ``update="em"``): such a parameter is a buffer, absent from ``parameters()``.

    Raises:
        TypeError: the value is no NumPy or CuPy array of float32 or float64 (complex128 for the complex step).
    """

    def __init__(self, value: Array, *, trainable: bool = True) -> None:
        self.value = value
        self.grad: Array | None = None
        self.trainable = trainable

    @property
    def value(self) -> Array:
        """The array; may be assigned, layers read it at each call."""
        return self._value

    @value.setter
    def value(self, value: Array) -> None:
        host = backend.module("numpy")
        if isinstance(value, host.generic):  # which arithmetic of 0-d arrays returns
            value = host.asarray(value)
        backend.check_float("a parameter must be floating point,", value)
        self._value = value

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the value."""
        shape: tuple[int, ...] = self.value.shape
        return shape

    @property
    def size(self) -> int:
        """Number of entries."""
        return int(self.value.size)

    def receive(self, grad: Array) -> None:
        """Take the gradient of one backward pass: assigned, or added inside ``backend.accumulating()``.

        Raises:
            BackendMismatch: gradient and value lie on different backends.
            TypeError: the gradient is no array, or of another dtype than the value.
            ValueError: the gradient's shape is not the value's.
        """
        self._check_gradient("a parameter", grad)
        self.grad = self.grad + grad if backend.is_accumulating() and self.grad is not None else grad

    def _check_gradient(self, name: str, grad: Array) -> None:
        """Refuse what is no gradient of this parameter, which a message calls ``name``; raises as :meth:`receive`."""
        value = self._value
        backend.namespace(value, grad)
        if grad.shape != value.shape:
            raise ValueError(
                f"{name} of shape {backend.shape_text(self.shape)} has a gradient of shape "
                f"{backend.shape_text(grad.shape)}: they must be equal"
            )
        if grad.dtype != value.dtype:
            raise TypeError(
                f"{name} of {value.dtype} has a gradient of {grad.dtype}: convert it with grad.astype('{value.dtype}')"
            )

    def __repr__(self) -> str:
        return f"Parameter(shape={self.shape}, dtype={self.value.dtype})"


def tied(name: str, first: str, second: str) -> str:
    """Return the sentence about one Parameter in two places."""
    return (
        f"{name} got the same Parameter in two places, {first} and {second}: the second gradient would overwrite the "
        "first one's; make two, or hold the layer once and call it twice inside backend.accumulating()"
    )
