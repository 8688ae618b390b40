import io
import json
import os
import pickle
import tracemalloc
import zipfile

import numpy as np
import pytest

from uanref import data, models
from uanref.data.augment import Chain, Crop, Flip, Shift
from uanref.data.sets import Dataset
from uanref.data.splits import Splits
from uanref.layers.activation import ReLU
from uanref.layers.base import Sequential
from uanref.layers.conv import Conv2d
from uanref.layers.dropout import Dropout
from uanref.layers.flatten import Flatten
from uanref.layers.linear import Linear
from uanref.losses import SoftmaxCrossEntropy
from uanref.norms.batch import BatchNorm
from uanref.norms.uan import UAN
from uanref.optimizers import SGD, Adam, AdamW
from uanref.training import checkpoint
from uanref.training import trainer as trainer_module
from uanref.training.checkpoint import CheckpointError
from uanref.training.history import History
from uanref.training.schedules import Constant, Cosine, StepDecay
from uanref.training.trainer import NonFiniteError, Trainer


def make_splits(samples=37, seed=0):
    rng = np.random.default_rng(seed)

    def draw(name):
        images = rng.standard_normal((samples, 1, 6, 6)).astype(np.float32)
        return Dataset(name, images, rng.integers(0, 3, samples), 3)

    return Splits("noise", 3, (1, 6, 6), draw("train"), draw("validation"), draw("test"))


def make_model(seed=0):
    """Every kind of state: weights, mixtures, running moments, a data start, two random layers."""
    rng = np.random.default_rng(seed)
    return Sequential(
        Conv2d(1, 4, 3, padding="same", bias=False, rng=rng),
        UAN(4, 2, rng=rng),
        ReLU(),
        Dropout(0.2, rng=np.random.default_rng(5)),
        Conv2d(4, 4, 3, rng=rng),
        UAN(4, 2, start="data", update="em", rng=rng),
        BatchNorm(4),
        Flatten(),
        Dropout(0.1, rng=np.random.default_rng(6)),
        Linear(64, 3, rng=rng),
    )


def momentum(model):
    return SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True, weight_decay=1e-3)


def adamw(model):
    return AdamW(model.parameters(), 0.01, betas=(0.8, 0.99), weight_decay=0.1)


def make_trainer(model=None, optimizer=momentum, **options):
    model = make_model() if model is None else model
    options = {
        "batch_size": 9,
        "schedule": Cosine(0.05, 4 * 4, warmup_steps=3),
        "clip_norm": 1.0,
        "augment": Chain(Shift(1), Flip(0.3)),
        "seed": 3,
        "report_every": 3,
        "progress": "none",
        **options,
    }
    return Trainer(model, SoftmaxCrossEntropy(0.1), optimizer(model), make_splits(), **options)


def without_seconds(history):
    told = history.to_dict()
    for epoch in told["epochs"]:
        del epoch["seconds"]
    return told


def assert_same_state(a, b):
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert value.dtype == b[name].dtype
        np.testing.assert_array_equal(value, b[name], err_msg=name)


@pytest.mark.parametrize("optimizer", [momentum, adamw])
def test_resumed_training_is_bit_identical(tmp_path, optimizer):
    straight = make_trainer(optimizer=optimizer)
    straight.fit(4)

    half = make_trainer(optimizer=optimizer)
    half.fit(2)
    checkpoint.save(tmp_path / "half.npz", half)
    resumed = checkpoint.resume(tmp_path / "half.npz", model=make_model(seed=99), splits=make_splits(), progress="none")
    assert type(resumed.optimizer) is type(straight.optimizer)
    resumed.fit(2)

    assert_same_state(resumed.model.state_dict(), straight.model.state_dict())
    assert_same_state(resumed.optimizer.state_dict(), straight.optimizer.state_dict())
    assert without_seconds(resumed.history) == without_seconds(straight.history)
    assert resumed.rng.bit_generator.state == straight.rng.bit_generator.state


def test_resuming_a_built_model_on_embedded_data(tmp_path):
    splits = data.load("digits", seed=1)
    small = splits.train.subset(np.arange(40), "few")
    splits = Splits(splits.name, 10, splits.image_shape, small, small, small)

    def make():
        model = models.build("mlp", "uan", image_shape=(1, 8, 8), num_classes=10, seed=1)
        return Trainer(model, SoftmaxCrossEntropy(), adamw(model), splits, seed=1, batch_size=20, progress="none")

    straight, half = make(), make()
    straight.fit(2)
    half.fit(1)
    checkpoint.save(tmp_path / "a.npz", half)
    resumed = checkpoint.resume(tmp_path / "a.npz", splits=splits, progress="none")
    resumed.fit(1)
    assert_same_state(resumed.model.state_dict(), straight.model.state_dict())


def test_data_are_loaded_by_name_and_checked(tmp_path):
    def make(splits):
        model = models.build("mlp", "none", image_shape=(1, 8, 8), num_classes=10)
        return Trainer(model, SoftmaxCrossEntropy(), momentum(model), splits, seed=2, progress="none")

    path = tmp_path / "a.npz"
    checkpoint.save(path, make(data.load("digits", seed=2)))
    resumed = checkpoint.resume(path, progress="none")
    assert resumed.splits.name == "digits"
    assert resumed.epoch == 0

    checkpoint.save(path, make(data.load("digits", seed=3)))  # another split than the trainer's seed draws
    with pytest.raises(CheckpointError, match=r"trained on other data than 'digits' holds now"):
        checkpoint.resume(path)


@pytest.mark.parametrize("norm", [norm for norm in models.NORMS if norm != "in"])  # which needs larger images
def test_a_built_model_loads_in_eval_mode_and_computes_the_same(tmp_path, norm):
    model = models.build("cnn", norm, image_shape=(1, 6, 6), num_classes=3, num_components=2, seed=4)
    trainer = make_trainer(model)
    trainer.fit(1)
    checkpoint.save(tmp_path / "model.npz", trainer)

    loaded = checkpoint.load_model(tmp_path / "model.npz")
    assert isinstance(loaded, models.Model)
    assert loaded.config == model.config
    assert not any(layer.training for _, layer in loaded.modules())
    x = make_splits().test.images
    np.testing.assert_array_equal(loaded.forward(x), model.eval().forward(x))


@pytest.mark.parametrize("model", models.MODELS)
def test_width_and_norm_options_come_back(tmp_path, model):
    options = {"start": "data", "affine": False, "eps": 1e-3}
    made = models.build(model, "uan", image_shape=(1, 6, 6), num_classes=3, width=0.1, norm_options=options)
    path = tmp_path / "model.npz"
    trainer = make_trainer(made)
    trainer.fit(1)
    checkpoint.save(path, trainer)
    loaded = checkpoint.load_model(path)
    assert loaded.config == made.config
    assert loaded.config["norm_options"] == options
    x = make_splits().test.images
    np.testing.assert_array_equal(loaded.forward(x), made.eval().forward(x))


def test_a_forged_width_takes_no_memory(tmp_path):
    path = tmp_path / "model.npz"
    made = models.build("mlp", "bn", image_shape=(1, 6, 6), num_classes=3, width=0.5)
    checkpoint.save(path, make_trainer(made))
    made.config["width"] = 1e9
    checkpoint.save(path, make_trainer(made))
    with pytest.raises(CheckpointError, match=r"width is 1e\+09 but there are \d+ weights in all"):
        checkpoint.load_model(path)


def test_meta_tells_the_run(tmp_path):
    trainer = make_trainer()
    trainer.fit(1)
    checkpoint.save(tmp_path / "a.npz", trainer)
    meta = checkpoint.load_meta(tmp_path / "a.npz")
    assert meta["model"] is None
    assert (meta["data"]["name"], meta["data"]["seed"]) == ("noise", 3)
    assert meta["optimizer"] == {"kind": "SGD", "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}
    assert meta["schedule"] == {"kind": "Cosine", "lr": 0.05, "total_steps": 16, "warmup_steps": 3, "final_lr": 0.0}
    assert meta["loss"] == {"kind": "SoftmaxCrossEntropy", "label_smoothing": 0.1}
    assert meta["epoch"] == 1
    assert History.from_dict(meta["history"]) == trainer.history


@pytest.mark.parametrize("schedule", [None, Constant(0.1), StepDecay(0.1, 3, 0.5)])
@pytest.mark.parametrize("augment", [None, Crop(2), Chain()])
def test_settings_come_back(tmp_path, schedule, augment):
    trainer = make_trainer(schedule=schedule, augment=augment, clip_norm=None, report_every=None)
    trainer.optimizer = Adam(trainer.model.parameters(), 0.02, eps=1e-6)
    checkpoint.save(tmp_path / "a.npz", trainer)
    resumed = checkpoint.resume(tmp_path / "a.npz", model=make_model(), splits=make_splits(), progress="none")
    assert vars(resumed.schedule) == vars(schedule) if schedule else resumed.schedule is None
    assert (resumed.clip_norm, resumed.report_every, resumed.batch_size, resumed.seed) == (None, None, 9, 3)
    assert (resumed.optimizer.lr, resumed.optimizer.eps, resumed.optimizer.betas) == (0.02, 1e-6, (0.9, 0.999))
    assert (resumed.augment is not None) == isinstance(augment, Crop)


def test_functions_are_passed_again(tmp_path):
    def schedule(step):
        return 0.01

    def augment(images, rng):
        return images

    path = tmp_path / "a.npz"
    checkpoint.save(path, make_trainer(schedule=schedule, augment=augment))
    given = {"model": make_model(), "splits": make_splits(), "progress": "none"}
    with pytest.raises(CheckpointError, match="it used function, which is none of uanref's own"):
        checkpoint.resume(path, **given)
    resumed = checkpoint.resume(path, schedule=schedule, augment=augment, **given)
    assert resumed.schedule is schedule
    assert resumed.augment is augment


def test_another_bit_generator_comes_back(tmp_path):
    def make():
        rng = np.random.Generator(np.random.MT19937(7))
        return Sequential(Flatten(), Dropout(0.5, rng=rng), Linear(36, 3))

    trainer = make_trainer(make())
    trainer.fit(1)
    checkpoint.save(tmp_path / "a.npz", trainer)
    resumed = checkpoint.resume(tmp_path / "a.npz", model=make(), splits=make_splits(), progress="none")
    trainer.fit(1)
    resumed.fit(1)
    assert_same_state(resumed.model.state_dict(), trainer.model.state_dict())


class Stop(KeyboardInterrupt):
    """As the command line raises for SIGTERM."""


def interrupt(trainer, moment, monkeypatch):
    """Let the trainer's second epoch be interrupted at a moment of it."""
    calls = []

    def after(count, function):
        def interrupted(*arguments, **named):
            calls.append(moment)
            if len(calls) == count:
                raise Stop
            return function(*arguments, **named)

        return interrupted

    if moment == "step":
        monkeypatch.setattr(trainer, "_train_step", after(3, trainer._train_step))
    elif moment == "optimizer":
        monkeypatch.setattr(trainer.optimizer, "step", after(2, trainer.optimizer.step))
    elif moment == "between parameters":
        monkeypatch.setattr(trainer.optimizer, "_update", after(5, trainer.optimizer._update))
    elif moment == "validation":
        monkeypatch.setattr(trainer_module, "score", after(1, trainer_module.score))
    elif moment == "epoch counted":
        monkeypatch.setattr(trainer_module, "Epoch", after(1, trainer_module.Epoch))
    elif moment == "boundary":
        monkeypatch.setattr(trainer_module, "Boundary", after(1, trainer_module.Boundary))


MOMENTS = ("step", "optimizer", "between parameters", "validation", "epoch counted", "boundary")


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("schedule", [Constant(0.05), Cosine(0.05, 4 * 4, warmup_steps=3)])
@pytest.mark.parametrize("optimizer", [momentum, adamw])
def test_an_interruption_keeps_the_last_boundary_and_changes_no_bit(tmp_path, monkeypatch, moment, schedule, optimizer):
    straight = make_trainer(optimizer=optimizer, schedule=schedule)
    straight.fit(3)

    trainer = make_trainer(optimizer=optimizer, schedule=schedule)
    trainer.fit(1)
    state = trainer.model.state_dict()
    with monkeypatch.context() as patch:
        interrupt(trainer, moment, patch)
        assert trainer.fit(2).stopped == "interrupted"
    assert trainer.epoch == len(trainer.history) == 1
    assert_same_state(trainer.model.state_dict(), state)
    checkpoint.save(tmp_path / "a.npz", trainer)
    resumed = checkpoint.resume(tmp_path / "a.npz", model=make_model(), splits=make_splits(), progress="none")
    for one in (trainer, resumed):
        one.fit(2)
        assert_same_state(one.model.state_dict(), straight.model.state_dict())
        assert_same_state(one.optimizer.state_dict(), straight.optimizer.state_dict())
        assert without_seconds(one.history) == without_seconds(straight.history)
        assert one.rng.bit_generator.state == straight.rng.bit_generator.state


def test_a_second_interruption_while_the_first_is_handled(tmp_path, monkeypatch):
    straight = make_trainer()
    straight.fit(2)
    trainer = make_trainer()
    trainer.fit(1)
    with monkeypatch.context() as patch:
        interrupt(trainer, "step", patch)
        patch.setattr(trainer.history, "cut", lambda *kept: (_ for _ in ()).throw(Stop))
        with pytest.raises(Stop):
            trainer.fit(1)
    with pytest.raises(CheckpointError, match="in the middle of an epoch"):
        checkpoint.save(tmp_path / "a.npz", trainer)
    assert list(tmp_path.iterdir()) == []
    trainer.fit(1)
    assert_same_state(trainer.model.state_dict(), straight.model.state_dict())
    assert without_seconds(trainer.history) == without_seconds(straight.history)


def test_the_middle_of_an_epoch_is_not_saved(tmp_path, monkeypatch):
    trainer = make_trainer()
    step = trainer._train_step

    def saving(x, labels):
        with pytest.raises(CheckpointError, match="in the middle of an epoch"):
            checkpoint.save(tmp_path / "a.npz", trainer)
        return step(x, labels)

    monkeypatch.setattr(trainer, "_train_step", saving)
    trainer.fit(1)
    assert list(tmp_path.iterdir()) == []


def test_every_epoch_can_be_saved_at_its_end(tmp_path):
    straight = make_trainer()
    trainer = make_trainer()
    trainer.fit(3, after_epoch=lambda t: checkpoint.save(tmp_path / f"{t.epoch}.npz", t))
    straight.fit(3)
    assert_same_state(trainer.model.state_dict(), straight.model.state_dict())
    for epoch in (1, 2, 3):
        assert checkpoint.load_meta(tmp_path / f"{epoch}.npz")["epoch"] == epoch


def test_a_divergence_leaves_the_last_boundary(monkeypatch):
    straight = make_trainer()
    straight.fit(1)
    trainer = make_trainer()
    trainer.fit(1)
    step, calls = trainer._train_step, []

    def diverging(x, labels):
        calls.append(1)
        return step(x * np.float32(np.inf if len(calls) == 2 else 1), labels)

    monkeypatch.setattr(trainer, "_train_step", diverging)
    with pytest.raises(NonFiniteError):
        trainer.fit(2)
    assert trainer.epoch == 1
    assert_same_state(trainer.model.state_dict(), straight.model.state_dict())
    assert without_seconds(trainer.history)["epochs"] == without_seconds(straight.history)["epochs"]


def test_more_epochs_than_first_said(tmp_path):
    """A step decay depends on the step alone, so it goes on as if more had been said at the start."""
    straight = make_trainer(schedule=StepDecay(0.05, 5, 0.5))
    straight.fit(4)
    half = make_trainer(schedule=StepDecay(0.05, 5, 0.5))
    half.fit(2)
    checkpoint.save(tmp_path / "a.npz", half)
    resumed = checkpoint.resume(tmp_path / "a.npz", model=make_model(), splits=make_splits(), progress="none")
    resumed.fit(2)
    assert_same_state(resumed.model.state_dict(), straight.model.state_dict())
    assert without_seconds(resumed.history) == without_seconds(straight.history)


# --- writing --------------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "run.npz"
    model = models.build("mlp", "bn", image_shape=(1, 6, 6), num_classes=3)
    checkpoint.save(path, make_trainer(model))
    return path


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_failure_leaves_the_old_file(saved, monkeypatch, error, function):
    before = saved.read_bytes()

    def fail(*args):
        raise error

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(type(error)):
        checkpoint.save(saved, make_trainer())
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_diverged_model_is_not_saved(tmp_path):
    trainer = make_trainer()
    trainer.model.parameters()["9.weight"].value[0, 0] = np.nan
    with pytest.raises(CheckpointError, match=r"model/9\.weight is not finite"):
        checkpoint.save(tmp_path / "a.npz", trainer)
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_cannot_be_written(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder"):
        checkpoint.save(tmp_path, make_trainer())
    with pytest.raises(FileNotFoundError):
        checkpoint.save(tmp_path / "nowhere" / "a.npz", make_trainer())


# --- files that are none --------------------------------------------------------------------------


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewrite(path, changes, compression=zipfile.ZIP_STORED):
    """Write the archive again with members changed, added or (None) left out."""
    members = members_of(path) | changes
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)


def npy(array, **options):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), **options)
    return stream.getvalue()


def with_meta(path, **changes):
    meta = json.loads(np.load(io.BytesIO(members_of(path)["meta.npy"])).tobytes()) | changes
    meta = {key: value for key, value in meta.items() if value != "absent"}
    rewrite(path, {"meta.npy": npy(np.frombuffer(json.dumps(meta).encode(), np.uint8))})


def assert_refused(path, text):
    for function in (checkpoint.load_model, checkpoint.resume):
        with pytest.raises(CheckpointError, match=text) as caught:
            function(path)
        message = str(caught.value)
        assert str(path) in message
        assert "\n" not in message


def test_missing(tmp_path):
    assert_refused(tmp_path / "none.npz", "does not exist")


def test_a_folder(tmp_path):
    assert_refused(tmp_path, "cannot be read: Is a directory")


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 no zip", pickle.dumps({"a": 1}), npy([1.0])])
def test_no_archive(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    assert_refused(path, "is not a checkpoint, or damaged")


def test_every_truncation(saved):
    content = saved.read_bytes()
    for length in np.linspace(1, len(content) - 1, 40).astype(int):
        saved.write_bytes(content[:length])
        assert_refused(saved, "is not a checkpoint, or damaged or cut short")


def test_a_flipped_byte_in_a_weight(saved):
    content = bytearray(saved.read_bytes())
    weight = members_of(saved)["model/1.weight.npy"][-400:]
    content[content.index(weight) + 7] ^= 1
    saved.write_bytes(content)
    assert_refused(saved, "damaged or cut short")


def test_another_archive(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    assert_refused(tmp_path / "a.npz", "is not a checkpoint of uanref: it has no readable meta data")


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


@pytest.mark.parametrize("name", ["meta.npy", "model/1.weight.npy", "extra.npy"])
def test_pickled_objects_are_never_loaded(saved, name):
    rewrite(saved, {name: npy(np.array([Trap()], dtype=object), allow_pickle=True)})
    assert_refused(saved, f"holds pickled objects in {name}: they are never loaded")


def test_a_member_that_is_no_array(saved):
    rewrite(saved, {"extra.npy": b"import os"})
    assert_refused(saved, r"holds something else than an array in extra\.npy")


@pytest.mark.parametrize("array", [np.array(["text"]), np.zeros(2, dtype=[("a", "f4")]), np.array([1 + 2j])])
def test_arrays_of_other_things(saved, array):
    rewrite(saved, {"model/1.weight.npy": npy(array)})
    assert_refused(saved, r"holds no plain numbers in model/1\.weight\.npy")


def header(shape):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return stream.getvalue()


@pytest.mark.parametrize("shape", [(1 << 40,), (1 << 62, 1 << 62), (3, 5)])
def test_a_header_that_lies_allocates_nothing(saved, shape):
    rewrite(saved, {"model/1.weight.npy": header(shape) + b"\0" * 16})
    tracemalloc.start()
    assert_refused(saved, "claims shape .* but holds 16 bytes")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6


def test_a_negative_shape(saved):
    rewrite(saved, {"model/1.weight.npy": header((-2, -2)) + b"\0" * 16})
    assert_refused(saved, "holds no plain numbers")


def test_compressed_members_are_refused(saved):
    """A few kilobytes of zeros could inflate to any size."""
    rewrite(saved, {"extra.npy": npy(np.zeros(10_000_000, np.uint8))}, zipfile.ZIP_DEFLATED)
    assert_refused(saved, "is compressed or claims more than it holds")


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("member", ["model/1.weight", "optimizer/momentum.1.weight"])
def test_weights_that_are_not_finite(saved, member, value):
    array = np.load(io.BytesIO(members_of(saved)[f"{member}.npy"])).copy()
    array[0, 0] = value
    rewrite(saved, {f"{member}.npy": npy(array)})
    assert_refused(saved, f"holds NaN or infinity in {member}: it is damaged")


def test_a_missing_weight(saved):
    rewrite(saved, {"model/1.weight.npy": None})
    assert_refused(saved, r"missing \['1\.weight'\], unexpected none")


def test_a_weight_of_another_shape(saved):
    rewrite(saved, {"model/1.weight.npy": npy(np.zeros((3, 5), np.float32))})
    assert_refused(saved, r"1\.weight has shape \(3, 5\) in the state, expected \(128, 36\)")


def test_another_version(saved):
    with_meta(saved, version=2)
    assert_refused(saved, "has format version 2, this uanref reads version 1")


def test_another_format(saved):
    with_meta(saved, format="something")
    assert_refused(saved, "its format is 'something'")


@pytest.mark.parametrize("key", ["model", "optimizer", "history", "epoch", "generators"])
def test_missing_keys(saved, key):
    with_meta(saved, **{key: "absent"})
    assert_refused(saved, f"lacks {key}: it is damaged")


@pytest.mark.parametrize(
    "config",
    [
        {},
        [],
        {"model": "rnn", "norm": "bn", "image_shape": [1, 6, 6], "num_classes": 3, "num_components": 3},
        {"model": "mlp", "norm": "bn", "image_shape": [1, 6, 6], "num_classes": 10**12, "num_components": 3},
        {"model": "mlp", "norm": "uan", "image_shape": [1, 6, 6], "num_classes": 3, "num_components": 10**12},
        {"model": "mlp", "norm": "bn", "image_shape": [10**6, 10**6, 6], "num_classes": 3, "num_components": 3},
        {"model": "mlp", "norm": "bn", "image_shape": "abc", "num_classes": 3, "num_components": 3},
    ],
)
def test_forged_model_arguments(saved, config):
    with_meta(saved, model=config)
    assert_refused(saved, "is no usable checkpoint: ")


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": {"kind": "Adagrad"}},
        {"optimizer": {"kind": "SGD", "momentum": 0.9}},
        {"optimizer": {"kind": "SGD", "momentum": 7, "nesterov": True, "weight_decay": 0.0}},
        {"optimizer": 3},
        {"schedule": {"kind": "Cosine", "lr": 0.1, "total_steps": -1, "warmup_steps": 0, "final_lr": 0.0}},
        {"history": {}},
        {"epoch": 7},
        {"batch_size": 0},
        {"generators": {"trainer": {}, "model": {}}},
        {"generators": {"trainer": {"bit_generator": "MT19937", "state": {}}, "model": {}}},
        {"generators": {"trainer": {}, "model": {"3": {}}}},
    ],
)
def test_forged_settings(saved, changes):
    with_meta(saved, **changes)
    with pytest.raises(CheckpointError, match="is no usable checkpoint: "):
        checkpoint.resume(saved, splits=make_splits(), progress="none")


def test_a_network_of_ones_own_needs_its_layers(tmp_path):
    checkpoint.save(tmp_path / "a.npz", make_trainer())
    assert_refused(tmp_path / "a.npz", "pass model= with its layers")
    loaded = checkpoint.load_model(tmp_path / "a.npz", make_model(seed=8))
    assert_same_state(loaded.state_dict(), make_model().state_dict())
    with pytest.raises(CheckpointError, match="state does not fit this model: missing"):
        checkpoint.load_model(tmp_path / "a.npz", Sequential(Linear(2, 2)))


def test_another_model_has_other_random_layers(tmp_path):
    def make(*layers):
        return Sequential(Flatten(), *layers, Linear(36, 3))

    checkpoint.save(tmp_path / "a.npz", make_trainer(make(Dropout(0.5))))
    with pytest.raises(CheckpointError, match=r"random layers are \['1'\], the model's \[\]"):
        checkpoint.resume(tmp_path / "a.npz", model=make(ReLU()), splits=make_splits(), progress="none")


def test_other_splits_are_refused(saved):
    with pytest.raises(CheckpointError, match="was trained on other data than 'noise' holds now"):
        checkpoint.resume(saved, splits=make_splits(seed=1))
