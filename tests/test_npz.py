"""Archives of arrays: what a file claims is bounded before anything of it is unpacked."""

from __future__ import annotations

import io
import os
import struct
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest

from uanref import npz
from uanref.derivations import find
from uanref.startup import Terminated
from uanref.stepping.given import inputs_from

MIB = 1 << 20


def npy(array):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), allow_pickle=True)
    return stream.getvalue()


def pack(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content, method)
    return path


def refused(path, text, largest=MIB, **options):
    tracemalloc.start()
    try:
        with pytest.raises(npz.NpzError, match=text):
            npz.read(path, largest, **options)
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_read(save, tmp_path):
    arrays = {
        "a": np.arange(12.0).reshape(3, 4),
        "b": np.asfortranarray(np.arange(6, dtype="<i2").reshape(2, 3)),
        "scalar": np.array(0.5),
        "empty": np.zeros((0, 3)),
        "bool": np.array([True]),
    }
    save(tmp_path / "a.npz", **arrays)
    found = npz.read(tmp_path / "a.npz", MIB)
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_what_is_written_is_read_by_numpy(tmp_path):
    npz.write(tmp_path / "a.npz", {"x/y": np.arange(5.0)})
    with np.load(tmp_path / "a.npz") as found:
        np.testing.assert_array_equal(found["x/y"], np.arange(5.0))
    np.testing.assert_array_equal(npz.read(tmp_path / "a.npz")["x/y"], np.arange(5.0))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(64 * MIB, dtype="u1"))
    refused(tmp_path / "a.npz", "claims to hold 67108992 bytes, and at most 1048576 are read")
    np.savez_compressed(tmp_path / "a.npz", **{f"x{i}": np.zeros(MIB // 4) for i in range(32)})
    refused(tmp_path / "a.npz", "claims to hold", 8 * MIB)


def test_a_bomb_that_lies_about_its_size_is_not_unpacked(tmp_path):
    content = npy(np.zeros(872, dtype="u1"))[:128] + bytes(64 * MIB)
    path = pack(tmp_path / "a.npz", {"x.npy": content}, zipfile.ZIP_DEFLATED)
    for size, text in ((1000, "damaged or cut short"), (2000, "claims shape|damaged or cut short")):
        path.write_bytes(path.read_bytes().replace(struct.pack("<I", len(content)), struct.pack("<I", size)))
        refused(path, text)


def test_a_header_that_claims_more_than_follows(tmp_path):
    header = npy(np.zeros(10**6, dtype="u1"))[:128]
    refused(
        pack(tmp_path / "a.npz", {"x.npy": header + b"few"}), r"claims shape \(1000000,\) in x\.npy but holds 3 bytes"
    )


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(method, tmp_path):
    refused(pack(tmp_path / "a.npz", {"x.npy": npy([1.0])}, method), "a way that NumPy does not use")


def test_a_long_list_of_members_is_not_read(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(150):
            archive.writestr(zipfile.ZipInfo(f"{i:03}" + "x" * 60_000), b"")
    refused(path, "list of members is too long", 32 * MIB)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array([object()]), "pickled objects in x.npy: they are never loaded"),
        (np.array(["text"]), "no plain numbers"),
        (np.array([1j]), "no plain numbers"),
        (np.zeros(2, dtype=[("a", "f8")]), "no plain numbers"),
        (np.array(["2020-01-01"], dtype="M8[D]"), "no plain numbers"),
    ],
)
def test_only_plain_numbers_are_read(array, text, tmp_path):
    refused(pack(tmp_path / "a.npz", {"x.npy": npy(array)}), text)


@pytest.mark.parametrize(
    ("old", "new"), [(b"(3,)", b"(3L)"), (b"(3,)", b"(3, "), (b"'<f8'", b"'\\df'"), (b"False", b"Fals\n")]
)
def test_a_damaged_header_is_no_array_and_no_warning(old, new, tmp_path):
    """NumPy's reader warns of the first, and raises what Python's tokenizer raises for the second."""
    content = npy(np.zeros(3))
    assert old in content
    path = pack(tmp_path / "a.npz", {"x.npy": content.replace(old, new)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        refused(path, "holds something else than an array in x.npy|holds no plain numbers|claims shape")


@pytest.mark.parametrize("content", [b"", b"text\n", npy([1.0]), b"PK\x05\x06" + 18 * b"\xff"])
def test_no_archive(content, tmp_path):
    (tmp_path / "a.npz").write_bytes(content)
    refused(tmp_path / "a.npz", "is not an .npz file")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_a_file_cut_short(part, tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).standard_normal(1000))
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    refused(path, "damaged or cut short")


@pytest.mark.parametrize("bad", [b"\xff", b"\x8e"])
def test_a_name_that_is_no_text_is_damage(bad, tmp_path):
    path = pack(tmp_path / "a.npz", {"né.npy": npy([1.0])})
    path.write_bytes(path.read_bytes().replace("é".encode(), b"a" + bad))
    refused(path, "is not an .npz file, or damaged")


def test_no_byte_of_the_list_makes_anything_but_a_sentence(tmp_path):
    """Flip each byte of the list of members and of the end: read, or refused by an NpzError."""
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.arange(30.0), y=np.arange(5))
    whole, outcomes = path.read_bytes(), set()
    for place in range(whole.index(b"PK\x01\x02"), len(whole)):
        for other in (0, 255, whole[place] ^ 128):
            path.write_bytes(whole[:place] + bytes([other]) + whole[place + 1 :])
            try:
                outcomes.add(len(npz.read(path, MIB)))
            except npz.NpzError:
                outcomes.add("refused")
    assert "refused" in outcomes


def test_what_no_real_data_reach_is_refused(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros(MIB, dtype="u1"))
    assert npz.read(tmp_path / "a.npz", 2 * MIB)["x"].size == MIB  # small enough to do no harm
    monkeypatch.setattr(npz, "_SMALL", 1000)
    refused(tmp_path / "a.npz", "no real data have 500 times the file's", 2 * MIB)
    np.savez_compressed(tmp_path / "a.npz", x=np.tile(np.arange(64, dtype="u1"), 3000))  # about 300 times
    npz.read(tmp_path / "a.npz", 2 * MIB)


def test_two_arrays_of_one_name(tmp_path):
    refused(pack(tmp_path / "a.npz", {"x.npy": npy([1.0]), "x": npy([2.0])}), "holds two arrays of one name")


@pytest.mark.parametrize("given", [("y", "x"), ("x",), ("x", "y", "z"), ()])
def test_names_that_are_expected(given, tmp_path):
    path = pack(tmp_path / "a.npz", {f"{name}.npy": npy([1.0]) for name in given})
    refused(path, f"^holds {', '.join(given) or 'nothing'}, expected x, y$", names=("x", "y"))
    assert set(npz.read(path, MIB, names=given)) == set(given)


def test_shapes_are_judged_before_anything_is_unpacked(tmp_path, monkeypatch):
    def fits(shapes):
        assert shapes == {"x": (2, 3), "y": ()}
        raise npz.NpzError("has other shapes")

    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3)), y=np.array(1.0))
    monkeypatch.setattr(npz, "_array", None)
    refused(tmp_path / "a.npz", "^has other shapes$", fits=fits)


@pytest.mark.parametrize("error", [KeyboardInterrupt, Terminated])
def test_a_signal_while_writing_is_the_signal(error, tmp_path, monkeypatch):
    def stop(stream, array, **_):
        stream.write(b"half")
        raise error

    monkeypatch.setattr(np.lib.format, "write_array", stop)
    with pytest.raises(error) as told:
        npz.write(tmp_path / "a.npz", {"x": np.zeros(10)})
    assert type(told.value) is error
    assert os.listdir(tmp_path) == []


def test_inputs_are_bounded(tmp_path):
    """3.9 MB that hold 3.9 GB, a pipe, and text: each a sentence at once."""
    path = tmp_path / "in.npz"
    np.savez_compressed(path, x=np.zeros(64 * MIB, dtype="u1"))
    with pytest.raises(ValueError, match="claims to hold"):
        inputs_from(find("bn"), path, {}, seed=0)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError, match="it is a pipe, no plain file"):
        inputs_from(find("bn"), path, {}, seed=0)
    path.unlink()
    path.write_text("text")
    with pytest.raises(ValueError, match=r"no \.npz file of plain arrays") as told:
        inputs_from(find("bn"), path, {}, seed=0)
    assert "pickle" not in str(told.value)
