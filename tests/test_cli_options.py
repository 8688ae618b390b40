"""What several commands take is written once: the same option has one form, and one default."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
import typer

from uanref.cli.app import app
from uanref.cli.compare import compare
from uanref.cli.train import train
from uanref.experiments import recipe
from uanref.experiments.settings import Settings

COMMANDS = typer.main.get_command(app).commands
OWN_WORDS = {"--norm", "--epochs", "--seed", "--versions", "--only", "--out", "--force", "--plain", "--lr", "--json"}
"""Options that mean something of its own in each command."""


def options(name):
    return {each.opts[0]: each for each in COMMANDS[name].params if each.opts[0].startswith("--")}


@pytest.mark.parametrize("other", ["compare", "evaluate"])
def test_an_option_of_two_commands_has_one_form(other):
    one, two = options("train"), options(other)
    shared = one.keys() & two.keys() - OWN_WORDS
    assert {"--dataset", "--backend"} <= shared
    for name in shared:
        assert one[name].metavar == two[name].metavar
        assert one[name].help.partition(";")[0] == two[name].help.partition(";")[0], name


def test_step_and_explore_take_the_same():
    one, two = options("step"), options("explore")
    assert {"--size", "--inputs", "--seed"} <= one.keys() & two.keys() - {"--plain"}
    assert [one[name].help for name in ("--size", "--inputs", "--seed")] == [
        two[name].help for name in ("--size", "--inputs", "--seed")
    ]


def test_compare_train_and_settings_have_the_same_defaults():
    fields = {each.name: each.default for each in dataclasses.fields(Settings)}
    of_compare = {name: each.default for name, each in inspect.signature(compare).parameters.items()}
    of_train = {name: each.default for name, each in inspect.signature(train).parameters.items()}
    for name, value in recipe.DEFAULTS.items():
        assert of_train[name] is None  # --resume takes it from the checkpoint
        if name in fields and name in of_compare:
            assert fields[name] == of_compare[name] == value
    assert fields["epochs"] == of_compare["epochs"] == of_train["epochs"] == recipe.EPOCHS


@pytest.mark.parametrize("name", [name for name, value in recipe.DEFAULTS.items() if value is not None])
def test_the_help_of_train_tells_the_defaults(name):
    option = options("train")["--" + name.replace("_", "-")]
    assert f"; {recipe.DEFAULTS[name]} if left out" in option.help


@pytest.mark.parametrize("command", ["train", "compare"])
def test_the_help_tells_every_optimizers_usual_rate(command):
    for name, rate in recipe.LEARNING_RATES.items():
        assert f"{rate:g} for {name}" in options(command)["--lr"].help
