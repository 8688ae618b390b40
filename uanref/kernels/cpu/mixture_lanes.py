"""How a mixture's arithmetic lies in memory: lanes of numbers, each with its own copy of every constant.

NumPy's loops over arrays of one shape take 0.15 ns for a number in the cache. Where one of them repeats along an axis,
as a channel's mean does along samples and space, the inner loops are short, or NumPy first copies the repeated numbers:
twice the time. So the constants of all channels are laid out once for :data:`LANE` numbers (a few samples, or a few
channels of a large one), and a block of samples is read as rows of such lanes.

A joint posterior, whose arithmetic mixes arrays with and without channels, and a device keep the shapes of the
definition, ``(b, C, S)``, and broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias, TypeVar

from uanref import backend
from uanref.backend import Array
from uanref.kernels.cpu.blocks import Scratch, per_channel, sample_blocks, walk
from uanref.kernels.cpu.sums import sum_rows, sum_samples

T = TypeVar("T")

# What NumPy's buffers hold, np.getbufsize(): loops over as many numbers use none.
LANE = 8192
# How many buffers of K times a block's size share BLOCK_BYTES. A block has three: with 5, what it works on is a little
# more than the second-level cache holds, which costs one thread a twelfth, but two threads, which wait for the
# interpreter lock after each operation, gain a quarter.
SHARE = 5
CACHE_LINE = 64

Constant: TypeAlias = list[Array]
"""A constant per component and channel, laid out for each group of channels, from :meth:`Lanes.constants`."""


class Block(NamedTuple):
    """Samples of a group of channels."""

    number: int
    samples: slice
    group: int


class Lanes:
    """A batch ``x (N, C, S)``, cut into blocks that depend on its shape and dtype alone.

    Args:
        x: the batch.
        components: K.
        joint: whether one posterior serves all channels.

    Attributes:
        flat: whether blocks are rows of lanes, ``(rows, lane)``; else they are ``(b, C, S)``.
        groups: the channels of a lane: all of them, unless one sample's exceed it.
        blocks: cover the batch, one group after the other.
    """

    def __init__(self, x: Array, components: int, joint: bool) -> None:
        samples, channels, spatial = x.shape
        self.xp, self.shape = backend.namespace(x), x.shape
        self.flat = backend.name_of(x) == "numpy" and not joint
        width = min(channels, max(1, LANE // spatial)) if self.flat else channels
        self.groups = [slice(i, min(i + width, channels)) for i in range(0, channels, width)]
        step = sample_blocks(x, SHARE * components * width * spatial)[0].stop
        self.per_lane = max(1, min(LANE // (width * spatial), step)) if self.flat else 1  # samples
        # Whole lanes, and what is left of the batch.
        step, whole = step - step % self.per_lane, samples - samples % self.per_lane
        cuts = [slice(i, min(i + step, whole)) for i in range(0, whole, step)]
        cuts += [slice(whole, samples)] if whole < samples else []
        pairs = [(cut, group) for group in range(len(self.groups)) for cut in cuts]
        self.blocks = [Block(number, *pair) for number, pair in enumerate(pairs)]

    def constants(self, *given: Array) -> list[Constant]:
        """Lay out constants ``(K, C)`` to broadcast against blocks ``(K, ...)``."""
        stacked = self.xp.stack(given)  # (constants, K, C)
        groups = [self.spread(stacked[..., group]) for group in self.groups]
        return [list(constant) for constant in zip(*groups, strict=True)]

    def spread(self, a: Array) -> Array:
        """Lay out ``(..., C')`` of one group, ``(..., 1, lane)``; ``(..., 1, 1)`` where a channel's row is a lane."""
        spatial, channels = self.shape[2], a.shape[-1]
        if not self.flat:
            return per_channel(a, spatial)
        if spatial >= LANE:
            return a[..., None]
        (lane,) = empty_lines(1, (*a.shape[:-1], self.per_lane, channels, spatial), a)
        lane[...] = a[..., None, :, None]
        return lane.reshape(*a.shape[:-1], 1, -1)

    def walk(self, task: Callable[[Part], T]) -> list[list[T]]:
        """Return the task's results for the blocks of each group of channels."""
        buffers: dict[tuple[int, str, tuple[int, ...]], list[Array]] = {}

        def visit(at: slice, scratch: Scratch) -> T:
            return task(Part(self, self.blocks[at.stop], id(scratch), buffers))

        each = [slice(number) for number in range(len(self.blocks))]
        results = walk(visit, each, math.prod(self.shape))
        per_group = len(each) // len(self.groups)
        return [results[i : i + per_group] for i in range(0, len(results), per_group)]


class Part:
    """One block, as the worker sees it that has it."""

    def __init__(
        self, lanes: Lanes, block: Block, worker: int, buffers: dict[tuple[int, str, tuple[int, ...]], list[Array]]
    ) -> None:
        self.lanes, self.xp, self.block = lanes, lanes.xp, block
        self.channels = lanes.groups[block.group]
        self.count = min(block.samples.stop, lanes.shape[0]) - block.samples.start  # b
        self.rows = max(1, self.count // lanes.per_lane)
        self._worker, self._buffers = worker, buffers

    def samples(self, a: Array) -> Array:
        """Return the block's part of ``a (N, C, S)``; on lanes a copy if it is not contiguous."""
        part = a[self.block.samples, self.channels]  # (b, C', S)
        return part.reshape(self.rows, -1) if self.lanes.flat else part

    def target(self, a: Array) -> Array:
        """Return the block's part of ``a (N, C, S)``, contiguous, to write into."""
        if not self.lanes.flat:
            return a[self.block.samples]
        spatial, rows = self.lanes.shape[2], a.reshape(len(a), -1)
        part = rows[self.block.samples, self.channels.start * spatial : self.channels.stop * spatial]
        return part.reshape(self.rows, -1)

    def constant(self, laid_out: Constant, like: Array) -> Array:
        """Return what :meth:`Lanes.constants` laid out, as long as a row of the block ``like``."""
        return laid_out[self.block.group][..., : like.shape[-1]]

    def spread(self, a: Array, like: Array) -> Array:
        """Lay out ``(K, C')`` in the same way, for this block alone."""
        return self.lanes.spread(a)[..., : like.shape[-1]]

    def buffers(self, name: str, count: int, shape: tuple[int, ...], like: Array) -> list[Array]:
        """Return ``count`` uninitialized arrays, which the worker has from block to block."""
        key = self._worker, name, shape
        found = self._buffers.get(key)
        if found is None:
            found = self._buffers[key] = empty_lines(count, shape, like)
        return found

    def sums(self, z: Array) -> Array:
        """Sum ``(K, ...)`` over the block's samples and space, ``-> (K, C')``: products with ones."""
        if not self.lanes.flat:
            return sum_samples(z)
        ones = self.xp.ones((1, self.count), dtype=z.dtype)
        over_samples = ones @ z.reshape(len(z), self.count, -1)  # (K, 1, C' S)
        return sum_rows(over_samples.reshape(len(z), -1, self.lanes.shape[2]))


def empty_lines(count: int, shape: tuple[int, ...], like: Array) -> list[Array]:
    """Return ``count`` uninitialized arrays; on the host they begin at lines of the cache, which is twice as fast."""
    xp, size, line = backend.namespace(like), math.prod(shape), CACHE_LINE // like.dtype.itemsize
    step = line * -(-size // line)
    raw = xp.empty(line + count * step, dtype=like.dtype)
    start = -raw.ctypes.data % CACHE_LINE // like.dtype.itemsize if backend.name_of(like) == "numpy" else 0
    return [raw[i : i + size].reshape(shape) for i in range(start, start + count * step, step)]


def joined(groups: list[Array]) -> Array:
    """Put the channels of all groups beside each other, ``(K, C')`` or ``(C',)`` each."""
    return groups[0] if len(groups) == 1 else backend.namespace(groups[0]).concatenate(groups, axis=-1)
