"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Any) -> None:
    """Write JSON under a temporary name, then rename it: a reader never sees half a file.

    Raises:
        OSError: not writable.
        ValueError: NaN or infinity in ``content``, which JSON lacks.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def check_target(path: Path, option: str) -> None:
    """Refuse a file that could not be written later, before anything long starts.

    Raises:
        OSError: its folder is missing or not writable, or a folder has its name.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{option} {path} is a folder: name a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{option} {path}: there is no folder {path.parent}, create it first")
    probe(path.parent, f"{option} {path}")


def probe(folder: Path, what: str) -> None:
    """Create and remove an empty file in ``folder``.

    Raises:
        OSError: not writable; the sentence starts with ``what``.
    """
    attempt = folder / f".probe.{os.getpid()}"
    try:
        attempt.touch()
        attempt.unlink()
    except OSError as error:
        raise OSError(f"{what} cannot be written ({error.strerror}): name another place") from None
