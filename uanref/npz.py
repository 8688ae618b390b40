"""``.npz`` files: arrays of plain numbers in a zip archive. Reading trusts nothing, and never unpickles.

A file may claim anything. What its members claim to hold is added up before any of them is unpacked, and each is
unpacked piece by piece into an array that its own header has to fit.
"""

from __future__ import annotations

import errno
import io
import math
import os
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import numpy as np  # noqa: TID251  what comes from a file is the host's

from uanref import files
from uanref.backend import Array, shape_text

if TYPE_CHECKING:
    import zipfile

RATIO = 500
"""So many bytes may come out of each byte of a compressed file that holds more than a few: zeros have 1,000."""

_NUMBERS = re.compile(r"[<>|=]?[fiub]\d{1,2}")
_LONGEST_HEADER = 10_000
_PIECE = 1 << 20
_WORTH = 4096  # bytes: less saves nearly nothing, and to begin with a member costs more than to compress it
_SMALL = 1 << 26  # bytes that a file may hold whatever its ratio
_LONGEST_LIST = 4 << 20  # bytes that the archive's list of members may take: some tens of thousands


# What Python's reader raises for damage: a name that is no text, a place that no file has, an encrypted member ...
_DAMAGE = (EOFError, RuntimeError, ValueError, OverflowError, LookupError, struct.error, zlib.error)


class NpzError(ValueError):
    """A file that is no usable ``.npz``; the message says what is wrong."""


def write(path: str | os.PathLike[str], arrays: Mapping[str, Array]) -> None:
    """Write arrays uncompressed, as ``numpy.savez`` does, whole or not at all.

    Raises:
        OSError: it cannot be written; an older file of this name is left as it was.
    """
    files.write(path, lambda stream: _fill(stream, arrays))


def packed(arrays: Mapping[str, Array]) -> bytes:
    """Return the bytes of a file whose larger arrays are compressed, as ``numpy.savez_compressed`` does."""
    stream = io.BytesIO()
    _fill(stream, arrays, compressed=True)
    return stream.getvalue()


def _fill(stream: BinaryIO, arrays: Mapping[str, Array], compressed: bool = False) -> None:
    import zipfile  # which brings all of Python's compression along

    class Archive(zipfile.ZipFile):
        def __del__(self) -> None:
            """Close nothing: half-written it cannot be closed, and would say so on standard error."""

    try:
        with Archive(stream, "w", compresslevel=1) as archive:  # floating point numbers hardly get smaller with more
            for name, array in arrays.items():
                worth = compressed and array.nbytes >= _WORTH
                archive.compression = zipfile.ZIP_DEFLATED if worth else zipfile.ZIP_STORED
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
    except BaseException as error:  # Ctrl-C as well
        raise _interruption(error) from None


def _interruption(error: BaseException) -> BaseException:
    """Return the Ctrl-C in whose wake ``error`` came: closing a zip file half-way raises something else over it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            return cause
        cause = cause.__context__
    return error


def read(
    path: str | os.PathLike[str],
    largest: int | None = None,
    what: str = "an .npz file",
    names: Sequence[str] | None = None,
    fits: Callable[[Mapping[str, tuple[int, ...]]], None] = lambda shapes: None,
) -> dict[str, Array]:
    """Return the arrays by name.

    Args:
        path: of a plain file.
        largest: bytes that all arrays together may have, and the file with them; None for an uncompressed file, whose
            own size is the bound.
        what: the file should be.
        names: the arrays that it must hold, in this order and no others; None for any.
        fits: gets the arrays' shapes before any of their numbers is read, and raises an NpzError where they are wrong.

    Raises:
        OSError: the file is missing, no plain file or not readable.
        ValueError: a null character in the name.
        NpzError: it is damaged, holds anything but arrays of plain numbers, other arrays than it must, the same twice,
            or more than it may; the sentence lacks its subject, the file.
    """
    import zipfile

    with files.open_plain(path) as stream:
        try:
            size = os.fstat(stream.fileno()).st_size
            limit = size if largest is None else largest
            if size > limit + _LONGEST_LIST:
                raise NpzError(f"has {size} bytes, and at most {limit} are read: give a smaller one")
            if stream.read(6) == np.lib.format.MAGIC_PREFIX:
                raise zipfile.BadZipFile("it holds a single array")
            with zipfile.ZipFile(_Pieces(stream)) as archive:
                members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
                _check_list(archive.infolist(), size, limit, compressed=largest is not None)
                if names is not None and list(members) != list(names):
                    found = ", ".join(list(members)[:10])
                    raise NpzError(f"holds {_short(found) or 'nothing'}, expected {', '.join(names)}")
                fits({name: _shape(archive, info) for name, info in members.items()})
                return {name: _array(archive, info) for name, info in members.items()}
        except NpzError:
            raise
        except (zipfile.BadZipFile, *_DAMAGE) as error:
            raise NpzError(f"is not {what}, or damaged or cut short ({_short(str(error))})") from error
        except OSError as error:
            if error.errno != errno.EINVAL:  # which is a place before the file's first byte
                raise
            raise NpzError(f"is not {what}, or damaged or cut short ({_short(str(error))})") from error


def _check_list(members: Sequence[zipfile.ZipInfo], size: int, limit: int, *, compressed: bool) -> None:
    """Refuse an archive for what its list of members claims, before any of them is opened.

    Raises:
        NpzError: see :func:`read`.
    """
    import zipfile

    methods = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED} if compressed else {zipfile.ZIP_STORED}
    claimed = sum(member.file_size for member in members)
    known = all(member.compress_type in methods for member in members)
    if not compressed and (claimed > size or not known):
        raise NpzError("is compressed or claims more than it holds: uanref did not write it")
    if claimed > limit:
        raise NpzError(f"claims to hold {claimed} bytes, and at most {limit} are read")
    if not all(member.filename.isprintable() and len(member.filename) <= 200 for member in members):
        raise NpzError("holds an array whose name no terminal can show")
    if not known:
        raise NpzError("is compressed in a way that NumPy does not use: write it with numpy.savez")
    if claimed > max(RATIO * size, _SMALL):
        raise NpzError(f"claims to hold {claimed} bytes, but no real data have {RATIO} times the file's {size} bytes")
    if len({member.filename.removesuffix(".npy") for member in members}) < len(members):
        raise NpzError("holds two arrays of one name")


def _opened(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[IO[bytes], tuple[int, ...], bool, np.dtype[Any]]:
    """Return a member behind its header, the array's shape, whether columns come first, and its dtype."""
    name, member = _short(info.filename), archive.open(info)
    try:
        shape, fortran, kind = _header(member)
        dtype = np.dtype(kind) if _NUMBERS.fullmatch(kind) else None
    except (ValueError, TypeError) as error:
        raise NpzError(f"holds something else than an array in {name}") from error
    if kind.endswith("O"):
        raise NpzError(f"holds pickled objects in {name}: they are never loaded")
    if dtype is None or min(shape, default=0) < 0:
        raise NpzError(f"holds no plain numbers in {name} but {_short(kind)} of shape {shape_text(shape)}")
    rest = info.file_size - member.tell()
    if rest != math.prod(shape) * dtype.itemsize:
        raise NpzError(f"claims shape {shape_text(shape)} in {name} but holds {rest} bytes there")
    return member, shape, fortran, dtype


def _shape(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[int, ...]:
    member, shape, *_ = _opened(archive, info)
    member.close()
    return shape


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """Unpack one member: numbers alone, of exactly the size that its header tells."""
    member, shape, fortran, dtype = _opened(archive, info)
    rest = info.file_size - member.tell()
    content = bytearray()
    with member:
        while piece := member.read(min(_PIECE, rest - len(content))):
            content += piece
    if len(content) != rest:
        raise NpzError(f"is damaged: {_short(info.filename)} ends after {len(content)} of {rest} bytes")
    return np.frombuffer(content, dtype=dtype).reshape(shape, order="F" if fortran else "C")


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, str]:
    """Return shape, whether columns come first, and the kind of entries.

    The text is a Python dictionary. NumPy's reader evaluates it, and a damaged one makes it warn and raise whatever
    Python's tokenizer raises; here it is searched for the three entries alone.
    """
    start = member.read(8)
    width = {b"\1\0": 2, b"\2\0": 4, b"\3\0": 4}.get(start[6:])
    if start[:6] != np.lib.format.MAGIC_PREFIX or width is None:
        raise ValueError("no .npy of version 1, 2 or 3")
    length = int.from_bytes(member.read(width), "little")
    text = member.read(min(length, _LONGEST_HEADER + 1)).decode("latin1")
    shape = re.search(r"'shape':\s*\(([-\d\s,]*)\)", text)
    order = re.search(r"'fortran_order':\s*(True|False)", text)
    kind = re.search(r"'descr':\s*('[^']*'|\[)", text)
    if length > _LONGEST_HEADER or shape is None or order is None or kind is None:
        raise ValueError("no header of an .npy")
    sizes = tuple(int(size) for size in shape[1].split(",") if size.strip())
    return sizes, order[1] == "True", kind[1].strip("'")


class _Pieces:
    """A file of which the archive's list of members is read only if it is short: it is read at once."""

    def __init__(self, stream: BinaryIO) -> None:
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if size > _LONGEST_LIST:
            raise EOFError("its list of members is too long")
        return self._stream.read(size)


def _short(text: str) -> str:
    return text if len(text) <= 120 else text[:120] + "..."  # as long as the damage makes it
