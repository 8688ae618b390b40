"""A checkpoint's text: whatever it says instead of what it should is one sentence with file and field."""

from __future__ import annotations

import contextlib
import copy
import inspect
import json
import random

import numpy as np
import pytest

from uanref import data, models
from uanref.data.augment import Chain, Crop, Flip, Shift
from uanref.layers.base import Sequential
from uanref.layers.dropout import Dropout
from uanref.layers.flatten import Flatten
from uanref.layers.linear import Linear
from uanref.losses import SoftmaxCrossEntropy
from uanref.optimizers import AdamW
from uanref.training import archive, checkpoint, described, header
from uanref.training.archive import CheckpointError
from uanref.training.schedules import Cosine, StepDecay
from uanref.training.trainer import Trainer


@pytest.fixture(scope="module")
def splits():
    whole = data.load("digits")
    few = whole.train.subset(np.arange(20), "few")
    return data.Splits("digits", 10, whole.image_shape, few, few, few)


@pytest.fixture(scope="module")
def good(splits, tmp_path_factory):
    """The text of a real checkpoint with something in every field."""
    options = {"affine": True, "eps": 1e-5}
    model = models.build("mlp", "bn", image_shape=(1, 8, 8), num_classes=10, width=0.5, norm_options=options)
    model.layers.insert(1, Dropout(0.1, rng=np.random.default_rng(1)))
    trainer = Trainer(
        *(model, SoftmaxCrossEntropy(0.1), AdamW(model.parameters()), splits),
        **{"schedule": Cosine(0.01, 20, 1), "clip_norm": 1.0, "report_every": 1, "progress": "none"},
        **{"augment": Chain(Shift(1), Crop(1), Flip(0.5)), "batch_size": 10},
    )
    trainer.fit(2)
    path = tmp_path_factory.mktemp("header") / "a.npz"
    checkpoint.save(path, trainer)
    return checkpoint.load_meta(path)


def parsed(meta):
    return header.parse("x.npz", json.dumps(meta).encode())


def places(value, path=()):
    """Yield the path to everything in nested dicts and lists."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def replaced(meta, path, new):
    meta = copy.deepcopy(meta)
    inner = meta
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return meta


def value_at(meta, path):
    for key in path:
        meta = meta[key]
    return meta


GARBAGE = [None, True, -1, 1.5, 10**30, 1e308, -1e308, "text", "", [], {}, [[[]]], {"a": {"b": 1}}, [None], 2**63]


def same_kind(old, new):
    """Whether a field may well take ``new``: the same type as before, or null for a number that JSON may lack."""
    if new is None or isinstance(old, str):
        return new is None or isinstance(new, str)
    return (
        isinstance(old, int | float) and isinstance(new, int | float) and isinstance(old, bool) == isinstance(new, bool)
    )


def test_a_good_header_is_taken(good):
    assert parsed(good) == good


def test_garbage_in_every_field(good):
    tried = 0
    for path in places(good):
        for new in GARBAGE if path else []:
            old = value_at(good, path)
            if same_kind(old, new) or (isinstance(old, list | dict) and type(new) is type(old)):
                continue
            if path[:2] == ("model", "norm_options") and len(path) == 3 and isinstance(new, bool | str | int | float):
                continue  # what an option may be, its norm knows
            tried += 1
            with pytest.raises(CheckpointError) as caught:
                parsed(replaced(good, path, new))
            sentence = str(caught.value)
            assert sentence.startswith("x.npz ")
            assert "\n" not in sentence
            assert len(sentence) < 400
            if path[0] not in ("format", "version"):
                assert str(next(key for key in reversed(path) if isinstance(key, str))) in sentence
    assert tried > 1000


@pytest.mark.parametrize("field", ["batch_size", "epoch", "seed", "report_every"])
@pytest.mark.parametrize("value", [True, 1.0, -1, "1", [1]])
def test_whole_numbers_are_whole_numbers(good, field, value):
    with pytest.raises(CheckpointError, match=f"as {field}, expected a whole number"):
        parsed(good | {field: value})


OPTIONAL = ("width", "norm_options")


@pytest.mark.parametrize("name", OPTIONAL)
def test_what_was_not_given_may_lack(good, name):
    meta = good | {"model": {key: value for key, value in good["model"].items() if key != name}}
    assert parsed(meta) == meta


def test_every_field_is_needed_and_no_other(good):
    for path in places(good):
        if (
            not path
            or isinstance(path[-1], int)
            or path[:2] == ("generators", "model")
            or "gradient_norms" in path[:-1]
            or "norm_options" in path[:-1]
            or path[-1] in OPTIONAL
        ):
            continue
        owner = value_at(good, path[:-1])
        without = {key: value for key, value in owner.items() if key != path[-1]}
        meta = replaced(good, path[:-1], without) if path[:-1] else without
        with pytest.raises(CheckpointError):
            parsed(meta)
        meta = replaced(good, path[:-1], owner | {"more": 1}) if path[:-1] else owner | {"more": 1}
        with pytest.raises(CheckpointError, match="'more'"):
            parsed(meta)


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("optimizer", "kind"), "Adagrad", "holds 'Adagrad' as optimizer.kind, expected one of SGD, Adam, AdamW"),
        (
            ("optimizer", "betas"),
            [0.9, 1.0],
            r"holds 1.0 as optimizer.betas\[1\], expected a finite number >= 0 and < 1",
        ),
        (("optimizer", "eps"), True, "holds true as optimizer.eps, expected a finite number > 0"),
        (("optimizer", "eps"), 10**400, "holds a number of about 401 digits as optimizer.eps"),
        (("schedule", "total_steps"), 0, "holds 0 as schedule.total_steps, expected a whole number >= 1"),
        (("augment",), {}, "holds {} as augment, expected a list"),
        (("augment", 2, "p"), 1.5, r"as augment\[2\].p, expected a finite number >= 0 and <= 1"),
        (("loss", "label_smoothing"), "0", "holds '0' as loss.label_smoothing"),
        (("model", "image_shape"), [1, 8], "as model.image_shape, expected a list of 3"),
        (("model", "dtype"), "float16", "as model.dtype, expected one of float32, float64"),
        (("data", "fingerprint"), 2**32, "as data.fingerprint"),
        (("generators", "trainer", "state", "inc"), 2**128, "as generators.trainer.state.inc"),
        (("generators", "trainer", "state", "inc"), 2, "as generators.trainer.state.inc, expected an odd"),
        (("generators", "trainer", "has_uint32"), 2, "as generators.trainer.has_uint32"),
        (("generators", "trainer", "bit_generator"), "MT19937", "generators.trainer"),
        (("history", "steps", 0), 7, "history.steps that do not grow"),
        (("history", "steps"), [1, 2], "history.gradient_norms"),
        (("history", "epochs", 0, "epoch"), 2, "is at epoch 2, but history.epochs does not hold epochs 1 to 2"),
        (("epoch",), 1, "is at epoch 1, but history.epochs does not hold"),
    ],
)
def test_the_sentence_names_the_field(good, path, value, sentence):
    with pytest.raises(CheckpointError, match=sentence) as caught:
        parsed(replaced(good, path, value))
    assert str(caught.value).startswith("x.npz is no usable checkpoint: it ")


@pytest.mark.parametrize("kind", ["MT19937", "Philox", "SFC64", "PCG64DXSM"])
def test_all_of_numpys_generators_pass_and_none_of_their_fields_is_believed(good, kind):
    """NumPy itself takes a position far beyond MT19937's 624 numbers, and would read there."""
    state = getattr(np.random, kind)(3).state
    state = json.loads(json.dumps(state, default=lambda array: array.tolist()))
    meta = replaced(good, ("generators", "model", "1"), state)
    assert parsed(meta) == meta
    for path in places(state):
        if not isinstance(value_at(state, path), int) or (isinstance(path[-1], int) and path[-1] > 3):
            continue
        for wrong in (-1, 2**128, 1.0, True, None):
            with pytest.raises(CheckpointError, match=r"generators\.model\.1"):
                parsed(replaced(meta, ("generators", "model", "1", *path), wrong))
    if kind == "MT19937":
        with pytest.raises(CheckpointError, match=r"state\.pos"):
            parsed(replaced(meta, ("generators", "model", "1", "state", "pos"), 10**6))


@pytest.mark.parametrize(
    "text",
    [
        *("", "3", "null", '"text"', "[]", "[" * 100_000, '{"format": NaN}', "{", "\\", '{"format": 1'),
        *('{"format": "uanref checkpoint", "version": 1, "epoch": Infinity}', '{"version": ' + "9" * 5000 + "}"),
    ],
)
def test_what_is_no_header_at_all(text):
    with pytest.raises(CheckpointError, match=r"^x\.npz is not a checkpoint of uanref: it has no readable meta data$"):
        header.parse("x.npz", text.encode())


@pytest.mark.parametrize("version", [True, "1", None, 1.0, 0, 2, [], 10**300])
def test_other_versions(good, version):
    with pytest.raises(CheckpointError, match=r"has format version .*, this uanref reads version 1"):
        parsed(good | {"version": version})


def test_the_table_knows_every_argument_of_every_class():
    """A new argument of an optimizer must come into the table, else its checkpoints could not be read."""
    for check, known in (
        (header.OPTIMIZER, described.OPTIMIZERS),
        (header.SCHEDULE, described.SCHEDULES),
        (header.LOSS, described.LOSSES),
        (header.AUGMENTATION, described.AUGMENTATIONS),
    ):
        checks = inspect.getclosurevars(check).nonlocals["checks"]
        fields = {kind: set(inspect.getclosurevars(one).nonlocals["fields"]) for kind, one in checks.items()}
        assert fields == {kind.__name__: {"kind", *described.arguments(kind)} for kind in known}


@pytest.mark.parametrize("seed", range(3))
def test_random_damage_gives_a_sentence_or_a_run(good, splits, seed, tmp_path):
    """Whatever the text says, building a run from it raises nothing but a CheckpointError."""
    draw = random.Random(seed)
    every = [path for path in places(good) if path]
    model = models.build(**good["model"])
    model.layers.insert(1, Dropout(0.1, rng=np.random.default_rng(1)))
    arrays = {f"model/{name}": array for name, array in model.state_dict().items()}
    arrays |= {f"optimizer/{name}": array for name, array in AdamW(model.parameters()).state_dict().items()}
    path = tmp_path / "a.npz"
    for _ in range(30):
        field = draw.choice(every)
        meta = replaced(good, field, draw.choice([*GARBAGE, 0, 1, 2, 7, 0.0, 0.3]))
        archive.write(path, arrays, json.dumps(meta))
        with contextlib.suppress(CheckpointError):
            resumed = checkpoint.resume(path, splits=splits, model=model, progress="none")
            assert resumed.epoch == 2


def test_a_generator_that_is_none_of_numpys_is_refused_before_anything_is_written(splits, tmp_path):
    class Own(np.random.PCG64):
        @property
        def state(self):
            return {"bit_generator": "Own"}

    model = Sequential(Flatten(), Dropout(0.5, rng=np.random.Generator(Own(1))), Linear(64, 10))
    trainer = Trainer(model, SoftmaxCrossEntropy(), AdamW(model.parameters()), splits, progress="none")
    with pytest.raises(CheckpointError, match=r"generators\.model\.1"):
        checkpoint.save(tmp_path / "a.npz", trainer)
    assert list(tmp_path.iterdir()) == []


def test_a_step_decay_passes(splits, tmp_path):
    model = models.build("mlp", "bn", image_shape=(1, 8, 8), num_classes=10)
    options = {"schedule": StepDecay(0.1, 3), "progress": "none"}
    trainer = Trainer(model, SoftmaxCrossEntropy(), AdamW(model.parameters()), splits, **options)
    checkpoint.save(tmp_path / "a.npz", trainer)
    assert checkpoint.load_meta(tmp_path / "a.npz")["schedule"]["factor"] == 0.1
