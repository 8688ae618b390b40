"""The ten questions of the quiz: every right answer is computed by a derivation, every wrong rule is a planted slip.

They begin near the output and ask for a rule, then for a number. Two runs, before and after a lesson, ask the same with
other numbers and with the choices in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from uanref.derivations import Derivation, Trace, find
from uanref.derivations.expressions import Expression, as_expression, count, d, ref
from uanref.derivations.mistakes import mistakes
from uanref.stepping.unicode import equation, local_equation, symbol, text

RUNS = {"before": 1, "after": 5}
"""The two runs, and the seeds of their numbers."""

WRONG = 3
TOLERANCE = 0.006
"""How far a typed number may lie from the right one: answers are asked to two places."""


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        id: the same in both runs.
        asked: the question.
        given: what is known, line by line.
        choices: to choose from; empty where a number is to be typed.
        right: the place of the right choice, or the number.
        why: one or two sentences for afterwards.
        explorer: which derivation shows it, and at which node.
    """

    id: str
    asked: str
    given: tuple[str, ...]
    choices: tuple[str, ...]
    right: float
    why: str
    explorer: tuple[str, str]


def questions(seed: int) -> list[Question]:
    """Return the ten questions with the numbers and the order of a seed."""
    rng = np.random.default_rng(seed)
    made: list[Callable[[np.random.Generator], Question]] = [
        lambda rng: rule(rng, "shift", "bn", "y", "beta", "All samples share a shift, so its gradient adds them up."),
        shift_number,
        lambda rng: rule(rng, "square", "bn", "squared", "centred", "A square grows by twice what is squared."),
        square_number,
        lambda rng: rule(rng, "mean", "bn", "mu", "x", "Each of M samples moves the mean by 1/M of its own move."),
        two_ways_number,
        relu_number,
        softmax_number,
        total_of_dx,
        lambda rng: rule(
            rng, "log-sum-exp", "posterior", "log_total", "score",
            "The derivative of a log-sum-exp is the softmax: here the posterior.",
        ),
    ]  # fmt: skip
    return [make(rng) for make in made]


def rule(rng: np.random.Generator, id: str, name: str, step_name: str, to: str, why: str) -> Question:
    """Ask which line sends a step's gradient back to an input; the wrong lines are slips that change a gradient."""
    derivation = find(name)
    step = next(step for step in derivation.steps if step.name == step_name)
    right = local_equation(step, to, derivation)
    wrong = [
        local_equation(slip.replacement, to, derivation)
        for slip in mistakes(derivation)
        if (slip.step, slip.input) == (step_name, to)
    ]
    drawn = [wrong[i] for i in sorted(rng.choice(len(wrong), min(WRONG, len(wrong)), replace=False))]
    asked = f"Which line sends the gradient of {symbol(step)} back to {symbol(derivation.node(to))}?"
    return _chosen(rng, id, asked, (equation(step, derivation),), right, drawn, why, (name, step_name))


def _chosen(
    rng: np.random.Generator,
    id: str,
    asked: str,
    given: tuple[str, ...],
    right: str,
    wrong: list[str],
    why: str,
    explorer: tuple[str, str],
) -> Question:
    choices = [right, *wrong]
    order = [choices[i] for i in rng.permutation(len(choices))]
    return Question(id, asked, given, tuple(order), order.index(right), why, explorer)


def _rounded(derivation: Derivation, rng: np.random.Generator, **sizes: int) -> Trace:
    """Run a derivation on inputs with one digit behind the point, so that what is shown is what is computed with."""
    given = derivation.example(int(rng.integers(2**31)), **sizes)
    given = {name: np.round(value, 1) if np.ndim(value) else value for name, value in given.items()}
    shape = derivation.trace(given, numerical=False).output.shape
    upstream = np.round(rng.uniform(-2.0, 2.0, shape), 1) if shape else None
    return derivation.trace(given, upstream, numerical=False)


def shift_number(rng: np.random.Generator) -> Question:
    """The gradient of a shift: a sum over the samples."""
    trace = _rounded(find("bn"), rng, m=3, c=1)
    return _typed(
        "shift-number",
        "What is the gradient of β?",
        (equation(trace.derivation.output, trace.derivation), f"dy = {_row(trace['y'].gradient)}, three samples"),
        float(trace["beta"].gradient[0]),
        "It is the sum of dy over the samples.",
        ("bn", "y"),
    )


def square_number(rng: np.random.Generator) -> Question:
    """The gradient through a square."""
    step = next(step for step in find("bn").steps if step.name == "squared")
    value, sent = np.round(rng.uniform(0.6, 1.9) * rng.choice([-1, 1]), 1), np.round(rng.uniform(0.2, 0.9), 1)
    right = _at(step.backward["centred"].expression, centred=value, d_squared=sent)
    return _typed(
        "square-number",
        "What does the square send back to x̄?",
        (equation(step, find("bn")), f"x̄ = {_number(value)}, dq = {_number(sent)}"),
        right,
        "The local rule with the numbers put in: 2 · x̄ · dq.",
        ("bn", "squared"),
    )


def two_ways_number(rng: np.random.Generator) -> Question:
    """A value that is used twice adds up what both users send."""
    direct, mean = np.round(rng.uniform(-1.0, 1.0), 2), np.round(rng.uniform(-1.0, 1.0), 2)
    samples = int(rng.choice([4, 5, 10]))
    mu = next(step for step in find("bn").steps if step.name == "mu")
    right = direct + _at(mu.backward["x"].expression, sizes={"m": samples}, d_mu=mean)
    return _typed(
        "two-ways",
        "What is the gradient of this x?",
        (
            f"x is used twice: by the mean μ of M = {samples} samples, and by x̄ = x - μ.",
            f"The gradient of its x̄ is {_number(direct)}, that of μ is {_number(mean)}.",
        ),
        right,
        "Both ways add up: what x̄ sends, and dμ / M.",
        ("bn", "mu"),
    )


def relu_number(rng: np.random.Generator) -> Question:
    """A gate passes the gradient where the value was positive."""
    derivation = find("relu")
    x = np.array([[-0.7, 1.2, 0.4]]) if rng.random() < 0.5 else np.array([[0.9, -0.3, 1.6]])
    dy = np.round(rng.uniform(0.5, 2.0, (1, 3)) * rng.choice([-1.0, 1.0], (1, 3)), 1)
    trace = derivation.trace({"x": x}, dy, numerical=False)
    return _typed(
        "relu",
        "What is the sum of the three entries of dx?",
        (equation(derivation.output, derivation), f"x = {_row(x)}, dy = {_row(dy)}"),
        float(trace["x"].gradient.sum()),
        "The gradient passes where x was positive, and nowhere else.",
        ("relu", "y"),
    )


def softmax_number(rng: np.random.Generator) -> Question:
    """Probabilities minus targets."""
    derivation = find("softmax-cross-entropy")
    p = np.array([[0.1, 0.2, 0.7], [0.2, 0.3, 0.5], [0.1, 0.3, 0.6]])[rng.integers(3)][None, rng.permutation(3)]
    label = int(rng.integers(3))
    trace = derivation.trace({"z": np.log(p), "t": np.eye(3)[[label]]}, numerical=False)
    return _typed(
        "softmax",
        f"What is the gradient of the logit of class {label + 1}?",
        (
            "The loss is the softmax cross-entropy of one sample.",
            f"The softmax of its logits is {_row(p)}; its label is class {label + 1}.",
        ),
        float(trace["z"].gradient[0, label]),
        "Probabilities minus targets: p - 1 for the label's class.",
        ("softmax-cross-entropy", "loss"),
    )


def total_of_dx(rng: np.random.Generator) -> Question:
    """The sum of BN's dx over the batch, told by its value: the same number as one of the choices."""
    derivation = find("bn")
    trace = derivation.trace(seed=int(rng.integers(2**31)), numerical=False)
    total = trace["x"].gradient.sum(axis=0)
    candidates: list[Expression] = [as_expression(0.0), d("beta"), ref("gamma"), d("gamma") / count("m")]
    equal = [np.allclose(trace.evaluate(each, ("c",)), total, atol=1e-9) for each in candidates]
    (place,) = np.flatnonzero(equal)
    told = [text(each, derivation) for each in candidates]
    return _chosen(
        rng,
        "sum-of-dx",
        "What is the sum of dx over the batch?",
        ("y is the batch normalization of x in train mode; dx_mc are the gradients of one channel.",),
        told[int(place)],
        [each for i, each in enumerate(told) if i != place],
        "Moving a whole channel changes nothing: batch normalization takes the mean away again. So dx sums to 0.",
        ("bn", "mu"),
    )


def _typed(id: str, asked: str, given: tuple[str, ...], right: float, why: str, explorer: tuple[str, str]) -> Question:
    return Question(id, asked, given, (), right, why, explorer)


def _at(expression: Expression, sizes: dict[str, int] | None = None, **values: float) -> float:
    from uanref.derivations.primitives import Named, evaluate

    known = {name: Named((), np.array(value)) for name, value in values.items()}
    return float(evaluate(expression, known, sizes or {}).array)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".").replace("-", "\N{MINUS SIGN}")


def _row(values: np.ndarray) -> str:
    return "(" + ", ".join(_number(value) for value in np.ravel(values)) + ")"
