"""``torch.compile``: PyTorch's layers and formulas, turned into C++ when they are first called."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

from uanref.bench.peers.base import PeerMissing
from uanref.bench.peers.torch import Torch


class TorchCompile(Torch):
    """PyTorch with compiled forward and backward passes; the optimizer stays as it is."""

    name, title = "torch-compile", "torch.compile"

    def load(self) -> None:
        """Import PyTorch and look for a compiler.

        Raises:
            PeerMissing: there is no PyTorch, or no C++ compiler.
        """
        super().load()
        if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++", "cl")):
            raise PeerMissing("torch.compile needs a C++ compiler; to compare with it: install g++")

    def compiled(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """Return ``forward`` compiled, for fixed shapes."""
        torch: Any = self.found
        run: Callable[..., Any] = torch.compile(forward, dynamic=False)
        return run
