"""What the tests of the derivations share: inputs that they draw, and the layers that compute the same."""

from __future__ import annotations

import pydoc
from collections.abc import Callable

import numpy as np
from hypothesis import strategies as st

from uanref.derivations import DERIVATIONS, Derivation, Trace
from uanref.layers.base import Layer, Parameter
from uanref.norms import mixture_constraints, mixture_weights

TOLERANCE = 1e-6  # of every node's proof
PROVEN = [derivation for derivation in DERIVATIONS if not derivation.forward_only]

# Below these sizes a statistic is taken over one number, or is no statistic: var = 0 for a single sample.
LEAST = {"bn": {"m": 3}, "layer-norm": {"c": 2, "s": 2}, "uan": {"m": 5}, "uan-shared": {"m": 5}}
MOST = {"uan": {"m": 8}, "uan-shared": {"m": 8}}
# A root's numerical derivative needs a variance that is large next to the step, so next to the other variances too.
VARIANCE = {"bn": "var", "layer-norm": "var", "uan": "moment_variance", "uan-shared": "moment_variance"}

Inputs = dict[str, np.ndarray]


def name_of(derivation: Derivation) -> str:
    """Its name, as a test's id."""
    return derivation.name


@st.composite
def examples(draw: st.DrawFn, derivation: Derivation) -> tuple[Inputs, int]:
    """Inputs of drawn sizes, and the seed that they and the upstream gradient come from."""
    least, most = LEAST.get(derivation.name, {}), MOST.get(derivation.name, {})
    sizes = {axis: draw(st.integers(least.get(axis, 1), most.get(axis, 4))) for axis in derivation.sizes}
    for image, kernel in (("h", "u"), ("k", "v")):
        if image in sizes and kernel in sizes:
            sizes[kernel] = min(sizes[kernel], sizes[image])
    seed = draw(st.integers(0, 2**16))
    while not _well_conditioned(derivation, inputs := derivation.example(seed, **sizes)):
        seed += 1
    return inputs, seed


def _well_conditioned(derivation: Derivation, inputs: Inputs) -> bool:
    if derivation.name not in VARIANCE:
        return True
    variance = derivation.trace(inputs, numerical=False)[VARIANCE[derivation.name]].value
    return bool(variance.min() > 0.2 * max(1.0, variance.max()))


def terms(trace: Trace, name: str) -> float:
    """The largest entry of what a value's gradient adds up: rounding is relative to it."""
    node = trace[name]
    return max(float(np.abs(part).max()) for part in (node.gradient, *node.contributions.values()))


# --- the layers -------------------------------------------------------------------------------------


def compact(derivation: Derivation, inputs: Inputs, upstream: np.ndarray) -> tuple[np.ndarray, Inputs]:
    """Return the output and the inputs' gradients as the layer named in ``derivation.layer`` computes them."""
    layer = pydoc.locate(derivation.layer)
    assert layer is not None, derivation.layer
    return COMPACT[derivation.name](layer, inputs, upstream)


def _run(layer: Layer, inputs: Inputs, upstream: np.ndarray, parameters: dict[str, str]) -> tuple[np.ndarray, Inputs]:
    """Give a layer its parameters (the layer's name by ours), run it both ways."""
    for ours, theirs in parameters.items():
        layer.parameters()[theirs].value = inputs[ours].copy()
    y = layer.forward(inputs["x"])
    gradients = {"x": layer.backward(upstream)}
    return y, gradients | {ours: layer.parameters()[theirs].grad for ours, theirs in parameters.items()}


AFFINE = {"gamma": "gamma", "beta": "beta"}
MIXTURE = {"prior_logits": "prior_logits", "mean": "mean", "raw_variance": "raw_variance"}


def _linear(layer, inputs, upstream):
    outputs, features = inputs["w"].shape
    return _run(layer(features, outputs, dtype="float64"), inputs, upstream, {"w": "weight", "b": "bias"})


def _conv(layer, inputs, upstream):
    outputs, channels, *kernel = inputs["w"].shape
    conv = layer(channels, outputs, tuple(kernel), dtype="float64")
    return _run(conv, inputs, upstream, {"w": "weight", "b": "bias"})


def _relu(layer, inputs, upstream):
    return _run(layer(), inputs, upstream, {})


def _softmax_cross_entropy(layer, inputs, upstream):
    loss = layer()
    return loss.forward(inputs["z"], inputs["t"]), {"z": loss.backward() * upstream}


def _norm(layer, inputs, upstream):
    norm = layer(inputs["x"].shape[1], eps=float(inputs["eps"]), dtype="float64")
    return _run(norm, inputs, upstream, AFFINE)


def _batch_norm_eval(layer, inputs, upstream):
    norm = layer(inputs["x"].shape[1], eps=float(inputs["eps"]), dtype="float64")
    norm.running_mean, norm.running_var = inputs["mu"].copy(), inputs["var"].copy()
    return _run(norm.eval(), inputs, upstream, AFFINE)


def _posterior(layer, inputs, upstream):
    log_prior = mixture_constraints.log_softmax(inputs["prior_logits"])
    variance = mixture_constraints.softplus(inputs["raw_variance"]) + inputs["eps"]
    rows = inputs["x"][:, :, None]  # (N, C, S = 1)
    mixture = mixture_weights.Mixture(log_prior, inputs["mean"], variance)
    tau = layer(rows, mixture)[..., 0]
    dx, dlog_prior, dmean, dvariance = mixture_weights.posterior_backward(upstream[..., None], rows, mixture)
    return tau, {
        "x": dx[..., 0],
        "prior_logits": mixture_constraints.log_softmax_backward(dlog_prior, log_prior),
        "mean": dmean,
        "raw_variance": mixture_constraints.softplus_backward(dvariance, inputs["raw_variance"]),
    }


def _uan(statistics):
    def run(layer, inputs, upstream):
        components, channels = inputs["mean"].shape
        norm = layer(channels, components, statistics=statistics, eps=float(inputs["eps"]), dtype="float64")
        return _run(norm, inputs, upstream, AFFINE | MIXTURE)

    return run


def _uan_shared(layer, inputs, upstream):
    components, channels = inputs["mean"].shape
    norm = layer(channels, components, prior="shared", eps=float(inputs["eps"]), dtype="float64")
    logits = inputs["prior_logits"]
    y, gradients = _run(norm, inputs | {"prior_logits": logits[:, None]}, upstream, AFFINE | MIXTURE)
    return y, gradients | {"prior_logits": gradients["prior_logits"][:, 0]}


def _adam(layer, inputs, upstream):
    parameter = Parameter(inputs["theta"].copy())
    parameter.grad = inputs["g"].copy()
    adam = layer({"p": parameter}, betas=(float(inputs["beta1"]), float(inputs["beta2"])), eps=float(inputs["eps"]))
    adam.load_state_dict(
        {
            "step": np.asarray(int(inputs["t"]) - 1),
            "lr": inputs["alpha"],
            "first_moment.p": inputs["m"].copy(),
            "second_moment.p": inputs["v"].copy(),
        }
    )
    adam.step()
    return parameter.value, {}


COMPACT: dict[str, Callable[..., tuple[np.ndarray, Inputs]]] = {
    "linear": _linear,
    "conv": _conv,
    "relu": _relu,
    "softmax-cross-entropy": _softmax_cross_entropy,
    "bn": _norm,
    "bn-eval": _batch_norm_eval,
    "layer-norm": _norm,
    "posterior": _posterior,
    "uan": _uan("batch"),
    "uan-learned": _uan("learned"),
    "uan-shared": _uan_shared,
    "adam": _adam,
}
