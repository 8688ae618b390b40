"""Convolution, forward and backward, beside PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np

from uanref import backend
from uanref.bench.peer import leaf, torch_beside
from uanref.bench.timing import Contest


def conv2d(shape: tuple[int, int, int, int], out_channels: int, backend_name: str = "numpy") -> Contest:
    """A 3 x 3 convolution with padding 1, float32, of an input of ``shape`` (N, C, H, W).

    Each contestant returns (y, dx, dweight, dbias).
    """
    from uanref.layers.conv import Conv2d

    draw = np.random.default_rng(0)
    x = draw.standard_normal(shape).astype("float32")
    dy = draw.standard_normal((shape[0], out_channels, *shape[2:])).astype("float32")
    with backend.using(backend_name):
        layer = Conv2d(shape[1], out_channels, 3, padding=1)
        x_ours, dy_ours = backend.to_device(x), backend.to_device(dy)

    def ours() -> tuple[Any, ...]:
        y = layer.forward(x_ours)
        dx = layer.backward(dy_ours)
        return (y, dx, *(p.grad for p in layer.parameters().values()))

    torch, note = torch_beside(backend_name)
    if torch is None:
        return Contest(ours, None, "torch", note)
    x_peer, dy_peer = leaf(torch, x), torch.from_numpy(dy)
    weights = [leaf(torch, backend.to_host(p.value)) for p in layer.parameters().values()]

    def peer() -> tuple[Any, ...]:
        y = torch.nn.functional.conv2d(x_peer, *weights, padding=1)
        return (y.detach(), *torch.autograd.grad(y, [x_peer, *weights], dy_peer))

    return Contest(ours, peer, "torch")
