"""``uanref check --backend cupy``: everything that the device computes, against NumPy in float64.

Each case runs once on the host in float64, as its definition, and up to four times on the device: in float64 and
float32, as its definition and with the faster versions (:mod:`uanref.verify.versions`). All runs start from
numbers that float32 holds exactly, so that only rounding may differ:

- float64: another order of the same sums, at most :data:`FLOAT64` of a tensor's largest entry;
- float32: at most :data:`FLOAT32`, or :data:`SLACK` times what NumPy itself loses in float32 on that case. (Some
  results are small differences of large numbers: dx of a normalization of two samples.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from uanref import backend, kernels
from uanref.backend import Array
from uanref.reasons import named
from uanref.verify.computations import Computation
from uanref.verify.outputs import difference
from uanref.verify.versions import running, wanted

FLOAT64, FLOAT32, SLACK = 1e-10, 1e-4, 10.0

DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class DeviceRow:
    """The outcome of one case.

    Attributes:
        name: the case.
        errors: by dtype and version (``"float32 fast"``), the largest difference from the definition on NumPy in
            float64, in units of the tensor's largest entry; NaN if that run broke off, None where ``"fast"`` met no
            faster version.
        ok: whether it passed.
        details: every tensor's difference; the reason if the case broke off.
    """

    name: str
    errors: dict[str, float | None]
    ok: bool
    details: str


def run(
    selected: Sequence[Computation],
    seed: int = 0,
    finished: Callable[[str], None] = lambda name: None,
    versions: Sequence[str] | None = None,
) -> list[DeviceRow]:
    """Compare the device with the host.

    Args:
        selected: of :func:`uanref.verify.computations.computations`.
        seed: of inputs and upstream gradients.
        finished: called with the name of every case that is done.
        versions: ``"definition"``, ``"fast"`` or both, see :mod:`uanref.verify.versions`.

    Returns:
        One row per case. A case that raises is a row that failed.

    Raises:
        ValueError: an unknown version.
        BackendUnavailable: CuPy cannot run here.
    """
    found = wanted(versions)
    backend.require("cupy")
    rows = []
    for case in selected:
        rows.append(_outcome(case, seed, found))
        finished(case.name)
    return rows


def _outcome(case: Computation, seed: int, versions: Sequence[str]) -> DeviceRow:
    labels = [(dtype, version, f"{dtype} {version}") for dtype in DTYPES for version in versions]
    errors: dict[str, float | None] = {label: float("nan") for *_, label in labels}
    lines: list[str] = []
    try:
        with backend.plain():
            expected = case.compute("numpy", "float64", seed)
            lost = _worst(_differences(case.compute("numpy", "float32", seed), expected))
    except Exception as error:
        return DeviceRow(case.name, errors, False, f"{case.name} on the host: {_named(error)}")
    for dtype, version, label in labels:
        allowed = FLOAT64 if dtype == "float64" else max(FLOAT32, SLACK * lost)
        try:
            with running(version), kernels.watched() as served:
                differences = _differences(case.compute("cupy", dtype, seed), expected)
        except Exception as error:  # one broken case must not hide the others
            lines.append(f"{label}: {_named(error)}")
            continue
        errors[label] = _worst(differences) if version == "definition" or served else None
        if not _worst(differences) <= allowed:  # also where it is NaN
            listing = ", ".join(f"{name} {error:.2e}" for name, error in differences.items())
            lines.append(f"{label}: more than {allowed:.0e} apart: {listing}")
    return DeviceRow(case.name, errors, not lines, "\n  ".join([f"{case.name}:", *lines]))


def _differences(found: dict[str, Array], expected: dict[str, Array]) -> dict[str, float]:
    if found.keys() != expected.keys():
        raise KeyError(f"results {sorted(found)} instead of {sorted(expected)}")
    return {name: difference(found[name], expected[name]) for name in expected}


def _worst(differences: dict[str, float]) -> float:
    return float(np.max(list(differences.values())))  # NaN if any is


def _named(error: Exception) -> str:
    return named(error, 500)
