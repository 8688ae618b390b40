"""The gradient check is worth what it catches: every mistake planted here must turn it red."""

from __future__ import annotations

import numpy as np
import pytest
from support.arrays import draw_array, shake
from support.heavy import every
from support.mutants import both, outcome

from uanref import gradcheck

pytestmark = pytest.mark.versions("plants in definitions, with versions off, and in versions, with them on")

BN = ["norms.standardize", "norms.batch"]
STANDARDIZE, BATCH = BN
CPU_BN = ["kernels.cpu.batch"]
(CPU_BATCH,) = CPU_BN
UAN = [
    "norms.mixture_constraints",
    "norms.mixture_weights",
    "norms.mixture_moments",
    "norms.mixture_transform",
    "norms.uan",
]
CONSTRAINTS, WEIGHTS, MOMENTS, TRANSFORM, LAYER = UAN
CPU_UAN = ["kernels.cpu.mixture_blocks", "kernels.cpu.mixture_moments", "kernels.cpu.mixture_transform"]
CPU_BLOCKS, _, CPU_TRANSFORM = CPU_UAN

# (module, what stands there, what a slip would write). The names of the mistakes are the test ids; those of the
# definition and of the version are the same mistakes, written for their texts.
BATCH_NORM_MISTAKES = {
    "mean term dropped": (STANDARDIZE, "dx_hat - through_mean - through", "dx_hat - through"),
    "mean term's sign": (STANDARDIZE, "dx_hat - through_mean", "dx_hat + through_mean"),
    "variance term dropped": (STANDARDIZE, " - through_variance)", ")"),
    "variance term's sign": (STANDARDIZE, " - through_variance)", " + through_variance)"),
    "divisor of the mean term": (STANDARDIZE, "= dx_hat.mean(axis=axes, keepdims=True, dtype=wide)", "= dx_hat.sum(axis=axes, keepdims=True) / (x_hat[:, 0].size - 1)"),  # noqa: E501
    "divisor of the variance term": (STANDARDIZE, "(dx_hat * x_hat).mean(axis=axes, keepdims=True, dtype=wide)", "(dx_hat * x_hat).sum(axis=axes, keepdims=True) / (x_hat[:, 0].size - 1)"),  # noqa: E501
    "divisor N instead of M": (STANDARDIZE, "= dx_hat.mean(axis=axes, keepdims=True, dtype=wide)", "= dx_hat.sum(axis=axes, keepdims=True) / len(x_hat)"),  # noqa: E501
    "inverse_std of the variance term dropped": (STANDARDIZE, "through_variance = x_hat * (", "through_variance = x_hat * (variance + eps) ** 0.5 * ("),  # noqa: E501
    "gamma missing in dx": (STANDARDIZE, "return dy if gamma is None else gamma[:, None] * dy, dgamma", "return dy, dgamma"),  # noqa: E501
    "dgamma without inverse_std": (BATCH, "(dy, x_hat, gamma)\n    dx = standardize", "(dy, x - mean[:, None], gamma)\n    dx = standardize"),  # noqa: E501
    "dgamma from x, not x - mean": (BATCH, "(dy, x_hat, gamma)\n    dx = standardize", "(dy, x / (var[:, None] + eps) ** 0.5, gamma)\n    dx = standardize"),  # noqa: E501
    "dgamma and dbeta swapped": (BATCH, "shift(dgamma, dbeta)", "shift(dbeta, dgamma)"),
    "dbeta negated": (BATCH, "shift(dgamma, dbeta)", "shift(dgamma, -dbeta)"),
    "eval formula in train mode": (BATCH, "back = backward if from_batch else backward_fixed", "back = backward_fixed"),
    "train formula in eval mode": (BATCH, "back = backward if from_batch else backward_fixed", "back = backward"),
    "eval without gamma": (BATCH, "dx = dx_hat / ((var", "dx = dy / ((var"),
}  # fmt: skip

CPU_BATCH_NORM_MISTAKES = {
    "mean term dropped": (CPU_BATCH, "out -= through_mean_\n", "pass\n"),
    "mean term's sign": (CPU_BATCH, "out -= through_mean_\n", "out += through_mean_\n"),
    "variance term dropped": (CPU_BATCH, "out += dy_rows[block]\n", "out[...] = dy_rows[block]\n"),
    "variance term's sign": (CPU_BATCH, "inverse_std / -samples", "inverse_std / samples"),
    "divisor of the mean term": (CPU_BATCH, "dbeta / samples", "dbeta / (samples - 1)"),
    "divisor of the variance term": (CPU_BATCH, "inverse_std / -samples", "inverse_std / (1 - samples)"),
    "divisor N instead of M": (CPU_BATCH, "samples, spatial = rows.shape[0] * rows.shape[2]", "samples, spatial = rows.shape[0]"),  # noqa: E501
    "inverse_std of the variance term dropped": (CPU_BATCH, "dgamma * inverse_std / -samples", "dgamma / -samples"),
    "gamma missing in dx": (CPU_BATCH, "for a in (scale, through", "for a in (inverse_std, through"),
    "dgamma without inverse_std": (CPU_BATCH, "mean * dbeta) * inverse_std", "mean * dbeta)"),
    "dgamma from x, not x - mean": (CPU_BATCH, "dgamma - mean * dbeta", "dgamma"),
    "eval formula in train mode": (CPU_BATCH, "if from_batch:", "if False:"),
    "train formula in eval mode": (CPU_BATCH, "if from_batch:", "if True:"),
    "eval without gamma": (CPU_BATCH, "xp.multiply(dy_rows[block], scale_, out=out)", "out[...] = dy_rows[block]"),
}  # fmt: skip

UAN_MISTAKES = {
    # posterior and weights
    "posterior constant": (WEIGHTS, "return tuple(a.astype(x.dtype) for a in (dx, ", "return tuple(0 * a.astype(x.dtype) for a in (dx, "),  # noqa: E501
    "posterior constant in x": (WEIGHTS, "dx = -(dl * u)", "dx = 0 * (dl * u)"),
    "posterior's dx sign": (WEIGHTS, "dx = -(dl * u)", "dx = (dl * u)"),
    "softmax's second term dropped": (WEIGHTS, " - tau / tau.sum(axis=0) * dlog_w.sum(axis=0)", ""),
    "softmax's second term's sign": (WEIGHTS, "dl = dlog_w - tau /", "dl = dlog_w + tau /"),
    "tau taken for w": (WEIGHTS, "tau = w * backend.namespace(x).exp(half_log(log_prior))", "tau = w"),
    "prior gradient dropped": (WEIGHTS, "(dl - 0.5 * dlog_w).sum", "(0.0 * dl - 0.5 * dlog_w).sum"),
    "sqrt(lambda) constant": (WEIGHTS, "(dl - 0.5 * dlog_w).sum", "(dl - 0.0 * dlog_w).sum"),
    "lambda instead of sqrt(lambda)": (WEIGHTS, "(dl - 0.5 * dlog_w).sum", "(dl - 1.0 * dlog_w).sum"),
    "sign of sqrt(lambda)": (WEIGHTS, "(dl - 0.5 * dlog_w).sum", "(dl + 0.5 * dlog_w).sum"),
    "precision missing": (WEIGHTS, "u = (near(x) - mean) / variance", "u = near(x) - mean + 0.0 * variance"),
    "variance's half missing": (WEIGHTS, "dvariance = 0.5 * (", "dvariance = 1.0 * ("),
    "variance's log-determinant dropped": (WEIGHTS, " - dl / variance)", ")"),
    "variance's log-determinant's sign": (WEIGHTS, " - dl / variance)", " + dl / variance)"),
    "variance's square dropped": (WEIGHTS, "(dl * u * u -", "(dl * u -"),
    # weighted moments
    "moments' mean path dropped": (MOMENTS, "((dm + dv * centred) *", "((dv * centred) *"),
    "moments' variance path halved in x": (MOMENTS, "(dm + 2.0 * dv", "(dm + dv"),
    "moments' v_k dropped": (MOMENTS, " - dv * v)", ")"),
    "moments' v_k's sign": (MOMENTS, " - dv * v)", " + dv * v)"),
    "moments' weight dropped in x": (MOMENTS, "dx = (share * (", "dx = (("),
    "moments' weight dropped in log w": (MOMENTS, "dlog_w = share * (", "dlog_w = ("),
    # component normalization
    "moments constant": (TRANSFORM, "if moments.total is not None and moments.alive is not None:", "if False:"),
    "moments' dx dropped": (TRANSFORM, "= dx + dx_moments, ", "= dx, "),
    "moments' dlog w dropped": (TRANSFORM, ", dlog_w + dlog_w_moments\n", ", dlog_w\n"),
    "direct path's inverse_std": (TRANSFORM, " dx = (h * w * i).sum", " dx = (h * w).sum"),
    "direct path dropped": (TRANSFORM, " dx = (h * w * i).sum", " dx = (0.0 * h * w * i).sum"),
    "weights' dx dropped": (TRANSFORM, "found = (dx + dx_weights, ", "found = (dx, "),
    "gamma missing": (TRANSFORM, "else rho * gamma[:, None] * dy", "else rho * dy"),
    "rho missing": (TRANSFORM, "else rho * gamma[:, None] * dy", "else gamma[:, None] * dy"),
    "gamma missing in the moments": (TRANSFORM, "dm = -(h * w * i)", "dm = -(rho * dy * w * i)"),
    "dm's sign": (TRANSFORM, "dm = -(h", "dm = (h"),
    "dm without inverse_std": (TRANSFORM, "dm = -(h * w * i)", "dm = -(h * w)"),
    "dv's half": (TRANSFORM, "dv = -0.5 * (", "dv = -1.0 * ("),
    "dv's sign": (TRANSFORM, "dv = -0.5 * (", "dv = 0.5 * ("),
    "dv with one inverse_std": (TRANSFORM, "* moments.inverse_std**2", "* moments.inverse_std"),
    "divisor W_k missing": (TRANSFORM, "moments.alive / (moments.total + (1.0 - moments.alive))", "moments.alive"),
    "dgamma without rho": (TRANSFORM, "dgamma = rho * (dy", "dgamma = (dy"),
    "dgamma without inverse_std": (TRANSFORM, "dgamma = rho * (dy * w * x_hat)", "dgamma = rho * (dy * w * (x - m))"),
    # constraints
    "softmax over k dropped": (CONSTRAINTS, "return log_softmax_backward(dlog_prior, log_prior), dmean", "return dlog_prior, dmean"),  # noqa: E501
    "softmax over k, prior forgotten": (CONSTRAINTS, "dlog_prior - backend.namespace(log_prior).exp(log_prior) *", "dlog_prior -"),  # noqa: E501
    "softplus derivative dropped": (CONSTRAINTS, "softplus_backward(dvariance, raw_variance)", "dvariance"),
    "softplus derivative's argument": (CONSTRAINTS, ".exp(s - softplus(s))", ".exp(-softplus(s))"),
    "learned moments' mean dropped": (CONSTRAINTS, "dmean + dmoments_mean, dvariance", "dmean, dvariance"),
    "learned moments' variance dropped": (CONSTRAINTS, "dvariance + dmoments_variance\n", "dvariance\n"),
    "a shared prior's sum became a mean": (CONSTRAINTS, "dlog_prior.sum(axis=1, keepdims=True, dtype=backend.wide(dlog_prior))", "dlog_prior.mean(axis=1, keepdims=True)"),  # noqa: E501
    "a shared prior gets one channel's": (CONSTRAINTS, "dlog_prior.sum(axis=1, keepdims=True, dtype=backend.wide(dlog_prior))", "dlog_prior[:, :1]"),  # noqa: E501
    "moments of the mixture constant in eval mode": (LAYER, "(d.moments_mean, d.moments_variance) if own else", "(d.moments_mean, d.moments_variance) if self.statistics == 'learned' else"),  # noqa: E501
    "running moments taken for the mixture's": (LAYER, "(d.moments_mean, d.moments_variance) if own else", "(d.moments_mean, d.moments_variance) if not self.training else"),  # noqa: E501
    "prior logits given dmean's sign": (LAYER, "self.mean.receive(dmean)", "self.mean.receive(-dmean)"),
}  # fmt: skip

CPU_UAN_MISTAKES = {
    # posterior and weights
    "posterior constant": (CPU_BLOCKS, "    dl_sum = part.sums(dl)", "    dl *= 0.0\n    dl_sum = part.sums(dl)"),
    "posterior constant in x": (CPU_BLOCKS, "    dx_k -= dl_u\n", ""),
    "posterior's dx sign": (CPU_BLOCKS, "dx_k -= dl_u", "dx_k += dl_u"),
    "softmax's second term dropped": (CPU_BLOCKS, "        dl -= spare\n", ""),
    "softmax's second term's sign": (CPU_BLOCKS, "dl -= spare", "dl += spare"),
    "tau taken for w": (CPU_TRANSFORM, "direct = scale * moments.inverse_std / batch.root_prior", "direct = scale * moments.inverse_std"),  # noqa: E501
    "prior gradient dropped": (CPU_TRANSFORM, "dl_sum - 0.5 * dlog_w_sum", "0.0 * dl_sum - 0.5 * dlog_w_sum"),
    "sqrt(lambda) constant": (CPU_TRANSFORM, " - 0.5 * dlog_w_sum", " - 0.0 * dlog_w_sum"),
    "lambda instead of sqrt(lambda)": (CPU_TRANSFORM, " - 0.5 * dlog_w_sum", " - 1.0 * dlog_w_sum"),
    "sign of sqrt(lambda)": (CPU_TRANSFORM, " - 0.5 * dlog_w_sum", " + 0.5 * dlog_w_sum"),
    "precision missing": (CPU_BLOCKS, "    u *= precision\n", ""),
    "variance's half missing": (CPU_BLOCKS, "0.5 * (part.sums(dl_u)", "1.0 * (part.sums(dl_u)"),
    "variance's log-determinant dropped": (CPU_BLOCKS, " - dl_sum / variance)", ")"),
    "variance's log-determinant's sign": (CPU_BLOCKS, " - dl_sum / variance)", " + dl_sum / variance)"),
    "variance's square dropped": (CPU_BLOCKS, "    dl_u *= u\n", ""),
    # weighted moments
    "moments' mean path dropped": (CPU_TRANSFORM, "            dlog_w += part.constant(dm_, dy_b)\n", ""),
    "moments' variance path halved in x": (CPU_TRANSFORM, "dx_k += dlog_w\n", "dx_k[...] = dlog_w\n"),
    "moments' v_k dropped": (CPU_TRANSFORM, "            dlog_w -= part.constant(dv_v_, dy_b)\n", ""),
    "moments' v_k's sign": (CPU_TRANSFORM, "dlog_w -= part.constant(dv_v_", "dlog_w += part.constant(dv_v_"),
    "moments' weight dropped in x": (CPU_TRANSFORM, "            dx_k *= tau\n", ""),
    "moments' weight dropped in log w": (CPU_TRANSFORM, "        dlog_w *= tau\n", ""),
    # component normalization
    "moments constant": (CPU_TRANSFORM, "        if from_batch:\n            dlog_w", "        if False:\n            dlog_w"),  # noqa: E501
    "moments' dx dropped": (CPU_TRANSFORM, "dx_k += dlog_w\n", "xp.multiply(dy_b, part.constant(direct_, dy_b), out=dx_k)\n"),  # noqa: E501
    "moments' dlog w dropped": (CPU_TRANSFORM, "            dlog_w -= part.constant(dv_v_, dy_b)\n", "            xp.multiply(dy_b, part.constant(direct_, dy_b), out=dlog_w)\n            dlog_w *= spare\n"),  # noqa: E501
    "direct path's inverse_std": (CPU_TRANSFORM, "direct = scale * moments.inverse_std /", "direct = scale /"),
    "direct path dropped": (CPU_TRANSFORM, "xp.multiply(dy_b, part.constant(direct_, dy_b), out=dlog_w)", "dlog_w[...] = 0.0"),  # noqa: E501
    "weights' dx dropped": (CPU_TRANSFORM, "tau, buffers, quadratic_)", "tau, [dlog_w, dx_k.copy(), spare], quadratic_)"),  # noqa: E501
    "gamma missing": (CPU_TRANSFORM, "direct = scale * moments", "direct = rho * moments"),
    "rho missing": (CPU_TRANSFORM, "direct = scale * moments", "direct = scale / rho * moments"),
    "gamma missing in the moments": (CPU_TRANSFORM, "dm = -scale *", "dm = -rho *"),
    "dm's sign": (CPU_TRANSFORM, "dm = -scale", "dm = scale"),
    "dm without inverse_std": (CPU_TRANSFORM, "dm = -scale * moments.inverse_std * a", "dm = -scale * a"),
    "dv's half": (CPU_TRANSFORM, "dv = -0.5 * scale", "dv = -1.0 * scale"),
    "dv's sign": (CPU_TRANSFORM, "dv = -0.5 * scale", "dv = 0.5 * scale"),
    "dv with one inverse_std": (CPU_TRANSFORM, "scale * moments.inverse_std * moments.inverse_std * b", "scale * moments.inverse_std * b"),  # noqa: E501
    "divisor W_k missing": (CPU_TRANSFORM, "share = moments.alive / (moments.total * batch.root_prior + (1.0 - moments.alive))", "share = moments.alive"),  # noqa: E501
    "dgamma without rho": (CPU_TRANSFORM, "dgamma = rho * b.sum(axis=0)", "dgamma = b.sum(axis=0)"),
    "dgamma without inverse_std": (CPU_TRANSFORM, "b / batch.root_prior * moments.inverse_std", "b / batch.root_prior"),
}  # fmt: skip

# The layer hands gradients out and goes back through the constraints: one text, with and without versions.
LAYER_ALONE = {"dgamma and dbeta swapped", "dbeta negated"} | {
    name for name, (module, *_) in UAN_MISTAKES.items() if module in (LAYER, CONSTRAINTS)
}


def uan_variants():
    """Every combination that changes the backward pass, small."""
    for posterior in ("channel", "joint"):
        for statistics, training in (("batch", True), ("batch", False), ("learned", True)):
            yield {"posterior": posterior, "statistics": statistics}, training
    yield {"posterior": "channel", "statistics": "batch", "prior": "shared"}, True
    yield {"posterior": "channel", "statistics": "batch", "inference": "mixture"}, False


def check_uan(cls):
    """Return which variants pass the gradient check, by name."""
    passed = {}
    for options, training in uan_variants():
        layer = shake(cls(2, 3, eps=0.05, dtype="float64", **options), 1)
        layer.train(training)
        if options["statistics"] == "batch":
            layer.running_mean, layer.running_var = draw_array((3, 2), 2), 0.5 + draw_array((3, 2), 3) ** 2
        report = gradcheck.check(layer, draw_array((3, 2, 2), 4), directions=2, jacobian=False)
        passed[(*options.values(), training)] = report.ok
    return passed


def check_batch_norm(cls):
    passed = {}
    for training in (True, False):
        layer = shake(cls(3, eps=0.05, dtype="float64"), 1).train(training)
        layer.running_mean, layer.running_var = draw_array((3,), 2), 0.5 + draw_array((3,), 3) ** 2
        passed[training] = gradcheck.check(layer, draw_array((4, 3, 2), 4), directions=2, jacobian=False).ok
    return passed


def batch_norm(mistake):
    return outcome(check_batch_norm, "BatchNorm", BN, CPU_BN, mistake)


def uan(mistake):
    return outcome(check_uan, "UAN", UAN, CPU_UAN, mistake)


@pytest.mark.parametrize("version", [False, True])
def test_without_a_mistake_all_is_green(version):
    """The loader itself plants nothing."""
    assert all(batch_norm((CPU_BATCH if version else BATCH, "", "")).values())
    passed = uan((CPU_TRANSFORM if version else TRANSFORM, "", ""))
    assert len(passed) == 8
    assert all(passed.values())


def test_definition_and_version_have_the_same_mistakes():
    assert set(BATCH_NORM_MISTAKES) - LAYER_ALONE == set(CPU_BATCH_NORM_MISTAKES)
    assert set(UAN_MISTAKES) - LAYER_ALONE == set(CPU_UAN_MISTAKES)


@pytest.mark.parametrize(("text", "name"), every(2, both(BATCH_NORM_MISTAKES, CPU_BATCH_NORM_MISTAKES)))
def test_batch_norm_mistake_is_caught(text, name):
    table = BATCH_NORM_MISTAKES if text == "definition" else CPU_BATCH_NORM_MISTAKES
    assert not all(batch_norm(table[name]).values()), f"survived: {name}"


@pytest.mark.parametrize(("text", "name"), every(10, both(UAN_MISTAKES, CPU_UAN_MISTAKES)))
def test_uan_mistake_is_caught(text, name):
    table = UAN_MISTAKES if text == "definition" else CPU_UAN_MISTAKES
    assert not all(uan(table[name]).values()), f"survived: {name}"


def structure_left(cls):
    """How far from one constant the wrong dx is, for an upstream gradient of ones."""
    layer = cls(2, affine=False, dtype="float64")
    x = draw_array((6, 2), 0)
    layer.forward(x)
    ones = layer.backward(np.ones_like(x))  # all ones on purpose
    return np.abs(ones - ones.mean(axis=0)).max()


@pytest.mark.parametrize("table", [BATCH_NORM_MISTAKES, CPU_BATCH_NORM_MISTAKES], ids=["definition", "version"])
@pytest.mark.parametrize("name", ["mean term dropped", "variance term dropped"])
def test_an_all_ones_upstream_would_have_hidden_part_of_it(name, table):
    """Why dy is random: with ones, a gamma of ones and centred x the wrong dx differs from the right one by a constant
    or not at all."""
    left = outcome(structure_left, "BatchNorm", BN, CPU_BN, table[name])
    assert left < 1e-12, "no structure left to see"
