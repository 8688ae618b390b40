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
        unrecorded: why a recording is missing there, which nothing but a replay needs; empty while none is.
    """

    def __init__(
        self,
        folder: Path,
        cell_of: Callable[[Finished], tuple[Cell, Mapping[str, Array] | None]],
        before: Sequence[Finished] = (),
    ) -> None:
        self.folder = folder
        self.trouble = ""
        self.unrecorded = ""
        self._unwritten: dict[Path, bytes] = {}
        self._cell_of = cell_of
        self._all = list(before)

    def add(self, one: Finished, recording: bytes | None = None) -> None:
        """Write the cell of what has just finished; before it, what was recorded, since a cell is never made again."""
        self._all.append(one)
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
        self.unrecorded = ""
        for path, recording in list(self._unwritten.items()):
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
            self._unwritten[path] = recording
            self.unrecorded = f"{path} cannot be written ({reason(error)}): there is no replay of that run"
