"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
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
        OSError: its folder is missing or not writable, or a folder, a link or a device has its name.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{option} {path} is a folder: name a file")
    if path.is_symlink() or (path.exists() and not path.is_file()):  # the rename would replace it
        raise FileExistsError(f"{option} {path} is a link or a device, not a plain file: name another file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{option} {path}: there is no folder {path.parent}, create it first")
    probe(path.parent, f"{option} {path}")


@contextlib.contextmanager
def results_folder(folder: Path, option: str, force: bool = False) -> Iterator[None]:
    """Make ``folder`` ready for results, before hours of work; where nothing was written it disappears again.

    Args:
        folder: to be created, with those above it.
        option: that named it, for the sentences.
        force: accept a folder that has a ``results.json``.

    Raises:
        FileExistsError: it holds results already and ``force`` is not set, or it is a file.
        OSError: it cannot be created or written.
    """
    what = f"{option} {folder}"
    created: list[Path] = []
    try:
        try:
            if folder.exists() and not folder.is_dir():
                raise FileExistsError(f"{what} is a file: name a folder")
            if (folder / "results.json").exists() and not force:
                raise FileExistsError(f"{what} already holds results.json: name another folder or add --force")
            created += [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            probe(folder, what)
        except OSError as error:
            if error.strerror is None:  # our own sentences
                raise
            raise OSError(f"{what} cannot be written ({error.strerror}): name another place") from None
        yield
    finally:
        for path in created:  # innermost first; a folder that holds something stays
            with contextlib.suppress(OSError):
                path.rmdir()


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
