"""gamma and beta: what the norms with a scale and a shift per channel share."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array, DTypeLike
from uanref.layers.base import Parameter


class ScaleAndShift:
    """What a norm has that ends in ``y = gamma x_hat + beta``; it stands before Layer among the norm's bases.

    Attributes:
        gamma: scale, shape (C,), starts at 1; None without ``affine``.
        beta: shift, shape (C,), starts at 0; None without ``affine``.
    """

    gamma: Parameter | None = None
    beta: Parameter | None = None

    def _make_scale_and_shift(self, channels: int, affine: bool, dtype: DTypeLike) -> None:
        asarray = backend.module(backend.current()).asarray
        self.gamma = Parameter(asarray([1.0] * channels, dtype=dtype)) if affine else None
        self.beta = Parameter(asarray([0.0] * channels, dtype=dtype)) if affine else None

    def _scale_and_shift(self) -> tuple[Array | None, Array | None]:
        """Return the values of gamma and beta, ``(C,)``, None for 1 and 0."""
        return None if self.gamma is None else self.gamma.value, None if self.beta is None else self.beta.value

    def _receive_scale_and_shift(self, dgamma: Array, dbeta: Array) -> None:
        """Hand on the gradients ``(C,)``; what was not asked for takes none."""
        if self.gamma is not None:
            self.gamma.receive(dgamma)
        if self.beta is not None:
            self.beta.receive(dbeta)
