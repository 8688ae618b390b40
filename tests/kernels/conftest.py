"""A device that runs CUDA, and both settings of what runs there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.devices import Device

from uanref import backend


@pytest.fixture
def cuda(accelerator: Device) -> Device:
    """The emulated or a real one."""
    if not accelerator.has_kernels:
        pytest.skip("the strict double runs no kernels")
    return accelerator


@pytest.fixture(params=[False, True], ids=["fast", "plain"])
def plain(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Run the test with faster versions, then with the definitions alone.

    What holds for faster versions alone a test's module lists as ``BEYOND_THE_DEFINITIONS``: it is skipped there.
    """
    enabled: bool = request.param
    with backend.plain(enabled):
        yield enabled
