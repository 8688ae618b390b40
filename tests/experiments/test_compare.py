"""The comparison itself: fair, reproducible, and honest about what went wrong."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from rich.console import Console

from uanref import backend, data, files
from uanref.cli import main
from uanref.experiments import activations, compare, compare_report, parallel, recipe
from uanref.experiments.compare import Comparison, Run, Settings
from uanref.training.history import Epoch, History

TINY = {"model": "mlp", "epochs": 1, "seeds": 1}


def history(accuracies, seconds=2.0):
    epochs = [Epoch(i + 1, 0.5, 0.5, 0.5, accuracy, seconds, 0.1) for i, accuracy in enumerate(accuracies)]
    norms = {"0.weight": [1.0] * len(epochs)}
    return History(epochs=epochs, steps=list(range(len(epochs))), gradient_norms=norms)


def made(norm, seed, test_accuracy, accuracies=(0.9, 0.96)):
    return Run(norm, 0.01, seed, test_accuracy, 1234, history(accuracies), {"0.weight": "1 Linear"})


def text(comparison):
    console = Console(width=80)
    with console.capture() as captured:
        console.print(compare_report.table(comparison))
    return " ".join(captured.get().split())


# --- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"norms": ()},
        {"norms": ("bn", "bn")},
        {"norms": ("batch",)},
        {"model": "nope"},
        {"optimizer": "nope"},
        {"backend": "nope"},
        {"seeds": 0},
        {"seeds": 10**9},
        {"epochs": -1},
        {"components": 0},
        {"batch_size": 0},
        {"lrs": (0.0,)},
        {"lrs": (0.1, math.nan)},
        {"lrs": (math.inf,)},
        {"lrs": (0.1, 0.1)},
    ],
)
def test_settings_refuse(options):
    with pytest.raises(ValueError, match=r".{20,}"):
        Settings(**options)


def test_learning_rate_follows_the_optimizer():
    assert Settings(optimizer="sgd").lrs == (0.1,)
    assert Settings(optimizer="adam").lrs == (0.01,)
    assert Settings(optimizer="sgd", lrs=(0.5,)).lrs == (0.5,)


def test_runs_are_all_combinations():
    runs = Settings(norms=("bn", "uan"), lrs=(0.1, 0.2), seeds=2).runs()
    assert len(runs) == len(set(runs)) == 8
    assert runs[0] == ("bn", 0.1, 0)
    assert runs[-1] == ("uan", 0.2, 1)


# --- fairness -------------------------------------------------------------------------------------


def test_norms_see_the_same_weights_and_batches(monkeypatch):
    """The first training step of all norms starts from the same first weights and the same images."""
    seen = []

    class Stop(Exception):
        pass

    def first_step(self, epochs):
        images, labels = next(iter(self.batches))
        weight = next(p.value for name, p in self.model.parameters().items() if name.endswith("weight"))
        seen.append((weight.copy(), images.copy(), labels.copy()))
        raise Stop

    monkeypatch.setattr(recipe.Trainer, "fit", first_step)
    settings = Settings(**TINY)
    for norm, lr, seed in [("none", 0.01, 1), ("bn", 0.01, 1), ("uan", 0.01, 1), ("bn", 0.01, 2)]:
        with pytest.raises(Stop):
            compare.train_one(settings, norm, lr, seed)
    for other in seen[1:3]:
        for a, b in zip(seen[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert not np.array_equal(seen[0][0], seen[3][0])
    assert not np.array_equal(seen[0][1], seen[3][1])


def test_a_run_is_reproducible_and_threads_do_not_matter():
    settings = Settings(**TINY | {"model": "cnn"})
    one, two = (compare.train_one(settings, "uan", 0.01, 0, threads) for threads in (1, 2))
    assert one.test_accuracy == two.test_accuracy
    for a, b in zip(one.history.epochs, two.history.epochs, strict=True):
        assert (a.train_loss, a.validation_loss) == (b.train_loss, b.validation_loss)
    assert one.history.gradient_norms == two.history.gradient_norms


def numbers(comparison):
    """All that must not depend on the number of processes: everything but times."""
    found = [run.to_dict() for run in comparison.runs]
    for run in found:
        del run["seconds_per_epoch"]
        for epoch in run["history"]["epochs"]:
            del epoch["seconds"]
    return found


@pytest.mark.slow
def test_results_do_not_depend_on_jobs():
    settings = Settings(model="mlp", epochs=2, seeds=2, norms=("none", "bn", "uan"), lrs=(0.01, 0.001))
    splits = compare.try_out(settings)
    alone, together = (compare.run(settings, splits, jobs) for jobs in (1, 3))
    assert len(alone.runs) == 12
    assert numbers(alone) == numbers(together)


def test_a_run_leaves_the_thread_limit_as_it_was():
    before = backend.threads()
    compare.train_one(Settings(**TINY), "none", 0.01, 0, threads=before + 1)
    assert backend.threads() == before


def test_finished_is_called_with_every_run():
    settings = Settings(**TINY | {"seeds": 2}, norms=("none", "bn"))
    seen = []
    comparison = compare.run(settings, compare.try_out(settings), jobs=1, finished=seen.append)
    assert seen == comparison.runs
    assert [(run.norm, run.seed) for run in seen] == [("none", 0), ("none", 1), ("bn", 0), ("bn", 1)]
    assert "seed 1" in str(seen[1])


def test_an_interrupt_ends_it_with_what_was_finished(monkeypatch):
    settings = Settings(**TINY | {"seeds": 3}, norms=("none",))
    splits = compare.try_out(settings)
    fit = recipe.Trainer.fit
    calls = []

    def interrupted(self, epochs):
        calls.append(epochs)
        if len(calls) == 2:
            self.history.stopped = "interrupted"  # what Trainer.fit does with Ctrl-C
            return self.history
        return fit(self, epochs)

    monkeypatch.setattr(recipe.Trainer, "fit", interrupted)
    comparison = compare.run(settings, splits, jobs=1)
    assert comparison.interrupted
    assert [run.seed for run in comparison.runs] == [0]
    assert comparison.note == "interrupted: 1 of 3 runs finished"
    assert comparison.note in text(comparison)


# --- reports --------------------------------------------------------------------------------------


def test_table_shows_means_deviations_and_what_failed():
    settings = Settings(norms=("none", "bn", "uan"), seeds=3)
    runs = [
        *(made("none", seed, math.nan) for seed in range(3)),
        *(made("bn", seed, accuracy) for seed, accuracy in enumerate((0.97, 0.98, 0.99))),
        made("uan", 0, 0.98, (0.5, 0.6)),
        made("uan", 1, 0.96, (0.96, 0.6)),
        made("uan", 2, math.nan, (0.1, 0.1)),
    ]
    shown = text(Comparison(settings, "some split.", runs))
    assert "3 of 3 diverged" in shown
    assert "98.00 ± 1.00 │ 2 │ 2.000 │ 1,234" in shown
    assert "97.00 ± 1.41 │ not reached │" in shown
    assert "1 of 3 diverged │ (1 of 3 runs) │" in shown
    assert "some split." in shown


@pytest.mark.parametrize(
    ("firsts", "shows"),
    [
        ((2, 3, 7), "3"),
        ((2, 3), "2.5"),
        ((2, 9, None), "9 (2 of 3 runs)"),
        ((2, None), "not reached (1 of 2 runs)"),
        ((2, 3, None, None), "not reached (2 of 4 runs)"),
        ((None, None), "not reached"),
    ],
)
def test_a_run_that_never_arrives_counts_as_infinite(firsts, shows):
    def accuracies(first):
        return [0.96 if first is not None and epoch >= first else 0.5 for epoch in range(1, 10)]

    runs = [made("bn", seed, 0.97, accuracies(first)) for seed, first in enumerate(firsts)]
    table = compare_report.table(Comparison(Settings(norms=("bn",), seeds=len(firsts)), "s", runs))
    (shown,) = table.columns[2].cells
    assert " ".join(str(shown).split()) == shows


def test_the_table_of_a_grid_fits_80_columns():
    settings = Settings(norms=("bn", "uan-learned"), seeds=3, lrs=(0.01, 0.0003))
    scores = (0.9712, 0.985, math.nan)
    runs = [
        Run(norm, lr, seed, scores[seed], 123456, history((0.9, 0.96 if seed else 0.9)), {"0.weight": "1 Linear"})
        for norm, lr, seed in settings.runs()
    ]
    console = Console(width=80)
    with console.capture() as captured:
        console.print(compare_report.table(Comparison(settings, "some split.", runs)))
    head, _rule, first, second, *_ = captured.get().splitlines()
    titles = ["norm", "lr", "test accuracy (%)", "epochs to 95 %", "s/epoch", "parameters"]
    assert re.split(r" +┃ +", head.strip()) == titles
    assert "97.81 ± 0.98" in first
    assert "1 of 3 diverged" in second
    assert "(2 of 3 runs)" in second


def test_one_seed_has_no_deviation():
    shown = text(Comparison(Settings(norms=("bn",), seeds=1), "s", [made("bn", 0, 0.98, (0.5,))]))
    assert "98.00 │" in shown
    assert "not reached" in shown


def test_a_diverged_run_is_recorded_as_such():
    settings = Settings(**TINY, norms=("none",), optimizer="sgd", lrs=(1e30,))
    run = compare.train_one(settings, "none", 1e30, 0)
    assert run.diverged
    recorded = run.to_dict()
    assert recorded["test_accuracy"] is None
    assert recorded["seconds_per_epoch"] is None
    assert "non-finite" in recorded["history"]["stopped"]


@pytest.mark.parametrize("norm", ["uan", "uan-learned", "uan-joint", "bn"])
def test_activations_are_those_that_the_first_norm_receives(norm):
    settings = Settings(**TINY, batch_size=32)
    run = compare.train_one(settings, norm, 0.01, 0)
    shown = run.activations
    assert shown is not None
    components = 1 if norm == "bn" else 3
    assert shown.samples.shape == (activations.CHANNELS, 32)
    assert shown.weights.shape == shown.means.shape == shown.variances.shape == (components, activations.CHANNELS)
    np.testing.assert_allclose(shown.weights.sum(axis=0), 1.0)
    assert (shown.variances > 0).all()
    assert shown.channels[0] == 0
    assert shown.channels[-1] == 127
    if norm == "bn":
        np.testing.assert_allclose(shown.means[0], shown.samples.mean(axis=1))


def test_networks_without_a_norm_and_other_seeds_show_no_activations():
    settings = Settings(**TINY)
    assert compare.train_one(settings, "none", 0.01, 0).activations is None
    assert compare.train_one(settings, "bn", 0.01, 1).activations is None


def test_gradients_are_those_of_the_weights_in_order():
    run = compare.train_one(Settings(**TINY), "bn", 0.01, 0)
    assert list(run.layers.values()) == ["1 Linear", "2 Linear", "3 Linear"]
    assert set(run.layers) <= set(run.history.gradient_norms)


def test_describe_counts_the_split():
    sentence = recipe.describe(data.load("digits"))
    splits = data.load("digits")
    for part in (splits.train, splits.validation, splits.test):
        assert f"{len(part)} " in sentence
    assert sentence.startswith("digits: ")


# --- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("jobs", [1, 2])
def test_unordered_calls_every_task(jobs):
    assert sorted(parallel.unordered(pow, [(2, i) for i in range(5)], jobs)) == [((2, i), 2**i) for i in range(5)]


def test_nothing_stays_if_no_run_finished(tmp_path, monkeypatch, capsys):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(compare, "train_one", interrupt)
    arguments = ["compare", "--model", "mlp", "--epochs", "1", "--jobs", "1", "--out", str(tmp_path / "a" / "b")]
    assert main(arguments) == 130
    assert "nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(path, {"a": math.nan})
    assert path.read_text(encoding="utf-8") == '{\n "a": 1\n}\n'
    assert [found.name for found in tmp_path.iterdir()] == ["x.json"]
