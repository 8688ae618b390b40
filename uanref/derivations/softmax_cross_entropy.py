"""Softmax cross-entropy, node by node, and the collapse of its gradient to probabilities minus targets."""

from __future__ import annotations

import numpy as np

from uanref.backend import Array
from uanref.derivations.derivation import Derivation
from uanref.derivations.expressions import count, d, logsumexp, mean, ref, softmax, sum_
from uanref.derivations.steps import Collapse, Input, Line, Local, Step

BISHOP = "Bishop 2006, eq. 4.108"

z, t, log_total, log_p, log_likelihood = ref("z"), ref("t"), ref("log_total"), ref("log_p"), ref("log_likelihood")
p = softmax(z, "c")
N = count("n")


def _labels(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw a label per sample, as rows with a single 1."""
    rows: Array = np.eye(shape[-1])[rng.integers(shape[-1], size=shape[:-1])]
    return rows


SOFTMAX_CROSS_ENTROPY = Derivation(
    name="softmax-cross-entropy",
    title="Softmax cross-entropy",
    summary=(
        "How surprised the softmax of the logits is by the targets, on average over the samples. "
        "The logits reach the loss twice: as the numerator, and through the sum over all classes. "
        "Together the two ways leave probabilities minus targets."
    ),
    axes={"n": "sample", "c": "class"},
    sizes={"n": 3, "c": 4},
    inputs=(
        Input("z", "z", ("n", "c"), "logits"),
        Input("t", "t", ("n", "c"), "targets: rows that sum to 1, here one-hot labels", _labels, constant=True),
    ),
    steps=(
        Step(
            name="log_total",
            symbol=r"\zeta",
            axes=("n",),
            equation=r"\zeta_n = \log \sum_c e^{z_{nc}}",
            forward=logsumexp(z, "c"),
            backward={
                "z": Local(
                    r"dz_{nc} \mathrel{+}= p_{nc}\, d\zeta_n, \quad p_{nc} = \frac{e^{z_{nc}}}{\sum_j e^{z_{nj}}}",
                    p * d("log_total"),
                )
            },
            meaning="The logarithm of the softmax's denominator. Its derivative by a logit is the softmax, p.",
            source="Bishop 2006, eq. 4.104; the denominator in logarithms is this project's choice",
        ),
        Step(
            name="log_p",
            symbol=r"\ell",
            axes=("n", "c"),
            equation=r"\ell_{nc} = z_{nc} - \zeta_n",
            forward=z - log_total,
            backward={
                "z": Local(r"dz_{nc} \mathrel{+}= d\ell_{nc}", d("log_p")),
                "log_total": Local(r"d\zeta_n \mathrel{+}= -\sum_c d\ell_{nc}", -sum_(d("log_p"), "c")),
            },
            meaning="The logarithm of each class's probability.",
            source="Bishop 2006, eq. 4.104",
        ),
        Step(
            name="log_likelihood",
            symbol="q",
            axes=("n",),
            equation=r"q_n = \sum_c t_{nc}\, \ell_{nc}",
            forward=sum_(t * log_p, "c"),
            backward={"log_p": Local(r"d\ell_{nc} \mathrel{+}= t_{nc}\, dq_n", t * d("log_likelihood"))},
            meaning="The log-likelihood of a sample's target. For a label it is the logarithm of one probability.",
            source=BISHOP,
        ),
        Step(
            name="loss",
            symbol="L",
            axes=(),
            equation=r"L = -\frac{1}{N} \sum_n q_n",
            forward=-mean(log_likelihood, "n"),
            backward={"log_likelihood": Local(r"dq_n \mathrel{+}= -\frac{dL}{N}", -d("loss") / N)},
            meaning="The loss: the mean over the samples, negative because likelihood is to grow.",
            source=BISHOP + "; the mean in the place of the sum is this project's choice",
        ),
    ),
    layer="uanref.losses.SoftmaxCrossEntropy",
    collapse=(
        Collapse(
            "z",
            (
                Line(
                    r"dz_{nc} = d\ell_{nc} + p_{nc}\, d\zeta_n",
                    d("log_p") + p * d("log_total"),
                    "The two steps that use the logits; p is their softmax.",
                ),
                Line(
                    r"dz_{nc} = d\ell_{nc} - p_{nc} \sum_j d\ell_{nj}",
                    d("log_p") - p * sum_(d("log_p"), "c"),
                    "Every class subtracts the same log-sum-exp, so its gradient is a sum over the classes.",
                ),
                Line(
                    r"dz_{nc} = t_{nc}\, dq_n - p_{nc} \sum_j t_{nj}\, dq_n",
                    t * d("log_likelihood") - p * sum_(t * d("log_likelihood"), "c"),
                    "A log-probability reaches the loss in proportion to its target.",
                ),
                Line(
                    r"dz_{nc} = \frac{dL}{N} \left( p_{nc} \sum_j t_{nj} - t_{nc} \right)",
                    d("loss") / N * (p * sum_(t, "c") - t),
                    "dq is the same for every sample. This is what the loss computes; for targets that sum to 1 "
                    "it is probabilities minus targets, divided by the number of samples.",
                ),
            ),
        ),
    ),
)
