"""Unsupervised Adaptive Normalization with one prior for all channels: what is shared gets the sum of its gradients."""

from __future__ import annotations

from uanref.derivations.batch_norm import BETA, GAMMA
from uanref.derivations.derivation import Derivation
from uanref.derivations.expressions import d, exp, log, logsumexp, ref, sum_
from uanref.derivations.gaussian_posterior import BISHOP, EPS, MEAN, MIXTURE, RAW_VARIANCE, X
from uanref.derivations.steps import Collapse, Input, Line, Local, Step
from uanref.derivations.uan import FAYE, UAN, WEIGHT
from uanref.derivations.uan_collapse import BATCH_COLLAPSE

prior_logits, log_prior, spread, quadratic = ref("prior_logits"), ref("log_prior"), ref("spread"), ref("quadratic")
score, log_total = ref("score"), ref("log_total")

SHARED_LOGITS = Input(
    "prior_logits", "a", ("k",), "prior logits, of all channels", lambda rng, shape: 0.5 * rng.standard_normal(shape)
)

SHARED_PRIOR = Step(
    name="log_prior",
    symbol=r"\ell",
    axes=("k",),
    equation=r"\ell_k = a_k - \log \sum_j e^{a_j}",
    forward=prior_logits - logsumexp(prior_logits, "k"),
    backward={
        "prior_logits": Local(
            r"da_k \mathrel{+}= d\ell_k - \lambda_k \sum_j d\ell_j, \quad \lambda_k = e^{\ell_k}",
            d("log_prior") - exp(log_prior) * sum_(d("log_prior"), "k"),
        )
    },
    meaning="The priors' logarithms, one for each component: all channels use the same.",
    source="the shape of the authors' public code; the constraint is this project's choice",
)

SHARED_SCORE = Step(
    name="score",
    symbol="l",
    axes=("k", "m", "c"),
    equation=r"l_{kmc} = \ell_k - \tfrac12 \log \bar\sigma^2_{kc} - q_{kmc}",
    forward=log_prior - 0.5 * log(spread) - quadratic,
    backward={
        **next(step for step in MIXTURE if step.name == "score").backward,
        "log_prior": Local(r"d\ell_k \mathrel{+}= \sum_c \sum_m dl_{kmc}", sum_(d("score"), "m", "c")),
    },
    meaning="Log prior plus log density. The prior enters in every sample and channel, so it gets the sum over both.",
    source=BISHOP,
)

SHARED_LOG_WEIGHT = Step(
    name="log_weight",
    symbol=r"\omega",
    axes=("k", "m", "c"),
    equation=r"\omega_{kmc} = l_{kmc} - \zeta_{mc} - \tfrac12 \ell_k",
    forward=score - log_total - 0.5 * log_prior,
    backward={
        **next(step for step in WEIGHT if step.name == "log_weight").backward,
        "log_prior": Local(
            r"d\ell_k \mathrel{+}= -\tfrac12 \sum_c \sum_m d\omega_{kmc}", -0.5 * sum_(d("log_weight"), "m", "c")
        ),
    },
    meaning="The logarithm of posterior over root prior; again the prior gets the sum over samples and channels.",
    source=FAYE + "; in logarithms, this project's choice",
)

SHARED = {step.name: step for step in (SHARED_PRIOR, SHARED_SCORE, SHARED_LOG_WEIGHT)}
reaches = d("score") - 0.5 * d("log_weight")
REACHES = r"dl_{kmc} - \tfrac12 d\omega_{kmc}"

PRIOR_COLLAPSE = Collapse(
    "prior_logits",
    (
        Line(
            r"da_k = d\ell_k - \lambda_k \sum_j d\ell_j",
            d("log_prior") - exp(log_prior) * sum_(d("log_prior"), "k"),
            "Through the softmax over the components.",
        ),
        Line(
            rf"da_k = \sum_c \sum_m \left( {REACHES} \right) - \lambda_k \sum_j \sum_c \sum_m "
            r"\left( dl_{jmc} - \tfrac12 d\omega_{jmc} \right)",
            sum_(reaches, "m", "c") - exp(log_prior) * sum_(reaches, "k", "m", "c"),
            "The log prior stands in the score and in the log weight, of every sample and channel.",
        ),
        Line(
            rf"da_k = \sum_c \left( \sum_m \left( {REACHES} \right) "
            r"+ \tfrac12 \lambda_k \sum_j \sum_m d\omega_{jmc} \right)",
            sum_(sum_(reaches, "m") + 0.5 * exp(log_prior) * sum_(d("log_weight"), "k", "m"), "c"),
            "Over the components the dl of a softmax sum to 0. In the outer brackets stands what a channel's own prior "
            "would get: the shared one gets the sum over the channels. This is what the layer computes.",
        ),
    ),
)

UAN_SHARED = Derivation(
    name="uan-shared",
    title="Unsupervised Adaptive Normalization, one prior for all channels",
    summary=(
        "Batch statistics, and a prior that all channels share. Forward nothing but an index is missing; backward the "
        "prior gets what reaches it in every channel, and the sum over the components is still 0."
    ),
    axes=UAN.axes,
    sizes=UAN.sizes,
    inputs=(X, SHARED_LOGITS, MEAN, RAW_VARIANCE, GAMMA, BETA, EPS),
    steps=tuple(SHARED.get(step.name, step) for step in UAN.steps),
    layer="uanref.norms.uan.UAN",
    collapse=(BATCH_COLLAPSE, PRIOR_COLLAPSE),
)
