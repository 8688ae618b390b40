"""How a picture becomes a file."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from uanref import files
from uanref.plots.style import DPI


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` as a PNG, whole or not at all.

    Raises:
        OSError: the folder is not writable, or a link, a device or a folder has the name.
    """
    files.write(path, lambda stream: FigureCanvasAgg(figure).print_figure(stream, format="png", dpi=DPI))
