"""One step of Adam, node by node: forward only, for nothing is differentiated."""

from __future__ import annotations

from uanref.derivations.derivation import Derivation
from uanref.derivations.expressions import exp, log, ref, sqrt, square
from uanref.derivations.steps import Input, Step

KINGMA = "Kingma & Ba 2015, algorithm 1"

theta, g, m, v, t = ref("theta"), ref("g"), ref("m"), ref("v"), ref("t")
alpha, beta1, beta2, eps = ref("alpha"), ref("beta1"), ref("beta2"), ref("eps")
m_new, v_new, m_hat, v_hat, change = ref("m_new"), ref("v_new"), ref("m_hat"), ref("v_hat"), ref("change")

ADAM = Derivation(
    name="adam",
    title="Adam, one step",
    summary=(
        "Running averages of the gradient and of its square give each parameter its own step length. "
        "Both averages start at 0 and are corrected for it. Nothing is differentiated here: there is no way back."
    ),
    axes={"i": "parameter"},
    sizes={"i": 4},
    inputs=(
        Input("theta", r"\theta_{t-1}", ("i",), "parameters before the step", constant=True),
        Input("g", "g", ("i",), "the loss's gradient", constant=True),
        Input(
            "m",
            "m_{t-1}",
            ("i",),
            "first moment so far",
            lambda rng, shape: 0.15 * rng.standard_normal(shape),
            constant=True,
        ),
        Input(
            "v",
            "v_{t-1}",
            ("i",),
            "second moment so far",
            lambda rng, shape: rng.uniform(0.0005, 0.003, shape),
            constant=True,
        ),
        Input("t", "t", (), "number of this step, from 1", lambda rng, shape: 3.0, constant=True),
        Input("alpha", r"\alpha", (), "learning rate", lambda rng, shape: 1e-3, constant=True),
        Input("beta1", r"\beta_1", (), "decay of the first moment", lambda rng, shape: 0.9, constant=True),
        Input("beta2", r"\beta_2", (), "decay of the second moment", lambda rng, shape: 0.999, constant=True),
        Input("eps", r"\epsilon", (), "keeps the quotient finite", lambda rng, shape: 1e-8, constant=True),
    ),
    steps=(
        Step(
            name="m_new",
            symbol="m_t",
            axes=("i",),
            equation=r"m_t = \beta_1 m_{t-1} + \left( 1 - \beta_1 \right) g",
            forward=beta1 * m + (1 - beta1) * g,
            backward={},
            meaning="The running average of the gradient: where to go.",
            source=KINGMA,
        ),
        Step(
            name="v_new",
            symbol="v_t",
            axes=("i",),
            equation=r"v_t = \beta_2 v_{t-1} + \left( 1 - \beta_2 \right) g^2",
            forward=beta2 * v + (1 - beta2) * square(g),
            backward={},
            meaning="The running average of the squared gradient: how large it usually is.",
            source=KINGMA,
        ),
        Step(
            name="m_hat",
            symbol=r"\hat m",
            axes=("i",),
            equation=r"\hat m = \frac{m_t}{1 - \beta_1^t}",
            forward=m_new / (1 - exp(t * log(beta1))),
            backward={},
            meaning="After t steps the average's weights add up to the denominator: divided by it, they add up to 1.",
            source=KINGMA,
        ),
        Step(
            name="v_hat",
            symbol=r"\hat v",
            axes=("i",),
            equation=r"\hat v = \frac{v_t}{1 - \beta_2^t}",
            forward=v_new / (1 - exp(t * log(beta2))),
            backward={},
            meaning="The same for the second moment, which starts far lower.",
            source=KINGMA,
        ),
        Step(
            name="change",
            symbol=r"\delta",
            axes=("i",),
            equation=r"\delta = \frac{\alpha\, \hat m}{\sqrt{\hat v} + \epsilon}",
            forward=alpha * m_hat / (sqrt(v_hat) + eps),
            backward={},
            meaning="Usually at most one learning rate per parameter, whatever the gradient's scale.",
            source=KINGMA,
        ),
        Step(
            name="theta_new",
            symbol=r"\theta_t",
            axes=("i",),
            equation=r"\theta_t = \theta_{t-1} - \delta",
            forward=theta - change,
            backward={},
            meaning="The step, downhill.",
            source=KINGMA,
        ),
    ),
    layer="uanref.optimizers.Adam",
)
