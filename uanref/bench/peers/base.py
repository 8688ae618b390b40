"""What every peer can say and do."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from uanref.backend import Array
from uanref.bench.timing import Task
from uanref.bench.work import Material, Work


class PeerMissing(RuntimeError):
    """A peer's package is not installed, or does not work here: the sentence says what to do."""


class Cannot(Exception):
    """A peer cannot do this work, for a reason that one sentence gives."""


class Peer:
    """Somebody else's library.

    Attributes:
        name: as ``--against`` takes it.
        title: as a sentence calls it.
        module: what is imported.
        package: what is installed.
        install: how, for a sentence.
        kinds: the layers that it has.
        ends: the ends of a pass that it has, see :class:`~uanref.bench.work.Work`.
        on_numpy: it works on NumPy's arrays, so that its memory can be measured as ours.
    """

    name: str
    title: str
    module: str
    package: str
    install = 'pip install ".[peers]"'
    kinds: frozenset[str] = frozenset()
    ends: frozenset[str] = frozenset({"dy", "loss", "step"})
    on_numpy = False

    def load(self) -> None:
        """Import the package.

        Raises:
            PeerMissing: that fails.
        """
        try:
            self.found = self.imported()
        except Exception as error:  # a broken installation raises more than ImportError
            reason = "is not installed" if isinstance(error, ModuleNotFoundError) else "cannot be imported"
            raise PeerMissing(f"{self.title} {reason}; to compare with it: {self.install}") from None

    def imported(self) -> ModuleType:
        """Return the imported package."""
        return importlib.import_module(self.module)

    def start(self, threads: int) -> None:
        """Get ready for cases of at most so many threads, before the first one."""

    def version(self) -> str:
        """Return the version of the installed package."""
        return importlib.metadata.version(self.package)

    @contextlib.contextmanager
    def limited(self, threads: int) -> Iterator[None]:
        """Let the peer use as many threads inside this block. NumPy's BLAS is limited by the caller.

        Raises:
            Cannot: the peer cannot be told any more.
        """
        yield

    def task(self, work: Work, given: Material) -> Task:
        """Return a pass of ``work`` that returns the same numbers in the same order as ours.

        Raises:
            Cannot: it has no such layer, or no optimizer.
        """
        if work.end not in self.ends:
            raise Cannot(f"{self.title} has no {'optimizer' if work.end == 'step' else 'loss'} for this work.")
        if lacking := sorted({stage.kind for stage in work.stages} - self.kinds):
            raise Cannot(f"{self.title} has no {' and no '.join(_WORDS[one] for one in lacking)}.")
        return self.made(work, given)

    def made(self, work: Work, given: Material) -> Task:
        """Return the pass of a work that is known to be possible."""
        raise NotImplementedError

    def host(self, work: Work, results: Sequence[Any]) -> list[Array]:
        """Return what a task returned as NumPy arrays in our layouts; not timed."""
        raise NotImplementedError


_WORDS = {
    "conv": "convolution",
    "linear": "linear layer",
    "bn": "batch normalization",
    "uan": "operations for UAN's formula",
    "relu": "ReLU",
    "gelu": "exact GELU",
    "pool": "max pooling in array code",
    "global_pool": "global average pooling",
    "flatten": "flattening",
}
