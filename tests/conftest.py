"""Settings that every test shares: hypothesis profiles, no network, no display; and where arrays live.

A test that takes the fixture ``device`` runs once for each kind of ``--backend``, see :mod:`support.devices`; with
``accelerator``, for each kind but the host. Its emulated runs are marked ``slow``, unless the test is marked ``smoke``;
runs on a real GPU are marked ``gpu``.

Layers are tested with and without faster versions by the same tests: each test below :data:`SERVED` runs twice, "fast"
and, under ``backend.plain()``, "plain". Plain runs are marked ``slow``, but for :data:`QUICK_PLAIN`. A test marked
``versions(reason)`` concerns faster versions alone, and runs fast.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

# Before anything imports matplotlib: no display, and no font cache in the home directory.
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("MPLCONFIGDIR", os.path.join(tempfile.gettempdir(), "uanref-matplotlib"))

# A shell that starts this in the background lets it ignore Ctrl-C, and with it every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import HealthCheck, settings

# `from support import strictcp` works in every test file.
sys.path.insert(0, str(Path(__file__).parent))

from support import devices, ledger, quick, requirements, strictcp

from uanref import backend

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
settings.register_profile("dev", deadline=None, max_examples=10, suppress_health_check=[HealthCheck.too_slow])
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


# --- where arrays live ----------------------------------------------------------------------------

SERVED = ("layers/", "norms/", "neighbours/", "optimizers/", "oracles/", "test_losses.py")
"""Where every test runs with and without faster versions."""
QUICK_PLAIN = ("layers/test_linear.py", "norms/test_batch_norm.py")
"""Whose plain runs are quick enough for every run."""

KINDS = pytest.StashKey[tuple[str, ...]]()
NO_EMULATOR = pytest.StashKey[str | None]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--backend",
        metavar="KINDS",
        help=f"comma list of {', '.join(devices.KINDS)}: where tests that take `device` run (default: all that can)",
    )
    parser.addoption("--whole", action="store_true", help="with CI=true: fail if fewer tests pass than there are")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "versions(reason): of faster versions alone: does not run under backend.plain()")
    try:
        config.stash[KINDS] = devices.chosen(config.getoption("--backend"))
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    config.stash[NO_EMULATOR] = devices.prepare(config.stash[KINDS])
    if requirements.on_ci() and not hasattr(config, "workerinput"):  # a worker of xdist reports to its controller
        least = ledger.LEAST_PASSED if config.getoption("--whole") else 0
        config.pluginmanager.register(ledger.Ledger(least), "ledger")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    path = metafunc.definition.path.relative_to(Path(__file__).parent).as_posix()
    if path.startswith(SERVED):
        slow = [] if path in QUICK_PLAIN else [pytest.mark.slow]
        alone = metafunc.definition.get_closest_marker("versions") is not None
        ways = ["fast"] if alone else ["fast", pytest.param("plain", marks=slow)]
        metafunc.parametrize("serving", ways, indirect=True)
    smoke = metafunc.definition.get_closest_marker("smoke") is not None
    marks = {"emulated": [] if smoke else [pytest.mark.slow], "cupy": [pytest.mark.gpu]}
    params = [pytest.param(kind, marks=marks.get(kind, [])) for kind in metafunc.config.stash[KINDS]]
    if "device" in metafunc.fixturenames:
        metafunc.parametrize("device", params, indirect=True)
    if "accelerator" in metafunc.fixturenames:
        metafunc.parametrize("accelerator", [p for p in params if p.values != ("numpy",)], indirect=True)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark as ``quick`` what `support.quick` names, on the host."""
    path = item.path.relative_to(Path(__file__).parent).as_posix()
    named = path.startswith(quick.FILES) or (path.startswith("test_cli") and item.name.startswith(quick.COMMANDS))
    params = getattr(item, "callspec", None)
    host = params is None or params.params.get("device", params.params.get("accelerator", "numpy")) == "numpy"
    if named and host and item.get_closest_marker("slow") is None:
        item.add_marker("quick")


@pytest.fixture(autouse=True)
def serving(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run a test below :data:`SERVED` by faster versions or by definitions alone; others as the environment says."""
    if not hasattr(request, "param"):
        yield
        return
    with backend.plain(request.param == "plain"):
        yield


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[devices.Device]:
    """Where this test runs: every kind of ``--backend`` in turn. What cannot run is skipped; on CI it fails."""
    if request.param == "emulated":
        _require_emulator(request)
    elif request.param != "numpy":
        requirements.require_cupy()
    with devices.opened(request.param) as opened:
        yield opened


# The same, without the host.
accelerator = device


@pytest.fixture
def emulated(request: pytest.FixtureRequest) -> devices.Device:
    """The emulated device, for what only the emulator can tell; skipped where ``--backend`` does not name it."""
    if "emulated" not in request.config.stash[KINDS]:
        pytest.skip("not among the kinds of --backend")
    _require_emulator(request)
    return devices.Device("emulated")


def _require_emulator(request: pytest.FixtureRequest) -> None:
    reason = request.config.stash[NO_EMULATOR]
    if reason is not None:
        requirements.skip(reason)


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let CuPy, where it is installed, find no driver: also over the emulator and on a machine with a GPU."""
    try:
        import cupy
    except ImportError:
        return

    def refuse() -> int:
        raise RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version")

    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", refuse)


@pytest.fixture
def strict_cupy() -> Iterator[strictcp.Device]:
    """Put the strict double in the place of CuPy for one test; without the `emulate` extra the test is skipped."""
    requirements.require_cupy()
    with strictcp.strict() as device:
        yield device
