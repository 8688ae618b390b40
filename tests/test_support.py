"""The settings of the test run itself."""

from __future__ import annotations

import multiprocessing
import socket
import urllib.request

import matplotlib
import pytest
from hypothesis import settings


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.org", 443)])
def test_connections_to_other_machines_are_refused(address: tuple[str, int]) -> None:
    with socket.socket() as sock:
        with pytest.raises(AssertionError, match="offline"):
            sock.connect(address)
        with pytest.raises(AssertionError, match="offline"):
            sock.connect_ex(address)


def test_looking_up_other_machines_is_refused() -> None:
    with pytest.raises(AssertionError, match="offline"):
        urllib.request.urlopen("http://example.org", timeout=1)


def test_local_connections_work() -> None:
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
        assert client.getpeername() == server.getsockname()
    receiver, sender = multiprocessing.Pipe()
    sender.send("local")
    assert receiver.recv() == "local"


def test_no_display_and_no_deadline() -> None:
    assert matplotlib.get_backend().lower() == "agg"
    assert settings.default is not None
    assert settings.default.deadline is None
