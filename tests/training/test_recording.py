"""A recording's file: what is written comes back, and what no recording holds is refused in one sentence."""

import io
import json
from dataclasses import fields, replace

import numpy as np
import pytest

from uanref import npz
from uanref.training import recording, recording_checks
from uanref.training.history import Epoch
from uanref.training.recording import NormRecording, Recording, RecordingError


def layer(moments=3, channels=2, components=3, mode="batch", mixture=True, **changes):
    rng = np.random.default_rng(0)

    def drawn(*shape):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)

    own = {"prior_logits", "component_mean", "raw_variance"} if mixture else set()
    own |= {"moment_mean", "moment_variance"} if mixture and mode == "batch" else set()
    tables = ("low", "high", "mean", "variance", "gamma", "beta")
    arrays = {name: drawn(moments, channels) for name in tables}
    arrays["high"] += arrays["low"]
    arrays |= {name: drawn(moments, components, channels) for name in own}
    arrays["channels"] = np.arange(0, 3 * channels, 3)
    arrays["counts"] = rng.integers(0, 9, (moments, channels, recording.BINS))
    arrays["samples"] = drawn(moments, recording.SAMPLES, channels)
    return NormRecording("1", "UAN", mode, 1e-5, True, False, **(arrays | changes))


def made(moments=3, **changes):
    given = {
        "norm": "uan",
        "lr": 0.05,
        "seed": 2**70,
        "dataset": "digits",
        "model": "mlp",
        "steps": np.arange(moments),
        "loss": np.linspace(2.0, 1.0, moments),
        "accuracy": np.linspace(0.0, 1.0, moments),
        "gradient_norms": {"0": np.ones(moments), "1": np.zeros(moments)},
        "steps_per_epoch": 2,
        "epochs": (Epoch(1, 2.0, 0.5, float("nan"), 0.5, 0.25, 0.05),),
        "layers": (layer(moments), layer(moments, mode="learned"), layer(moments, mode="own", mixture=False)),
        "stopped": "interrupted",
    }
    return Recording(**(given | changes))


def assert_same(one, other):
    assert type(one) is type(other)
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name == "layers":
            assert len(a) == len(b)
            for x, y in zip(a, b, strict=True):
                assert_same(x, y)
        elif field.name == "gradient_norms":
            assert list(a) == list(b)
            assert all(np.array_equal(a[name], b[name]) for name in a)
        elif isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        else:
            assert repr(a) == repr(b)  # NaN is NaN here


@pytest.mark.parametrize(
    "one",
    [made(), made(moments=1, epochs=()), made(gradient_norms={}, layers=()), made(dataset="<script>'\"&")],
    ids=["whole", "one moment", "bare", "hostile text"],
)
def test_what_is_written_comes_back(one, tmp_path):
    recording.write(tmp_path / "a.npz", one)
    assert_same(recording.read(tmp_path / "a.npz"), one)


def test_an_infinite_loss_is_nan_in_the_file(tmp_path):
    epoch = Epoch(1, 2.0, 0.5, float("inf"), 0.5, 0.25, 0.05)
    recording.write(tmp_path / "a.npz", made(epochs=(epoch,)))
    assert np.isnan(recording.read(tmp_path / "a.npz").epochs[0].validation_loss)


# --- damage: what no recording holds --------------------------------------------------------------


def parts(one):
    """The members of a recording's file, ready to be damaged."""
    with np.load(io.BytesIO(recording.encode(one))) as arrays:
        found = {name: arrays[name] for name in arrays}
    return found, json.loads(found.pop("meta").tobytes())


def refused(tmp_path, arrays, meta):
    """Return the sentence of the refusal."""
    path = tmp_path / "bad.npz"
    text = meta if isinstance(meta, bytes) else json.dumps(meta).encode()
    path.write_bytes(npz.packed({"meta": np.frombuffer(text, dtype=np.uint8)} | arrays))
    with pytest.raises(RecordingError) as caught:
        recording.read(path)
    sentence = str(caught.value)
    assert sentence.startswith(str(path))
    assert sentence.isprintable()
    assert len(sentence) < 400 + len(str(path))
    return sentence.removeprefix(f"{path} ")


@pytest.mark.parametrize(
    ("member", "change", "sentence"),
    [
        ("loss", lambda a: np.full_like(a, np.nan), "holds NaN or infinity in loss"),
        ("0.mean", lambda a: a + np.inf, "holds NaN or infinity in 0.mean"),
        ("0.variance", lambda a: -a, "holds negative numbers in 0.variance"),
        ("0.moment_variance", lambda a: -a, "holds negative numbers"),
        ("gradients", lambda a: a - 5, "holds negative numbers in gradients"),
        ("accuracy", lambda a: a + 1, "holds an accuracy beyond"),
        ("steps", lambda a: a[::-1], "holds steps out of order"),
        ("steps", lambda a: a - 1, "holds other numbers than 0, 1, 2"),
        ("steps", lambda a: a.astype(float), "holds other numbers than 0, 1, 2"),
        ("steps", lambda a: a[:0], "has no moments"),
        ("steps", lambda a: a[:2], "expected (2,)"),
        ("loss", lambda a: a[None], "of shape (1, 3), expected (3,)"),
        ("loss", lambda a: a.astype(int), "holds int64 in loss"),
        ("epochs", lambda a: a + 1, "holds epochs that are none"),
        ("epochs", lambda a: a[:, :6], "expected (n, 7)"),
        ("0.counts", lambda a: a[..., :31], "expected (3, 2, 32)"),
        ("0.counts", lambda a: -a.astype(int) - 1, "holds other numbers"),
        ("0.counts", lambda a: np.full(a.shape, 2**63 + 5, np.uint64), "holds other numbers"),
        ("steps", lambda a: a + 2**60, "holds other numbers"),
        ("0.variance", lambda a: np.full(a.shape, 1e300), "too large for float32"),
        ("0.low", lambda a: a + np.float32(1e6), "the wrong way round"),
        ("0.channels", lambda a: np.arange(5), "has no usable 0.channels"),
        ("0.channels", lambda a: a * 0, "holds 0.channels out of order"),
        ("0.samples", lambda a: a.repeat(2, axis=1), "has no usable 0.samples"),
        ("0.component_mean", lambda a: a[:, :1], "expected (3, 3, 2)"),
        ("0.prior_logits", lambda a: a[0, 0, 0], "has no usable 0.prior_logits"),
        ("1.moment_mean", lambda a: np.ones((3, 3, 2)), "holds '1.moment_mean', which this uanref does not know"),
        ("2.prior_logits", lambda a: np.ones((3, 3, 2)), "holds a mixture in layer 2, whose mode is own"),
        ("3.mean", lambda a: np.ones((3, 2)), "holds '3.mean', which this uanref does not know"),
        ("0.gamma", None, "lacks 0.gamma"),
        ("loss", None, "lacks loss"),
    ],
)
def test_damaged_numbers_are_refused(member, change, sentence, tmp_path):
    arrays, meta = parts(made())
    if change is None:
        del arrays[member]
    else:
        arrays[member] = change(arrays.get(member))
    assert sentence in refused(tmp_path, arrays, meta)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"norm": 3}, "as norm, expected a text"),
        ({"norm": "\x1b[2J"}, "that a terminal can show"),
        ({"dataset": "x" * 501}, "at most 500 characters"),
        ({"lr": -1.0}, "as lr"),
        ({"lr": 10**400}, "as lr"),
        ({"seed": -1}, "as seed"),
        ({"seed": True}, "as seed"),
        ({"steps_per_epoch": 0}, "as steps_per_epoch"),
        ({"format": 2}, "has format version 2, this uanref reads version 1: record the training again"),
        ({"format": True}, "as format"),
        ({"gradients": ["a", "a"]}, "names, each once"),
        ({"gradients": ["a"]}, "of shape (2, 3), expected (1, 3)"),
        ({"layers": []}, "which this uanref does not know"),
        ({"layers": [{}]}, "lacks name"),
        ({"more": 1}, "which this uanref does not know"),
    ],
)
def test_damaged_texts_are_refused(change, sentence, tmp_path):
    arrays, meta = parts(made())
    assert sentence in refused(tmp_path, arrays, meta | change)


def test_a_mode_that_is_none_is_refused(tmp_path):
    arrays, meta = parts(made())
    meta["layers"][0]["mode"] = "<b>"
    assert "as layers[0].mode, expected one of batch" in refused(tmp_path, arrays, meta)


@pytest.mark.parametrize("text", [b"", b"[1]", b"{", b'{"lr": NaN}', b"[" * 100_000])
def test_no_text_of_a_recording(text, tmp_path):
    arrays, _ = parts(made())
    assert refused(tmp_path, arrays, text)


def test_files_of_other_kinds_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(RecordingError, match="does not exist"):
        recording.read(tmp_path / "none.npz")
    with pytest.raises(RecordingError, match="cannot be read"):
        recording.read(tmp_path)
    with pytest.raises(RecordingError, match="cannot be read"):
        recording.read("\0")
    path = tmp_path / "a.npz"
    np.savez(path, x=np.ones(3))
    with pytest.raises(RecordingError, match="no readable meta data"):
        recording.read(path)
    recording.write(path, made())
    content = path.read_bytes()
    for cut in (0, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:cut])
        with pytest.raises(RecordingError, match="is not a recording, or damaged"):
            recording.read(path)


def test_a_failed_write_leaves_the_older_file(tmp_path):
    path = tmp_path / "a.npz"
    recording.write(path, made())
    with pytest.raises(OSError, match="none"):
        recording.write(tmp_path / "none" / "a.npz", made())
    assert_same(recording.read(path), made())


def test_texts_are_made_fit_for_a_file():
    assert recording_checks.cleaned("a\n\x1bb") == "a??b"
    assert len(recording_checks.cleaned("x" * 1000)) == 500


def test_changed_fields_come_back(tmp_path):
    one = replace(made(), stopped="training became non-finite at step 3: the loss")
    recording.write(tmp_path / "a.npz", one)
    assert_same(recording.read(tmp_path / "a.npz"), one)
