import gzip
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from support.idx import CODES, NAMES, header, idx

from uanref import data
from uanref.data import DataError, files, read_idx, read_idx_folder


def toy(n, shape=(5, 4), classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % classes).astype("uint8")
    return rng.integers(0, 256, (n, *shape), dtype="uint8"), labels


@pytest.fixture
def write(tmp_path):
    """Write the four files into a folder; ``name=array`` or ``name=bytes`` replaces one, None leaves it out."""

    def write(*, packed=False, **changes) -> Path:
        train, test = toy(12), toy(6, seed=1)
        content = dict(zip(("train_images", "train_labels", "test_images", "test_labels"), train + test, strict=True))
        content |= changes
        for name, value in zip(NAMES, content.values(), strict=True):
            if value is None:
                continue
            raw = value if isinstance(value, bytes) else idx(value)
            (tmp_path / (name + ".gz" if packed else name)).write_bytes(gzip.compress(raw) if packed else raw)
        return tmp_path

    return write


def put(folder, raw, name="file"):
    path = folder / name
    path.write_bytes(raw)
    return path


# --- read_idx -----------------------------------------------------------------------------------


@given(
    array=st.sampled_from(sorted(CODES)).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, max_side=5))
    ),
    packed=st.booleans(),
)
def test_what_was_written_is_read(tmp_path_factory, array, packed):
    raw = idx(array)
    path = put(tmp_path_factory.mktemp("idx"), gzip.compress(raw) if packed else raw)
    found = read_idx(path)
    assert found.dtype == array.dtype
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, array)


def test_more_than_one_chunk_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_CHUNK", 7)
    array = np.arange(100, dtype="int32").reshape(4, 25)
    np.testing.assert_array_equal(read_idx(put(tmp_path, idx(array))), array)
    np.testing.assert_array_equal(read_idx(put(tmp_path, gzip.compress(idx(array)))), array)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "not an IDX file: it starts with nothing"),
        (b"\0\0\x08", "not an IDX file: it starts with 00 00 08"),
        (b"PK\x03\x04" + bytes(20), "not an IDX file: it starts with 50 4b 03 04"),
        (header(0x0A, 2) + bytes(2), "not an IDX file"),
        (header(0x08) + bytes(1), "not an IDX file"),
        (header(0x08, *[1] * 9) + bytes(1), "not an IDX file"),
        (header(0x08, 2, 3)[:-1], "truncated: it ends inside its header"),
        (header(0x08, 2, 3) + bytes(5), r"truncated: its header says \(2, 3\) uint8, 6 bytes, but 5 follow"),
        (header(0x0C, 2) + bytes(7), r"truncated: its header says \(2,\) int32, 8 bytes, but 7 follow"),
        (header(0x08, 2, 3) + bytes(7), "damaged: .* but more follow"),
        (header(0x08, 0, 3), r"empty: its header says \(0, 3\)"),
        (header(0x08, 0, 2**32 - 1, 2**32 - 1), "empty"),
        (header(0x08, 1 << 15, 1 << 15, 2), "refused: .* at most 1073741824 are read"),
        (header(0x0E, *[2**32 - 1] * 8) + bytes(9), "refused"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_bad_file_is_refused_in_one_sentence(tmp_path, raw, says, packed):
    path = put(tmp_path, gzip.compress(raw) if packed else raw)
    with pytest.raises(DataError, match=says) as caught:
        read_idx(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def peak_of_refusal(path, says):
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=says):
            read_idx(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("packed", [False, True])
def test_a_header_that_claims_too_much_allocates_nothing(tmp_path, packed):
    raw = header(0x08, 1 << 10, 1 << 10, 1 << 10) + bytes(100)  # claims 1 GiB, the most that is read
    path = put(tmp_path, gzip.compress(raw) if packed else raw)
    assert peak_of_refusal(path, "truncated: .* but 100 follow") < 4 << 20


def test_a_header_that_claims_more_than_a_large_file_holds_is_refused_unread(tmp_path):
    path = put(tmp_path, header(0x08, 1 << 10, 1 << 10, 1 << 10))
    os.truncate(path, 64 << 20)  # a hole: it takes no disk space
    assert peak_of_refusal(path, "truncated: .* but 67108848 follow") < 1 << 20


def test_a_gzip_bomb_is_left_after_one_byte_too_many(tmp_path):
    bomb = gzip.compress(header(0x08, 10) + bytes(64 << 20), compresslevel=1)
    assert peak_of_refusal(put(tmp_path, bomb), "damaged: .* but more follow") < 4 << 20


@pytest.mark.parametrize("damage", ["cut", "checksum", "garbage behind", "bad block"])
def test_a_damaged_gzip_file_is_refused(tmp_path, damage):
    array = np.random.default_rng(0).integers(0, 256, 5000, dtype="uint8")
    raw = bytearray(gzip.compress(idx(array)))
    if damage == "cut":
        del raw[len(raw) // 2 :]
    elif damage == "checksum":
        raw[-6] ^= 0xFF
    elif damage == "garbage behind":
        raw += b"garbage"
    else:
        raw[10] = 0xFF  # the first block's type becomes the reserved one
    with pytest.raises(DataError, match="truncated or damaged gzip file"):
        read_idx(put(tmp_path, bytes(raw)))


@given(raw=st.binary(max_size=40), magic=st.sampled_from([b"", b"\0\0\x08\x01", b"\0\0\x0d\x02", b"\x1f\x8b\x08\0"]))
def test_any_bytes_give_an_array_or_a_data_error(tmp_path_factory, raw, magic):
    path = put(tmp_path_factory.mktemp("fuzz"), magic + raw)
    try:
        found = read_idx(path)
    except DataError:  # any other exception is the failure that this test looks for
        return
    assert idx(found) == magic + raw


def test_what_is_no_regular_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(DataError, match="is missing or no regular file"):
            read_idx(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="no regular file"):
        read_idx(tmp_path / "pipe")


def test_a_name_that_no_file_can_have_is_refused():
    with pytest.raises(DataError, match="cannot read"):
        read_idx("a\0b")


def test_a_file_without_permission_is_refused(tmp_path, monkeypatch):
    path = put(tmp_path, idx(np.arange(3, dtype="uint8")))

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)  # as root every file can be read, so permissions alone test nothing
    with pytest.raises(DataError, match=r"cannot read .*: Permission denied$"):
        read_idx(path)


def test_a_folder_without_permission_is_refused(write, monkeypatch):
    folder, stat = write(), Path.stat

    def refuse(self, **kwargs):
        if self.parent == folder:
            raise PermissionError(13, "Permission denied", str(self))
        return stat(self, **kwargs)

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(DataError, match=r"cannot read .*: Permission denied$"):
        read_idx_folder(folder)


# --- read_idx_folder ----------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_the_four_files_make_two_sets(write, packed):
    train, test = read_idx_folder(write(packed=packed))
    for found, (images, labels) in ((train, toy(12)), (test, toy(6, seed=1))):
        assert found.num_classes == 3
        np.testing.assert_array_equal(found.labels, labels)
        np.testing.assert_allclose(found.images[:, 0], images / 255, rtol=1e-6)


def test_the_plain_file_is_preferred(write):
    folder = write()
    (folder / f"{NAMES[0]}.gz").write_bytes(b"not even gzip")
    assert len(read_idx_folder(folder)[0]) == 12


def test_a_folder_given_as_text_may_start_at_home(write, monkeypatch):
    folder = write()
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(read_idx_folder(f"~/{folder.name}")[0]) == 12


def test_classes_are_counted_over_both_sets(write):
    labels = np.array([0, 0, 0, 0, 0, 6], dtype="uint8")
    train, test = read_idx_folder(write(test_labels=labels))
    assert train.num_classes == test.num_classes == 7


def test_two_classes_are_enough(write):
    folder = write(train_labels=toy(12, classes=2)[1], test_labels=toy(6, classes=2)[1])
    assert read_idx_folder(folder)[0].num_classes == 2


def test_floats_are_kept_as_they_are(write):
    images = np.random.default_rng(0).standard_normal((12, 5, 4))
    train, _ = read_idx_folder(write(train_images=images))
    np.testing.assert_array_equal(train.images[:, 0], images.astype("float32"))


@pytest.mark.parametrize("missing", range(4))
def test_a_missing_file_is_named_by_both_accepted_names(write, missing):
    folder = write(**{("train_images", "train_labels", "test_images", "test_labels")[missing]: None})
    with pytest.raises(DataError, match=f"holds neither {NAMES[missing]} nor {NAMES[missing]}.gz"):
        read_idx_folder(folder)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match=r"there is no folder .*nowhere"):
        read_idx_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="there is no folder"):
        read_idx_folder(put(tmp_path, b""))
    with pytest.raises(DataError, match="there is no folder ~no-such-user/mnist"):
        read_idx_folder("~no-such-user/mnist")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"train_labels": toy(11)[1]}, "12 images but train-labels-idx1-ubyte holds 11 labels"),
        ({"test_images": toy(6, (4, 4))[0]}, "training images of 5 x 4 but test images of 4 x 4"),
        ({"train_images": toy(12)[1]}, r"has shape \(12,\), expected grey images \(N, H, W\)"),
        ({"test_labels": toy(6)[0]}, r"uint8 of shape \(6, 5, 4\), expected integer labels \(N,\)"),
        ({"train_labels": np.zeros(12)}, r"float64 of shape \(12,\), expected integer labels"),
        ({"test_labels": np.array([0, 1, 2, -1, -2, 0], "int8")}, "the label at index 3 is -1"),
        ({"train_labels": np.zeros(12, "uint8"), "test_labels": np.zeros(6, "uint8")}, "the largest label is 0"),
        ({"test_labels": np.full(6, 2**31 - 1, "int32")}, "the largest label is 2147483647, expected .* 1 to 65535"),
        ({"train_images": np.full((12, 5, 4), np.nan)}, r"hold nan first at index \(0, 0, 0, 0\)"),
        ({"test_images": np.full((6, 5, 4), 1e300)}, r"hold inf first at index \(0, 0, 0, 0\)"),
        ({"test_images": idx(toy(6)[0])[:-1]}, "t10k-images-idx3-ubyte is truncated"),
        ({"train_labels": b"nonsense"}, "train-labels-idx1-ubyte is not an IDX file"),
        ({"test_images": header(0x08, 0, 5, 4)}, "t10k-images-idx3-ubyte is empty"),
    ],
)
def test_files_that_do_not_fit_are_refused(write, change, says):
    with pytest.raises(DataError, match=says) as caught:
        read_idx_folder(write(**change))
    assert "\n" not in str(caught.value)


# --- names and bounds ---------------------------------------------------------------------------


def renamed(folder, change):
    for name in NAMES:
        (folder / name).rename(folder / change(name))
    return folder


@pytest.mark.parametrize(
    "change",
    [
        lambda name: name.replace("-idx", ".idx"),
        lambda name: "emnist-letters-" + name.replace("t10k", "test"),
        lambda name: "emnist-balanced-" + name.replace("t10k", "test").replace("-idx", ".idx"),
    ],
    ids=["dot", "emnist", "emnist with a dot"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_other_names_in_use_are_found(write, change, packed):
    folder = renamed(write(), change)
    if packed:
        for path in list(folder.iterdir()):
            path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    train, test = read_idx_folder(folder)
    np.testing.assert_allclose(train.images[:, 0], toy(12)[0] / 255, rtol=1e-6)
    np.testing.assert_array_equal(test.labels, toy(6, seed=1)[1])


@pytest.mark.parametrize(
    "other", ["train-images.idx3-ubyte", "emnist-letters-train-images-idx3-ubyte", "train-images.idx3-ubyte.gz"]
)
def test_a_folder_with_two_sets_is_refused(write, other):
    folder = write()
    put(folder, b"", other)
    with pytest.raises(DataError, match=f"several files that could be meant .*{NAMES[0]}.*: leave one set in a folder"):
        read_idx_folder(folder)


def test_a_folder_beside_the_files_with_another_of_their_names_does_not_count(write):
    folder = write()
    (folder / "train-images.idx3-ubyte").mkdir()  # as some unpackers leave it
    assert len(read_idx_folder(folder)[0]) == 12


def test_bytes_stay_bytes_and_take_little_memory(tmp_path, monkeypatch):
    """A set took twelve times its size; now the file, and the parts that it is split into."""
    monkeypatch.setattr(data.splits, "_BLOCK", 32)  # so many images at a time are float64
    images, labels = toy(4000, (40, 50))
    for name, array in zip(NAMES, (images, labels, images[:100], labels[:100]), strict=True):
        put(tmp_path, idx(array), name)
    tracemalloc.start()
    try:
        splits = data.load(f"idx:{tmp_path}")
        for _ in data.Batches(splits.train, 64, shuffle=True):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert splits.train.stored.dtype == np.uint8
    assert peak < 2.5 * images.nbytes + (4 << 20)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16"])
def test_a_batch_of_integers_has_the_bits_of_the_whole_set_in_float32(write, dtype):
    rng = np.random.default_rng(0)
    whole = rng.integers(0, 100, (12, 5, 4)).astype(dtype)
    splits = data.load(f"idx:{write(train_images=whole, test_images=whole[:6])}")
    scaled = np.divide(whole, 255 if dtype == "uint8" else 1, dtype=np.float32)[:, None]
    known = np.array([np.flatnonzero((whole == image).all((1, 2)))[0] for image in splits.train.stored[:, 0]])
    expected = data.Standardizer.fit(scaled[known]).apply(scaled)
    assert splits.test.images.tobytes() == expected[:6].tobytes()
    for chosen in (slice(2, 5), np.array([4, 0, 4])):
        assert splits.train.batch(chosen).tobytes() == expected[known][chosen].tobytes()
    batches = data.Batches(splits.train, 4, shuffle=True, rng=np.random.default_rng(1))
    order = np.random.default_rng(1).permutation(len(splits.train))
    assert b"".join(x.tobytes() for x, _ in batches) == expected[known][order].tobytes()


def test_a_bomb_that_is_what_it_says_is_refused_early(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_SMALL", 1 << 20)
    put(tmp_path, gzip.compress(header(0x08, 1 << 10, 1 << 7, 1 << 8) + bytes(32 << 20), compresslevel=9))
    assert peak_of_refusal(tmp_path / "file", "no real data have 500 times the file's") < 24 << 20


def test_images_without_as_many_labels_are_not_unpacked(tmp_path):
    for name, raw in zip(NAMES, (header(0x08, 1 << 10, 1 << 7, 1 << 8), *[header(0x08, 3)] * 3), strict=True):
        put(tmp_path, gzip.compress(raw + bytes(32 << 20 if "images" in name else 3), compresslevel=1), name)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="holds 1024 images but train-labels-idx1-ubyte holds 3 labels"):
            read_idx_folder(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_a_billion_one_byte_samples_are_refused(tmp_path):
    path = put(tmp_path, header(0x08, 1 << 25))
    os.truncate(path, 8 + (1 << 25))
    assert peak_of_refusal(path, "at most 16777216 samples are read") < 1 << 20
