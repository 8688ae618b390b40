"""PyTorch's counterpart of :mod:`support.oracle_ours`: the same cases, through its functions and its autograd."""

from __future__ import annotations

from typing import Any

import numpy as np

from support.requirements import require_torch

Arrays = dict[str, np.ndarray]


def run(kind: str, options: dict[str, Any], inputs: Arrays) -> Arrays:
    """Return what PyTorch computes for the case, in the inputs' dtype. Cases: see ``oracle_ours``."""
    torch = require_torch()
    if kind == "SoftmaxCrossEntropy":
        logits = torch.tensor(inputs["logits"], requires_grad=True)
        loss = torch.nn.functional.cross_entropy(logits, torch.tensor(inputs["targets"]), **options)
        loss.backward()
        return {"loss": loss.detach().numpy(), "dlogits": logits.grad.numpy()}
    if kind in ("SGD", "Adam", "AdamW"):
        return optimize(getattr(torch.optim, kind), options, inputs)

    buffers = ("running_mean", "running_var")
    tensors = {name: torch.tensor(a.copy(), requires_grad=name not in ("dy", *buffers)) for name, a in inputs.items()}
    y = forward(kind, options, tensors)
    y.backward(tensors["dy"])
    outputs = {"y": y.detach().numpy()}
    for name, tensor in tensors.items():
        if tensor.requires_grad:
            outputs["dx" if name == "x" else f"{name}.grad"] = tensor.grad.numpy()
        elif name in buffers:
            outputs[f"{name}.after"] = tensor.numpy()
    return outputs


def forward(kind: str, options: dict[str, Any], t: dict[str, Any]) -> Any:
    """Return the layer's output under autograd; ``t`` holds the case's inputs as tensors."""
    functional = require_torch().nn.functional
    x, gamma, beta, eps = t["x"], t.get("gamma"), t.get("beta"), options.get("eps", 1e-5)
    if kind == "BatchNorm":
        running, momentum = (t["running_mean"], t["running_var"]), options.get("momentum", 0.1)
        return functional.batch_norm(x, *running, gamma, beta, options.get("training", True), momentum, eps)
    if kind == "LayerNorm":
        if options["form"] == "group_norm":  # whose gamma and beta have one entry per channel, as ours have
            return functional.group_norm(x, 1, gamma, beta, eps)
        if gamma is None or x.ndim == 2:
            return functional.layer_norm(x, x.shape[1:], gamma, beta, eps)
        column = (-1,) + (1,) * (x.ndim - 2)  # its own gamma and beta have one entry per number of a sample
        every = [p.reshape(column).expand(x.shape[1:]) for p in (gamma, beta)]
        return functional.layer_norm(x, x.shape[1:], *every, eps)
    if kind == "GroupNorm":
        return functional.group_norm(x, options["num_groups"], gamma, beta, eps)
    if kind == "InstanceNorm":
        return functional.instance_norm(x, weight=gamma, bias=beta, use_input_stats=True, eps=eps)
    if kind == "Conv2d":
        return functional.conv2d(x, t["weight"], t.get("bias"), **options)
    if kind == "MaxPool2d":
        return functional.max_pool2d(x, **options)
    if kind == "AvgPool2d":
        return functional.avg_pool2d(x, **options)
    if kind == "GlobalAvgPool2d":
        return functional.adaptive_avg_pool2d(x, 1).flatten(1)
    if kind == "GELU":
        return functional.gelu(x)
    raise ValueError(f"no oracle for {kind!r}")


def optimize(make: Any, options: dict[str, Any], inputs: Arrays) -> Arrays:
    """Step through the gradients on axis 0 and record every parameter's path."""
    torch = require_torch()
    names = [name for name in inputs if not name.endswith(".grad")]
    parameters = {name: torch.nn.Parameter(torch.tensor(inputs[name])) for name in names}
    optimizer = make(parameters.values(), **options)
    path: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for step in range(len(inputs[f"{names[0]}.grad"])):
        for name, parameter in parameters.items():
            parameter.grad = torch.tensor(inputs[f"{name}.grad"][step])
        optimizer.step()
        for name, parameter in parameters.items():
            path[name].append(parameter.detach().numpy().copy())
    return {f"{name}.path": np.stack(values) for name, values in path.items()}
