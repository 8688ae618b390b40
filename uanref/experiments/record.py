"""What a sweep leaves on disk while it goes on: a cell for everything that finished."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from uanref import files
from uanref.backend import Array
from uanref.experiments import cells
from uanref.experiments.experiment import Cell
from uanref.experiments.folder import RESULTS
from uanref.reasons import reason

Finished = TypeVar("Finished")


class Record(Generic[Finished]):
    """Writes into one folder, and creates it again where it was removed; no failure of it is an exception.

    Args:
        folder: the results'.
        cell_of: returns the cell of what finished, and the arrays beside it.
        before: what stands there already.

    Attributes:
        trouble: why something is missing there; empty while nothing is.
    """

    def __init__(
        self,
        folder: Path,
        cell_of: Callable[[Finished], tuple[Cell, Mapping[str, Array] | None]],
        before: Sequence[Finished] = (),
    ) -> None:
        self.folder = folder
        self.trouble = ""
        self._unwritten: dict[Path, tuple[bytes, str]] = {}  # recordings, each with why
        self._cut: list[str] = []  # runs that were not recorded whole
        self._cell_of = cell_of
        self._all = list(before)

    @property
    def unrecorded(self) -> str:
        """Why a recording is missing there or not whole, which nothing but a replay needs; empty while none is."""
        told = [why for _, why in self._unwritten.values()][-1:]
        if self._cut:
            others = f"; {len(self._cut) - 1} more likewise" if len(self._cut) > 1 else ""
            told.append(self._cut[0] + others)
        return "; ".join(told)

    def add(self, one: Finished, recording: bytes | None = None, fault: str = "") -> None:
        """Write the cell of what has just finished; before it, what was recorded, since a cell is never made again.

        Args:
            one: what finished.
            recording: of its training.
            fault: why that is missing or not whole.
        """
        self._all.append(one)
        if fault:
            self._cut.append(fault)
        if recording is not None:
            self._write_recording(cells.recording_path(self.folder, self._cell_of(one)[0].config), recording)
        self._write(one)

    def finish(self, results: dict[str, Any] | None = None) -> None:
        """Write cells that are missing, on a disk that was full for a while say, and ``results.json``.

        Args:
            results: the content of ``results.json``; None for a sweep that has none.
        """
        self.trouble = ""
        for one in self._all:
            if not cells.path(self.folder, self._cell_of(one)[0].config).is_file():
                self._write(one)
        for path, (recording, _) in list(self._unwritten.items()):
            self._write_recording(path, recording)
        if results is None:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            files.write_json(self.folder / RESULTS, results)
        except OSError as error:
            self.trouble = f"{self.folder / RESULTS} cannot be written ({reason(error)})"

    def _write(self, one: Finished) -> None:
        try:
            cells.write(self.folder, *self._cell_of(one))
        except OSError as error:
            self.trouble = f"{self.folder} cannot be written ({reason(error)})"

    def _write_recording(self, path: Path, recording: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(path, recording)
            self._unwritten.pop(path, None)
        except OSError as error:
            self._unwritten[path] = (
                recording,
                f"{path} cannot be written ({reason(error)}): there is no replay of that run",
            )
