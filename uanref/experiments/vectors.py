"""``uanref vectors``: small inputs and outputs of every norm, for whoever ports a layer to another framework.

:func:`cases` is the list. Each case becomes a ``.npz`` (without pickle) and a ``.json`` file with the same
arrays; :data:`README` tells what they are. Nothing depends on the time, the folder or the number of threads:
the same versions on the same machine write the same bytes.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import itertools
import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from uanref import __version__
from uanref import backend as arrays
from uanref.backend import Array
from uanref.experiments import files
from uanref.layers.base import Layer
from uanref.norms.batch import BatchNorm
from uanref.norms.group import GroupNorm
from uanref.norms.instance import InstanceNorm
from uanref.norms.layer import LayerNorm
from uanref.norms.mixture import MixtureNorm
from uanref.norms.mode import ModeNorm
from uanref.norms.uan import UAN
from uanref.norms.uan_public import UANPublic

DTYPES = ("float64", "float32")
# A port that adds in another order stays within these, relative to an array's largest entry (or to 1, if that is
# smaller): ten times the largest distance between these float32 and float64 results, a hundred times that between
# the float64 results and a plain re-computation.
TOLERANCE = {"float64": 1e-12, "float32": 3e-5}
# Inputs are multiples of this: the same numbers in float32 and float64, and short ones in JSON.
GRID = 1 / 64


class Case(NamedTuple):
    """One entry of the list.

    Attributes:
        name: ``"folder/file"``, without a suffix; the random numbers are seeded with it.
        norm: the layer's class.
        options: its arguments; what is left out has its default.
        shape: of x.
        mode: ``"train"`` or ``"eval"``.
        first_batch: True if no batch was seen before this one; else the layer has seen two.
    """

    name: str
    norm: type[Layer]
    options: dict[str, Any]
    shape: tuple[int, ...]
    mode: str
    first_batch: bool = False

    def all_options(self) -> dict[str, Any]:
        """Return the layer's arguments with defaults filled in, without dtype and generator."""
        bound = inspect.signature(self.norm).bind(**self.options)
        bound.apply_defaults()
        return {name: value for name, value in bound.arguments.items() if name not in ("dtype", "rng")}


# --- the list -------------------------------------------------------------------------------------

MODES = ("train", "eval")
RANK_2, RANK_3, RANK_4 = (8, 2), (5, 2, 2), (3, 2, 2, 3)  # (N, C), (N, C, L), (N, C, H, W)


def cases() -> list[Case]:
    """Return the list: every norm with every option."""
    return [
        *_batch_norm(),
        *_sample_norms(),
        *_uan(),
        *_mixture_norm(),
        *_mode_norm(),
        *_uan_public(),
    ]


def _batch_norm() -> Iterator[Case]:
    for mode in MODES:
        yield Case(f"batch_norm/affine-{mode}", BatchNorm, {"num_features": 2}, RANK_3, mode)
        yield Case(f"batch_norm/plain-{mode}", BatchNorm, {"num_features": 2, "affine": False}, RANK_3, mode)
        yield Case(f"batch_norm/rank2-{mode}", BatchNorm, {"num_features": 2}, RANK_2, mode)
        yield Case(f"batch_norm/rank4-{mode}", BatchNorm, {"num_features": 2}, RANK_4, mode)
        options = {"num_features": 2, "eps": 0.0625, "momentum": 0.75}
        yield Case(f"batch_norm/eps-momentum-{mode}", BatchNorm, options, RANK_3, mode)
    yield Case("batch_norm/first-batch-train", BatchNorm, {"num_features": 2}, RANK_3, "train", first_batch=True)


def _sample_norms() -> Iterator[Case]:
    """Layer, group and instance normalization: the same function in both modes, without state."""
    norms: list[tuple[str, type[Layer], dict[str, Any], tuple[int, ...]]] = [
        ("layer_norm/rank2", LayerNorm, {"num_features": 3}, (4, 3)),
        ("layer_norm/rank3", LayerNorm, {"num_features": 2}, RANK_3),
        ("layer_norm/rank4", LayerNorm, {"num_features": 2}, RANK_4),
        ("group_norm/rank2", GroupNorm, {"num_groups": 2, "num_channels": 6}, (3, 6)),
        ("group_norm/rank3", GroupNorm, {"num_groups": 2, "num_channels": 4}, (3, 4, 3)),
        ("group_norm/rank4", GroupNorm, {"num_groups": 2, "num_channels": 4}, (2, 4, 2, 3)),
        ("group_norm/one-group", GroupNorm, {"num_groups": 1, "num_channels": 2}, RANK_3),
        ("group_norm/a-group-per-channel", GroupNorm, {"num_groups": 2, "num_channels": 2}, RANK_3),
        ("instance_norm/rank3", InstanceNorm, {"num_features": 2}, RANK_3),
        ("instance_norm/rank4", InstanceNorm, {"num_features": 2}, RANK_4),
    ]
    for name, norm, options, shape in norms:
        yield Case(f"{name}-affine", norm, options, shape, "train")
        yield Case(f"{name}-plain", norm, {**options, "affine": False}, shape, "train")
        yield Case(f"{name}-eps", norm, {**options, "eps": 0.0625}, shape, "train")


def _uan() -> Iterator[Case]:
    for posterior, statistics, update, start, rescale, affine, mode in itertools.product(
        ("channel", "joint"),
        ("batch", "learned"),
        ("backprop", "em"),
        ("paper", "data"),
        (True, False),
        (True, False),
        MODES,
    ):
        words = (
            posterior,
            statistics,
            update,
            start,
            "rescale" if rescale else "norescale",
            "affine" if affine else "plain",
            mode,
        )
        options = {
            "num_features": 2,
            "num_components": 3,
            "posterior": posterior,
            "statistics": statistics,
            "update": update,
            "start": start,
            "rescale": rescale,
            "affine": affine,
        }
        yield Case(f"uan/{'-'.join(words)}", UAN, options, RANK_3, mode, first_batch=(start, mode) == ("data", "train"))
    for posterior, mode in itertools.product(("channel", "joint"), MODES):
        options = {"num_features": 2, "posterior": posterior}
        yield Case(f"uan/{posterior}-rank2-{mode}", UAN, options, RANK_2, mode)
        yield Case(f"uan/{posterior}-rank4-{mode}", UAN, options, RANK_4, mode)
        yield Case(f"uan/{posterior}-one-component-{mode}", UAN, {**options, "num_components": 1}, RANK_3, mode)
        more = {**options, "eps": 0.0625, "momentum": 0.75}
        yield Case(f"uan/{posterior}-eps-momentum-{mode}", UAN, more, RANK_3, mode)


def _mixture_norm() -> Iterator[Case]:
    for posterior in ("joint", "channel"):
        options = {"num_features": 2, "num_components": 3, "posterior": posterior}
        for mode in MODES:
            yield Case(f"mixture_norm/{posterior}-affine-{mode}", MixtureNorm, options, RANK_3, mode)
            plain = {**options, "affine": False}
            yield Case(f"mixture_norm/{posterior}-plain-{mode}", MixtureNorm, plain, RANK_3, mode)
            yield Case(f"mixture_norm/{posterior}-rank2-{mode}", MixtureNorm, options, (20, 2), mode)
            one = {**options, "num_components": 1}
            yield Case(f"mixture_norm/{posterior}-one-component-{mode}", MixtureNorm, one, RANK_3, mode)
            more = {**options, "em_steps": 5, "eps": 0.0625, "momentum": 0.75}
            yield Case(f"mixture_norm/{posterior}-em5-eps-momentum-{mode}", MixtureNorm, more, RANK_3, mode)
        first = f"mixture_norm/{posterior}-first-batch-train"
        yield Case(first, MixtureNorm, options, RANK_3, "train", first_batch=True)


def _mode_norm() -> Iterator[Case]:
    options: dict[str, Any] = {"num_features": 2, "num_modes": 3}
    for mode in MODES:
        yield Case(f"mode_norm/affine-{mode}", ModeNorm, options, RANK_3, mode)
        yield Case(f"mode_norm/plain-{mode}", ModeNorm, {**options, "affine": False}, RANK_3, mode)
        yield Case(f"mode_norm/rank2-{mode}", ModeNorm, options, RANK_2, mode)
        yield Case(f"mode_norm/rank4-{mode}", ModeNorm, options, RANK_4, mode)
        yield Case(f"mode_norm/one-mode-{mode}", ModeNorm, {**options, "num_modes": 1}, RANK_3, mode)
        more = {**options, "eps": 0.0625, "momentum": 0.75}
        yield Case(f"mode_norm/eps-momentum-{mode}", ModeNorm, more, RANK_3, mode)


def _uan_public() -> Iterator[Case]:
    options: dict[str, Any] = {"num_features": 2, "num_components": 3}
    for mode in MODES:
        yield Case(f"uan_public/rank2-{mode}", UANPublic, options, RANK_2, mode)
        yield Case(f"uan_public/rank3-{mode}", UANPublic, options, RANK_3, mode)
        yield Case(f"uan_public/rank4-{mode}", UANPublic, options, RANK_4, mode)
        yield Case(f"uan_public/one-component-{mode}", UANPublic, {**options, "num_components": 1}, RANK_3, mode)
        more = {**options, "eps": 0.0625, "momentum": 0.25}
        yield Case(f"uan_public/eps-momentum-{mode}", UANPublic, more, RANK_3, mode)


# --- what a case holds ----------------------------------------------------------------------------


def compute(case: Case) -> dict[str, Array]:
    """Return a case's arrays by the names that the README explains; the same at every call."""
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
        with arrays.inference():
            for _ in range(2):
                layer.forward(0.4 + 1.5 * draw.standard_normal((32, *case.shape[1:])))
    state = {name: _on_grid(value) for name, value in layer.state_dict().items()}
    if "prior" in state:  # shares still sum to 1: the last component takes what rounding left
        state["prior"][-1] = 1.0 - state["prior"][:-1].sum(axis=0)
    return state


def _on_grid(value: Array) -> Array:
    """Round to multiples of :data:`GRID`; flags stay."""
    return value if value.dtype.kind == "b" else np.round(value / GRID) * GRID


# --- the files ------------------------------------------------------------------------------------


def write(folder: Path, force: bool = False) -> int:
    """Write all cases, their list ``cases.json`` and ``README.md``; a folder appears whole or not at all.

    Args:
        folder: created with those above it. Into one that exists, each file comes whole; other files stay.
        force: accept a folder that is not empty and overwrite the files of the same names.

    Returns:
        The number of cases.

    Raises:
        FileExistsError: ``folder`` is a file, or is not empty and ``force`` is not set.
        OSError: it cannot be created or written.
    """
    what = f"--out {folder}"
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{what} is a file: name a folder")
    existed = folder.is_dir()
    if existed and not force and any(folder.iterdir()):
        raise FileExistsError(f"{what} is not empty: name another folder or add --force")
    parents = [path for path in folder.parents if not path.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work = folder if existed else folder.parent  # the same file system, so that a rename is enough
        files.probe(work, what)
        temporary = work / f".vectors.{os.getpid()}.tmp"
        try:
            written = _write_into(temporary)
            if existed:
                for path in written:
                    target = folder / path.relative_to(temporary)
                    target.parent.mkdir(exist_ok=True)
                    os.replace(path, target)
            else:
                os.rename(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        if error.strerror is None:  # our own sentences
            raise
        raise OSError(f"{what} cannot be written ({error.strerror}): name another place") from None
    finally:
        for path in parents:  # innermost first; a folder that holds something stays
            with contextlib.suppress(OSError):
                path.rmdir()
    return len(cases())


def _write_into(folder: Path) -> list[Path]:
    """Write everything into a new folder and return the files, the list of cases last."""
    written = []
    for case in cases():
        path = folder / case.name
        path.parent.mkdir(parents=True, exist_ok=True)
        found = compute(case)
        for suffix, content in ((".npz", npz_bytes(found)), (".json", json_bytes(case, found))):
            written.append(path.with_name(path.name + suffix))
            written[-1].write_bytes(content)
    for name, content in (("README.md", readme_bytes()), ("cases.json", list_bytes())):
        written.append(folder / name)
        written[-1].write_bytes(content)
    return written


def npz_bytes(found: dict[str, Array]) -> bytes:
    """Return a ``.npz`` archive: little-endian, deflated, no pickle, no time of day."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, value in found.items():
            member = io.BytesIO()
            little_endian = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<")).reshape(value.shape)
            np.lib.format.write_array(member, little_endian, version=(1, 0), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # the same on every system
            archive.writestr(entry, member.getvalue(), zipfile.ZIP_DEFLATED, 9)
    return buffer.getvalue()


def json_bytes(case: Case, found: dict[str, Array]) -> bytes:
    """Return a case as JSON, an array a line; every number reads back to the bit.

    Raises:
        ValueError: NaN or infinity, which JSON lacks.
    """
    head = {
        "name": case.name,
        "norm": case.norm.__name__,
        "options": case.all_options(),
        "mode": case.mode,
        "first_batch": case.first_batch,
    }
    lines = [f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items()]
    listed = [f"  {json.dumps(name)}: {json.dumps(_numbers(value), allow_nan=False)}" for name, value in found.items()]
    return ("{\n" + "".join(lines) + ' "arrays": {\n' + ",\n".join(listed) + "\n }\n}\n").encode()


def _numbers(value: Array) -> Any:
    """Return nested lists; a float32 number with the fewest digits that tell it from its neighbours."""
    if value.dtype == np.float32:
        shortest = np.array([float(str(entry)) for entry in value.ravel()])
        return shortest.reshape(value.shape).tolist()
    return value.tolist()


def list_bytes() -> bytes:
    """Return ``cases.json``: version and tolerances, then a case a line."""
    listed = [
        json.dumps(
            {
                "name": case.name,
                "norm": case.norm.__name__,
                "options": case.all_options(),
                "mode": case.mode,
                "first_batch": case.first_batch,
                "shape": case.shape,
            }
        )
        for case in cases()
    ]
    head = f' "uanref": {json.dumps(__version__)},\n "tolerance": {json.dumps(TOLERANCE)},\n'
    return ("{\n" + head + ' "cases": [\n  ' + ",\n  ".join(listed) + "\n ]\n}\n").encode()


def readme_bytes() -> bytes:
    """Return the README with the numbers of cases and tolerances filled in."""
    counts: dict[str, int] = {}
    for case in cases():
        counts[case.name.split("/")[0]] = counts.get(case.name.split("/")[0], 0) + 1
    folders = ", ".join(f"`{name}/` ({number})" for name, number in counts.items())
    filled = {
        "VERSION": __version__,
        "COUNT": str(len(cases())),
        "FOLDERS": folders,
        "TOLERANCE64": f"{TOLERANCE['float64']:.0e}",
        "TOLERANCE32": f"{TOLERANCE['float32']:.0e}",
    }
    text = README
    for name, value in filled.items():
        text = text.replace(f"@{name}@", value)
    return text.encode()


README = r"""# Test vectors for normalization layers

Written by `uanref vectors` (uanref @VERSION@). Each case is one call of a layer: input, state, output, gradients,
in float64 and float32. They are for whoever ports a layer to another framework or language: feed a case's input to
the port, compare what comes out.

There are @COUNT@ cases: @FOLDERS@. `cases.json` lists them with all
options. Each case is there twice, with the same arrays: `NAME.npz` for NumPy, `NAME.json` for everyone else.

## What a case holds

| name | what | shape |
|---|---|---|
| `x` | input | `(N, C, ...)` |
| `dy` | upstream gradient, dL/dy, random | as `x` |
| `before/NAME` | every parameter and buffer before the call | see below |
| `float64/y` | output | as `x` |
| `float64/dx` | dL/dx | as `x` |
| `float64/grad/NAME` | dL/dNAME, for every trained parameter | as `before/NAME` |
| `float64/after/NAME` | every parameter and buffer that the forward pass *changed* | as `before/NAME` |
| `float64/fit/NAME` | `MixtureNorm` in train mode: `prior`, `mean`, `variance` fitted to `x` | as `before/NAME` |
| `float32/...` | the same, computed in float32 | |

L is the scalar `sum(y * dy)`. What is not in `after` stays as it was, to the bit; in eval mode nothing changes.
The state after the call is therefore `before`, overwritten by `after`.

`x`, `dy` and `before` are stored in float64 and serve both dtypes: all are multiples of 1/64, so that a conversion
to float32 changes none. The float64 results are thus the exact answer (to rounding) for the float32 results too.
In JSON the arrays are nested lists in row-major order, a float32 number has the fewest digits that read back to it, and
`options` holds every option of the layer, `first_batch` tells whether the layer has seen a batch before.

## Conventions

- Layout: channels on axis 1, any rank >= 2: `(N, C)`, `(N, C, L)`, `(N, C, H, W)`. Move the axis if yours are last.
  S is the product of the spatial sizes (1 at rank 2), M = N S the samples per channel, K the components.
- Statistics are biased, divided by their number of samples. One exception: `BatchNorm` stores the *unbiased*
  variance M/(M-1) v in `running_var`, as PyTorch does. All others store the biased one.
- `eps` is added to a variance, inside the root: `sqrt(v + eps)`.
- `momentum` is the weight of the *new* value: `running = (1 - momentum) * running + momentum * new`. Keras and
  TensorFlow weigh the *old* one: theirs is 1 minus this. One exception here: `UANPublic`, as the layer that it
  reproduces.
- The forward pass uses the state as it was before it moves it.
- `gamma` and `beta`, `(C,)`, act last: `y = gamma * (...) + beta`. With `affine` false there are none.
- Backward goes through the batch's statistics where y was computed with them. Running statistics are constants.

## The layers

`BatchNorm`: `running_mean`, `running_var` `(C,)`. Train mode normalizes by the batch, eval mode by these.

`LayerNorm` over all axes but 0; `GroupNorm` over groups of C / `num_groups` neighbouring channels and space;
`InstanceNorm` over space; each per sample. Same function in both modes, no buffers. `gamma`, `beta` per channel,
also in `LayerNorm` (PyTorch's has one per element; its `GroupNorm(1, C)` is this one).

`UAN`: `prior_logits` a `(K, C)`, or `(K, 1)` if `posterior` is `joint`; `mean` mu, `raw_variance` s `(K, C)`;
`running_mean`, `running_var` `(K, C)` if `statistics` is `batch`.

    lambda = softmax_k(a)        sigma2 = log(1 + exp(s))        q = sigma2 + eps
    l_k    = log lambda_k - log(q_k) / 2 - (x - mu_k)^2 / (2 q_k)
    tau_k  = softmax_k(l_k)
    m_k    = sum(tau_k x) / sum(tau_k)        v_k = sum(tau_k (x - m_k)^2) / sum(tau_k)        over the M samples
    y      = gamma * rho * sum_k tau_k / sqrt(lambda_k) * (x - m_k) / sqrt(v_k + eps) + beta
    rho    = 1 / sqrt(K) with rescale, else 1

If `posterior` is `joint`, l_k = log lambda_k + the sum over channels of its other two terms: one tau_k per position.
Every softmax runs over k, with the maximum taken out first. A component to which no sample belongs (sum(tau_k) below
the smallest normal number) adds nothing and keeps its running moments; none of these cases has one.

With `statistics` = `batch` m, v are as above in train mode and the running ones in eval mode; with `learned` they
are mu and sigma2 in both. With `update` = `em` the mixture has no gradient: it is state, and every training forward
moves, after y, lambda toward sum(tau_k) / sum over k of the same (floored at 1e-6, then normalized to sum 1), mu
toward m_k, sigma2 toward v_k, by `momentum`; then `prior_logits` = log lambda, `raw_variance` = log(exp(sigma2) - 1)
with sigma2 floored at eps. With `start` = `data` and `initialized` false, a training forward first sets mean =
channel mean + 0.3 * channel deviation * `start_jitter` and sigma2 = channel variance (biased), and `initialized` is
true from then on; `grad` is the gradient at these new values. `start` = `paper` draws random numbers at construction:
nothing to port but the ranges, mean U(-1, 1), raw variance U(0.001, 0.01), prior logits 0.

`MixtureNorm`: UAN's transform with rescale and batch statistics, for a mixture fitted to each training batch:
`em_steps` times E step and M step (all of lambda, mu, sigma2 replaced, the prior floored as above) from `prior`
(lambda itself), `mean`, `variance`. The fit is a constant for the gradient. Afterwards `prior`, `mean`, `variance` move
toward the fit, `running_mean`, `running_var` toward the m, v that y used. In eval mode all five are used as they are.
On the first batch (`initialized` false) EM starts from k-means++ on the channels divided by their deviation, with the
uniform numbers in `seed_draws`, and the fit is taken whole (momentum 1) into `prior`, `mean`, `variance`: a port may
take `fit` from the file there.

`ModeNorm`: `gate_weight` W `(K, C)`, `gate_bias` b `(K,)`, `running_mean`, `running_var` `(K, C)`.

    g_n = softmax_k(W mean_s(x_n) + b)        mu_k = sum_n g_nk mean_s(x_n) / sum_n g_nk
    v_k = sum_n g_nk mean_s((x_n - mu_k)^2) / sum_n g_nk        mean_s: over space
    y_n = gamma * sum_k g_nk (x_n - mu_k) / sqrt(v_k + eps) + beta

`UANPublic`: what the UAN authors' public code computes, a study object that does not normalize. `mean`, raw
`variance` `(K, C)`, `prior` `(K, 1)`; the gradient of `prior` is 0. The training forward moves all three (`after`),
`momentum` weighing the old value, and `grad` is taken at the values before. The docstring of
`uanref.norms.uan_public.UANPublic` has the equations.

## How close is close enough

Let `scale` be the largest absolute entry of the expected array, but at least 1. A right port stays within

- float64: `abs(found - expected) <= @TOLERANCE64@ * scale`
- float32: `abs(found - expected) <= @TOLERANCE32@ * scale`, against the float32 or the float64 results.

Bits differ between ports, processors and library versions; only the same versions on the same processor write the same
files again. Some gradients are 0 but for rounding, such as that of `prior_logits` at K = 1: hence the least scale.

## How to read them

With NumPy (`allow_pickle` stays off):

```python
import json
import numpy as np

tolerance = {"float64": @TOLERANCE64@, "float32": @TOLERANCE32@}
for case in json.load(open("cases.json"))["cases"]:
    if case["norm"] != "BatchNorm" or case["mode"] != "eval" or not case["options"]["affine"]:
        continue
    with np.load(case["name"] + ".npz") as arrays:
        for dtype in ("float64", "float32"):
            x = arrays["x"].astype(dtype)
            gamma, beta, mean, var = (
                arrays["before/" + name].astype(dtype).reshape([-1] + [1] * (x.ndim - 2))
                for name in ("gamma", "beta", "running_mean", "running_var")
            )
            y = gamma * (x - mean) / np.sqrt(var + case["options"]["eps"]) + beta  # your port goes here
            expected = arrays[dtype + "/y"]
            assert abs(y - expected).max() <= tolerance[dtype] * max(1, abs(expected).max()), case["name"]
            print("ok", case["name"], dtype)
```

Elsewhere: parse `NAME.json` and take `arrays["float32/y"]` and so on as nested lists. An `.npz` file is a ZIP archive
(deflated) with a `.npy` file per array: little-endian, C order, `<f8`, `<f4`, and `|b1` for the flags.
"""
