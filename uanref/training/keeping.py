"""A run's file: at the end of every epoch the newest checkpoint, never in the place of one that holds more."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from uanref.reasons import reason
from uanref.training import checkpoint
from uanref.training.archive import CheckpointError
from uanref.training.trainer import Trainer


class Keeper:
    """Writes a run's checkpoints: ``trainer.fit(n, after_epoch=keeper.keep)``, then :meth:`finish`.

    A checkpoint that is there already with more epochs than the run has done stays until the run has as many, or is
    done. Until then the run's own go beside it, to the first free one of ``net.1.npz``, ``net.2.npz`` and so on. A file
    that cannot be written ends no training: the next epoch tries again.

    Args:
        path: where the run's checkpoint shall be.
        trainer: before it trains.
        tell: gets a sentence where something is not as one expects.

    Attributes:
        path: as given.
        place: where the run's newest checkpoint is, None before the first.
        error: why the newest state is not on the disk; None if it is.
    """

    def __init__(self, path: Path, trainer: Trainer, tell: Callable[[str], object] = lambda sentence: None) -> None:
        self.path = path
        self.place: Path | None = None
        self.error: OSError | CheckpointError | None = None
        self._tell = tell
        self._held = _epochs(path)
        self._saved = trainer.epoch
        self._aside = path
        if trainer.epoch + 1 < self._held:
            self._aside = _free(path)
            tell(
                f"{path} holds {self._held} epochs of an earlier training: this one goes to {self._aside} until it has "
                "as many or is done"
            )

    def keep(self, trainer: Trainer) -> None:
        """Write the trainer, which stands at the end of an epoch; why that failed is kept in ``error``."""
        target = self._target(trainer)
        try:
            checkpoint.save(target, trainer)
        except (OSError, CheckpointError) as error:
            if self.error is None:
                self._tell(f"{target} cannot be written ({reason(error)}): the next epoch's end tries again")
            self.error = error
            return
        before, self.place, self.error, self._saved = self.place, target, None, trainer.epoch
        if before is not None and before != target:  # caught up with what was there
            with contextlib.suppress(OSError):
                before.unlink()

    def finish(self, trainer: Trainer) -> None:
        """Write what is not written yet, after an interruption as well; a run that is done takes its place."""
        if not trainer.history.stopped:
            self._held = 0
        if trainer.epoch > self._saved or (self.place is not None and self.place != self._target(trainer)):
            self.keep(trainer)

    def told(self) -> str:
        """Return in words what is on the disk."""
        if self.place is not None:
            return f"epoch {self._saved} is saved in {self.place}"
        return f"nothing was saved, {self.path} is as it was" if os.path.lexists(self.path) else "nothing was saved"

    def _target(self, trainer: Trainer) -> Path:
        return self.path if trainer.epoch >= self._held else self._aside


def _epochs(path: Path) -> int:
    """Return how many epochs the checkpoint at ``path`` holds; 0 where there is none that can be read."""
    try:
        return int(checkpoint.load_meta(path)["epoch"])
    except CheckpointError:
        return 0


def _free(path: Path) -> Path:
    number = 1
    while os.path.lexists(beside := path.with_name(f"{path.stem}.{number}{path.suffix}")):
        number += 1
    return beside
