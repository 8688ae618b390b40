import io
import pickle

import numpy as np
import pytest
from rich.console import Console

from uanref import backend
from uanref.data.sets import Dataset
from uanref.data.splits import Splits
from uanref.layers.activation import ReLU
from uanref.layers.base import Layer, Sequential
from uanref.layers.dropout import Dropout
from uanref.layers.flatten import Flatten
from uanref.layers.linear import Linear
from uanref.losses import SoftmaxCrossEntropy
from uanref.norms.batch import BatchNorm
from uanref.optimizers import SGD, Adam
from uanref.training.schedules import Cosine
from uanref.training.trainer import NonFiniteError, Trainer, evaluate


def make_splits(samples=50, seed=0):
    """Three classes of 1 x 4 x 4 images: noise around three different patterns."""
    rng = np.random.default_rng(seed)
    patterns = rng.standard_normal((3, 1, 4, 4))

    def draw(name):
        labels = rng.integers(0, 3, samples)
        images = patterns[labels] + 0.3 * rng.standard_normal((samples, 1, 4, 4))
        return Dataset(name, images.astype(np.float32), labels, 3)

    return Splits("patterns", 3, (1, 4, 4), draw("train"), draw("validation"), draw("test"))


def make_model(seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    hidden = Linear(16, 8, bias=False, rng=rng, dtype=dtype)
    return Sequential(Flatten(), hidden, BatchNorm(8, dtype=dtype), ReLU(), Linear(8, 3, rng=rng, dtype=dtype))


def make_trainer(model=None, lr=0.1, **options):
    model = make_model() if model is None else model
    options = {"batch_size": 16, "progress": "none", **options}
    return Trainer(model, SoftmaxCrossEntropy(), SGD(model.parameters(), lr), make_splits(), **options)


def test_it_learns_and_measures():
    trainer = make_trainer()
    history = trainer.fit(6)
    assert [e.epoch for e in history.epochs] == [1, 2, 3, 4, 5, 6]
    assert history.epochs[-1].train_loss < history.epochs[0].train_loss
    assert history.epochs[-1].validation_accuracy > 0.9
    assert trainer.evaluate(trainer.splits.test)[1] > 0.9
    assert history.steps == [4, 8, 12, 16, 20, 24]
    assert history.gradient_norms.keys() == trainer.model.parameters().keys()
    assert all(len(norms) == 6 and min(norms) > 0 for norms in history.gradient_norms.values())
    assert history.stopped == ""


def test_losses_and_norms_are_those_of_the_steps():
    """The loop written out by hand gives the same numbers as the trainer's sums."""
    trainer = make_trainer(report_every=1)
    trainer.fit(1)

    model, splits, loss = make_model(), make_splits(), SoftmaxCrossEntropy()
    optimizer = SGD(model.parameters(), 0.1)
    order = np.random.default_rng(0).permutation(50)
    total = correct = 0.0
    norms = []
    for i in range(0, 50, 16):
        chosen = order[i : i + 16]
        logits = model.forward(splits.train.images[chosen])
        total += float(loss.forward(logits, splits.train.labels[chosen])) * len(chosen)
        correct += int((logits.argmax(axis=1) == splits.train.labels[chosen]).sum())
        model.backward(loss.backward())
        norms.append(float(np.linalg.norm(model.parameters()["1.weight"].grad)))
        optimizer.step()

    epoch = trainer.history.epochs[0]
    assert epoch.train_loss == pytest.approx(total / 50, rel=1e-6)
    assert epoch.train_accuracy == pytest.approx(correct / 50, abs=0)
    assert trainer.history.gradient_norms["1.weight"] == pytest.approx(norms, rel=1e-5)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, trainer.model.state_dict()[name])


def test_report_interval_changes_no_weight():
    often, once = make_trainer(report_every=1), make_trainer()
    often.fit(2)
    once.fit(2)
    assert often.history.steps == list(range(1, 9))
    assert often.history.epochs[1].train_loss == pytest.approx(once.history.epochs[1].train_loss, rel=1e-12)
    for name, value in often.model.state_dict().items():
        np.testing.assert_array_equal(value, once.model.state_dict()[name])


def test_the_seed_orders_the_batches():
    first, again, other = (make_trainer(seed=seed) for seed in (1, 1, 2))
    losses = [trainer.fit(1).epochs[0].train_loss for trainer in (first, again, other)]
    assert losses[0] == losses[1] != losses[2]


def test_the_schedule_is_asked_for_every_step():
    asked = []

    def schedule(step):
        asked.append(step)
        return 0.1 / (step + 1)

    history = make_trainer(schedule=schedule).fit(2)
    assert asked == list(range(8))
    assert history.curve("lr") == [0.1 / 4, 0.1 / 8]


def test_clipping_bounds_the_step_but_not_the_measurement():
    before = make_model().state_dict()
    trainer = make_trainer(lr=1.0, clip_norm=1e-3, report_every=1)
    trainer.fit(1)
    moved = sum(((trainer.model.state_dict()[n] - before[n]) ** 2).sum() for n in trainer.model.parameters())
    assert 0 < np.sqrt(moved) <= 4 * 1.001e-3
    assert trainer.history.gradient_norms["1.weight"][0] > 1e-2


def test_augmentation_sees_training_batches_alone():
    seen = []

    def augment(images, rng):
        seen.append(len(images))
        return images + rng.standard_normal(images.shape).astype(np.float32)

    make_trainer(augment=augment).fit(1)
    assert seen == [16, 16, 16, 2]


def test_float64_models_get_float64_images():
    trainer = make_trainer(make_model(dtype="float64"))
    trainer.fit(1)
    assert {v.dtype for v in trainer.model.state_dict().values()} == {np.dtype("float64")}


def test_one_transfer_per_report(monkeypatch):
    """Nothing is read from the device between reports; validation reads once."""
    transfers = []
    to_host = backend.to_host
    monkeypatch.setattr(backend, "to_host", lambda array: transfers.append(array.shape) or to_host(array))
    make_trainer().fit(3)
    assert len(transfers) == 3 * 2


def test_on_a_device_the_same_and_two_reads_an_epoch(strict_cupy):
    """A report and a validation pass read once each; nothing else waits for the device."""
    host = make_trainer(make_model(dtype="float64"), clip_norm=1.0)
    host.fit(2)
    with backend.using("cupy"):
        device = make_trainer(make_model(dtype="float64"), clip_norm=1.0)
        before = strict_cupy.to_host, strict_cupy.syncs
        device.fit(2)
        after = strict_cupy.to_host, strict_cupy.syncs
    assert (after[0] - before[0], after[1] - before[1]) == (2 * 2, 0)
    assert {backend.name_of(p.value) for p in device.model.parameters().values()} == {"cupy"}
    for name, value in host.model.state_dict().items():
        np.testing.assert_allclose(device.model.state_dict()[name], value, rtol=1e-10, atol=1e-12)
    assert device.history.curve("train_loss") == pytest.approx(host.history.curve("train_loss"), rel=1e-10)


def test_evaluate_leaves_the_model_as_it_was():
    model = make_model()
    model.train()
    model[2].eval()
    before = model.state_dict()
    data = make_splits().test
    loss, accuracy = evaluate(model, SoftmaxCrossEntropy(), data, batch_size=7)
    assert [layer.training for layer in model.layers] == [True, True, False, True, True]
    assert all(not layer._pending for layer in model.layers)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])

    logits = model.eval().forward(data.images)
    assert loss == pytest.approx(float(SoftmaxCrossEntropy().forward(logits, data.labels)), rel=1e-5)
    assert accuracy == (logits.argmax(axis=1) == data.labels).mean()


class Poison(Layer):
    """Passes everything on until a given call, which puts one bad entry into the output or the gradient."""

    def __init__(self, forward_at=0, backward_at=0, value=np.nan):
        super().__init__()
        self.calls, self.forward_at, self.backward_at, self.value = 0, forward_at, backward_at, value

    def forward(self, x):
        self.calls += self.training
        return self._spoiled(x, self.forward_at)

    def backward(self, dy):
        return self._spoiled(dy, self.backward_at)

    def _spoiled(self, array, at):
        array = array.copy()
        if self.calls == at:
            array[0, 0] = self.value
        return array


def test_evaluate_takes_a_model_without_parameters():
    """Its images stay as they are, or become what a frozen layer computes in."""
    splits = make_splits(12)
    few = Dataset("few", splits.test.images[:, :, :1, :3].copy(), splits.test.labels, 3)
    loss, accuracy = evaluate(Sequential(Flatten()), SoftmaxCrossEntropy(), few)
    logits = few.images.reshape(12, 3)
    assert loss == pytest.approx(float(SoftmaxCrossEntropy().forward(logits, few.labels)))
    assert accuracy == pytest.approx(np.mean(logits.argmax(axis=1) == few.labels))

    frozen = BatchNorm(3, dtype="float64")
    for parameter in (frozen.gamma, frozen.beta):
        parameter.trainable = False
    model = Sequential(Flatten(), frozen)
    assert model.parameters() == {}
    assert evaluate(model, SoftmaxCrossEntropy(), few)[1] == accuracy


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("report_every", [None, 1, 2])
def test_the_guard_names_the_first_bad_output(value, report_every):
    model = make_model()
    model.layers.insert(2, Poison(forward_at=6, value=value))
    trainer = make_trainer(model, report_every=report_every)
    with pytest.raises(NonFiniteError, match=r"non-finite at step 6: output of 2 \(Poison\): lower the learning rate"):
        trainer.fit(3)
    assert "step 6" in trainer.history.stopped
    assert len(trainer.history) == 1  # the finished epoch is kept
    assert all(not layer._pending for layer in model.layers)


def test_the_guard_names_the_first_bad_gradient():
    model = make_model()
    model.layers.insert(2, Poison(backward_at=3))
    with pytest.raises(NonFiniteError, match=r"at step 3: gradient of 1\.weight \(Linear\)"):
        make_trainer(model).fit(1)


def test_the_guard_names_the_loss():
    class Broken(SoftmaxCrossEntropy):
        def forward(self, logits, targets):
            return super().forward(logits, targets) * np.float32(np.inf)

    trainer = make_trainer()
    trainer.loss = Broken()
    with pytest.raises(NonFiniteError, match="at step 1: the loss: "):
        trainer.fit(1)


@pytest.mark.filterwarnings("error")
def test_real_divergence_is_one_sentence_and_no_warnings():
    model = Sequential(Flatten(), Linear(16, 8, rng=np.random.default_rng(0)), Linear(8, 3))
    with pytest.raises(NonFiniteError, match="became non-finite at step"):
        make_trainer(model, lr=1e30).fit(3)


def test_the_error_travels_between_processes():
    error = pickle.loads(pickle.dumps(NonFiniteError("at step 3")))
    assert str(error) == "at step 3"


class Interrupting(Layer):
    """Raises KeyboardInterrupt, as Ctrl-C does, in a given training forward."""

    def __init__(self, at):
        super().__init__()
        self.calls, self.at = 0, at

    def forward(self, x):
        self.calls += self.training
        if self.training and self.calls == self.at:
            raise KeyboardInterrupt
        return x

    def backward(self, dy):
        return dy


def test_interruption_keeps_what_was_measured_and_training_can_go_on():
    model = make_model()
    model.layers.insert(3, Interrupting(at=7))
    trainer = make_trainer(model, report_every=1, schedule=Cosine(0.1, 12))
    history = trainer.fit(3)
    assert history.stopped == "interrupted"
    assert len(history) == trainer.epoch == 1
    assert all(not layer._pending for layer in model.layers)
    assert not trainer.loss._pending

    trainer.fit(2)
    assert history.stopped == ""
    assert [e.epoch for e in history.epochs] == [1, 2, 3]
    assert history.steps == list(range(1, 13))  # the unfinished epoch's reports made room for the new ones
    assert {len(norms) for norms in history.gradient_norms.values()} == {12}


def test_interruption_during_validation():
    class InterruptingEvaluation(Layer):
        def forward(self, x):
            if not self.training:
                raise KeyboardInterrupt
            return x

        def backward(self, dy):
            return dy

    trainer = make_trainer(Sequential(*make_model().layers, InterruptingEvaluation()))
    assert trainer.fit(2).stopped == "interrupted"
    assert all(layer.training for layer in trainer.model.layers)


def output_of(progress, terminal):
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=160)
    make_trainer(progress=progress, console=console).fit(2)
    return text.getvalue()


def test_progress_is_lines_off_a_terminal():
    lines = output_of("auto", terminal=False).splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1/2: loss ")
    assert "validation loss" in lines[1]


def test_progress_is_a_bar_on_a_terminal():
    text = output_of("auto", terminal=True)
    assert "epoch 2/2" in text
    assert "4/4" in text
    assert "\x1b[" in text


def test_progress_can_be_silent():
    assert output_of("none", terminal=True) == ""


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"batch_size": 0}, ValueError, "batch_size must be >= 1, got 0"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an integer"),
        ({"clip_norm": 0.0}, ValueError, "clip_norm must be finite and > 0"),
        ({"clip_norm": float("nan")}, ValueError, "clip_norm must be finite"),
        ({"seed": -1}, ValueError, "seed must be >= 0"),
        ({"report_every": 0}, ValueError, "report_every must be >= 1"),
        ({"progress": "loud"}, ValueError, "progress must be one of 'auto', 'bar', 'lines', 'none', got 'loud'"),
    ],
)
def test_bad_options_are_named(options, error, text):
    with pytest.raises(error, match=text):
        make_trainer(**options)


def test_fit_takes_a_positive_number_of_epochs():
    with pytest.raises(ValueError, match="epochs must be >= 1, got 0"):
        make_trainer().fit(0)


def test_other_optimizers_and_random_layers_run():
    model = Sequential(Flatten(), Linear(16, 8), Dropout(0.2, rng=np.random.default_rng(3)), ReLU(), Linear(8, 3))
    trainer = Trainer(
        model, SoftmaxCrossEntropy(0.1), Adam(model.parameters(), 0.01), make_splits(), batch_size=16, progress="none"
    )
    assert trainer.fit(2).epochs[1].train_loss < trainer.history.epochs[0].train_loss
