"""What a comparison leaves on disk while it goes on: a cell for every run, then ``results.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from uanref import files
from uanref.experiments import cells
from uanref.experiments.compare import Comparison
from uanref.experiments.folder import RESULTS
from uanref.experiments.run import Run
from uanref.experiments.settings import Settings
from uanref.reasons import reason


class Record:
    """Writes into one folder, and creates it again where it was removed; no failure of it is an exception.

    Args:
        folder: the results'.
        settings: what is compared.

    Attributes:
        trouble: why something is missing there; empty while nothing is.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder, self.settings = folder, settings
        self.trouble = ""

    def add(self, run: Run) -> None:
        """Write the cell of a run that has just finished."""
        try:
            cells.write(self.folder, self.settings, run)
        except OSError as error:
            self.trouble = f"{self.folder} cannot be written ({reason(error)})"

    def finish(self, comparison: Comparison, results: dict[str, Any]) -> None:
        """Write cells that are still missing, on a disk that was full for a while say, and ``results.json``.

        Args:
            comparison: with at least one run.
            results: the content of ``results.json``.
        """
        self.trouble = ""
        for run in comparison.runs:
            if not cells.exists(self.folder, self.settings, run):
                self.add(run)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            files.write_json(self.folder / RESULTS, results)
        except OSError as error:
            self.trouble = f"{self.folder / RESULTS} cannot be written ({reason(error)})"
