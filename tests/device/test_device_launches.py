"""How many kernels a norm launches, and a training step of a small network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support.devices import Device

from uanref import backend, models
from uanref.layers.base import Layer
from uanref.losses import SoftmaxCrossEntropy
from uanref.norms.batch import BatchNorm
from uanref.norms.uan import UAN
from uanref.optimizers import Adam

# --- launches of BN and UAN -----------------------------------------------------------------------

Budget = tuple[int, int]

# The numbers of docs/gpu.md: launches of a forward and of a backward pass by the CUDA kernels, where a block has a
# whole channel, and where a channel has several blocks, whose sums other launches merge.
LAUNCHES: dict[str, tuple[Callable[[], Layer], str, Budget, Budget]] = {
    "BatchNorm, train": (lambda: BatchNorm(4), "train", (2, 1), (3, 3)),
    "BatchNorm, no affine, train": (lambda: BatchNorm(4, affine=False), "train", (2, 1), (3, 3)),
    "BatchNorm, eval": (lambda: BatchNorm(4), "eval", (1, 1), (1, 3)),
    "UAN, train": (lambda: UAN(4), "train", (4, 2), (5, 5)),
    "UAN, eval": (lambda: UAN(4), "eval", (3, 2), (3, 4)),
    "UAN, learned statistics, train": (lambda: UAN(4, statistics="learned"), "train", (3, 2), (3, 4)),
    "UAN, learned statistics, eval": (lambda: UAN(4, statistics="learned"), "eval", (3, 2), (3, 4)),
    "UAN, EM, train": (lambda: UAN(4, update="em"), "train", (5, 1), (6, 4)),
    "UAN, shared prior, train": (lambda: UAN(4, prior="shared"), "train", (4, 2), (5, 5)),
    "UAN, shared prior, eval": (lambda: UAN(4, prior="shared"), "eval", (3, 2), (3, 4)),
    "UAN, shared prior, EM, train": (lambda: UAN(4, prior="shared", update="em"), "train", (5, 1), (6, 4)),
    "UAN, by the mixture, eval": (lambda: UAN(4, inference="mixture"), "eval", (3, 2), (3, 4)),
    "UAN, learned statistics, EM, train": (
        lambda: UAN(4, statistics="learned", update="em"),
        "train",
        (5, 1),
        (6, 3),
    ),
}
ONE_BLOCK, SEVERAL = ((6, 4, 5, 7), (6, 4), (16, 4, 16, 16)), ((17, 4, 16, 16), (40, 4, 16, 16))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", LAUNCHES)
def test_a_norm_launches_few_kernels(name: str, dtype: str, emulated: Device) -> None:
    """As many for one batch as for a larger one, and in the second pass, when the layer has its start from data."""
    make, mode, of_one_block, of_several = LAUNCHES[name]
    layer = make().to(dtype).to("cupy")
    for shape in (*ONE_BLOCK, *SEVERAL):
        forward_at_most, backward_at_most = of_one_block if shape in ONE_BLOCK else of_several
        draw = np.random.default_rng(0)
        x, dy = (backend.to_device(draw.standard_normal(shape).astype(dtype), "cupy") for _ in range(2))
        layer.train().forward(x)
        layer.backward(dy)
        layer.train(mode == "train")
        with emulated.counting() as forward:
            layer.forward(x)
        with emulated.counting() as backward:
            layer.backward(dy)
        for counts, most in ((forward, forward_at_most), (backward, backward_at_most)):
            # Nothing that launches by other ways hides behind the number.
            assert (counts.on_device, counts.fills, counts.library_calls) == (0, 0, [])
            assert len(counts.launches) <= most, [launch.name for launch in counts.launches]


# --- launches of a training step ------------------------------------------------------------------

# Of the digits CNN on 64 images: network and loss forward, backward, Adam's step. Whoever brings one down lowers it
# here and in docs/gpu.md.
STEPS: dict[tuple[str, bool], tuple[int, int, int]] = {
    ("none", False): (41, 98, 8),
    ("none", True): (49, 112, 112),
    ("bn", False): (44, 95, 11),
    ("bn", True): (109, 175, 154),
    ("uan", False): (50, 98, 20),
    ("uan", True): (349, 475, 280),
}


@pytest.mark.slow
@pytest.mark.parametrize("plain", [False, True], ids=["kernels", "definitions"])
@pytest.mark.parametrize("norm", ["none", "bn", "uan"])
def test_a_training_step_launches_so_many_kernels(norm: str, plain: bool, emulated: Device) -> None:
    draw = np.random.default_rng(0)
    images = backend.to_device(draw.standard_normal((64, 1, 8, 8)).astype("float32"), "cupy")
    labels = backend.to_device(draw.integers(0, 10, 64), "cupy")
    model = models.build("cnn", norm, image_shape=(1, 8, 8), num_classes=10).to("cupy")
    loss, optimizer = SoftmaxCrossEntropy(), Adam(model.parameters(), lr=0.01)
    passes: tuple[Callable[[], object], ...] = (
        lambda: loss.forward(model.forward(images), labels),
        lambda: model.backward(loss.backward()),
        optimizer.step,
    )
    with backend.plain(plain):
        for run in passes:  # the first step makes the optimizer's slots
            run()
        found = []
        for run in passes:
            with emulated.counting() as counts:
                run()
            found.append(len(counts.launches))
    print(f"\n{norm}, {'definitions' if plain else 'kernels'}: {' + '.join(map(str, found))} = {sum(found)} launches")
    assert all(n <= most for n, most in zip(found, STEPS[norm, plain], strict=True)), found
