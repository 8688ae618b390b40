"""Softmax cross-entropy in blocks of samples: labels pick entries of log p, and no one-hot rows exist.

Forward every logit is looked at for the maximum, shifted, raised to e once (which only the sum outlives) and becomes
log p; backward log p is raised to e and multiplied. The definition makes 20 passes and 8 whole arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch, sample_blocks, walk
from uanref.kernels.cpu.lines import LongRows, empty
from uanref.kernels.cpu.sums import sum_rows

T = TypeVar("T")

NUMBERS = 12
"""So many times its logits a sample is said to take. It takes three times as many: a block, logits, log p and
exponentials, is to stay in the second-level cache."""


def cross_entropy(logits: Array, targets: Array, label_smoothing: float) -> tuple[Array, Array]:
    """Serve :func:`uanref.losses.cross_entropy` on the host. Labels lie in 0 ... C-1: the layer has looked."""
    if backend.name_of(logits) != "numpy":
        return NotImplemented
    xp = backend.namespace(logits, targets)
    log_p = empty(logits.shape, logits)
    of_block = _of_labels if targets.dtype.kind in "iu" else _of_rows

    def task(block: slice, scratch: Scratch) -> float:
        z, found = logits[block], log_p[block]
        largest = z.max(axis=1, keepdims=True)
        with LongRows(z.shape[1]):
            with xp.errstate(over="ignore"):  # what exceeds the range is minus infinity
                xp.subtract(z, largest, out=found)
            exponentials = xp.exp(found, out=scratch("exponentials", found.shape, found))
            found -= xp.log(sum_rows(exponentials)[:, None])
        return of_block(found, targets[block], label_smoothing, exponentials)

    return xp.asarray(sum(_each(task, logits)) * (-1.0 / len(logits)), dtype=logits.dtype), log_p


def cross_entropy_backward(log_p: Array, targets: Array, label_smoothing: float) -> Array:
    """Serve :func:`uanref.losses.cross_entropy_backward` on the host."""
    if backend.name_of(log_p) != "numpy":
        return NotImplemented
    xp = backend.namespace(log_p, targets)
    d_logits = empty(log_p.shape, log_p)

    def task(block: slice, scratch: Scratch) -> None:
        found, t = xp.exp(log_p[block], out=d_logits[block]), targets[block]
        if t.dtype.kind in "iu":
            of_label, of_each = _shares(log_p, label_smoothing)
            if of_each:
                found -= of_each
            found[xp.arange(len(t)), t] -= of_label
        else:
            t = _smoothed(t, label_smoothing, scratch("t", found.shape, found))
            found *= t.sum(axis=1, keepdims=True)
            found -= t
        found *= 1.0 / len(log_p)

    _each(task, log_p)
    return d_logits


def _each(task: Callable[[slice, Scratch], T], z: Array) -> list[T]:
    """Return what ``task`` makes of every block of rows; a single one needs no walk."""
    blocks = sample_blocks(z, NUMBERS * z.shape[1])
    return walk(task, blocks, z.size) if len(blocks) > 1 else [task(blocks[0], Scratch())]


def _of_labels(log_p: Array, labels: Array, label_smoothing: float, spare: Array) -> float:
    """Return ``sum t log p`` over a block, t as the labels say."""
    xp = backend.namespace(log_p)
    of_label, of_each = _shares(log_p, label_smoothing)
    total = 0.0  # minus infinity times 0 is nothing here
    if of_label:
        total += of_label * float(log_p[xp.arange(len(labels)), labels].sum(dtype="float64"))
    if of_each:
        total += of_each * float(log_p.sum(dtype="float64"))
    return total


def _shares(z: Array, label_smoothing: float) -> tuple[float, float]:
    """Return how much of t a label's class has to itself, and how much each class has, as the dtype of z knows them."""
    number = z.dtype.type
    return float(number(1.0 - label_smoothing)), float(number(label_smoothing / z.shape[1]))


def _of_rows(log_p: Array, t: Array, label_smoothing: float, spare: Array) -> float:
    """Return ``sum t log p`` over a block of soft targets, with 0 log 0 = 0."""
    xp = backend.namespace(log_p, t)
    smooth = _smoothed(t, label_smoothing, spare)
    if log_p.min() == -xp.inf:  # then there is no NaN
        log_p = xp.where(smooth == 0, 0.0, log_p)
    return float(xp.multiply(smooth, log_p, out=spare).sum(axis=1).sum(dtype="float64"))


def _smoothed(t: Array, label_smoothing: float, spare: Array) -> Array:
    """Return soft targets as they are, or smoothed in ``spare``."""
    if label_smoothing == 0.0:
        return t
    smooth: Array = backend.namespace(t).multiply(t, 1.0 - label_smoothing, out=spare)
    smooth += label_smoothing / t.shape[1]
    return smooth
