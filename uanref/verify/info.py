"""What is installed and what this machine can run: the facts that a bug report needs."""

from __future__ import annotations

import os
import platform

from rich.table import Table
from rich.text import Text

from uanref import backend, diagnosis, kernels
from uanref.kernels import ROOMS
from uanref.machine import device, versions


def table() -> Table:
    """Return versions, backends (with what is missing and the command that helps), cores and threads."""
    facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, version in versions().items():
        facts.add_row(name, version or "not installed")
    facts.add_row("platform", _platform())
    facts.add_row("cores", f"{backend.cores()} usable of {os.cpu_count()}")
    setting = os.environ.get("OMP_NUM_THREADS")
    source = f"OMP_NUM_THREADS={setting}" if setting else "one per usable core; set OMP_NUM_THREADS to change it"
    facts.add_row("threads", f"{backend.threads()} ({source})")
    for name, fact in faster_versions().items():
        facts.add_row(name, fact)
    for name in backend.BACKENDS:
        usable, reason = backend.available(name)
        facts.add_row(f"backend {name}", Text(f"{'usable' if usable else 'not usable'}: {reason}"))
    # Of cupy, the last one: the GPU's facts if it is usable, and one line for every piece that is missing.
    for name, fact in (device() if usable else {}).items():
        facts.add_row(f"  {name}", Text(fact))
    for piece in diagnosis.pieces():
        if piece.text != reason and not (usable and piece.ok):
            facts.add_row(f"  {piece.name}", Text(piece.text))
    return facts


def report(backend_name: str) -> dict[str, str]:
    """Return the header of a bug report: versions, platform, and the GPU's facts where ``backend_name`` has one."""
    found = {name: version for name, version in versions().items() if version and name not in ("matplotlib", "cupy")}
    found["platform"] = _platform()
    return found | (device() if backend_name == "cupy" else {})


def faster_versions() -> dict[str, str]:
    """Return whether faster versions of the definitions serve here, and how many there are for each backend."""
    off = "off: every definition runs as it is written; unset UANREF_PLAIN to change it"
    found = {"faster versions": off if backend.is_plain() else "on; set UANREF_PLAIN=1 to turn them off"}
    definitions = kernels.definitions()
    for name in backend.BACKENDS:
        served = [kernels.versions(d.__module__, d.__name__, name) for d in definitions.values()]
        rooms = {room: sum(any(f".{room}." in v.__module__ for v in each) for each in served) for room in ROOMS[name]}
        counted = ", ".join(f"{count} in kernels/{room}" for room, count in rooms.items())
        found[f"  {name}"] = f"for {sum(map(bool, served))} of {len(definitions)} definitions: {counted}"
    return found


def _platform() -> str:
    return f"{platform.system()} {platform.machine()}, {platform.python_implementation()}"
