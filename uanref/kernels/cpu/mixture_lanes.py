"""How a mixture's arithmetic lies in memory: lanes of numbers, each with its own copy of every constant.

NumPy's loops over two arrays of one shape take a number in 0.2 ns. Where one of them repeats along an axis, as a channel's
mean does along samples and space, the inner loops are short, or NumPy first copies the repeated numbers: twice the time.
So the constants of a channel are laid out once for :data:`LANE` numbers (a few samples, or a few channels of a large one),
and the blocks of samples are read as rows of such lanes.

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
# A block's buffers per component, and with them the constants, stay in the second-level cache (2 MiB) if each has this
# share of BLOCK_BYTES.
SHARE = 10
CACHE_LINE = 64

Constant: TypeAlias = list[Array]
"""A constant per component and channel, laid out per group of channels: :meth:`Lanes.constant`."""


class Block(NamedTuple):
    """Samples of a group of channels."""

    index: int
    samples: slice
    group: int


class Lanes:
    """A batch ``x (N, C, S)``, cut into blocks.

    Args:
        x: the batch.
        components: K.
        joint: whether one posterior serves all channels.

    Attributes:
        flat: whether blocks are rows of lanes, ``(rows, lane)``; else they are ``(b, C, S)``.
        groups: the channels of a lane: all of them, unless one sample's exceed it.
        blocks: cover the batch, one group after the other. They depend on shapes and the dtype alone.
    """

    def __init__(self, x: Array, components: int, joint: bool) -> None:
        samples, channels, spatial = x.shape
        self.shape = x.shape
        self.flat = backend.name_of(x) == "numpy" and not joint
        width = min(channels, max(1, LANE // spatial)) if self.flat else channels
        self.groups = [slice(i, min(i + width, channels)) for i in range(0, channels, width)]
        cuts = sample_blocks(x, SHARE * components * width * spatial)
        step = cuts[0].stop
        self.per_lane = max(1, min(LANE // (width * spatial), step)) if self.flat else 1  # samples
        if self.per_lane > 1:  # whole lanes, and what is left of the batch
            step, whole = step - step % self.per_lane, samples - samples % self.per_lane
            cuts = [slice(i, min(i + step, whole)) for i in range(0, whole, step)]
            cuts += [slice(whole, samples)] if whole < samples else []
        pairs = [(cut, group) for group in range(len(self.groups)) for cut in cuts]
        self.blocks = [Block(index, *pair) for index, pair in enumerate(pairs)]

    def constant(self, a: Array) -> Constant:
        """Lay out ``(K, C)`` to broadcast against blocks ``(K, ...)`` of each group."""
        return [self.spread(a[:, group]) for group in self.groups]

    def spread(self, a: Array) -> Array:
        """Lay out ``(K, C')`` of one group, ``(K, 1, lane)``; ``(K, 1, 1)`` where a row of one channel is a lane."""
        spatial = self.shape[2]
        if not self.flat:
            return per_channel(a, spatial)
        if spatial >= LANE:
            return a[:, :, None]
        samples = a if spatial == 1 else a.repeat(spatial, axis=1)  # (K, C' S)
        if self.per_lane == 1:
            return samples[:, None]
        shape = (len(a), self.per_lane, samples.shape[1])
        (lane,) = empty_lines(1, shape, a)
        lane[...] = samples[:, None]
        return lane.reshape(len(a), 1, -1)

    def walk(self, task: Callable[[Part], T]) -> list[list[T]]:
        """Return the task's results for the blocks of each group of channels."""
        results = walk(
            lambda at, scratch: task(Part(self, self.blocks[at.start], scratch)),
            [slice(i, i + 1) for i in range(len(self.blocks))],
            self.shape[0] * self.shape[1] * self.shape[2],
        )
        each = len(self.blocks) // len(self.groups)
        return [results[i : i + each] for i in range(0, len(results), each)]


class Part:
    """One block, as a worker sees it."""

    def __init__(self, lanes: Lanes, block: Block, scratch: Scratch) -> None:
        self.lanes, self.block, self.scratch = lanes, block, scratch
        self.channels = lanes.groups[block.group]
        self.count = min(block.samples.stop, lanes.shape[0]) - block.samples.start  # b
        self.rows = max(1, self.count // lanes.per_lane)

    def samples(self, a: Array, name: str) -> Array:
        """Return the block's part of ``a (N, C, S)``; on lanes, if need be, a copy in the buffer of that name."""
        part = a[self.block.samples, self.channels]  # (b, C', S)
        if not self.lanes.flat:
            return part
        if not part.flags.c_contiguous:
            (copy,) = self.buffers(name, 1, part.shape, a)
            copy[...] = part
            part = copy
        return part.reshape(self.rows, -1)

    def target(self, a: Array) -> Array:
        """Return the block's part of ``a (N, C, S)``, contiguous, to write into."""
        part = a[self.block.samples, self.channels]
        return part.reshape(self.rows, -1) if self.lanes.flat else part  # a lane of several samples has all channels

    def constant(self, laid_out: Constant, like: Array) -> Array:
        """Return what :meth:`Lanes.constant` laid out, as long as a row of the block ``like``."""
        return laid_out[self.block.group][..., : like.shape[-1]]

    def buffers(self, name: str, count: int, shape: tuple[int, ...], like: Array) -> list[Array]:
        """Return ``count`` uninitialized arrays; on the host they begin at lines of the cache: twice as fast."""
        if backend.name_of(like) != "numpy":
            return [self.scratch(f"{name} {i}", shape, like) for i in range(count)]
        return _lines(self.scratch(name, (_room(count, shape, like),), like), count, shape)

    def sums(self, z: Array) -> Array:
        """Sum ``(K, ...)`` over the block's samples and space, ``-> (K, C')``: products with ones."""
        if not self.lanes.flat:
            return sum_samples(z)
        ones = backend.namespace(z).ones((1, self.count), dtype=z.dtype)
        over_samples = ones @ z.reshape(len(z), self.count, -1)  # (K, 1, C' S)
        return sum_rows(over_samples.reshape(len(z), -1, self.lanes.shape[2]))


def empty_lines(count: int, shape: tuple[int, ...], like: Array) -> list[Array]:
    """Return ``count`` uninitialized arrays on the host, which begin at lines of the cache."""
    return _lines(backend.namespace(like).empty(_room(count, shape, like), dtype=like.dtype), count, shape)


def _room(count: int, shape: tuple[int, ...], like: Array) -> int:
    line = CACHE_LINE // like.dtype.itemsize
    return line + count * line * -(-math.prod(shape) // line)


def _lines(raw: Array, count: int, shape: tuple[int, ...]) -> list[Array]:
    """Cut ``count`` arrays that begin at a line of the cache out of ``raw``."""
    size, step = math.prod(shape), (raw.size - CACHE_LINE // raw.dtype.itemsize) // count
    start = -raw.ctypes.data % CACHE_LINE // raw.dtype.itemsize
    return [raw[i : i + size].reshape(shape) for i in range(start, start + count * step, step)]


def joined(groups: list[Array]) -> Array:
    """Put the channels of all groups beside each other, ``(K, C')`` or ``(C',)`` each."""
    return groups[0] if len(groups) == 1 else backend.namespace(groups[0]).concatenate(groups, axis=-1)
