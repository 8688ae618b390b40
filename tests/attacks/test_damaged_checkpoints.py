"""Checkpoints with flipped bytes, cut short, grown, or with another text: one sentence or a run, nothing else."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from uanref import models
from uanref.data.sets import Dataset
from uanref.data.splits import Splits
from uanref.losses import SoftmaxCrossEntropy
from uanref.optimizers import Adam
from uanref.training import archive, checkpoint
from uanref.training.schedules import Cosine
from uanref.training.trainer import Trainer

DAMAGES = 1000
VALUES = [None, True, False, -1, 0, 1, 2, 1.5, 10**30, 2**63, 1e308, "", "x", [], {}, [None], {"a": 1}, [[[]]]]

pytestmark = pytest.mark.slow


def make_trainer() -> Trainer:
    rng = np.random.default_rng(0)
    few = Dataset("few", rng.standard_normal((10, 1, 4, 4)).astype(np.float32), np.arange(10) % 2, 2)
    model = models.build("mlp", "uan", image_shape=(1, 4, 4), num_classes=2)
    splits = Splits("few", 2, (1, 4, 4), few, few, few)
    options = {"schedule": Cosine(0.01, 10), "progress": "none", "report_every": 1}
    return Trainer(model, SoftmaxCrossEntropy(), Adam(model.parameters()), splits, **options)


def spoil_bytes(content: bytes, draw: random.Random) -> bytes:
    """Change some bytes, most of them where the archive describes itself."""
    spoiled = bytearray(content)
    heads = [i for i in range(len(content) - 1) if content[i : i + 2] == b"PK"]
    for _ in range(draw.choice((1, 1, 2, 5))):
        k = draw.choice(heads) + draw.randrange(140) if draw.random() < 0.7 else draw.randrange(len(content))
        if k < len(spoiled):
            spoiled[k] = draw.choice((0, 255, spoiled[k] ^ (1 << draw.randrange(8)), draw.randrange(256)))
    if draw.random() < 0.1:
        del spoiled[draw.randrange(len(spoiled)) :]
    if draw.random() < 0.05:
        k = draw.randrange(len(spoiled) + 1)
        spoiled[k:k] = draw.randbytes(draw.randrange(1, 50))
    return bytes(spoiled)


def spoil_text(meta: dict, draw: random.Random) -> dict:
    """Put something else into one field, wherever it is."""
    meta = json.loads(json.dumps(meta))
    inner: dict | list = meta
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = draw.choice(keys)
        if not (isinstance(inner[key], dict | list) and inner[key]) or draw.random() < 0.2:
            inner[key] = draw.choice(VALUES)
            return meta
        inner = inner[key]


def test_a_thousand_damaged_checkpoints(tmp_path: Path) -> None:
    draw = random.Random(5)
    trainer, path = make_trainer(), tmp_path / "a.npz"
    trainer.fit(2)
    checkpoint.save(path, trainer)
    content, (_, arrays), meta = path.read_bytes(), archive.read(path), checkpoint.load_meta(path)
    refused, faults = 0, []
    for number in range(DAMAGES):
        if number % 2:
            path.write_bytes(spoil_bytes(content, draw))
        else:
            archive.write(path, arrays, json.dumps(spoil_text(meta, draw)))
        try:
            checkpoint.load_model(path)
            checkpoint.resume(path, splits=trainer.splits, progress="none")
        except checkpoint.CheckpointError as error:
            refused += 1
            if "\n" in str(error) or str(path) not in str(error) or len(str(error)) > 600:
                faults.append(f"{number}: {error}")
        except Exception as error:
            faults.append(f"{number}: {type(error).__name__}: {error}")
    print(f"\ntried {DAMAGES}, handled {DAMAGES - len(faults)} ({refused} refused), faults {len(faults)}")
    assert faults == []
    assert refused > DAMAGES / 2
