"""Pictures that a repository keeps: the same drawing in fewer bytes."""

from __future__ import annotations

from pathlib import Path

from uanref import files

COLORS = 64  # enough for lines, bands and text on white


def shrink(path: Path) -> None:
    """Write a PNG again with a palette of :data:`COLORS` colours; what is no picture stays as it is.

    Raises:
        OSError: it cannot be written.
    """
    from PIL import Image, UnidentifiedImageError  # Matplotlib brings it

    try:
        with Image.open(path) as picture:
            made = picture.convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    except UnidentifiedImageError:
        return
    files.write(path, lambda stream: made.save(stream, format="PNG", optimize=True))
