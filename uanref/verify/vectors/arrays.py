"""The arrays of a case: input, state, output, gradients, in float64 and float32."""

from __future__ import annotations

import zlib

import numpy as np

from uanref import backend
from uanref.backend import Array
from uanref.norms.mixture import MixtureNorm
from uanref.verify.vectors.case import Case

DTYPES = ("float64", "float32")
"""What every case is computed in."""

# Inputs are multiples of this: the same numbers in float32 and float64, and short ones in JSON.
GRID = 1 / 64


def compute(case: Case) -> dict[str, Array]:
    """Return a case's arrays by the names that the README explains; the same at every call.

    Raises:
        RuntimeError: the backward pass left a parameter without a gradient.
    """
    draw = np.random.default_rng(zlib.crc32(case.name.encode()))
    state = _state(case, draw)
    x, dy = (_on_grid(draw.standard_normal(case.shape)) for _ in range(2))
    x = _on_grid(0.4 + 1.5 * x)
    found = {"x": x, "dy": dy} | {f"before/{name}": value for name, value in state.items()}
    for dtype in DTYPES:
        layer = case.norm(**case.options, dtype=dtype)
        layer.load_state_dict(state)
        y = layer.train(case.mode == "train").forward(x.astype(dtype))
        dx = layer.backward(dy.astype(dtype))
        found |= {f"{dtype}/y": y, f"{dtype}/dx": dx}
        for name, parameter in layer.parameters().items():
            if parameter.grad is None:
                raise RuntimeError(f"{case.name}: backward left no gradient for {name}")
            found[f"{dtype}/grad/{name}"] = parameter.grad
        for name, value in layer.state_dict().items():
            if not np.array_equal(value, state[name].astype(value.dtype)):
                found[f"{dtype}/after/{name}"] = value
        if isinstance(layer, MixtureNorm) and layer.fit is not None:
            log_prior, mean, variance = layer.fit
            found |= {f"{dtype}/fit/prior": np.exp(log_prior), f"{dtype}/fit/mean": mean}
            found[f"{dtype}/fit/variance"] = variance
    return found


def _state(case: Case, draw: np.random.Generator) -> dict[str, Array]:
    """Return the layer's state before the pass, on the grid.

    Parameters are moved off their start: a scale of 1 or a shift of 0 would hide a missing term. Unless this is
    to be the first batch, two others went through the layer, so that running moments are not 0 and 1.
    """
    layer = case.norm(**case.options, dtype="float64")
    for parameter in layer.parameters().values():
        parameter.value = parameter.value + draw.uniform(-0.4, 0.4, size=parameter.shape)
    if not case.first_batch:
        with backend.inference():
            for _ in range(2):
                layer.forward(0.4 + 1.5 * draw.standard_normal((32, *case.shape[1:])))
    state = {name: _on_grid(value) for name, value in layer.state_dict().items()}
    if "prior" in state:  # shares still sum to 1: the last component takes what rounding left
        state["prior"][-1] = 1.0 - state["prior"][:-1].sum(axis=0)
    return state


def _on_grid(value: Array) -> Array:
    """Round to multiples of :data:`GRID`; flags stay."""
    return value if value.dtype.kind == "b" else np.round(value / GRID) * GRID
