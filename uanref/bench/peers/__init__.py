"""Who else can do the work: one peer a file. A peer's package is imported when it is asked for, never before."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence

from uanref.bench.peers.base import Cannot as Cannot
from uanref.bench.peers.base import Peer as Peer
from uanref.bench.peers.base import PeerMissing as PeerMissing

PEERS = {
    "torch": "torch:Torch",
    "torch-compile": "torch_compile:TorchCompile",
    "jax": "jax:Jax",
    "mygrad": "mygrad:MyGrad",
    "numpy-ml": "numpy_ml:NumpyML",
    "chainer": "chainer:Chainer",
}
"""Where each peer stands in this package."""


def make(name: str) -> Peer:
    """Return the peer of this name, its package not imported yet.

    Raises:
        ValueError: there is none.
    """
    if name not in PEERS:
        raise ValueError(f"unknown peer {name!r}: expected some of {', '.join(PEERS)}")
    module, _, kind = PEERS[name].partition(":")
    found: Peer = getattr(importlib.import_module(f"{__name__}.{module}"), kind)()
    return found


def find(names: Sequence[str] | None = None) -> tuple[list[Peer], list[str]]:
    """Return the peers that can be imported, and of each of the others why not, in one sentence.

    Args:
        names: of :data:`PEERS`, each counted once; PyTorch for None.

    Raises:
        ValueError: an unknown name.
        PeerMissing: none of the peers that ``names`` asks for can be imported.
    """
    asked = [make(name) for name in dict.fromkeys(("torch",) if names is None else names)]
    there, missing = [], []
    for peer in asked:
        try:
            peer.load()
            there.append(peer)
        except PeerMissing as error:
            missing.append(str(error))
    if names and not there:
        raise PeerMissing("; ".join(missing))
    return there, missing
