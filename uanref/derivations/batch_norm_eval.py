"""Batch normalization in eval mode, node by node: the moments are constants from training."""

from __future__ import annotations

from uanref.derivations.batch_norm import BETA, EPS, GAMMA, IOFFE, STANDARDIZE, X
from uanref.derivations.derivation import Derivation
from uanref.derivations.expressions import d, ref
from uanref.derivations.steps import Collapse, Input, Line, Local, Step

x, gamma, mu, inverse_std = ref("x"), ref("gamma"), ref("mu"), ref("inverse_std")

BATCH_NORM_EVAL = Derivation(
    name="bn-eval",
    title="Batch normalization, eval mode",
    summary="The moments are constants from training, so the layer is an affine map and x has one way to the loss.",
    axes={"m": "sample", "c": "channel"},
    sizes={"m": 5, "c": 2},
    inputs=(
        X,
        Input("mu", r"\mu", ("c",), "running mean", constant=True),
        Input("var", "v", ("c",), "running variance", lambda rng, shape: rng.uniform(0.5, 2.0, shape), constant=True),
        GAMMA,
        BETA,
        EPS,
    ),
    steps=(
        Step(
            name="centred",
            symbol=r"\bar x",
            axes=("m", "c"),
            equation=r"\bar x_{mc} = x_{mc} - \mu_c",
            forward=x - mu,
            backward={"x": Local(r"dx_{mc} \mathrel{+}= d\bar x_{mc}", d("centred"))},
            meaning="How far each sample lies from the running mean, a constant.",
            source=IOFFE,
        ),
        *STANDARDIZE,
    ),
    layer="uanref.norms.batch.BatchNorm",
    collapse=(
        Collapse(
            "x",
            (
                Line(r"dx_{mc} = d\bar x_{mc}", d("centred"), "Centring is the only step that uses x."),
                Line(r"dx_{mc} = i_c\, d\hat x_{mc}", inverse_std * d("x_hat"), "Centred values are used once."),
                Line(
                    r"dx_{mc} = \gamma_c\, i_c\, dy_{mc}",
                    gamma * inverse_std * d("y"),
                    "dx_hat is gamma dy. This is what the layer computes.",
                ),
            ),
        ),
    ),
)
