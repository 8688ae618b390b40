"""Pictures that a repository keeps: the same drawing in fewer bytes."""

from __future__ import annotations

from pathlib import Path

from uanref import files

COLORS = 256  # a byte a pixel


def shrink(path: Path) -> None:
    """Write a PNG again with a palette of :data:`COLORS` colours; what is no picture stays as it is.

    The palette covers the colours that are there as far as it can. The usual one, of the median cut, follows how often
    a colour is met: where bands overlap it gave them all its entries, and two norms' lines one colour.

    Raises:
        OSError: it cannot be written.
    """
    from PIL import Image, UnidentifiedImageError  # Matplotlib brings it

    try:
        with Image.open(path) as picture:
            made = picture.convert("RGB").quantize(COLORS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    except UnidentifiedImageError:
        return
    files.write(path, lambda stream: made.save(stream, format="PNG", optimize=True))
