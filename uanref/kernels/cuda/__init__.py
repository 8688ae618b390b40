"""Faster versions in CUDA: a source (``.cu``), and a file that launches it under its definition's name.

Two rules hold for all kernels. Sums are taken in two stages, per block and then over the blocks, always in the same
order and without atomic additions: the same input gives the same bits. And nothing waits for the device.
"""
