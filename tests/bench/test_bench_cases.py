"""What is measured: the promised cases and goals, and that each is the work that it says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from uanref import models
from uanref.bench import cases, ours, work
from uanref.bench.peers import PEERS
from uanref.bench.work import Stage, Work
from uanref.cli import completion


def test_the_cases_and_their_goals_are_those_that_were_promised() -> None:
    goals = {name: dict(case.goals) for name, case in cases.CASES.items()}
    assert {name: goal.pop("torch", None) for name, goal in goals.items()} == {
        "digits-none": 1.0,
        "digits-bn": 1.0,
        "digits-uan": 0.6,
        "mlp-none": 0.6,
        "mlp-bn": 0.6,
        "mlp-uan": 0.4,
        "cnn-bn": 1.2,
        "cnn-uan": 0.4,
        "conv-16-32": 0.9,
        "conv-64-64": 0.9,
        "conv5-3-32": 1.1,
        "conv5-64-128": 1.2,
        "conv-1-16": 0.4,
        "conv-16-16": 1.1,
        "maxpool": 0.9,
        "relu": 1.1,
        "gelu": 1.5,
        "batchnorm-8x8": 1.2,
        "batchnorm-512": 1.0,
        "batchnorm": 0.9,
        "uan-8x8": 0.6,
        "uan-512": 0.5,
        "uan": 0.12,
        "uan-batchnorm": None,
        "cross-entropy": 1.2,
        "recording": None,
        "recording-mlp": None,
        "import": None,
        "help": None,
    }
    assert goals.pop("uan") == {"torch-compile": 0.5}
    assert goals.pop("recording") == goals.pop("recording-mlp") == {cases.UNRECORDED: 1.03}
    assert not any(goals.values())
    assert cases.CASES["uan"].peak_limit_mb == pytest.approx(3 * 64 * 64 * 32 * 32 * 4 / 1e6)
    assert {name for name, case in cases.CASES.items() if case.threads == 1} == {
        "recording",
        "recording-mlp",
        *(f"digits-{n}" for n in goals_norms()),
    }


def goals_norms() -> tuple[str, ...]:
    return ("none", "bn", "uan")


def test_shapes() -> None:
    shapes = {name: case.work.shape for name, case in cases.CASES.items() if case.work}
    assert shapes["conv-1-16"] == (128, 1, 28, 28)
    assert shapes["conv5-64-128"] == (64, 64, 16, 16)
    assert shapes["maxpool"] == (64, 32, 32, 32)
    assert shapes["uan-512"] == shapes["batchnorm-512"] == (256, 512)
    assert shapes["uan-8x8"] == shapes["batchnorm-8x8"] == shapes["conv-16-16"] == (64, 16, 8, 8)
    for name, case in cases.CASES.items():
        if case.work is not None:
            for last, stage in zip(case.work.shapes(), case.work.stages, strict=False):
                assert stage.inputs in (0, last[1]), name
            assert case.what.endswith(("thread", ")", "64", "above")), name
    assert shapes["cnn-bn"] == (64, 3, 32, 32)
    cnn = cases.CASES["cnn-bn"].work
    assert cnn is not None
    assert [(one.outputs, one.kernel) for one in cnn.stages if one.kind == "conv"] == [
        (64, 5),
        (128, 5),
        (128, 5),
        (256, 3),
    ]


@pytest.mark.parametrize("norm", ["none", "bn", "uan"])
def test_the_digits_step_is_that_of_the_experiments(norm: str) -> None:
    what = cases.CASES[f"digits-{norm}"].work
    assert what is not None
    model = models.build("cnn", norm, image_shape=(1, 8, 8), num_classes=10)
    made = ours.layers(what)
    assert [type(one) for one in made] == [type(one) for one in model.layers]
    for mine, theirs in zip(made, model.layers, strict=True):
        assert {n: p.value.shape for n, p in mine.parameters().items()} == {
            n: p.value.shape for n, p in theirs.parameters().items()
        }


def test_shapes_follow_the_layers() -> None:
    stages = (Stage("conv", 3, 8, 5), Stage("pool"), Stage("flatten"), Stage("linear", 8 * 9, 10), Stage("relu"))
    what = Work((2, 3, 7, 6), stages)
    assert what.shapes() == [(2, 3, 7, 6), (2, 8, 7, 6), (2, 8, 3, 3), (2, 72), (2, 10), (2, 10)]
    made = ours.layers(what)
    results = ours.task(made, what, work.material(what, ours.weights(made, what)))()
    assert results[0].shape == (2, 10)
    assert results[1].shape == (2, 3, 7, 6)
    assert [each.shape for each in results[2:]] == [(8, 3, 5, 5), (8,), (10, 72), (10,)]


def test_amounts() -> None:
    conv = Work((2, 3, 4, 5), (Stage("conv", 3, 7, 3),))
    assert work.amount(conv) == work.Amount("gemm", 3 * 2 * (2 * 7 * 4 * 5) * 3 * 9)
    linear = Work((2, 3), (Stage("linear", 3, 7), Stage("relu")))
    assert work.amount(linear) == work.Amount("gemm", 3 * 2 * 2 * 3 * 7)
    assert work.amount(Work((2, 3, 4, 5), (Stage("uan", 3),))) == work.Amount("exp", 2 * 3 * 120)
    assert work.amount(Work((2, 3, 4, 4), (Stage("pool"),))) == work.Amount("copy", 4 * (3 * 96 + 2 * 24))
    assert work.amount(Work((2, 3, 4, 5), (Stage("relu"),))) == work.Amount("copy", 4 * 5 * 120)
    assert work.amount(Work((2, 3), (), "loss")) == work.Amount("copy", 4 * 2 * 6)


def test_a_step_learns_and_a_loss_returns_its_gradient() -> None:
    what = Work((16, 6), (Stage("linear", 6, 8), Stage("bn", 8), Stage("relu"), Stage("linear", 8, 3)), "step")
    made = ours.layers(what)
    task = ours.task(made, what, work.material(what, ours.weights(made, what)))
    losses = [float(task()[0]) for _ in range(60)]
    assert losses[-1] < losses[0]
    loss = Work((5, 4), (), "loss")
    value, dx = ours.task([], loss, work.material(loss, ()))()
    assert math.isfinite(float(value))
    assert np.abs(dx.sum(1)).max() < 1e-6


def test_names() -> None:
    assert list(cases.chosen(("uan", "relu"))) == ["relu", "uan"]
    assert list(cases.chosen(None)) == list(cases.chosen(("all",))) == list(cases.CASES)
    assert not cases.chosen(())
    with pytest.raises(ValueError, match="unknown case 'fft': expected all, or some of digits-none, digits-bn"):
        cases.chosen(("fft",))


def test_what_completion_proposes_is_there() -> None:
    assert list(completion.BENCH_CASES) == list(cases.CASES)
    assert list(completion.PEERS) == list(PEERS)
