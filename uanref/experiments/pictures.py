"""How pictures come into a folder: drawn in a hidden one, and moved together. Each failure is a sentence."""

from __future__ import annotations

import contextlib
import io
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from uanref import files
from uanref.reasons import reason

STAGED = ".pictures-"  # how the name of the hidden folder begins


def obstacle() -> str:
    """Return why Matplotlib cannot draw here, with its own settings and this environment's; empty if it can."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        from uanref import plots

        line = (np.array([1, 2]), np.array([0.5, 1.0]))  # a picture with text, mathematics and powers of ten
        figure = plots.gradients({"": {"none": {"1 Linear": line}}}, "a title")
        FigureCanvasAgg(figure).print_figure(io.BytesIO(), format="png", dpi=plots.DPI)
    except Exception as error:  # whatever a setting of Matplotlib, a missing LaTeX or font raises
        return reason(error, 160)
    return ""


@contextlib.contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder in ``folder``, which is created where it is missing; it is gone at the end.

    So are folders that were created for it, unless something stands in them by then.

    Raises:
        OSError: it cannot be created.
    """
    place = folder / f"{STAGED}{secrets.token_hex(6)}"  # named before it is there: a signal in between loses no name
    created = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place.mkdir(mode=0o700)
        yield place
    finally:
        try:
            shutil.rmtree(place, ignore_errors=True)
        except KeyboardInterrupt:
            shutil.rmtree(place, ignore_errors=True)
            raise
        for path in created:  # innermost first
            with contextlib.suppress(OSError):
                path.rmdir()


def draw(make: Callable[[Path], list[str]], folder: Path, name: str) -> tuple[list[str], list[str]]:
    """Draw the pictures of a sweep into ``folder / name``.

    Args:
        make: draws into the folder that it is given, and returns the names of the files.
        folder: created where it is missing.
        name: of the sweep.

    Returns:
        The names of those that stand there, from ``folder`` on, and a sentence if something is missing.
    """
    drawn: list[str] = []
    try:
        check(folder / name, str(folder))
        with staged(folder) as place:
            try:
                names = make(place)
            except Exception as error:
                return [], [f"the pictures could not be drawn ({reason(error, 160)})"]
            (folder / name).mkdir(exist_ok=True)
            for each in names:
                files.move(place / each, folder / name / each)
                drawn.append(f"{name}/{each}")
    except OSError as error:
        return drawn, [f"the pictures could not be written ({reason(error, 160)})"]
    return drawn, []


def check(place: Path, what: str) -> None:
    """Refuse a place for pictures that is something else than a folder; the sentence starts with ``what``.

    Raises:
        FileExistsError: it is.
    """
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        raise FileExistsError(f"{what} holds {place.name}, which is no folder: name another folder")


def ours(place: Path) -> list[Path]:
    """Return the pictures in the folder ``place``."""
    if place.is_symlink() or not place.is_dir():
        return []
    return sorted(path for path in place.glob("*.png") if not path.is_dir())
