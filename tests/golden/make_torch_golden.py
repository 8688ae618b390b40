"""Write the golden vectors of PyTorch: ``python tests/golden/make_torch_golden.py`` (needs the ``oracle`` extra).

Three files, ``torch_norms.npz``, ``torch_layers.npz`` and ``torch_training.npz``, hold for every case
its input arrays and what PyTorch computed from them in float64, so that whoever reads them needs
neither PyTorch nor this script. Entries:

- ``<case>/in/<name>`` and ``<case>/out/<name>``: see ``tests/support/oracle_ours.py`` for the names;
- ``about``: JSON with the versions that wrote the file, and per case its kind and options.

The files hold no Python objects: ``numpy.load`` reads them without pickle.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))  # `support`, as tests/conftest.py does it

from support import oracle_torch
from support.oracle_cases import (
    Arrays,
    conv_inputs,
    loss_inputs,
    norm_inputs,
    optimizer_inputs,
    plain_inputs,
    pool_inputs,
)

HERE = Path(__file__).parent
Case = tuple[str, str, dict[str, Any], Arrays]  # name, kind, options, inputs

RANK2, RANK3, RANK4 = (5, 8), (3, 4, 5), (3, 4, 3, 2)


def norms() -> Iterator[Case]:
    """Batch, layer, group and instance normalization."""
    for rank, shape in enumerate((RANK2, RANK3, RANK4), start=2):
        for mode in ("train", "eval"):
            options = {"training": mode == "train", "momentum": 0.2, "eps": 1e-3}
            yield f"bn-{mode}-{rank}d", "BatchNorm", options, norm_inputs("BatchNorm", shape, rank)
        for form in ("group_norm", "layer_norm"):
            yield f"ln-{form}-{rank}d", "LayerNorm", {"form": form}, norm_inputs("LayerNorm", shape, 10 + rank)
        for groups in (1, 2):
            yield (
                f"gn-{groups}-{rank}d",
                "GroupNorm",
                {"num_groups": groups},
                norm_inputs("GroupNorm", shape, 20 + rank),
            )
        if rank > 2:
            yield f"in-{rank}d", "InstanceNorm", {"eps": 1e-4}, norm_inputs("InstanceNorm", shape, 30 + rank)
    yield "gn-4-4d", "GroupNorm", {"num_groups": 4}, norm_inputs("GroupNorm", RANK4, 40)
    for number, kind in enumerate(("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm")):
        extra = {"LayerNorm": {"form": "layer_norm"}, "GroupNorm": {"num_groups": 2}}.get(kind, {})
        yield f"{kind}-plain", kind, extra, norm_inputs(kind, RANK4, 50 + number, affine=False)


def layers() -> Iterator[Case]:
    """Convolution, pooling, GELU."""
    image, weight = (2, 3, 6, 5), (4, 3, 3, 2)
    for number, options in enumerate(
        (
            {},
            {"stride": 2, "padding": 1},
            {"stride": [2, 1], "padding": [1, 2], "dilation": [1, 2]},
            {"dilation": 2},
            {"padding": "same"},
            {"padding": "same", "dilation": [2, 3]},
            {"padding": "valid", "stride": 3},
        )
    ):
        yield f"conv-{number}", "Conv2d", options, conv_inputs(image, weight, options, 100 + number)
    yield (
        "conv-without-bias",
        "Conv2d",
        {"padding": 1},
        conv_inputs(image, (2, 3, 3, 3), {"padding": 1}, 110, bias=False),
    )
    yield "conv-1x1", "Conv2d", {}, conv_inputs(image, (5, 3, 1, 1), {}, 111)

    for number, options in enumerate(
        (
            {"kernel_size": 2},
            {"kernel_size": 3, "stride": 2, "padding": 1},
            {"kernel_size": [3, 2], "stride": [1, 2], "padding": [1, 0]},
        )
    ):
        for kind in ("MaxPool2d", "AvgPool2d"):
            yield f"{kind}-{number}", kind, options, pool_inputs((2, 3, 7, 6), options, 120 + number)
        yield (
            f"MaxPool2d-{number}-ties",
            "MaxPool2d",
            options,
            pool_inputs((2, 3, 7, 6), options, 130 + number, ties=True),
        )
    yield "global-average", "GlobalAvgPool2d", {}, plain_inputs((3, 4, 5, 3), (3, 4), 140)
    yield "gelu", "GELU", {}, plain_inputs((5, 20), (5, 20), 141, scale=3.0)


def training() -> Iterator[Case]:
    """Cross-entropy, and six steps of every optimizer."""
    for number, (soft, smoothing) in enumerate(((False, 0.0), (False, 0.1), (True, 0.0), (True, 0.3))):
        name = f"cross-entropy-{'soft' if soft else 'labels'}-{smoothing}"
        yield name, "SoftmaxCrossEntropy", {"label_smoothing": smoothing}, loss_inputs(7, 5, 200 + number, soft=soft)
    yield "cross-entropy-far-apart", "SoftmaxCrossEntropy", {}, loss_inputs(6, 4, 210, soft=False, scale=300.0)

    shapes = {"weight": (4, 3), "bias": (4,)}
    for number, (kind, options) in enumerate(
        (
            ("SGD", {"lr": 0.1}),
            ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}),
            ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
            ("SGD", {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.1}),
            ("Adam", {"lr": 0.01}),
            ("Adam", {"lr": 0.03, "betas": [0.7, 0.95], "eps": 1e-3, "weight_decay": 0.1}),
            ("AdamW", {"lr": 0.01}),
            ("AdamW", {"lr": 0.03, "betas": [0.8, 0.9], "eps": 1e-4, "weight_decay": 0.3}),
        )
    ):
        yield f"{kind}-{number}", kind, options, optimizer_inputs(shapes, 6, 220 + number)


FILES = {"torch_norms": norms, "torch_layers": layers, "torch_training": training}


def entries(case: Case) -> Arrays:
    """Return the file's entries for one case, computed by the installed PyTorch."""
    name, kind, options, inputs = case
    outputs = oracle_torch.run(kind, options, inputs)
    return {f"{name}/in/{key}": a for key, a in inputs.items()} | {f"{name}/out/{key}": a for key, a in outputs.items()}


def main() -> None:
    """Write the three files beside this script."""
    import torch  # only here: whoever reads the files needs none

    torch.set_num_threads(1)
    versions = {"torch": torch.__version__.split("+")[0], "numpy": np.__version__}
    for file, cases in FILES.items():
        arrays: Arrays = {}
        table = {}
        for case in cases():
            name, kind, options, _ = case
            assert name not in table, f"two cases are called {name!r}"
            table[name] = {"kind": kind, "options": options}
            arrays |= entries(case)
        about = {"versions": versions, "written by": "tests/golden/make_torch_golden.py", "cases": table}
        path = HERE / f"{file}.npz"
        np.savez_compressed(path, about=np.array(json.dumps(about)), **arrays)
        print(f"{path.name}: {len(table)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
