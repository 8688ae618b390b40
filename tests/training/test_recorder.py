"""A recorder tells what happened, to the number, and changes nothing."""

from dataclasses import replace

import numpy as np
import pytest

from uanref import backend, models
from uanref.data.sets import Dataset
from uanref.data.splits import Splits
from uanref.layers.activation import ReLU
from uanref.layers.base import Layer, Sequential
from uanref.layers.flatten import Flatten
from uanref.layers.linear import Linear
from uanref.layers.residual import Residual
from uanref.losses import SoftmaxCrossEntropy
from uanref.norms.batch import BatchNorm
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mixture_constraints import log_softmax, softplus
from uanref.norms.mixture_moments import batch_moments
from uanref.norms.mixture_weights import Mixture
from uanref.norms.standardize import as_rows
from uanref.norms.uan import UAN
from uanref.optimizers import SGD
from uanref.training import recording
from uanref.training.looking import VALUES, places, sample_slice, value_slice
from uanref.training.recorded import histograms
from uanref.training.recorder import Recorder, plan
from uanref.training.recording import BINS, RecordingError
from uanref.training.trainer import NonFiniteError, Trainer


def make_splits(samples=50, size=4):
    rng = np.random.default_rng(0)
    patterns = rng.standard_normal((3, 1, size, size))

    def draw(name):
        labels = rng.integers(0, 3, samples)
        images = patterns[labels] + 0.3 * rng.standard_normal((samples, 1, size, size))
        return Dataset(name, images.astype(np.float32), labels, 3)

    return Splits("patterns", 3, (1, size, size), draw("train"), draw("validation"), draw("test"))


def make_model(norm=None):
    rng = np.random.default_rng(0)
    norm = UAN(8, rng=rng) if norm is None else norm
    return Sequential(Flatten(), Linear(16, 8, rng=rng), norm, ReLU(), Linear(8, 3, rng=rng))


def make_trainer(model=None, epochs=3, record=True, lr=0.1, moments=60, **options):
    model = make_model() if model is None else model
    options = {"batch_size": 16, "progress": "none", "report_every": 1, **options}
    recorder = Recorder(model, epochs * 4, moments) if record else None  # 50 samples: 16, 16, 16, 2
    splits = options.pop("splits", None) or make_splits()
    return Trainer(model, SoftmaxCrossEntropy(), SGD(model.parameters(), lr), splits, recorder=recorder, **options)


def recorded(trainer):
    return trainer.recorder.recording(trainer, norm="uan", lr=0.1, model="mlp")


def same(one, other, tmp_path):
    """Whether two recordings have the same bytes, but for the seconds of the epochs."""
    files = []
    for i, each in enumerate((one, other)):
        epochs = tuple(replace(epoch, seconds=0.0) for epoch in each.epochs)
        recording.write(tmp_path / f"{i}.npz", replace(each, epochs=epochs))
        with np.load(tmp_path / f"{i}.npz") as arrays:
            files.append({name: arrays[name].tobytes() for name in arrays})
    return files[0] == files[1]


def test_moments_are_denser_at_the_start_and_hold_both_ends():
    found = plan(2000)
    assert found[0] == 0
    assert found[-1] == 1999
    gaps = np.diff(found)
    assert gaps[0] < gaps[-1] / 10
    assert (np.diff(gaps) >= -1).all()  # rounding
    assert len(found) == 60
    assert plan(7) == [0, 1, 2, 3, 4, 5, 6]
    assert plan(1) == [0]
    assert plan(100, 1) == [0]
    assert all(len(plan(total)) == 60 and plan(total)[-1] == total - 1 for total in (60, 61, 100, 10**6))


def test_no_bit_of_a_training_changes():
    trained = [make_trainer(record=record) for record in (True, False)]
    for trainer in trained:
        trainer.fit(3)
    one, other = (trainer.model.state_dict() for trainer in trained)
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)
    assert trained[0].history.gradient_norms == trained[1].history.gradient_norms
    assert trained[0].rng.bit_generator.state == trained[1].rng.bit_generator.state


def test_numbers_are_those_of_a_loop_by_hand():
    """Activations, moments, parameters, loss, accuracy and gradients, recomputed from the same batches."""
    trainer = make_trainer(epochs=1)
    trainer.fit(1)
    found = recorded(trainer)
    assert found.steps.tolist() == [0, 1, 2]  # the last batch of 2 has no eight activations
    (layer,) = found.layers
    assert (layer.name, layer.kind, layer.mode) == ("2", "UAN", "batch")
    assert layer.channels.tolist() == [0, 2, 4, 6]

    model, splits, loss = make_model(), make_splits(), SoftmaxCrossEntropy()
    optimizer = SGD(model.parameters(), 0.1)
    order = np.random.default_rng(0).permutation(50)
    for t, i in enumerate(range(0, 48, 16)):
        chosen = order[i : i + 16]
        labels = splits.train.labels[chosen]
        x = model[1].forward(model[0].forward(splits.train.images[chosen]))
        uan = model[2]
        held = [p.value.copy() for p in (uan.prior_logits, uan.mean, uan.raw_variance, uan.gamma, uan.beta)]
        logits = model[4].forward(model[3].forward(uan.forward(x)))
        assert found.loss[t] == pytest.approx(float(loss.forward(logits, labels)), rel=1e-6)
        assert found.accuracy[t] == (logits.argmax(axis=1) == labels).mean()
        model.backward(loss.backward())
        for name, norms in found.gradient_norms.items():
            owned = [p.grad for key, p in model.parameters().items() if key.rpartition(".")[0] == name]
            assert norms[t] == pytest.approx(np.sqrt(sum((g.astype(float) ** 2).sum() for g in owned)), rel=1e-6)
        optimizer.step()

        kept = x[:, ::2]
        np.testing.assert_array_equal(layer.samples[t], kept[:8])
        np.testing.assert_allclose(layer.mean[t], kept.mean(axis=0), atol=1e-6)
        np.testing.assert_allclose(layer.variance[t], kept.var(axis=0), rtol=1e-5)
        for c in range(4):
            counts, edges = np.histogram(kept[:, c].astype(float), BINS)
            np.testing.assert_array_equal(layer.counts[t, c], counts)
            assert (layer.low[t, c], layer.high[t, c]) == (edges[0], edges[-1])
        parts = (layer.prior_logits, layer.component_mean, layer.raw_variance)
        for part, value in zip(parts, held[:3], strict=True):
            np.testing.assert_array_equal(part[t], value[:, ::2])
        np.testing.assert_array_equal(layer.gamma[t], held[3][::2])
        np.testing.assert_array_equal(layer.beta[t], held[4][::2])
        mixture = Mixture(log_softmax(held[0]), held[1], softplus(held[2]) + uan.eps)
        mean, variance, *_ = batch_moments(as_rows(x), mixture, uan.eps)
        np.testing.assert_allclose(layer.moment_mean[t], mean[:, ::2], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(layer.moment_variance[t], variance[:, ::2], rtol=1e-5)


def test_gradient_norms_are_those_of_the_history():
    trainer = make_trainer()
    trainer.fit(3)
    found = recorded(trainer)
    history = trainer.history
    for name, norms in found.gradient_norms.items():
        owned = [np.array(each) for key, each in history.gradient_norms.items() if key.rpartition(".")[0] == name]
        expected = np.sqrt(sum(each**2 for each in owned))
        np.testing.assert_allclose(norms, expected[found.steps], rtol=1e-12)  # report i is of step i
    assert [epoch.epoch for epoch in found.epochs] == [1, 2, 3]
    assert found.steps_per_epoch == 4


@pytest.mark.parametrize("name", [name for name in models.NORMS if name != "none"])
def test_every_norm_is_seen_and_comes_back_from_its_file(name, tmp_path):
    if name in ("in",):
        splits, network, channels = make_splits(size=8), "cnn", 16
    else:
        splits, network, channels = make_splits(), "mlp", 128
    model = models.build(network, name, image_shape=splits.image_shape, num_classes=3)
    trainer = make_trainer(model, epochs=1, splits=splits, lr=0.01)
    trainer.fit(1)
    found = recorded(trainer)
    assert trainer.recorder.trouble == ""
    assert len(found.layers) == sum(type(layer).__module__.startswith("uanref.norms") for layer in model.layers)
    first = found.layers[0]
    assert first.channels.tolist() == [0, channels // 4, channels // 2, 3 * channels // 4]
    assert (first.counts[:2].sum(axis=2) == (16 if network == "mlp" else 16 * 64)).all()
    assert (first.prior_logits is not None) == (name in ("uan", "uan-learned"))
    assert (first.moment_mean is not None) == (name == "uan")
    recording.write(tmp_path / "a.npz", found)
    assert same(recording.read(tmp_path / "a.npz"), found, tmp_path)


@pytest.mark.parametrize(
    ("norm", "mode", "shared"),
    [
        (lambda: UAN(8, prior="shared"), "batch", True),
        (lambda: UAN(8, update="em"), "batch", False),
        (lambda: UAN(8, start="data"), "batch", False),
        (lambda: UAN(8, start="data", update="em", momentum=0.5), "batch", False),
        (lambda: UAN(8, affine=False, rescale=False), "batch", False),
        (lambda: MixtureNorm(8, posterior="channel"), "batch", False),
        (lambda: UAN(8, statistics="learned"), "learned", False),
    ],
)
def test_a_mixture_is_the_one_that_the_forward_pass_used(norm, mode, shared):
    """From what is recorded the layer's own moments follow: the state was not taken before or after its time."""
    trainer = make_trainer(make_model(norm()), epochs=2)
    trainer.fit(2)
    found = recorded(trainer)
    (layer,) = found.layers
    assert (layer.mode, layer.shared_prior) == (mode, shared)
    assert layer.rescale == getattr(trainer.model[2], "rescale", True)
    if mode == "learned":
        assert layer.moment_mean is None
        return
    model, splits, loss = make_model(norm()), make_splits(), SoftmaxCrossEntropy()
    optimizer, rng = SGD(model.parameters(), 0.1), np.random.default_rng(0)
    step = 0
    for _ in range(2):
        order = rng.permutation(50)
        for i in range(0, 50, 16):
            chosen = order[i : i + 16]
            x = model[1].forward(model[0].forward(splits.train.images[chosen]))
            logits = model[4].forward(model[3].forward(model[2].forward(x)))
            if step in found.steps:
                t = found.steps.tolist().index(step)
                mixture = Mixture(
                    log_softmax(layer.prior_logits[t]), layer.component_mean[t], softplus(layer.raw_variance[t]) + 1e-5
                )
                mean, variance, *_ = batch_moments(as_rows(np.ascontiguousarray(x[:, ::2])), mixture, 1e-5)
                np.testing.assert_allclose(layer.moment_mean[t], mean, rtol=1e-4, atol=1e-5)
                np.testing.assert_allclose(layer.moment_variance[t], variance, rtol=1e-3, atol=1e-6)
            loss.forward(logits, splits.train.labels[chosen])
            model.backward(loss.backward())
            optimizer.step()
            step += 1


class Mine(Layer):
    """A norm of the reader's own around one of ours."""

    def __init__(self):
        super().__init__()
        self.inner = BatchNorm(8)

    def forward(self, x):
        return 2.0 * self.inner.forward(x)

    def backward(self, dy):
        return self.inner.backward(2.0 * dy)


def test_norms_are_found_wherever_they_are():
    model = Sequential(Residual(Sequential(Linear(8, 8), BatchNorm(8))), Mine(), Linear(8, 3))
    found = [(place.kind, place.mode) for place in places(model)]
    assert found == [("BatchNorm", "batch"), ("Mine", "own")]


def test_of_a_norm_of_the_readers_own_activations_are_recorded():
    trainer = make_trainer(make_model(Mine()), epochs=1)
    trainer.fit(1)
    (layer,) = recorded(trainer).layers
    assert (layer.kind, layer.mode, layer.eps) == ("Mine", "own", 0.0)
    assert layer.prior_logits is None
    assert (layer.gamma == 1).all()
    assert (layer.counts.sum(axis=2) == 16).all()


class InPlace(Mine):
    """A norm that computes in the array that it is given."""

    def forward(self, x):
        x *= 3.0
        return super().forward(x)

    def backward(self, dy):
        return 3.0 * super().backward(dy)


def test_of_a_norm_that_computes_in_place_what_it_was_given_is_recorded():
    trainers = [make_trainer(make_model(norm), epochs=1) for norm in (InPlace(), Mine())]
    for trainer in trainers:
        trainer.fit(1)
    one, other = (recorded(trainer).layers[0] for trainer in trainers)
    np.testing.assert_array_equal(one.samples[0], other.samples[0])
    np.testing.assert_array_equal(one.counts[0], other.counts[0])


class Odd(Mine):
    """A norm in a network that gives it a tuple."""

    def forward(self, x):
        return super().forward(x[0])


class Wrapping(Sequential):
    """Linear layers around it, so that it is no norm."""

    def forward(self, x):
        return self.layers[2].forward(self.layers[1].forward((self.layers[0].forward(x),)))


def test_what_cannot_be_looked_at_ends_the_recording_and_nothing_else():
    trainer = make_trainer(Sequential(Flatten(), Wrapping(Linear(16, 8), Odd(), Linear(8, 3))), epochs=1)
    trainer.fit(1)
    assert "1.1 (Odd) cannot be looked at" in trainer.recorder.trouble
    assert recorded(trainer) is None
    assert len(trainer.history) == 1


def test_a_large_batch_is_counted_in_part_and_its_moments_are_whole():
    splits = make_splits(samples=64, size=20)
    model = models.build("cnn", "bn", image_shape=splits.image_shape, num_classes=3)
    seen = {}
    plainly = model[1].forward

    def forward(x):
        seen.setdefault("x", x.copy())
        return plainly(x)

    model[1].forward = forward  # a Watch sees methods of the class: this one is around it
    trainer = make_trainer(model, epochs=1, splits=splits, batch_size=32)
    trainer.fit(1)
    first, x = recorded(trainer).layers[0], seen["x"][:, ::4]
    total = first.counts[0].sum(axis=1)
    assert (total == total[0]).all()
    assert VALUES / 2 < total[0] <= VALUES
    np.testing.assert_allclose(first.mean[0], x.mean(axis=(0, 2, 3)), atol=1e-6)
    np.testing.assert_allclose(first.variance[0], x.var(axis=(0, 2, 3)), rtol=1e-5)
    columns = x.swapaxes(0, 1).reshape(4, -1).T
    assert all((columns == row).all(axis=1).any() for row in first.samples[0])  # real ones that occurred together


@pytest.mark.parametrize(("n", "s"), [(64, 1), (64, 64), (16, 49), (64, 784), (3, 64), (8, 4), (5, 1), (1, 3), (2, 4)])
def test_samples_are_spread_over_images_and_pixels(n, s):
    chosen = np.arange(n * s)[sample_slice(n, s)]
    assert len(chosen) == min(8, n * s)
    if n >= 8 and s > 8:
        assert len(set(chosen // s)) == 8
        assert len(set(chosen % s)) == 8


@pytest.mark.parametrize(("n", "s"), [(64, 1), (64, 64), (256, 784), (4096, 1), (64, 2048)])
def test_counted_values_come_from_everywhere(n, s):
    chosen = np.arange(n * s)[value_slice(n, s)]
    assert len(chosen) <= VALUES
    assert len(set(chosen % s)) >= min(s, len(chosen)) // 2
    assert len(set(chosen // s)) >= min(n, len(chosen)) // 2


def test_histograms_are_numpys():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((3, 2, 500))
    values[1, 1] = 4.0  # a constant channel
    counts, low, high = histograms(values)
    for t in range(3):
        for c in range(2):
            expected, edges = np.histogram(values[t, c], BINS)
            np.testing.assert_array_equal(counts[t, c], expected)
            np.testing.assert_allclose([low[t, c], high[t, c]], edges[[0, -1]])


# --- what ends a training early -------------------------------------------------------------------


def test_an_interrupted_training_goes_on_to_the_same_recording(tmp_path):
    whole = make_trainer(epochs=4)
    whole.fit(4)

    halted = make_trainer(epochs=4)
    halted.fit(2)
    calls, plainly = [], halted._train_step

    def step(x, labels):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plainly(x, labels)

    halted._train_step = step
    halted.fit(2)
    assert halted.history.stopped == "interrupted"
    assert recorded(halted).steps.max() < 8  # of the epoch that was undone nothing is left
    del halted._train_step
    halted.fit(2)
    assert same(recorded(halted), recorded(whole), tmp_path)


@pytest.mark.parametrize("moments", [60, 3])
def test_a_recording_that_is_read_again_goes_on_to_the_same(moments, tmp_path):
    whole = make_trainer(epochs=4, moments=moments)
    whole.fit(2)
    recording.write(tmp_path / "half.npz", recorded(whole))
    half = recording.read(tmp_path / "half.npz")

    again = make_trainer(epochs=4, moments=moments)
    again.recorder, kept = None, again.recorder
    again.fit(2)
    again.history.epochs[:] = half.epochs  # as a checkpoint has them, seconds included
    again.recorder = kept
    again.recorder.resume(half, again)
    whole.fit(2)
    again.fit(2)
    assert same(recorded(again), recorded(whole), tmp_path)


def test_a_recording_of_another_training_is_refused():
    trainer = make_trainer()
    trainer.fit(1)
    found = recorded(trainer)
    other = make_trainer(lr=0.2)
    other.fit(1)
    with pytest.raises(RecordingError, match="another training"):
        other.recorder.resume(found, other)
    other = make_trainer(make_model(BatchNorm(8)))
    with pytest.raises(RecordingError, match="another network"):
        other.recorder.resume(found, other)


def test_a_training_that_diverges_is_shown_up_to_there(tmp_path):
    trainer = make_trainer(epochs=2, lr=1e30)
    with pytest.raises(NonFiniteError):
        trainer.fit(2)
    found = recorded(trainer)
    assert found.stopped == trainer.history.stopped
    assert 0 < len(found.steps) < 8
    assert found.epochs == ()
    recording.write(tmp_path / "a.npz", found)
    assert recording.read(tmp_path / "a.npz").stopped == found.stopped
    trainer.optimizer.lr = 0.1
    trainer.fit(1)
    assert recorded(trainer).steps.tolist() == [0, 1, 2]  # of the failed epoch nothing is left


def test_on_a_device_the_same_and_nothing_is_read_between_reports(strict_cupy):
    found = {}
    for where in ("numpy", "cupy"):
        with backend.using(where):
            trainer = make_trainer(make_model(), epochs=2, report_every=None)
            step = trainer._train_step

            def sealed(x, labels, step=step):
                with strict_cupy.sealed():
                    return step(x, labels)

            trainer._train_step = sealed
            trainer.fit(2)
            found[where] = recorded(trainer)
            assert trainer.recorder.trouble == ""
    one, other = found["numpy"], found["cupy"]
    assert one.steps.tolist() == other.steps.tolist()
    np.testing.assert_allclose(one.loss, other.loss, rtol=1e-5)
    for part in ("samples", "mean", "component_mean", "moment_variance"):
        np.testing.assert_allclose(
            getattr(one.layers[0], part), getattr(other.layers[0], part), rtol=1e-3, atol=1e-4, err_msg=part
        )
