"""What layer, group and instance normalization share: statistics of one sample, over groups of its channels."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.blocking import Scratch, merge_sums, per_channel, sample_blocks, sum_rows, sum_samples, walk


def normalize(
    rows: Array, groups: int, eps: float, gamma: Array | None, beta: Array | None
) -> tuple[Array, Array, Array]:
    r"""Normalize each group of channels of each sample, then scale and shift each channel.

    With the L = (C/G) S numbers of sample n and group g,

    .. math::
        \mu_{ng} = \frac1L \sum_l x_{ngl}, \quad v_{ng} = \frac1L \sum_l (x_{ngl} - \mu_{ng})^2, \quad
        \hat x_{ngl} = (x_{ngl} - \mu_{ng})\, i_{ng}, \quad i = 1/\sqrt{v + \epsilon}, \quad y = \gamma \hat x + \beta.

    Args:
        rows: x, ``(N, C, S)``.
        groups: G, divides C.
        eps: added to the variance inside the root.
        gamma, beta: ``(C,)``, or None for 1 and 0.

    Returns:
        ``y (N, C, S)``, ``mean (N, G, 1)`` and ``inverse_std (N, G, 1)``.
    """
    xp, (samples, _, spatial) = backend.namespace(rows), rows.shape
    y: Array = xp.empty(rows.shape, dtype=rows.dtype)
    mean, inverse_std = (xp.empty((samples, groups, 1), dtype=rows.dtype) for _ in range(2))
    gamma_, beta_ = (None if a is None else per_channel(a, spatial) for a in (gamma, beta))

    def task(block: slice, scratch: Scratch) -> None:
        x = rows[block].reshape(-1, groups, rows[0].size // groups)  # (b, G, L)
        x_hat = y[block].reshape(x.shape)
        length = x.shape[2]
        mean[block, :, 0] = sum_rows(x) / length
        xp.subtract(x, mean[block], out=x_hat)
        square = scratch("square", x.shape, x)
        xp.multiply(x_hat, x_hat, out=square)
        variance = xp.minimum(sum_rows(square) / length, backend.largest(x.dtype))  # saturates
        inverse_std[block, :, 0] = 1.0 / xp.sqrt(variance + eps)
        x_hat *= inverse_std[block]
        if gamma_ is not None and beta_ is not None:
            out = y[block]  # the same memory, (b, C, S)
            out *= gamma_
            out += beta_

    walk(task, sample_blocks(rows, 3 * rows[0].size), rows.size)
    return y, mean, inverse_std


def normalize_backward(
    dy: Array, rows: Array, mean: Array, inverse_std: Array, gamma: Array | None
) -> tuple[Array, Array, Array]:
    r"""Backward of :func:`normalize`.

    The derivation is batch normalization's with the sample's groups in the batch's place; gamma
    differs within a group, so it goes to dy first, :math:`g = \gamma\, dy`:

    1. :math:`d\gamma = \sum_{n,s} dy\, \hat x` and :math:`d\beta = \sum_{n,s} dy`, per channel;
    2. :math:`dx = i \left( g - \frac1L \sum_l g_l - \hat x \frac1L \sum_l g_l \hat x_l \right)`, per group.

    Args:
        dy: ``(N, C, S)``.
        rows: x, ``(N, C, S)``.
        mean, inverse_std: from :func:`normalize`, ``(N, G, 1)``.
        gamma: ``(C,)`` or None.

    Returns:
        ``dx (N, C, S)``, ``dgamma (C,)``, ``dbeta (C,)``.
    """
    xp, groups, spatial = backend.namespace(dy, rows), mean.shape[1], rows.shape[2]
    dx: Array = xp.empty(rows.shape, dtype=dy.dtype)
    gamma_ = None if gamma is None else per_channel(gamma, spatial)

    def task(block: slice, scratch: Scratch) -> tuple[Array, Array]:
        dy_b, g = dy[block], dx[block]  # (b, C, S); g becomes dx where it stands
        x_hat, product = scratch("x_hat", dy_b.shape, dy), scratch("product", dy_b.shape, dy)
        grouped = (-1, groups, rows[0].size // groups)  # (b, G, L)
        x_hat_l, product_l, g_l = x_hat.reshape(grouped), product.reshape(grouped), g.reshape(grouped)
        xp.subtract(rows[block].reshape(grouped), mean[block], out=x_hat_l)
        x_hat_l *= inverse_std[block]
        # 1. Per channel, over samples and space.
        xp.multiply(dy_b, x_hat, out=product)
        dgamma, dbeta = sum_samples(product), sum_samples(dy_b)  # (C,)
        # 2. Directly, minus what goes through the mean and the variance of its group.
        if gamma_ is None:
            g[...] = dy_b
        else:
            xp.multiply(dy_b, gamma_, out=g)
        length = g_l.shape[2]
        through_mean = sum_rows(g_l)[..., None] / length  # (b, G, 1)
        xp.multiply(g_l, x_hat_l, out=product_l)
        x_hat_l *= sum_rows(product_l)[..., None] / length
        g_l -= through_mean
        g_l -= x_hat_l
        g_l *= inverse_std[block]
        return dgamma, dbeta

    parts = walk(task, sample_blocks(rows, 4 * rows[0].size), rows.size)
    return dx, merge_sums([part[0] for part in parts], dy.dtype), merge_sums([part[1] for part in parts], dy.dtype)
