"""Fused CUDA kernels: what a device runs in the place of many small array operations.

Each kernel's source is a ``.cu`` file beside the Python module that launches it, and that module also holds the
``reference``: the same function in plain array code, which the tests compare with. Layers choose by
:func:`serves`, so that on the host, under ``backend.fused(False)`` and in complex-step checks the array code of
the layer runs.

Two rules hold for all of them. Sums are taken in two stages, per block and then over the blocks, always in the same
order and without atomic additions: the same input gives the same bits. And nothing waits for the device.
"""

from __future__ import annotations

from uanref.kernels.launch import serves

__all__ = ["serves"]
