"""The files of the vectors as bytes: a case as ``.npz`` and ``.json``, their list, the README.

The same versions on the same machine make the same bytes: nothing depends on the time or the folder.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uanref import __version__
from uanref.backend import Array
from uanref.verify.vectors.case import Case

TOLERANCE = {"float64": 1e-12, "float32": 3e-5}
"""A port that adds in another order stays within these, relative to an array's largest entry (or to 1, if that is
smaller): ten times the largest distance between these float32 and float64 results, a hundred times that between the
float64 results and a plain re-computation."""


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


def list_bytes(cases: Sequence[Case]) -> bytes:
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
        for case in cases
    ]
    head = f' "uanref": {json.dumps(__version__)},\n "tolerance": {json.dumps(TOLERANCE)},\n'
    return ("{\n" + head + ' "cases": [\n  ' + ",\n  ".join(listed) + "\n ]\n}\n").encode()


def readme_bytes(cases: Sequence[Case]) -> bytes:
    """Return ``readme.md`` with the numbers of cases and tolerances filled in."""
    counts: dict[str, int] = {}
    for case in cases:
        counts[case.name.split("/")[0]] = counts.get(case.name.split("/")[0], 0) + 1
    folders = ", ".join(f"`{name}/` ({number})" for name, number in counts.items())
    filled = {
        "VERSION": __version__,
        "COUNT": str(len(cases)),
        "FOLDERS": folders,
        "TOLERANCE64": f"{TOLERANCE['float64']:.0e}",
        "TOLERANCE32": f"{TOLERANCE['float32']:.0e}",
    }
    text = Path(__file__).with_name("readme.md").read_text(encoding="utf-8")
    for name, value in filled.items():
        text = text.replace(f"@{name}@", value)
    return text.encode()
