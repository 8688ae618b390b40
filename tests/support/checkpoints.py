"""What a checkpoint holds, to be compared with another's."""

from __future__ import annotations

from pathlib import Path

from uanref.training import archive, checkpoint


def state(path: str | Path) -> tuple[object, ...]:
    """Return everything that a checkpoint holds, but for the seconds and what ended it."""
    _, arrays = archive.read(path)
    meta = checkpoint.load_meta(path)
    for epoch in meta["history"]["epochs"]:
        del epoch["seconds"]
    meta["history"]["stopped"] = ""
    return meta, {name: (array.dtype, array.tobytes()) for name, array in arrays.items()}
