"""What a training shows while it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from uanref.training.history import Epoch

if TYPE_CHECKING:  # Rich takes as long to import as half of NumPy: where it is used
    from rich.console import Console
    from rich.progress import Progress, TaskID


class Display:
    """A bar, a line per epoch, or nothing.

    Args:
        kind: ``"bar"``, ``"lines"`` or ``"none"``.
        console: where it goes.
        epochs: how many there will be.
    """

    def __init__(self, kind: str, console: Console, epochs: int) -> None:
        self._lines = console if kind == "lines" else None
        self._epochs = epochs
        self._task: TaskID | None = None
        self._bar: Progress | None = None
        if kind == "bar":
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self._bar = Progress(*columns, console=console)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("", total=None, note="")
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, epoch: int, steps: int) -> None:
        """Begin epoch ``epoch`` (1, 2, ...) of ``steps`` steps."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description=f"epoch {epoch}/{self._epochs}", total=steps, completed=0)

    def advance(self) -> None:
        """Count one step."""
        if self._bar is not None and self._task is not None:
            self._bar.advance(self._task)

    def finish(self, epoch: Epoch) -> None:
        """Tell what the epoch measured."""
        text = (
            f"loss {epoch.train_loss:.4f}, accuracy {epoch.train_accuracy:.1%}; "
            f"validation loss {epoch.validation_loss:.4f}, accuracy {epoch.validation_accuracy:.1%}"
        )
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, note=text)
        if self._lines is not None:
            line = f"epoch {epoch.epoch}/{self._epochs}: {text}; {epoch.seconds:.2f} s"
            self._lines.print(line, highlight=False, soft_wrap=True)


def standard_error() -> Console:
    """Return a console on standard error."""
    from rich.console import Console

    return Console(stderr=True)
