"""The gradient check is worth what it catches: every mistake planted here must turn it red."""

from __future__ import annotations

import numpy as np
import pytest
from support.arrays import draw_array, shake
from support.mutants import plant

from uanref import gradcheck

BN = ["norms.batch"]
UAN = ["norms.gaussian_mixture", "norms.mixture_transform", "norms.uan"]
MIXTURE, TRANSFORM, LAYER = UAN

# (module, what stands there, what a slip would write). The names of the mistakes are the test ids.
BATCH_NORM_MISTAKES = {
    "mean term dropped": ("out -= through_mean_\n", "pass\n"),
    "mean term's sign": ("out -= through_mean_\n", "out += through_mean_\n"),
    "variance term dropped": ("out += dy_rows[block]\n", "out[...] = dy_rows[block]\n"),
    "variance term's sign": ("xp.subtract(mean_, rows[block], out=out)", "xp.subtract(rows[block], mean_, out=out)"),
    "divisor of the mean term": ("dbeta / samples", "dbeta / (samples - 1)"),
    "divisor of the variance term": ("dgamma * inverse_std / samples", "dgamma * inverse_std / (samples - 1)"),
    "divisor N instead of M": ("samples, spatial = rows.shape[0] * rows.shape[2]", "samples, spatial = rows.shape[0]"),
    "inverse_std of the variance term dropped": ("dgamma * inverse_std / samples", "dgamma / samples"),
    "gamma missing in dx": ("scale_ = per_channel(scale, spatial)", "scale_ = per_channel(inverse_std, spatial)"),
    "dgamma without inverse_std": ("dy.dtype) * inverse_std  # (C,)", "dy.dtype)  # (C,)"),
    "dgamma from x, not x - mean": ("xp.subtract(rows[block], mean_, out=product)", "product[...] = rows[block]"),
    "dgamma and dbeta swapped": ("self.gamma.receive(dgamma)", "self.gamma.receive(dbeta)"),
    "dbeta negated": ("self.beta.receive(dbeta)", "self.beta.receive(-dbeta)"),
    "eval formula in train mode": ("if from_batch:", "if False:"),
    "train formula in eval mode": ("if from_batch:", "if True:"),
    "eval without gamma": ("xp.multiply(dy_rows[block], scale_, out=out)", "out[...] = dy_rows[block]"),
}

UAN_MISTAKES = {
    # posterior and weights
    "posterior constant": (MIXTURE, "    return dx, dlog_prior, dmean, dvariance\n\n\ndef _bounded(", "    return 0 * dx, 0 * dlog_prior, 0 * dmean, 0 * dvariance\n\n\ndef _bounded("),  # noqa: E501
    "posterior constant in x": (MIXTURE, "dx = -dl_u.sum(axis=0)", "dx = 0 * dl_u.sum(axis=0)"),
    "posterior's dx sign": (MIXTURE, "dx = -dl_u.sum(axis=0)", "dx = dl_u.sum(axis=0)"),
    "softmax's second term dropped": (MIXTURE, "    dlog_w -= w\n", ""),
    "softmax's second term's sign": (MIXTURE, "    dlog_w -= w\n", "    dlog_w += w\n"),
    "tau taken for w": (MIXTURE, "    w *= mixture.root_prior_  # tau\n", ""),
    "prior gradient dropped": (MIXTURE, "dlog_prior += dl_sum", "dlog_prior += 0 * dl_sum"),
    "sqrt(lambda) constant": (MIXTURE, "dlog_prior = -0.5 * sum", "dlog_prior = 0.0 * sum"),
    "lambda instead of sqrt(lambda)": (MIXTURE, "dlog_prior = -0.5 * sum", "dlog_prior = -1.0 * sum"),
    "sign of sqrt(lambda)": (MIXTURE, "dlog_prior = -0.5 * sum", "dlog_prior = 0.5 * sum"),
    "precision missing": (MIXTURE, "    u *= mixture.precision_\n", ""),
    "variance's half missing": (MIXTURE, "dvariance = 0.5 * (", "dvariance = 1.0 * ("),
    "variance's log-determinant dropped": (MIXTURE, " - dl_sum / mixture.variance)", ")"),
    "variance's log-determinant's sign": (MIXTURE, " - dl_sum / mixture.variance)", " + dl_sum / mixture.variance)"),
    "variance's square dropped": (MIXTURE, "    dl_u *= u\n", ""),
    # weighted moments
    "moments' mean path dropped": (MIXTURE, "xp.add(dx_k, dmean, out=dlog_w)", "xp.add(dx_k, 0.0, out=dlog_w)"),
    "moments' variance path halved in x": (MIXTURE, "dx_k += dlog_w  #", "dx_k[...] = dlog_w  #"),
    "moments' v_k dropped": (MIXTURE, "    dlog_w -= dvariance * variance\n", ""),
    "moments' v_k's sign": (MIXTURE, "dlog_w -= dvariance * variance", "dlog_w += dvariance * variance"),
    "moments' weight dropped in x": (MIXTURE, "    dx_k *= w\n", ""),
    "moments' weight dropped in log w": (MIXTURE, "    dlog_w *= w\n", ""),
    # component normalization
    "moments constant": (TRANSFORM, "        if from_batch:\n", "        if False:\n"),
    "moments' dx dropped": (TRANSFORM, "            out += dx_moments\n", ""),
    "moments' dlog w dropped": (TRANSFORM, "            dlog_w += dlog_w_moments\n", ""),
    "direct path's inverse_std": (TRANSFORM, "        g_w_i *= inverse_std_\n", ""),
    "direct path dropped": (TRANSFORM, "g_w_i.sum(axis=0, out=out)", "out[...] = 0.0"),
    "weights' dx dropped": (TRANSFORM, "        out += dx_weights\n", ""),
    "gamma missing": (TRANSFORM, "else per_channel(rho * gamma, spatial)", "else rho"),
    "rho missing": (TRANSFORM, "else per_channel(rho * gamma, spatial)", "else per_channel(gamma, spatial)"),
    "gamma missing in the moments": (TRANSFORM, "scale = rho if gamma is None else rho * gamma", "scale = rho"),
    "dm's sign": (TRANSFORM, "dm = -scale", "dm = scale"),
    "dm without inverse_std": (TRANSFORM, "dm = -scale * moments.inverse_std * a", "dm = -scale * a"),
    "dv's half": (TRANSFORM, "dv = -0.5 * scale", "dv = -1.0 * scale"),
    "dv's sign": (TRANSFORM, "dv = -0.5 * scale", "dv = 0.5 * scale"),
    "dv with one inverse_std": (TRANSFORM, "scale * moments.inverse_std * moments.inverse_std * b", "scale * moments.inverse_std * b"),  # noqa: E501
    "divisor W_k missing": (TRANSFORM, "share = moments.alive / (moments.total + (1.0 - moments.alive))", "share = moments.alive"),  # noqa: E501
    "dgamma without rho": (TRANSFORM, "dgamma = rho * b.sum(axis=0)", "dgamma = b.sum(axis=0)"),
    "dgamma without inverse_std": (TRANSFORM, "dy.dtype) * moments.inverse_std  # (K, C)", "dy.dtype)  # (K, C)"),
    # constraints
    "softmax over k dropped": (LAYER, "self.prior_logits.receive(log_softmax_backward(d.log_prior, mixture.log_prior))", "self.prior_logits.receive(d.log_prior)"),  # noqa: E501
    "softmax over k, prior forgotten": (MIXTURE, "dlog_prior - backend.namespace(log_prior).exp(log_prior) *", "dlog_prior -"),  # noqa: E501
    "softplus derivative dropped": (LAYER, "softplus_backward(dvariance, raw_variance)", "dvariance"),
    "softplus derivative's argument": (MIXTURE, ".exp(s - softplus(s))", ".exp(-softplus(s))"),
    "learned moments' mean dropped": (LAYER, "dmean + d.moments_mean, dvariance", "dmean, dvariance"),
    "learned moments' variance dropped": (LAYER, "dvariance + d.moments_variance\n", "dvariance\n"),
    "prior logits given dmean's sign": (LAYER, "self.mean.receive(dmean)", "self.mean.receive(-dmean)"),
}  # fmt: skip


def uan_variants():
    """Every combination that changes the backward pass, small."""
    for posterior in ("channel", "joint"):
        for statistics, training in (("batch", True), ("batch", False), ("learned", True)):
            yield {"posterior": posterior, "statistics": statistics}, training


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


def test_without_a_mistake_all_is_green():
    """The loader itself plants nothing."""
    assert all(check_batch_norm(plant(BN, "", "", "").BatchNorm).values())
    passed = check_uan(plant(UAN, "", "", "").UAN)
    assert len(passed) == 6
    assert all(passed.values())


@pytest.mark.parametrize("name", BATCH_NORM_MISTAKES)
def test_batch_norm_mistake_is_caught(name):
    old, new = BATCH_NORM_MISTAKES[name]
    assert not all(check_batch_norm(plant(BN, BN[0], old, new).BatchNorm).values()), f"survived: {name}"


@pytest.mark.parametrize("name", UAN_MISTAKES)
def test_uan_mistake_is_caught(name):
    module, old, new = UAN_MISTAKES[name]
    assert not all(check_uan(plant(UAN, module, old, new).UAN).values()), f"survived: {name}"


@pytest.mark.parametrize(
    ("old", "new"), [BATCH_NORM_MISTAKES["mean term dropped"], BATCH_NORM_MISTAKES["variance term dropped"]]
)
def test_an_all_ones_upstream_would_have_hidden_part_of_it(old, new):
    """Why dy is random: with ones, a gamma of ones and centred x the wrong dx differs from the right one by a constant
    or not at all."""
    layer = plant(BN, BN[0], old, new).BatchNorm(2, affine=False, dtype="float64")
    x = draw_array((6, 2), 0)
    layer.forward(x)
    ones = layer.backward(np.ones_like(x))  # all ones on purpose
    assert np.abs(ones - ones.mean(axis=0)).max() < 1e-12, "no structure left to see"
