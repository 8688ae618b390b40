"""Faster versions in array code: blocks, threads, buffers. See :mod:`uanref.kernels`."""
