"""A run's recording beside its checkpoint: ``net-replay.npz`` beside ``net.npz``."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from uanref import files
from uanref.reasons import reason
from uanref.training import checkpoint, recording
from uanref.training.archive import CheckpointError
from uanref.training.keeping import Keeper
from uanref.training.recorder import Recorder
from uanref.training.recording_checks import RecordingError
from uanref.training.trainer import Trainer

SHARE = 0.01
"""At most so much of a training's time goes into writing its recording, but for the last time."""


def beside(checkpoint: Path) -> Path:
    """Return where the recording of a checkpoint's training is."""
    return checkpoint.with_name(f"{checkpoint.stem}-replay.npz")


class RecordingKeeper(Keeper):
    """Writes what the trainer's recorder has, too, beside every checkpoint; where that fails nothing else does.

    At the end of a short epoch it waits for a later one, so that a training killed there misses its latest moments.

    Args:
        path: as for :class:`Keeper`, and so are ``trainer`` and ``tell``.
        names: what the recording says of the training: ``norm``, ``lr`` and ``model``.
        begun: the recording of this training that the recorder goes on with, None if there is none.
    """

    def __init__(
        self,
        path: Path,
        trainer: Trainer,
        tell: Callable[[str], object],
        names: Callable[[Trainer], dict[str, Any]],
        begun: Path | None = None,
    ) -> None:
        super().__init__(path, trainer, tell)
        self._names = names
        self._ours = set() if begun is None else {begun}  # files of this training
        self._begun = time.perf_counter()
        self._spent = 0.0
        self._recorded: tuple[Path | None, int, str] = (None, -1, "")  # where, after how many epochs, how it ended
        self._told_of: set[str] = set()

    def keep(self, trainer: Trainer) -> None:
        """Write checkpoint and recording of the trainer, which stands at the end of an epoch."""
        before = self.place
        super().keep(trainer)
        moved = before is not None and before != self.place
        if moved or self._spent <= SHARE * (time.perf_counter() - self._begun):
            self._record(trainer)
        if before is not None and moved and beside(before) in self._ours:
            with contextlib.suppress(OSError):
                beside(before).unlink()

    def finish(self, trainer: Trainer) -> None:
        """Write what is not written yet, after an interruption as well."""
        super().finish(trainer)
        self._record(trainer)

    def _record(self, trainer: Trainer) -> None:
        recorder, place = trainer.recorder, self.place
        if recorder is None or place is None:
            return
        now = place, trainer.epoch, trainer.history.stopped
        if self._recorded == now:
            return
        started = time.perf_counter()
        content = recorder.file(trainer, **self._names(trainer))
        trouble, path = recorder.trouble, beside(place)
        if path not in self._ours and _is_checkpoint(path):
            content, trouble = None, f"{path} is a checkpoint and stays: there is no replay of this training"
        elif content is not None:
            try:
                files.write_bytes(path, content)
                self._recorded = now
                self._ours.add(path)
            except OSError as error:
                trouble = f"{path} cannot be written ({reason(error)}): there is no replay of this training"
        if path not in self._ours:
            _remove_stale(path)
        if trouble and trouble not in self._told_of:
            self._told_of.add(trouble)
            self._tell(trouble)
        self._spent += time.perf_counter() - started


def _is_checkpoint(path: Path) -> bool:
    """Tell whether the reader saved a network under a recording's name, whatever for."""
    try:
        checkpoint.load_meta(path)
    except CheckpointError:
        return False
    return True


def _remove_stale(path: Path) -> None:
    """Remove the recording of an earlier training: beside the checkpoint of this one it would pass for its own."""
    try:
        recording.read(path)
        path.unlink()
    except (RecordingError, OSError):
        pass


def continued(recorder: Recorder, trainer: Trainer, checkpoint: Path) -> str:
    """Let ``recorder`` go on with what was recorded beside the checkpoint that its trainer goes on with.

    Returns:
        Why it begins anew instead, a sentence; empty if it does not.
    """
    path = beside(checkpoint)
    try:
        recorder.resume(recording.read(path), trainer)
    except RecordingError as error:
        fault = str(error).removeprefix(f"{path} ").partition(": ")[0]  # the path may hold ": "
        return f"{path} {fault}: the recording begins with epoch {trainer.epoch + 1}"
    return ""
