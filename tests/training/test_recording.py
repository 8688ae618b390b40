"""A recording's file: what is written comes back, and what no recording holds is refused in one sentence."""

from dataclasses import fields

import numpy as np
import pytest

from uanref.training import recording
from uanref.training.history import Epoch
from uanref.training.recording import NormRecording, Recording


def layer(moments=3, channels=2, components=3, mode="batch", mixture=True, **changes):
    rng = np.random.default_rng(0)

    def drawn(*shape):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)

    own = {"prior_logits", "component_mean", "raw_variance"} if mixture else set()
    own |= {"moment_mean", "moment_variance"} if mixture and mode == "batch" else set()
    tables = ("low", "high", "mean", "variance", "gamma", "beta")
    arrays = {name: drawn(moments, channels) for name in tables}
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
