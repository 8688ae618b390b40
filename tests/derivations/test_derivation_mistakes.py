"""The mutation gate of the derivations: every single slip of every local backward is seen by the numerical proofs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.derivation_cases import PROVEN, TOLERANCE, name_of

from uanref.derivations import DERIVATIONS, Derivation, Input, Local, Step, find
from uanref.derivations.expressions import count, d, exp, mean, ref, square, sum_
from uanref.derivations.mistakes import mistakes, plant


def before(derivation: Derivation, name: str) -> set[str]:
    """The value itself and all that it was computed from: what its gradient flows on to."""
    found = {name}
    for step in reversed(derivation.steps):
        if step.name in found:
            found |= set(step.backward)
    return found


@pytest.mark.parametrize("derivation", PROVEN, ids=name_of)
def test_every_mistake_turns_its_input_red_and_nothing_that_does_not_depend_on_it(derivation):
    right = derivation.trace()
    for mistake in mistakes(derivation):
        trace = plant(derivation, mistake, numerical=False)
        # The proofs run forward alone, so they are the right derivation's.
        errors = {n: dataclasses.replace(node, numerical=right[n].numerical).error for n, node in trace.nodes.items()}
        red = {name for name, error in errors.items() if error is not None and not error <= TOLERANCE}
        assert mistake.input in red, mistake.id
        assert red <= before(derivation, mistake.input), mistake.id
        np.testing.assert_array_equal(trace.output, right.output)  # the way forward is untouched


@pytest.mark.parametrize("derivation", PROVEN, ids=name_of)
def test_every_local_backward_is_covered(derivation):
    constants = {node.name for node in derivation.inputs if node.constant}
    ways = {(step.name, name) for step in derivation.steps for name in step.backward if name not in constants}
    found = mistakes(derivation)
    assert {(mistake.step, mistake.input) for mistake in found} == ways
    flipped = {(mistake.step, mistake.input) for mistake in found if mistake.description == "sign flipped"}
    assert flipped == ways


@pytest.mark.parametrize("derivation", DERIVATIONS, ids=name_of)
def test_mistakes_are_the_same_at_every_call_and_each_is_another_one(derivation):
    one, two = mistakes(derivation), mistakes(derivation)
    assert [mistake.id for mistake in one] == [mistake.id for mistake in two]
    assert [mistake.replacement for mistake in one] == [mistake.replacement for mistake in two]
    assert len({mistake.id for mistake in one}) == len(one)
    for mistake in one:
        step = derivation.node(mistake.step)
        changed = [n for n in step.backward if step.backward[n] != mistake.replacement.backward[n]]
        assert changed == [mistake.input]  # a single slip
        assert (mistake.replacement.file, mistake.replacement.line) == (step.file, step.line)
    assert bool(one) != derivation.forward_only


def ids(derivation: Derivation) -> list[str]:
    return [mistake.id for mistake in mistakes(derivation)]


def test_what_the_smallest_derivations_list():
    assert ids(find("relu")) == [
        "x <- y: sign flipped",
        "x <- y: the factor step(x) dropped",
        "x <- y: the factor dy dropped",
        "x <- y: step forgotten",
    ]
    assert ids(find("linear")) == [
        "x <- product: sign flipped",
        "x <- product: mean over o instead of the sum",
        "x <- product: the factor dproduct dropped",
        "x <- product: the factor w dropped",
        "w <- product: sign flipped",
        "w <- product: mean over n instead of the sum",
        "w <- product: the factor dproduct dropped",
        "w <- product: the factor x dropped",
        "product <- y: sign flipped",
        "b <- y: sign flipped",
        "b <- y: mean over n instead of the sum",
    ]


def test_the_classical_slips_of_batch_normalization_are_there():
    assert {
        "mu <- centred: sign flipped",
        "mu <- centred: mean over m instead of the sum",
        "x <- mu: the divisor M dropped",
        "x <- mu: multiplied by M instead of divided",
        "centred <- squared: the factor 2 dropped",
        "var <- std: the factor 2 dropped",
        "std <- inverse_std: square forgotten",
        "inverse_std <- x_hat: x_hat instead of centred",
        "gamma <- scaled: scaled instead of x_hat",
    } <= set(ids(find("bn")))


def toy(rule, *, sizes=None):
    """x (m, c) -> y (m, c), with ``rule`` as the way back."""
    axes = {"m": "sample", "c": "channel"}
    x = Input("x", "x", ("m", "c"), "a value")
    y = Step("y", "y", ("m", "c"), "y = exp x", exp(ref("x")), {"x": Local("dx", rule)})
    return Derivation("toy", "Toy", "A toy.", axes, sizes or {"m": 3, "c": 2}, (x,), (y,))


x, y, dy = ref("x"), ref("y"), d("y")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (dy, ["sign flipped"]),
        (-dy, ["sign flipped"]),
        (1 * dy, ["sign flipped"]),  # without the factor 1 nothing changes
        (dy / 1, ["sign flipped"]),
        (0 * y + dy, ["sign flipped", "the term dy dropped", "sign of the term dy flipped", "the factor 0 dropped"]),
        (dy - y, ["sign flipped", "the term dy dropped", "the term y dropped", "sign of the term y flipped",
                  "x instead of y"]),
        (dy * y / count("m", "c"), ["sign flipped", "the factor dy dropped", "the factor y dropped",
                                    "the divisor M C dropped", "multiplied by M C instead of divided",
                                    "x instead of y", "the count M C without M", "the count M C without C"]),
        (sum_(dy, "m", "c"), ["sign flipped", "sum over m missing", "mean over m instead of the sum",
                              "sum over c missing", "mean over c instead of the sum"]),
        (mean(dy, "m"), ["sign flipped", "mean over m missing", "sum over m instead of the mean"]),
        (-square(y) * dy, ["sign flipped", "the factor square(y) dropped", "the factor dy dropped", "square forgotten",
                           "x instead of y"]),
        (dy * exp(-x), ["sign flipped", "the factor dy dropped", "the factor exp(-x) dropped", "exp forgotten",
                        "sign of x flipped", "y instead of x"]),
        (dy / (dy / 2), ["sign flipped", "the factor dy dropped", "the divisor dy / 2 dropped",
                         "multiplied by dy / 2 instead of divided", "the divisor 2 dropped",
                         "multiplied by 2 instead of divided"]),
    ],
    ids=range(12),
)  # fmt: skip
def test_slips_of_one_rule(rule, expected):
    assert sorted(mistake.description for mistake in mistakes(toy(rule))) == sorted(expected)


def test_slips_that_are_equal_at_these_sizes_are_left_out():
    assert "mean over m instead of the sum" in [m.description for m in mistakes(toy(sum_(dy, "m")))]
    assert [m.description for m in mistakes(toy(sum_(dy, "m"), sizes={"m": 1, "c": 2}))] == ["sign flipped"]


def test_repeated_descriptions_are_numbered():
    assert [m.description for m in mistakes(toy(y * y * dy)) if "instead" in m.description] == [
        "x instead of y",
        "x instead of y (2)",
    ]


def test_a_mistake_is_planted_with_the_readers_own_numbers():
    bn = find("bn")
    mistake = next(m for m in mistakes(bn) if m.id == "mu <- centred: sign flipped")
    inputs = bn.example(7, m=4)
    upstream = np.random.default_rng(8).standard_normal((4, 2))
    right, wrong = bn.trace(inputs, upstream), plant(bn, mistake, inputs, upstream)
    np.testing.assert_array_equal(wrong["mu"].gradient, -right["mu"].gradient)
    np.testing.assert_array_equal(wrong["mu"].numerical, right["mu"].numerical)
    assert wrong["mu"].error == pytest.approx(2.0)
    assert plant(bn, mistake, inputs, upstream, numerical=False)["mu"].numerical is None
    seeded = plant(bn, mistake, seed=9)
    np.testing.assert_array_equal(seeded.upstream, bn.trace(seed=9, numerical=False).upstream)


def test_another_derivations_mistake_is_refused():
    mistake = next(m for m in mistakes(find("bn")) if m.step == "var")
    with pytest.raises(ValueError, match="linear has no step 'var': the mistake is another derivation's"):
        plant(find("linear"), mistake)
