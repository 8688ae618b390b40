"""Class-adaptive normalization (CLADE)."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array, DTypeLike
from uanref.layers.base import Layer, count
from uanref.norms.batch import BatchNorm


class ClassAdaptiveNorm(Layer):
    r"""Normalize without parameters, then scale and shift each pixel by its semantic class (CLADE, Tan et al. 2022).

    With the class :math:`k = \text{class\_map}_{ns}` of pixel s of sample n, and :math:`\hat x` the input
    after batch normalization without gamma and beta,

    .. math::
        y_{ncs} = \gamma_{kc}\, \hat x_{ncs} + \beta_{kc}.

    Which parameter-free normalization comes first is a free choice; here it is batch normalization:
    batch statistics in train mode, running moments in eval mode.

    Backward: a pixel reaches gamma and beta of its own class only, so each class sums over its pixels,

    .. math::
        d\gamma_{kc} = \sum_{ns:\, \text{class} = k} dy_{ncs}\, \hat x_{ncs}, \quad
        d\beta_{kc} = \sum_{ns:\, \text{class} = k} dy_{ncs}, \quad d\hat x_{ncs} = \gamma_{kc}\, dy_{ncs},

    and batch normalization's backward pass turns :math:`d\hat x` into dx. The class map is data: it gets no gradient,
    and must not be written into between forward and backward.

    ``forward`` takes a second input, so the layer stands in no :class:`~uanref.layers.base.Sequential`.

    Args:
        num_features: C, >= 1.
        num_classes: K, >= 1; with K = 1 this is batch normalization.
        eps, momentum: as in :class:`~uanref.norms.batch.BatchNorm`.
        dtype: dtype of the parameters.

    Attributes:
        gamma: (K, C), starts at 1.
        beta: (K, C), starts at 0.
        normalization: the parameter-free batch normalization, with its running moments.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        eps: float = 1e-5,
        momentum: float = 0.1,
        *,
        dtype: DTypeLike = "float32",
    ) -> None:
        super().__init__(dtype)
        self.num_features = count("num_features", num_features)
        self.num_classes = count("num_classes", num_classes)
        self.normalization = BatchNorm(num_features, eps, momentum, affine=False, dtype=dtype)
        self.gamma = self._new([[1.0] * num_features] * num_classes)
        self.beta = self._new([[0.0] * num_features] * num_classes)

    def forward(self, x: Array, class_map: Array) -> Array:  # type: ignore[override]  # a second input
        """Return y.

        Args:
            x: ``(N, C, ...)``, for images ``(N, C, H, W)``.
            class_map: integers in 0 ... K-1, ``(N, ...)``, for images ``(N, H, W)``. Tested for their range on
                the host only: on a device that would make it wait.

        Returns:
            Shape of ``x``.

        Raises:
            ValueError: wrong shapes, a class out of range (host), one sample per channel in train mode.
            TypeError: another dtype than the parameters', a class map that does not hold integers.
            BackendMismatch: ``x``, ``class_map`` and the parameters are not all on one backend.
        """
        self._check_channels(x, self.num_features)
        self._check_classes(x, class_map)
        gamma, beta = (_look_up(p.value, class_map) for p in (self.gamma, self.beta))  # (N, C, ...)
        x_hat = self.normalization.forward(x)
        y: Array = gamma * x_hat + beta
        self._keep(y, x_hat, class_map, gamma)
        return y

    def __call__(self, x: Array, class_map: Array) -> Array:  # type: ignore[override]
        """Same as :meth:`forward`."""
        return self.forward(x, class_map)

    def backward(self, dy: Array) -> Array:
        """Return dL/dx for ``dy`` of the output's shape; fills ``gamma.grad`` and ``beta.grad``."""
        x_hat, class_map, gamma = self._take(dy)
        backend.namespace(dy, x_hat)
        # 1. Each class sums over its pixels.
        self.gamma.receive(_sum_by_class(dy * x_hat, class_map, self.num_classes))  # (K, C)
        self.beta.receive(_sum_by_class(dy, class_map, self.num_classes))  # (K, C)
        # 2. Each pixel is scaled by its class, then was normalized.
        return self.normalization.backward(gamma * dy)

    def _check_classes(self, x: Array, class_map: Array) -> None:
        backend.namespace(x, class_map, self.gamma.value)
        expected = (x.shape[0], *x.shape[2:])
        if class_map.shape != expected:
            raise ValueError(
                f"ClassAdaptiveNorm expects a class map {backend.shape_text(expected)} for an input "
                f"{backend.shape_text(x.shape)}, got {backend.shape_text(class_map.shape)}: give one class per pixel"
            )
        if class_map.dtype.kind not in "iu":
            raise TypeError(
                f"ClassAdaptiveNorm expects integer classes, got {class_map.dtype}: use class_map.astype('int64')"
            )
        if backend.name_of(class_map) == "numpy":
            low, high = int(class_map.min()), int(class_map.max())
            if low < 0 or high >= self.num_classes:
                raise ValueError(
                    f"ClassAdaptiveNorm has the classes 0 to {self.num_classes - 1}, got {low} to {high} in the class "
                    "map: raise num_classes or map the labels"
                )


def _look_up(table: Array, class_map: Array) -> Array:
    """Return ``table[class_map]`` with channels on axis 1: ``(K, C), (N, ...) -> (N, C, ...)``."""
    values: Array = table.T[:, class_map].swapaxes(0, 1)
    return values


def _sum_by_class(values: Array, class_map: Array, classes: int) -> Array:
    """Sum the pixels of each class, the backward of :func:`_look_up`: ``(N, C, ...), (N, ...) -> (K, C)``."""
    xp, samples = backend.namespace(values, class_map), values.shape[0]
    # A product with one-hot columns: on a device, too, it adds in the same order every time.
    members = class_map.reshape(samples, 1, -1) == xp.arange(classes)[:, None]  # (N, K, S)
    rows = values.reshape(samples, values.shape[1], -1)  # (N, C, S)
    total: Array = xp.matmul(members.astype(values.dtype), rows.swapaxes(1, 2)).sum(axis=0)
    return total
