"""Layer normalization."""

from __future__ import annotations

from uanref.backend import DTypeLike
from uanref.layers.base import count
from uanref.norms.group import GroupNorm


class LayerNorm(GroupNorm):
    r"""Layer normalization: each sample gets mean 0 and variance 1 over all its numbers (Ba, Kiros & Hinton 2016).

    With the M = C S numbers of sample n, :math:`i_n = 1/\sqrt{v_n + \epsilon}` and :math:`h = \gamma\, dy`,

    .. math::
        y = \gamma\, (x - \mu_n)\, i_n + \beta, \qquad
        dx = i_n \left( h - \frac1M \sum_l h_l - \hat x \frac1M \sum_l h_l \hat x_l \right).

    It is group normalization with one group, and written so. Statistics run over all axes but 0, while gamma and
    beta have one entry per channel (for images PyTorch's ``LayerNorm`` has one per pixel; its
    ``GroupNorm(1, C)`` is this layer).

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
        super().__init__(1, num_features, eps, affine, dtype=dtype)
