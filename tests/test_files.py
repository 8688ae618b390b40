"""Files are written whole or not at all, in one place; nothing but a plain file is ever replaced."""

from __future__ import annotations

import ast
import os
import socket
import stat
from pathlib import Path

import pytest

import uanref
from uanref import files
from uanref.startup import Terminated

PACKAGE = Path(uanref.__file__).parent
ALLOWED = {
    ("files.py", "open"): "the one place",
    ("npz.py", "open"): "a member of an archive that goes through the one place",
    ("verify/vectors/folder.py", "write_bytes"): "into a hidden folder that appears whole",
    ("files.py", "write_bytes"): "its own",
    ("experiments/folder.py", "open"): "the lock, which is locked and not written",
    ("experiments/folder.py", "fdopen"): "the lock",
    ("experiments/worker.py", "fdopen"): "a pipe to the process that asks",
}
WRITERS = {"write_text", "write_bytes", "savefig", "savez", "savez_compressed", "tofile", "copyfile", "touch"}
WRITERS |= {"NamedTemporaryFile", "TemporaryFile", "mkstemp", "symlink", "symlink_to"}
OPENERS = ("open", "fdopen", "FileIO")


def writing_calls(source: str) -> set[str]:
    """Return the names of the calls that write a file."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        owner = getattr(getattr(node.func, "value", None), "id", "")
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        texts = [each.value for each in values if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        modes = [text for text in texts if len(text) <= 3 and set(text) <= set("rwaxbt+")]
        created = any(getattr(part, "attr", "") in ("O_CREAT", "O_TRUNC") for part in ast.walk(node))
        opened = name in OPENERS and (created or any(set(mode) & set("wax+") for mode in modes))
        if opened or (owner != "files" and name in WRITERS) or (owner, name) == ("np", "save"):
            found.add(name)
    return found


def test_every_file_is_written_in_one_place():
    found = {
        (path.relative_to(PACKAGE).as_posix(), call)
        for path in PACKAGE.rglob("*.py")
        for call in writing_calls(path.read_text("utf-8"))
    }
    assert found - ALLOWED.keys() == set()
    assert {("files.py", "open")} <= found


@pytest.mark.parametrize(
    "source",
    ["open(p, 'w')", "p.open(mode='xb')", "p.write_text('')", "np.savez(p, x=x)", "figure.savefig(p)", "np.save(p, x)"],
)
def test_the_scan_sees(source):
    assert writing_calls(source)


def make(kind, path):
    """Make something at ``path`` that is no plain file."""
    if kind == "folder":
        path.mkdir()
    elif kind == "link":
        (path.parent / "else").write_text("else")
        path.symlink_to(path.parent / "else")
    elif kind == "dangling link":
        path.symlink_to(path.parent / "nothing")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    else:
        try:
            os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except OSError:
            pytest.skip("needs the right to make a device node: run as root")


KINDS = ("folder", "link", "dangling link", "pipe", "socket", "device")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "how",
    [
        lambda target: files.write_bytes(target, b"new"),
        lambda target: files.move(Path("source"), target),
        lambda target: files.check_target(target, "--out"),
    ],
)
def test_only_a_plain_file_is_replaced(kind, how, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the names of sockets are short
    target = Path("target")
    make(kind, target)
    Path("source").write_text("new")
    before = {path.name: path.lstat() for path in Path().iterdir() if path.name != "source"}
    with pytest.raises(OSError, match=f"target is a.*{kind.split()[-1]}") as told:
        how(target)
    assert told.value.strerror is None  # one sentence
    assert {path.name: path.lstat() for path in Path().iterdir() if path.name != "source"} == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, Terminated, OSError("disk full"), ValueError, MemoryError])
@pytest.mark.parametrize("moment", ["fill", "fsync", "replace"])
def test_whatever_comes_in_between_leaves_the_old_file_alone(error, moment, tmp_path, monkeypatch):
    target = tmp_path / "a.json"
    target.write_text("old")

    def stop(*_):
        names = sorted(path.name for path in tmp_path.iterdir())
        assert len(names) == 2
        assert names[0].startswith(".a.json.")
        raise error

    if moment != "fill":
        monkeypatch.setattr(os, moment, stop)
    with pytest.raises(error if isinstance(error, type) else OSError):
        files.write(target, stop if moment == "fill" else lambda stream: stream.write(b"new"))
    assert os.listdir(tmp_path) == ["a.json"]
    assert target.read_text() == "old"


def test_the_temporary_name_cannot_be_guessed(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda handle: seen.append(os.listdir(tmp_path)[0]))
    for _ in range(20):
        files.write_bytes(tmp_path / "a", b"")
        (tmp_path / "a").unlink()
    assert len(set(seen)) == 20
    assert not any(str(os.getpid()) == part for name in seen for part in name.split("."))


def test_errors_of_the_system_name_the_target(tmp_path):
    with pytest.raises(FileNotFoundError) as told:
        files.write_bytes(tmp_path / "no" / "a", b"")
    assert told.value.filename == str(tmp_path / "no" / "a")
    with pytest.raises(OSError, match=r"--out .* cannot be written \(File name too long\)"):
        files.check_target(tmp_path / ("a" * 250), "--out")
    with pytest.raises(ValueError, match="is no file name"):
        files.write_bytes(tmp_path / "a\0b", b"")


def test_a_file_that_is_written_may_be_read_by_others(tmp_path):
    before = os.umask(0o022)
    try:
        files.write_bytes(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "dangling link"])
def test_only_a_plain_file_is_opened(kind, tmp_path):
    make(kind, tmp_path / "x")
    with pytest.raises(OSError, match=r"no plain file|Is a directory|No such file"):
        files.open_plain(tmp_path / "x")


def test_a_link_to_a_plain_file_is_opened(tmp_path):
    make("link", tmp_path / "x")
    with files.open_plain(tmp_path / "x") as stream:
        assert stream.read() == b"else"


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_what_takes_a_plain_files_place_before_it_is_opened_is_refused(kind, tmp_path, monkeypatch):
    """The kind is looked at before the file is opened, and again at what was opened, which may be another by then."""
    path, handles, really = tmp_path / "x", [], os.open
    path.write_text("plain")

    def exchange(name, *arguments):
        path.unlink()
        make(kind, path)
        handles.append(really(name, *arguments))  # a pipe without a writer does not block: O_NONBLOCK
        return handles[-1]

    monkeypatch.setattr(os, "open", exchange)
    with pytest.raises(OSError, match=r"no plain file|Is a directory"):
        files.open_plain(path)
    with pytest.raises(OSError, match="Bad file descriptor"):  # nothing stays open
        os.fstat(handles[0])


def test_json_is_read_up_to_a_size(tmp_path):
    files.write_json(tmp_path / "a", {"x": [1.5, None]})
    size = (tmp_path / "a").stat().st_size
    assert files.read_json(tmp_path / "a", size) == {"x": [1.5, None]}
    with pytest.raises(ValueError, match=f"^has more than {size - 1} bytes$"):
        files.read_json(tmp_path / "a", size - 1)


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\xff", b"NaN", b"[-Infinity]", b"[" * 10**6, b"9" * 10**4, b'{"a" 1}']
)
def test_what_is_no_json_is_one_short_sentence(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match=r"^is no JSON \(.{1,100}\)$"):
        files.read_json(tmp_path / "a", 2**21)


@pytest.mark.parametrize("kind", ["folder", "pipe", "device"])
def test_json_comes_from_plain_files_alone(kind, tmp_path):
    make(kind, tmp_path / "x")
    with pytest.raises(OSError, match=r"no plain file|Is a directory"):
        files.read_json(tmp_path / "x", 100)
