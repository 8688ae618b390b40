"""On PYTHONPATH of a tutorial's kernel: connections that leave this machine are refused."""

from __future__ import annotations

import socket

_connect = socket.socket.connect


def _local_only(sock: socket.socket, address: object) -> object:
    if isinstance(address, tuple) and not str(address[0]).startswith("127.") and address[0] not in ("localhost", "::1"):
        raise OSError(f"a tutorial tried to reach {address[0]!r}: tutorials run offline")
    return _connect(sock, address)


socket.socket.connect = _local_only  # type: ignore[method-assign, assignment]
