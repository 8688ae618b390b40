"""The linear layer."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array, DTypeLike, Generator
from uanref.layers.base import Layer, Parameter, choice, count, glorot_uniform, he_normal
from uanref.layers.sums import sum_samples


def forward(x: Array, weight: Array, bias: Array | None) -> Array:
    """Return ``y = x W^T + b`` for ``x (N, I)``, ``weight (O, I)`` and ``bias (O,)`` or None: ``(N, O)``."""
    y = x @ weight.T
    return y if bias is None else y + bias


def backward(dy: Array, x: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Return dL/dx ``(N, I)``, dL/dW ``(O, I)`` and dL/db ``(O,)`` for ``dy (N, O)``."""
    # 1. Each input reaches each output through one weight.
    dx = dy @ weight  # (N, I)
    # 2. Every sample adds its outer product of output gradient and input.
    dweight = dy.T @ x  # (O, I)
    # 3. The bias is added to every sample.
    dbias = sum_samples(dy[:, :, None])  # (O,)
    return dx, dweight, dbias


class Linear(Layer):
    r"""An affine map of the features, ``y = x W^T + b``.

    With :math:`y_{no} = \sum_i x_{ni} W_{oi} + b_o`, the chain rule gives

    .. math::
        dx_{ni} = \sum_o dy_{no} W_{oi}, \quad dW_{oi} = \sum_n dy_{no} x_{ni}, \quad db_o = \sum_n dy_{no}.

    Args:
        in_features: I, >= 1.
        out_features: O, >= 1.
        bias: whether to add ``b``.
        init: ``"he"`` (default, for ReLU) or ``"glorot"`` (for tanh, sigmoid, outputs); the bias starts at 0.
        dtype: dtype of the parameters.
        rng: generator for the start, ``default_rng(0)`` if None.

    Attributes:
        weight: shape (O, I).
        bias: shape (O,), or None.

    Raises:
        ValueError: a size below 1 or an unknown ``init``.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        init: str = "he",
        dtype: DTypeLike = "float32",
        rng: Generator | None = None,
    ) -> None:
        super().__init__(dtype)
        self.in_features = count("in_features", in_features)
        self.out_features = count("out_features", out_features)
        rng, shape = backend.as_generator(rng), (out_features, in_features)
        if choice("init", init, ("he", "glorot")) == "he":
            self.weight = self._new(he_normal(rng, shape, in_features))
        else:
            self.weight = self._new(glorot_uniform(rng, shape, in_features, out_features))
        self.bias: Parameter | None = self._new([0.0] * out_features) if bias else None

    def forward(self, x: Array) -> Array:
        """Return ``x W^T + b``.

        Args:
            x: ``(N, I)``.

        Returns:
            ``(N, O)``.

        Raises:
            ValueError: another rank or number of features.
            TypeError: another dtype than the parameters'.
        """
        self._check_input(x)
        if x.ndim != 2 or x.shape[1] != self.in_features:
            raise ValueError(
                f"Linear expects (N, {self.in_features}), got {backend.shape_text(x.shape)}: "
                "flatten images with Flatten() and match in_features"
            )
        weight, bias = self.weight.value, None if self.bias is None else self.bias.value
        backend.namespace(x, weight)
        y = forward(x, weight, bias)
        self._keep(y, x, weight)
        return y

    def backward(self, dy: Array) -> Array:
        """Return dL/dx ``(N, I)`` for ``dy`` ``(N, O)``; fills ``weight.grad`` and ``bias.grad``."""
        dx, dweight, dbias = backward(dy, *self._take(dy))
        self.weight.receive(dweight)  # (O, I)
        if self.bias is not None:
            self.bias.receive(dbias)  # (O,)
        return dx
