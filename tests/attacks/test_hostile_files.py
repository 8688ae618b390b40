"""Files that lie, and targets that are no files: one sentence, no traceback, nothing replaced, in bounded memory."""

from __future__ import annotations

import functools
import gzip
import io
import os
import random
import resource
import signal
import socket
import stat
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.idx import header

from uanref.cli import main
from uanref.derivations import find

pytestmark = pytest.mark.slow

SEED = 12
MIB = 1 << 20
ROOM = 400 * MIB  # how much the whole test may grow; a bomb would fill gigabytes
PATIENCE = 60  # seconds for one command: what waits for a pipe is ended then

TARGETS = (
    ["explore", "bn", "--size", "m=2", "--out", "TARGET"],
    ["explore", "bn", "--size", "m=2", "--out", "TARGET", "--force"],
    ["bench", "--only", "uan", "--repeats", "1", "--json", "TARGET"],
    ["train", "--dataset", "idx:good", "--model", "mlp", "--epochs", "1", "--quiet", "--save", "TARGET"],
    ["train", "--dataset", "idx:good", "--model", "mlp", "--epochs", "1", "--quiet", "--curves", "TARGET"],
    ["compare", "--dataset", "idx:good", "--model", "mlp", "--epochs", "1", "--quiet", "--out", "TARGET"],
    ["vectors", "--out", "TARGET"],
    ["vectors", "--out", "TARGET", "--force"],
    ["bench", "--sweep", "--repeats", "1", "--out", "TARGET"],
    ["bench", "--only", "uan", "--repeats", "1", "--page", "TARGET"],
)
INSIDE = ("results.json", "curves.png", "gradients.png", "activations.png", "cells")
KINDS = ("folder", "link", "link to a link", "dangling link", "link to itself", "pipe", "socket", "device")


class Slow(BaseException):
    """A command that waits for ever."""


def npy(array, pickled: bool = True) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), allow_pickle=pickled)
    return stream.getvalue()


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as made:
        for name, content in members.items():
            made.writestr(name, content, method)
    return stream.getvalue()


def idx(array, code: int = 8, shape: tuple[int, ...] | None = None) -> bytes:
    """Return an IDX file's content, whose header may lie."""
    return header(code, *(array.shape if shape is None else shape)) + array.astype("u1").tobytes()


@functools.cache
def bomb(packed: str = "zip") -> bytes:
    """Return few bytes that claim to be many, and are."""
    zeros = npy(np.zeros(64 * MIB, "u1"))
    if packed == "gzip":
        return gzip.compress(idx(np.zeros(0), shape=(1 << 10, 1 << 8, 1 << 8)) + zeros)
    return archive({"x.npy": zeros, "y.npy": zeros, "meta.npy": zeros})


def make(kind: str, path: Path) -> None:
    if kind == "folder":
        path.mkdir()
        (path / "kept").write_text("kept")
    elif kind == "link":
        path.symlink_to("precious")
    elif kind == "link to a link":
        Path("between").unlink(missing_ok=True)
        Path("between").symlink_to("precious")
        path.symlink_to("between")
    elif kind == "dangling link":
        path.symlink_to("nothing")
    elif kind == "link to itself":
        path.symlink_to(path.name)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    else:  # a node of one's own: the system's must not be put at risk
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5 if kind == "zeros" else 3))


def can_make_devices() -> bool:
    try:
        make("device", Path("probe"))
        with open("probe", "wb"):  # some places forbid to open them
            pass
    except OSError:
        return False
    finally:
        Path("probe").unlink(missing_ok=True)
    return True


def hostile(kind: str, draw: random.Random, name: str) -> bytes:
    """Return the content of a hostile archive or IDX file; ``name`` is an array that a good one has."""
    few = npy(np.arange(6.0))
    contents: dict[str, Callable[[], bytes]] = {
        "empty": lambda: b"",
        "text": lambda: b"x = 1\n" * draw.randrange(1, 9),
        "noise": lambda: draw.randbytes(draw.randrange(1, 3000)),
        "pickle": lambda: b"\x80\x04\x95" + draw.randbytes(40),
        "single array": lambda: few,
        "bomb": bomb,
        "lying bomb": lambda: bomb().replace(struct.pack("<I", 64 * MIB + 128), struct.pack("<I", draw.randrange(999))),
        "pickled objects": lambda: archive({f"{name}.npy": npy(np.array([{"a": 1}, None], dtype=object))}),
        "texts": lambda: archive({f"{name}.npy": npy(np.array(["a", "bc"]))}),
        "no array": lambda: archive({f"{name}.npy": draw.randbytes(100)}),
        "lying header": lambda: archive({f"{name}.npy": npy(np.zeros(10 ** draw.randrange(3, 7)))[:200]}),
        "lying shape": lambda: archive({f"{name}.npy": few.replace(b"(6,)", b"(-6)")}),
        "encrypted": lambda: archive({f"{name}.npy": few}).replace(b"\x14\x03\x14\x00\x00", b"\x14\x03\x14\x00\x01"),
        "odd compression": lambda: archive(
            {f"{name}.npy": npy(np.zeros(MIB))}, draw.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        ),
        "wrong keys": lambda: archive({f"{draw.choice('abcdef')}{i}.npy": few for i in range(draw.randrange(1, 30))}),
        "names": lambda: archive({f"../{name}.npy": few, "/" * 3000 + ".npy": few, "\n\x1b[31m.npy": few}),
        "same name twice": lambda: archive({f"{name}.npy": few}) + archive({f"{name}.npy": few}),
        "cut": lambda: archive({f"{name}.npy": npy(np.random.default_rng(0).random(99))})[: draw.randrange(1000)],
        "NaN": lambda: archive({f"{name}.npy": npy(np.full((6, 6), np.nan)), "y.npy": npy(np.arange(6))}),
        "gzip": lambda: gzip.compress(few),
        "gzip bomb": lambda: bomb("gzip"),
        "gzip cut": lambda: gzip.compress(idx(np.zeros((60, 4, 4))))[: draw.randrange(2, 30)],
        "idx claim": lambda: idx(np.zeros(99), shape=tuple(1 << draw.randrange(31) for _ in range(3))),
        "idx rank": lambda: idx(np.zeros(99), shape=(3,) * draw.randrange(9)),
        "idx kind": lambda: idx(np.zeros(960), draw.randrange(256), (60, 4, 4)),
        "idx other": lambda: idx(np.full(60, draw.randrange(256))),
    }  # fmt: skip
    return contents[kind]()


FILES = (
    "empty", "text", "noise", "pickle", "single array", "bomb", "lying bomb", "pickled objects", "texts", "no array",
    "lying header", "lying shape", "encrypted", "odd compression", "wrong keys", "names", "same name twice", "cut",
    "NaN", "gzip", "gzip bomb", "gzip cut", "idx claim", "idx rank", "idx kind", "idx other",
)  # fmt: skip
READERS = (
    (["step", "bn", "--plain", "--inputs", "FILE"], "x"),
    (["explore", "bn", "--out", "page.html", "--inputs", "FILE"], "x"),
    (["evaluate", "FILE"], "meta"),
    (["train", "--quiet", "--resume", "FILE", "--epochs", "9"], "meta"),
    (["train", "--quiet", "--epochs", "1", "--model", "mlp", "--dataset", "npz:FILE"], "x"),
    (["train", "--quiet", "--epochs", "1", "--model", "mlp", "--dataset", "idx:bad"], "x"),
    (["compare", "--quiet", "--epochs", "1", "--model", "mlp", "--dataset", "npz:FILE", "--out", "new"], "x"),
    (["bench", "--page", "page.md", "--from", "FILE"], "x"),
)  # fmt: skip


class Attack:
    """Runs commands in this process and counts what goes wrong."""

    def __init__(self, capsys) -> None:
        self.tried, self.faults, self._capsys = 0, [], capsys
        self._before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def run(self, what: str, command: list[str], codes: tuple[int, ...] = (2,)) -> None:
        """Run a command that has to end with one of ``codes``, a sentence, and the folder as it was."""
        self.tried += 1
        before = tree()
        error = ""
        signal.alarm(PATIENCE)
        try:
            code = main(command)
        except BaseException as caught:
            code, error = -1, f"{type(caught).__name__}: {caught}"
        finally:
            signal.alarm(0)
        _, err = self._capsys.readouterr()
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - self._before
        wrong = {
            f"it ended with {code} {error}": code not in codes,
            "a traceback": "Traceback" in err,
            f"no single sentence: {err[:300]!r}": code == 2 and err.count("\n") != 1,
            f"a sentence of {len(err)} letters": len(err) > 900 + 2 * len(" ".join(command)),
            f"advice about pickle: {err!r}": "allow_pickle" in err,
            "the folder changed": tree() != before,
            f"memory grew by {grown // MIB} MiB": grown > ROOM,
        }
        self.faults += [f"{what}: uanref {' '.join(command)}: {fault}" for fault, is_so in wrong.items() if is_so]


def tree() -> dict[str, tuple[int, ...]]:
    """Return what stands in the folder; a file that was replaced is another."""
    found = {}
    for folder, folders, names in os.walk("."):
        for name in (*folders, *names):
            path = os.path.join(folder, name)
            about = os.lstat(path)
            size = about.st_size if stat.S_ISREG(about.st_mode) else 0
            found[path] = (about.st_mode, about.st_ino, about.st_rdev, size)
    return found


@pytest.fixture
def attack(tmp_path, monkeypatch, capsys):
    """An :class:`Attack` in a folder with a file that must stay, and a good data set."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("uanref.experiments.single.Trained.draw", lambda self, path: None)
    Path("precious").write_text("precious")
    Path("good").mkdir()
    for part, n in (("train", 60), ("t10k", 20)):
        Path(f"good/{part}-images-idx3-ubyte").write_bytes(idx(np.arange(n * 16).reshape(n, 4, 4) % 251))
        Path(f"good/{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(n) % 3))

    def wake(*_):
        raise Slow

    before = signal.signal(signal.SIGALRM, wake)
    yield Attack(capsys)
    signal.signal(signal.SIGALRM, before)


def report(attack: Attack) -> None:
    for fault in attack.faults:
        print(fault[:200], "...", fault[-200:])
    print(f"\ntried {attack.tried}, handled {attack.tried - len(attack.faults)}, faults {len(attack.faults)}")
    assert attack.faults == []


def test_targets_that_are_no_plain_files(attack):
    """Every writing command, on every kind of thing that is no plain file: refused, and still there afterwards."""
    kinds = [kind for kind in KINDS if kind != "device" or can_make_devices()]
    for command in TARGETS:
        for kind in kinds:
            folders = command[0] in ("compare", "vectors")
            if folders and kind == "folder":
                continue  # which is what they want
            make(kind, Path("target"))
            attack.run(kind, [word.replace("TARGET", "target") for word in command])
            remove("target")
    for name in INSIDE:
        for kind in kinds:
            if name == "cells" and kind == "folder":
                continue
            Path("results").mkdir()
            make(kind, Path("results") / name)
            command = [word.replace("TARGET", "results") for word in TARGETS[5]]
            attack.run(f"{kind} {name}", [*command, "--force"])
            remove("results")
    assert Path("precious").read_text() == "precious"
    report(attack)


def remove(name: str) -> None:
    path = Path(name)
    if path.is_dir() and not path.is_symlink():
        for inner in path.iterdir():
            remove(str(inner))
        path.rmdir()
    else:
        path.unlink()


def test_files_that_lie(attack):
    """Every reading command, on files of every kind that is not what it takes."""
    draw = random.Random(SEED)
    Path("bad").mkdir()
    for command, name in READERS:
        for kind in FILES:
            for _ in range(2 if kind in ("noise", "cut", "idx claim", "idx rank", "idx kind", "wrong keys") else 1):
                content = hostile(kind, draw, name)
                if "idx:bad" in command:
                    for good in Path("good").iterdir():
                        Path("bad", good.name).write_bytes(good.read_bytes())
                    target = Path("bad", draw.choice(sorted(os.listdir("good"))))
                else:
                    target = Path("file.npz")
                target.write_bytes(content)
                harmless = kind == "idx other" or (kind == "idx kind" and target.parent.name == "bad")
                codes = (0, 1, 2) if harmless else (2,)  # labels that are all one number can be trained on
                attack.run(kind, [word.replace("FILE", "file.npz") for word in command], codes)
                assert not Path("new").exists()
    report(attack)


def test_sources_that_are_no_plain_files(attack):
    """Every reading command, on pipes, devices that never end, folders and links to nowhere."""
    kinds = [*KINDS, "zeros"]
    if not can_make_devices():
        kinds = [kind for kind in kinds if kind not in ("device", "zeros")]
    good = find("bn").example()
    for command, _ in READERS:
        for kind in kinds:
            if "idx:bad" in command:
                Path("bad").mkdir()
                for file in Path("good").iterdir():
                    Path("bad", file.name).write_bytes(file.read_bytes())
                path = Path("bad", "train-images-idx3-ubyte")
                path.unlink()
            else:
                path = Path("file.npz")
            make(kind, path)
            attack.run(kind, [word.replace("FILE", str(path)) for word in command])
            remove("bad" if "idx:bad" in command else str(path))
    np.savez("good.npz", **good)
    Path("link.npz").symlink_to("good.npz")  # a link to a plain file may be read
    attack.run("a link", ["step", "bn", "--plain", "--inputs", "link.npz"], (0,))
    report(attack)


def test_names_that_no_file_can_have(attack):
    long = "a" * 255
    impossible = (f"{long}a", "precious/b", "b/" * 2100 + "b")
    for command in TARGETS:
        makes_folders = command[0] in ("compare", "vectors")  # with those above them
        for name in impossible if makes_folders else (*impossible, long, f"{long}/b", "nowhere/b"):
            attack.run(name[:9], [word.replace("TARGET", name) for word in command])
    for command, _ in READERS:
        for name in (*impossible, "nowhere/b"):
            words = [word.replace("FILE", name).replace("idx:bad", f"idx:{name}") for word in command]
            attack.run(name[:9], words)
    report(attack)


if sys.platform == "win32":
    pytest.skip("needs links, pipes and signals of a Unix", allow_module_level=True)
