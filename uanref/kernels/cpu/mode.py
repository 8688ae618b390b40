"""Mode normalization's passes over x, in blocks of samples."""

from __future__ import annotations

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch, sample_blocks, walk
from uanref.kernels.cpu.sums import sum_rows


def spatial_moments(x: Array) -> tuple[Array, Array]:
    """Serve :func:`uanref.norms.mode.spatial_moments`."""
    rows = x
    xp, (samples, channels, spatial) = backend.namespace(rows), rows.shape
    p, s = (xp.empty((samples, channels), dtype=rows.dtype) for _ in range(2))
    double = backend.wide(rows)

    def task(block: slice, scratch: Scratch) -> None:
        x, centred = rows[block], scratch("centred", rows[block].shape, rows)  # (b, C, S)
        mean = sum_rows(x) / spatial  # (b, C)
        xp.subtract(x, mean[:, :, None], out=centred)
        left = sum_rows(centred) / spatial  # what rounding left of the mean, as in standardize.channel_moments
        centred *= centred
        p[block] = mean + left
        variance = sum_rows(centred) / spatial - left.astype(double) ** 2
        s[block] = xp.minimum(variance, backend.largest(x.dtype))  # saturates

    walk(task, sample_blocks(rows, 2 * rows[0].size), rows.size)
    return p, s


def around(x: Array, p: Array, scale: Array, shift: Array) -> Array:
    """Serve :func:`uanref.norms.mode.around`."""
    xp, rows = backend.namespace(x, p, scale, shift), x
    y: Array = xp.empty(rows.shape, dtype=x.dtype)
    scale_, shift_, p_ = (q.astype(x.dtype)[:, :, None] for q in (scale, shift, p))  # (N, C, 1)

    def normalize(block: slice, scratch: Scratch) -> None:
        out = y[block]  # (b, C, S)
        xp.subtract(rows[block], p_[block], out=out)
        out *= scale_[block]
        out += shift_[block]

    walk(normalize, sample_blocks(rows, 2 * rows[0].size), rows.size)
    return y


def around_backward(dy: Array, x: Array, p: Array, direct: Array, through_s: Array, through_p: Array) -> Array:
    """Serve :func:`uanref.norms.mode.around_backward`."""
    xp, rows = backend.namespace(dy, x, p), x
    dx: Array = xp.empty(rows.shape, dtype=dy.dtype)
    direct_, s_, p_ = (q.astype(dy.dtype)[:, :, None] for q in (direct, through_s, through_p))  # (N, C, 1)

    def propagate(block: slice, scratch: Scratch) -> None:
        out, term = dx[block], scratch("product", rows[block].shape, dy)  # (b, C, S)
        xp.multiply(dy[block], direct_[block], out=out)
        xp.subtract(rows[block], p[block, :, None], out=term)
        term *= s_[block]
        out += term
        out += p_[block]

    walk(propagate, sample_blocks(rows, 3 * rows[0].size), rows.size)
    return dx


def spatial_sums(dy: Array, x: Array, p: Array) -> tuple[Array, Array]:
    """Serve :func:`uanref.norms.mode.spatial_sums`."""
    xp, rows = backend.namespace(dy, x, p), x
    plain, centred_sum = (xp.empty(p.shape, dtype=backend.wide(x)) for _ in range(2))

    def sums(block: slice, scratch: Scratch) -> None:
        product = scratch("product", rows[block].shape, dy)
        xp.subtract(rows[block], p[block, :, None], out=product)
        product *= dy[block]
        plain[block], centred_sum[block] = sum_rows(dy[block]), sum_rows(product)

    walk(sums, sample_blocks(rows, 3 * rows[0].size), rows.size)
    return plain, centred_sum
