"""The settings of the test run itself."""

from __future__ import annotations

import multiprocessing
import socket
import tomllib
import urllib.request
from pathlib import Path

import matplotlib
import pytest
from hypothesis import settings
from support import lowest, quick, turns


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


def test_every_requirement_declares_its_lowest_version() -> None:
    with lowest.PYPROJECT.open("rb") as file:
        project = tomllib.load(file)["project"]
    found = lowest.constraints(project, ["test", "docs", "oracle", "browser", "lint"])
    assert len(found) == len(set(found)) > 20
    assert lowest.constraints({"dependencies": ["a>=1.2", "b-c[x,y]==3"]}) == ["a==1.2", "b-c==3"]
    assert lowest.constraints({"dependencies": ["a>=1,<2"]}) == ["a==1"]
    for without in ("a", "a<2", "a<2,>=1"):
        with pytest.raises(ValueError, match="declares no lowest version"):
            lowest.constraints({"dependencies": [without]})


def test_the_quick_selection_holds_every_layers_gradients(pytestconfig: pytest.Config) -> None:
    tests = Path(__file__).parent
    assert [part for part in quick.FILES if not (tests / part).exists()] == []
    assert {"verify/test_check.py", "test_definitions.py", "kernels/test_parity.py"} <= set(quick.FILES)
    assert any(marker.startswith("quick:") for marker in pytestconfig.getini("markers"))


def test_turns_leave_no_case_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UANREF_WHOLE", raising=False)
    parts = []
    for commit in ("00000000ab", "00000001ab", "00000002ab"):
        monkeypatch.setenv("GITHUB_SHA", commit)
        parts.append(turns.part(range(10), 3))
    assert sorted(case for part in parts for case in part) == list(range(10))
    monkeypatch.setenv("UANREF_WHOLE", "1")
    assert turns.part(range(10), 3) == list(range(10))
