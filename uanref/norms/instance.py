"""Instance normalization."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array, DTypeLike
from uanref.layers.base import count
from uanref.norms.group import GroupNorm


class InstanceNorm(GroupNorm):
    r"""Instance normalization: each channel of each sample gets mean 0 and variance 1 (Ulyanov et al. 2016).

    With the S spatial elements of sample n and channel c, :math:`i_{nc} = 1/\sqrt{v_{nc} + \epsilon}`,

    .. math::
        y = \gamma\, (x - \mu_{nc})\, i_{nc} + \beta, \qquad
        dx = \gamma\, i_{nc} \left( dy - \frac1S \sum_s dy_s - \hat x \frac1S \sum_s dy_s \hat x_s \right).

    It is group normalization with C groups, and written so. There are no running statistics.

    Args:
        num_features: C, >= 1.
        eps: added to the variance inside the root, >= 0.
        affine: whether to learn gamma and beta; without them they are 1 and 0.
        dtype: dtype of the parameters.

    Range: a variance beyond the dtype (deviations above 1e19 in float32) saturates at its largest number: outputs
    stay finite and shrink.

    Attributes:
        gamma: scale, shape (C,), starts at 1; None without ``affine``.
        beta: shift, shape (C,), starts at 0; None without ``affine``.

    Raises:
        ValueError: an option out of range.
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, affine: bool = True, *, dtype: DTypeLike = "float32"
    ) -> None:
        self.num_features = count("num_features", num_features)
        super().__init__(num_features, num_features, eps, affine, dtype=dtype)

    def forward(self, x: Array) -> Array:
        """Normalize ``x``, the same way in train and eval mode.

        Args:
            x: ``(N, C, ...)``, rank >= 3.

        Returns:
            Same shape.

        Raises:
            ValueError: wrong rank or channels; one spatial element (rank 2 included), whose x_hat would be 0.
            TypeError: another dtype than the parameters'.
        """
        self._check_channels(x, self.num_features)
        if x.ndim == 2 or x[0, 0].size == 1:
            raise ValueError(
                f"InstanceNorm needs more than one spatial element per channel, got {backend.shape_text(x.shape)}: "
                "its output would be beta everywhere"
            )
        return super().forward(x)
