"""Softmax cross-entropy on a device: two launches forward, one backward.

Logits are read from memory once and log p is written once: 2 passes over (N, C) forward, 2 backward (log p in, gradient
out), and soft targets once more each. A row is short enough to stay in the cache while its block walks over it three
times. Labels are compared in place: no one-hot rows exist. The array code launches 12 kernels forward (9 with soft
targets, 2 more with smoothing) and 5 backward.
"""

from __future__ import annotations

from typing import Any

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cuda.launch import THREADS, kernel, serves

BLOCKS = 4096
"""At most so many blocks share the rows, so that a single block can add up their losses."""
WARP = 32
SHORT_ROW = 128
"""Rows of at most so many classes get one warp of threads each, longer ones a whole block of THREADS."""
VARIANTS = ({"THREADS": WARP}, {"THREADS": THREADS})
"""The constants that the source is compiled with."""


def cross_entropy(logits: Array, targets: Array, label_smoothing: float) -> tuple[Array, Array]:
    """Serve :func:`uanref.losses.cross_entropy`: 2 launches, one more for labels that are not int64."""
    if not serves(logits):
        return NotImplemented
    xp = backend.namespace(logits, targets)
    samples, classes = logits.shape
    blocks = min(samples, BLOCKS)
    log_p: Array = xp.empty((samples, classes), dtype=logits.dtype)
    of_block = xp.empty(blocks, dtype="float64")
    loss: Array = xp.empty((), dtype=logits.dtype)

    row_major, (soft, labels) = xp.ascontiguousarray(logits), _pointers(targets)
    _launch("cross_entropy_rows", log_p, blocks, row_major, soft, labels, float(label_smoothing), samples, classes,
            log_p, of_block)  # fmt: skip
    _launch("cross_entropy_mean", log_p, 1, of_block, blocks, samples, loss)
    return loss, log_p


def cross_entropy_backward(log_p: Array, targets: Array, label_smoothing: float) -> Array:
    """Serve :func:`uanref.losses.cross_entropy_backward`: 1 launch."""
    if not serves(log_p):
        return NotImplemented
    xp, (samples, classes) = backend.namespace(log_p, targets), log_p.shape
    log_p = xp.ascontiguousarray(log_p)
    d_logits: Array = xp.empty((samples, classes), dtype=log_p.dtype)
    soft, labels = _pointers(targets)
    _launch("cross_entropy_gradient", log_p, min(samples, BLOCKS), log_p, soft, labels,
            float(label_smoothing), samples, classes, d_logits)  # fmt: skip
    return d_logits


def _pointers(targets: Array) -> tuple[Any, Any]:
    """Return what the kernels take for soft targets and for labels; 0, a null pointer, for what is not there."""
    xp = backend.namespace(targets)
    if targets.dtype.kind == "f":
        return xp.ascontiguousarray(targets), 0
    return 0, xp.ascontiguousarray(targets.astype("int64", copy=False))


def _launch(name: str, log_p: Array, blocks: int, *arguments: Any) -> None:
    """Launch with as many threads as a row of ``log_p`` can use."""
    threads = WARP if log_p.shape[1] <= SHORT_ROW else THREADS
    kernel("softmax_cross_entropy", name, log_p.dtype.char, THREADS=threads)((blocks,), (threads,), arguments)
