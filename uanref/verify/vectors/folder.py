"""The folder that ``uanref vectors`` writes: it appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import uanref
from uanref import files
from uanref.reasons import reason
from uanref.verify.vectors.arrays import compute
from uanref.verify.vectors.case import Case
from uanref.verify.vectors.formats import json_bytes, list_bytes, npz_bytes, readme_bytes
from uanref.verify.vectors.listing import cases

PORT = Path(uanref.__file__).with_name("ports") / "uan_torch.py"


def write(folder: Path, force: bool = False) -> int:
    """Write all cases, their list ``cases.json`` and ``README.md``; a folder appears whole or not at all.

    Args:
        folder: created with those above it. Into one that exists, each file comes whole; other files stay.
        force: accept a folder that is not empty and overwrite the files of the same names.

    Returns:
        The number of cases.

    Raises:
        FileExistsError: ``folder`` is a file, or is not empty and ``force`` is not set; or something in it that is no
            plain file has the name of a file to be written. Then nothing of it was touched.
        OSError: it cannot be created or written.
    """
    what, listed = f"--out {folder}", cases()
    if os.path.lexists(folder) and not folder.is_dir():
        raise FileExistsError(f"{what} is a file: name a folder")
    existed = folder.is_dir()
    if existed and not force and any(folder.iterdir()):
        raise FileExistsError(f"{what} is not empty: name another folder or add --force")
    parents = [path for path in folder.parents if not path.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = folder if existed else folder.parent  # the same file system, so that a rename is enough
        files.probe(work / "vectors", what)
        if existed:
            _check_targets(folder, what, [folder / name for name in _names(listed)])
        temporary = Path(files.hidden(work / "vectors"))
        try:
            written = _write_into(temporary, listed)
            if existed:
                for path in written:
                    target = folder / path.relative_to(temporary)
                    target.parent.mkdir(exist_ok=True)
                    files.move(path, target)
            else:
                os.rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        if error.strerror is None:  # our own sentences
            raise
        raise OSError(f"{what} cannot be written ({reason(error)}): name another place") from None
    finally:
        for path in parents:  # innermost first; a folder that holds something stays
            with contextlib.suppress(OSError):
                path.rmdir()
    return len(listed)


def _check_targets(folder: Path, what: str, targets: Sequence[Path]) -> None:
    """Refuse all targets if one of them cannot be replaced or created: then none of the others is touched.

    Raises:
        OSError: something else than a plain file has the name of a file, something else than a folder that of a folder,
            or a folder is not writable; the sentence starts with ``what``.
    """
    for inner in dict.fromkeys(target.parent for target in targets if target.parent != folder):
        if os.path.lexists(inner):
            if inner.is_symlink() or not inner.is_dir():
                raise FileExistsError(f"{what} holds {inner.name}, which is no folder: name another folder")
            files.probe(inner / "vectors", f"{what}: {inner.name}")
    for target in targets:
        files.check_kind(target, f"{what}: {target.relative_to(folder)}")


def _write_into(folder: Path, listed: Sequence[Case]) -> list[Path]:
    """Write everything into a new folder and return the files, the list of cases last."""
    written = []
    for name, content in _contents(listed):
        written.append(folder / name)
        written[-1].parent.mkdir(parents=True, exist_ok=True)
        written[-1].write_bytes(content)
    return written


def _names(listed: Sequence[Case]) -> Iterator[str]:
    """Yield every file's name, in the order of :func:`_contents`."""
    for case in listed:
        yield f"{case.name}.npz"
        yield f"{case.name}.json"
    yield from ("README.md", PORT.name, "cases.json")


def _contents(listed: Sequence[Case]) -> Iterator[tuple[str, bytes]]:
    """Yield every file's name and content."""
    yield from zip(_names(listed), _bytes(listed), strict=True)


def _bytes(listed: Sequence[Case]) -> Iterator[bytes]:
    for case in listed:
        found = compute(case)
        yield npz_bytes(found)
        yield json_bytes(case, found)
    yield readme_bytes(listed)
    yield PORT.read_bytes()
    yield list_bytes(listed)
