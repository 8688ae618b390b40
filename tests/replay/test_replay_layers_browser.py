"""From a layer's own forward pass to what the replay's page draws of it: x -> y is what the layer computed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from support import recordings as toy
from support.replay_page import Page

from uanref.layers import passes
from uanref.models import make_norm
from uanref.training import looking, recorded

CASES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "bn": ("bn", 3, {}),
    "uan": ("uan", 3, {}),
    "uan of one component": ("uan", 1, {}),
    "uan of eight": ("uan", 8, {}),
    "uan by EM": ("uan", 3, {"update": "em"}),
    "uan with one prior for all": ("uan", 3, {"prior": "shared"}),
    "uan without rescaling": ("uan", 3, {"rescale": False}),
    "uan-learned": ("uan-learned", 3, {}),
    "mn": ("mn", 3, {"posterior": "channel"}),
}


def looked_at(name: str, components: int, options: dict[str, Any]) -> tuple[Any, np.ndarray, np.ndarray]:
    """A layer's recording, the activations of its moment ``(n, C)``, and what became of eight ``(8, C)``."""
    rng = np.random.default_rng(7)
    norm = make_norm(name, 4, num_components=components, rng=rng, options=options)
    assert norm is not None
    for parameter in norm.parameters().values():
        parameter.value[...] += rng.normal(0, 0.3, parameter.value.shape)
    (place,) = [dataclasses.replace(each, name="1") for each in looking.places(norm)]
    x = (np.where(rng.uniform(size=(32, 4, 5, 5)) < 0.4, -2, 1) + rng.normal(size=(32, 4, 5, 5))).astype(np.float32)
    looks = looking.Looks([place], 4)
    with passes.watching(looks):
        y = norm.forward(x)
    taken = recorded.of_looks(place, [recorded.on_host(looks.taken["1"])])
    layer = recorded.stacked(place, looks.channels["1"], taken)
    flat = [np.moveaxis(array, 1, -1).reshape(-1, 4) for array in (x, y)]
    return layer, flat[0], flat[1][looking.sample_slice(32, 25)]


@pytest.mark.parametrize("case", list(CASES))
def test_what_is_drawn_is_what_the_layer_computed(page: Page, case: str) -> None:
    layer, x, y = looked_at(*CASES[case])
    page.open(toy.recording("uan", moments=1, layers=(layer,), gradient_norms={}, epochs=()))
    for c in range(4):
        page.choose("channel", str(c))
        frame = page.script(
            "const f = replay.film.frames[0][0]; return {samples: f.samples, sampleY: [...f.sampleY], grid: f.grid, "
            "y: [...(f.y ?? f.single.y)], bars: f.bars.map((bar) => [bar.x, bar.wide, bar.high])}"
        )
        np.testing.assert_allclose(frame["sampleY"], y[:, c], rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(np.interp(frame["samples"], frame["grid"], frame["y"]), y[:, c], atol=0.03)
        starts, wide, high = np.array(frame["bars"]).T
        counts, edges = np.histogram(x[:, c], 32)
        np.testing.assert_allclose(wide * high * len(x), counts, atol=0.02 + 2e-3 * counts.max())
        np.testing.assert_allclose(starts, edges[:-1], atol=1e-3)
        found = page.numbers(1)
        assert found["batch mean"] == pytest.approx(x[:, c].mean(), rel=1e-3, abs=1e-4)
        assert found["batch variance"] == pytest.approx(x[:, c].var(), rel=1e-3)
