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
    """Refuse every look-up and connection that leaves this machine; local ones (worker processes) stay."""

    def refuse_remote(host: object) -> None:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in (None, "", "localhost", "::1") and not str(name).startswith("127."):
            raise AssertionError(f"a test tried to reach {name!r}: tests must run offline")

    def guard_connection(name: str) -> None:
        original = getattr(socket.socket, name)

        def guarded(sock: socket.socket, address: object) -> object:
            if isinstance(address, tuple):  # a path, for a socket of this machine, is no tuple
                refuse_remote(address[0])
            return original(sock, address)

        monkeypatch.setattr(socket.socket, name, guarded)

    guard_connection("connect")
    guard_connection("connect_ex")
    look_up = socket.getaddrinfo

    def guarded_look_up(host: object, *args: object, **kwargs: object) -> object:
        refuse_remote(host)
        return look_up(host, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", guarded_look_up)


@pytest.fixture
def strict_cupy() -> Iterator[strictcp.Device]:
    """Put the strict double in the place of CuPy for one test; without the `emulate` extra the test is skipped."""
    requirements.require_cupy()
    with strictcp.strict() as device:
        yield device
