"""What an optional check needs. Where it is missing the test is skipped with the reason; on CI it fails."""

from __future__ import annotations

import importlib
import os
from typing import Any, NoReturn

import pytest

from support import nvrtc


def require_cupy() -> Any:
    """Return the installed CuPy; no GPU and no driver is needed for the checks that use it."""
    return require("cupy", extra="emulate")


def require_torch() -> Any:
    """Return the installed PyTorch, the independent oracle."""
    return require("torch", extra="oracle")


def require_nvrtc() -> None:
    """Skip (on CI: fail) where NVIDIA's run-time compiler is missing; it needs neither a GPU nor a driver."""
    if reason := nvrtc.missing():
        skip(reason)


def require(module: str, extra: str) -> Any:
    """Return ``module``, or skip (on CI: fail) naming the extra that brings it."""
    try:
        return importlib.import_module(module)
    except Exception as error:  # a broken CuPy raises more than ImportError
        reason = f'{module} cannot be imported ({error}): pip install ".[{extra}]"'
    skip(reason)


def skip(reason: str) -> NoReturn:
    """Skip the running test; on CI it fails."""
    if on_ci():
        pytest.fail(f"on CI this check must run, but {reason}", pytrace=False)
    pytest.skip(reason, allow_module_level=True)  # or the module that needs it as a whole


def on_ci() -> bool:
    """Tell whether this run is a CI run (the variable CI is set to something other than 0 or false)."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")
