"""Settings that every test shares: hypothesis profiles, no network, no display."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before anything imports matplotlib: no display, and no font cache in the home directory.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("MPLCONFIGDIR", os.path.join(tempfile.gettempdir(), "uanref-matplotlib"))

import pytest
from hypothesis import HealthCheck, settings

# `from support import strictcp` works in every test file.
sys.path.insert(0, str(Path(__file__).parent))

from support import requirements, strictcp

# `ci` draws the same examples on every run; `dev` draws new ones each time, and remembers failures.
# A test that needs another number scales this one: settings(max_examples=settings.default.max_examples // 5).
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("dev", deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that leaves this machine; local ones (worker processes) stay."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def refuse_remote(sock: socket.socket, address: object) -> None:
        local = sock.family == getattr(socket, "AF_UNIX", None)
        if not local and isinstance(address, tuple):
            local = str(address[0]) in ("localhost", "::1") or str(address[0]).startswith("127.")
        if not local:
            raise AssertionError(f"a test tried to reach the network at {address!r}: tests must run offline")

    def guarded(sock: socket.socket, address: object) -> None:
        refuse_remote(sock, address)
        connect(sock, address)  # type: ignore[arg-type]

    def guarded_ex(sock: socket.socket, address: object) -> int:
        refuse_remote(sock, address)
        return connect_ex(sock, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_ex)


@pytest.fixture
def strict_cupy() -> Iterator[strictcp.Device]:
    """Put the strict double in the place of CuPy for one test; without the `emulate` extra the test is skipped."""
    requirements.require_cupy()
    with strictcp.strict() as device:
        yield device
