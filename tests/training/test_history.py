import json
import math

import pytest

from uanref.training.history import Epoch, History


def make() -> History:
    history = History()
    for n, (train, validation) in enumerate([(0.5, 0.6), (0.9, 0.7), (0.95, 0.96)], start=1):
        history.epochs.append(Epoch(n, 1.0 / n, train, 2.0 / n, validation, 0.25 * n, 0.1))
        history.add_report(10 * n, {"0.weight": 3.0 * n, "0.bias": 1.0})
    return history


def test_epochs_to_counts_from_one_and_takes_the_first_that_reached():
    history = make()
    assert history.epochs_to(0.7) == 2
    assert history.epochs_to(0.9, which="train") == 2
    assert history.epochs_to(0.99) is None
    with pytest.raises(ValueError, match="'train' or 'validation', got 'test'"):
        history.epochs_to(0.5, which="test")


def test_curves_and_seconds():
    history = make()
    assert history.curve("train_loss") == [1.0, 0.5, 1.0 / 3]
    assert history.seconds_per_epoch() == pytest.approx(0.5)
    assert math.isnan(History().seconds_per_epoch())


def test_json_round_trip_is_exact():
    history = make()
    history.stopped = "interrupted"
    assert History.from_dict(json.loads(json.dumps(history.to_dict(), allow_nan=False))) == history


def test_numbers_that_json_lacks_come_back_as_nan():
    history = History([Epoch(1, 1.0, 0.5, math.inf, 0.5, 1.0, 0.1)])
    written = json.dumps(history.to_dict(), allow_nan=False)
    assert math.isnan(History.from_dict(json.loads(written)).epochs[0].validation_loss)


def test_what_belongs_to_an_epoch_that_did_not_end_is_dropped():
    history = make()
    history.cut(2, 1)
    assert [epoch.epoch for epoch in history.epochs] == [1, 2]
    assert history.steps == [10]
    assert history.gradient_norms == {"0.weight": [3.0], "0.bias": [1.0]}


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"epochs": [{"epoch": 1}], "steps": [], "gradient_norms": {}, "stopped": ""},
        {"epochs": [], "steps": [None], "gradient_norms": {}, "stopped": ""},
        {"epochs": [], "steps": [], "gradient_norms": [], "stopped": ""},
        {"epochs": [3], "steps": [], "gradient_norms": {}, "stopped": ""},
    ],
)
def test_something_else_is_refused(data):
    with pytest.raises(ValueError, match="not a training history"):
        History.from_dict(data)
