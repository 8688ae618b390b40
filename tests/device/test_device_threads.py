"""What a device leaves open must not matter: the order of threads, and what lies outside of an array."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import cupysim, turns
from support.devices import Device

from uanref import backend
from uanref.verify.catalogue import Case, cases
from uanref.verify.outputs import difference, outputs

CASES = cases()


def run(case: Case, dtype: str) -> dict[str, np.ndarray]:
    x = np.random.default_rng(3).standard_normal(case.shape).astype(dtype)
    return outputs(case.make().to(dtype).to("cupy"), backend.to_device(x, "cupy"), seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_order_of_threads_changes_no_bit(case: Case, emulated: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    scattered = []
    scatter_add = backend.scatter_add
    monkeypatch.setattr(backend, "scatter_add", lambda *args: scattered.append(1) or scatter_add(*args))
    for plain in (False, True):
        with backend.plain(plain):
            expected = run(case, "float32")
            with cupysim.threads_reversed():
                found = run(case, "float32")
        # A device adds repeated indices in any order.
        tolerance = 1e-5 if scattered else 0.0
        for name, array in expected.items():
            assert difference(found[name], array) <= tolerance, name


EVERY_CASE = """
import sys
sys.path.insert(0, sys.argv[1])
from support import cupysim, turns
cupysim.install()

import numpy as np
from uanref import backend
from uanref.verify.catalogue import Case, cases
from uanref.verify.outputs import difference, outputs

for case in turns.part(cases(), 4):
    for plain in (False, True):
        with backend.plain(plain):
            x = np.random.default_rng(3).standard_normal(case.shape).astype("float32")
            outputs(case.make().to("float32").to("cupy"), backend.to_device(x, "cupy"), seed=1)
print(len(turns.part(cases(), 4)), "cases")
"""


@pytest.mark.slow
def test_no_kernel_leaves_its_arrays(emulated: Device) -> None:
    """Layers, forward and backward, as defined and by versions, under the address sanitizer; a quarter a commit."""
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", EVERY_CASE, str(tests)],
        env=cupysim.sanitized_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.split() == [str(len(turns.part(CASES, 4))), "cases"]
