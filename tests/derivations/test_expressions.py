"""Expressions: every primitive against NumPy, and the rules of named axes."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uanref.derivations.expressions import (
    Expression,
    count,
    d,
    exp,
    fold,
    log,
    logsumexp,
    max_,
    maximum,
    mean,
    patches,
    ref,
    sigmoid,
    softmax,
    softplus,
    sqrt,
    square,
    step,
    sum_,
)
from uanref.derivations.primitives import ELEMENTWISE, PRIMITIVES, Named, evaluate

SEEDS = st.integers(0, 2**16)
a, b = ref("a"), ref("b")
UNARY = {
    "neg": (-a, lambda x: -x),
    "exp": (exp(a), np.exp),
    "log": (log(square(a) + 1), lambda x: np.log(x**2 + 1)),
    "sqrt": (sqrt(square(a)), np.abs),
    "square": (square(a), lambda x: x * x),
    "sigmoid": (sigmoid(a), lambda x: 1 / (1 + np.exp(-x))),
    "softplus": (softplus(a), lambda x: np.log(1 + np.exp(x))),
    "step": (step(a), lambda x: np.where(x > 0, 1.0, 0.0)),
}
BINARY = {
    "add": (a + b, lambda x, y: x + y),
    "sub": (a - b, lambda x, y: x - y),
    "mul": (a * b, lambda x, y: x * y),
    "div": (a / b, lambda x, y: x / y),
    "maximum": (maximum(a, b), lambda x, y: np.where(x > y, x, y)),
}
OVER = {
    "sum": (sum_, lambda x, axis: x.sum(axis)),
    "mean": (mean, lambda x, axis: x.mean(axis)),
    "max": (max_, lambda x, axis: x.max(axis)),
}
# Proven in a test of their own.
OTHERS = {"ref", "number", "count", "softmax", "logsumexp", "patches", "fold"}


def draw(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def run(expression, **values):
    sizes = {axis: n for v in values.values() for axis, n in zip(v.axes, v.array.shape, strict=True)}
    return evaluate(expression, values, sizes)


def test_every_primitive_is_tested_here():
    assert {*UNARY, *BINARY, *OVER, *OTHERS} == set(PRIMITIVES)
    assert {*UNARY, *BINARY} == set(ELEMENTWISE)
    assert len(PRIMITIVES) == len(set(PRIMITIVES))
    for op, (expression, _) in (UNARY | BINARY).items():
        assert expression.op == op or op in {node.op for node in expression.walk()}


@pytest.mark.parametrize("op", UNARY)
@given(SEEDS, st.integers(1, 4), st.integers(1, 4))
def test_elementwise_of_one_value(op, seed, m, c):
    expression, expected = UNARY[op]
    x = draw(seed, m, c)
    made = run(expression, a=Named(("m", "c"), x))
    assert made.axes == ("m", "c")
    np.testing.assert_allclose(made.array, expected(x), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("op", BINARY)
@given(SEEDS, st.permutations(["m", "c", "k"]), st.permutations(["m", "c", "k"]), st.integers(0, 3), st.integers(0, 3))
def test_elementwise_of_two_values_broadcasts_by_name(op, seed, left, right, n, o):
    """Whatever the order of the axes and whichever are missing: the result is NumPy's after sorting them."""
    sizes = {"m": 2, "c": 3, "k": 4}
    expression, expected = BINARY[op]
    left, right = tuple(left[:n]), tuple(right[:o])
    x, y = draw(seed, *(sizes[i] for i in left)), draw(seed + 1, *(sizes[i] for i in right))
    made = run(expression, a=Named(left, x), b=Named(right, y))
    assert made.axes == tuple(dict.fromkeys((*left, *right)))

    def wide(array, axes):
        letters = "".join(axes)
        full = np.einsum(f"{letters},mck->mck", array, np.ones((2, 3, 4)))
        return full

    actual = np.broadcast_to(made.along(("m", "c", "k")), (2, 3, 4))
    np.testing.assert_allclose(actual, expected(wide(x, left), wide(y, right)), rtol=1e-14)


@pytest.mark.parametrize("op", OVER)
@given(SEEDS, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_over_axes(op, seed, m, c, k):
    function, expected = OVER[op]
    x = draw(seed, m, c, k)
    value = Named(("m", "c", "k"), x)
    for axes in (("m",), ("c",), ("k", "m"), ("m", "c", "k")):
        made = run(function(a, *axes), a=value)
        places = tuple("mck".index(axis) for axis in axes)
        assert made.axes == tuple(axis for axis in "mck" if axis not in axes)
        np.testing.assert_allclose(made.array, expected(x, places), rtol=1e-13, atol=1e-14)


def test_a_value_without_an_axis_is_the_same_all_along_it():
    x = Named(("c",), draw(0, 3))
    sizes = {"m": 5, "c": 3}
    for function, factor in ((sum_, 5.0), (mean, 1.0), (max_, 1.0)):
        made = evaluate(function(a, "m"), {"a": x}, sizes)
        assert made.axes == ("c",)
        np.testing.assert_allclose(made.array, factor * x.array, rtol=1e-15)
    total = evaluate(sum_(a, "m", "c"), {"a": x}, sizes)
    assert total.axes == ()
    np.testing.assert_allclose(total.array, 5 * x.array.sum(), rtol=1e-14)


@given(SEEDS, st.sampled_from(["m", "c"]), st.sampled_from([0.0, 1000.0, -1000.0]))
def test_softmax_and_its_logsumexp(seed, axis, shift):
    x = draw(seed, 3, 4)
    place = "mc".index(axis)
    values = {"a": Named(("m", "c"), x + shift)}
    total = np.log(np.exp(x).sum(place)) + shift
    made = run(logsumexp(a, axis), **values)
    assert made.axes == (("c",) if axis == "m" else ("m",))
    np.testing.assert_allclose(made.array, total, rtol=1e-13, atol=1e-13)
    made = run(softmax(a, axis), **values)
    assert made.axes == ("m", "c")
    np.testing.assert_allclose(made.array, np.exp(x + shift - np.expand_dims(total, place)), rtol=1e-11)


def test_large_arguments_do_not_overflow():
    x = Named(("m",), np.array([-1e4, -800.0, 0.0, 800.0, 1e4]))
    np.testing.assert_array_equal(run(sigmoid(a), a=x).array, [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(run(softplus(a), a=x).array, [0, 0, math.log(2), 800, 1e4], rtol=1e-15)
    np.testing.assert_array_equal(run(step(a), a=x).array, [0, 0, 0, 1, 1])  # 0 at 0


IMAGES = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))


@given(SEEDS, IMAGES, st.permutations(["n", "i", "h", "k"]))
def test_patches_are_windows_of_the_image(seed, lengths, order):
    u, v, p, q = lengths
    h, w = p + u - 1, q + v - 1
    image = draw(seed, 2, 3, h, w)
    turned = Named(tuple(order), np.einsum(f"nihk->{''.join(order)}", image))
    sizes = {"n": 2, "i": 3, "h": h, "k": w, "u": u, "v": v, "p": p, "q": q}
    made = evaluate(patches(a), {"a": turned}, sizes)
    assert set(made.axes) == set("niuvpq")
    x = made.along(("n", "i", "u", "v", "p", "q"))
    assert x.shape == (2, 3, u, v, p, q)
    for place in itertools.product(range(u), range(v), range(p), range(q)):
        s, t, y, z = place
        np.testing.assert_array_equal(x[:, :, s, t, y, z], image[:, :, y + s, z + t])


@given(SEEDS, IMAGES, st.permutations(["n", "i", "u", "v", "p", "q"]))
def test_fold_is_the_transpose_of_patches(seed, lengths, order):
    """``<fold(e), x> = <e, patches(x)>`` for every e and x."""
    u, v, p, q = lengths
    sizes = {"n": 2, "i": 2, "h": p + u - 1, "k": q + v - 1, "u": u, "v": v, "p": p, "q": q}
    x, e = draw(seed, 2, 2, sizes["h"], sizes["k"]), draw(seed + 1, 2, 2, u, v, p, q)
    turned = Named(tuple(order), np.einsum(f"niuvpq->{''.join(order)}", e))
    folded = evaluate(fold(a), {"a": turned}, sizes)
    assert set(folded.axes) == set("nihk")
    columns = evaluate(patches(a), {"a": Named(("n", "i", "h", "k"), x)}, sizes).along(tuple("niuvpq"))
    np.testing.assert_allclose((folded.along(tuple("nihk")) * x).sum(), (columns * e).sum(), rtol=1e-12, atol=1e-12)


def test_leaves():
    sizes = {"m": 5, "c": 3}
    assert evaluate(count("m"), {}, sizes).array == 5
    assert evaluate(count("m", "c"), {}, sizes).array == 15
    assert evaluate(count(), {}, sizes).array == 1
    assert evaluate(Expression("number", (), (2.5,)), {}, sizes).array == 2.5
    value = Named(("m",), draw(0, 5))
    assert evaluate(a, {"a": value}, sizes) is value
    assert d("a") == ref("d_a")


def test_numbers_may_stand_on_either_side():
    x = Named(("m",), np.array([2.0, 4.0]))
    for expression, expected in (
        (a + 1, [3, 5]),
        (1 + a, [3, 5]),
        (a - 1, [1, 3]),
        (1 - a, [-1, -3]),
        (a * 3, [6, 12]),
        (3 * a, [6, 12]),
        (a / 2, [1, 2]),
        (8 / a, [4, 2]),
        (-a, [-2, -4]),
        (maximum(a, 3), [3, 4]),
        (2 * a - 8 / a * a, [-4, 0]),
    ):
        np.testing.assert_array_equal(run(expression, a=x).array, expected)


def test_along_turns_and_widens():
    x = Named(("m", "c"), draw(0, 2, 3))
    np.testing.assert_array_equal(x.along(("c", "m")), x.array.T)
    assert x.along(("k", "c", "n", "m")).shape == (1, 3, 1, 2)
    np.testing.assert_array_equal(x.along(("k", "m", "c"))[0], x.array)
    with pytest.raises(ValueError, match=r"axes \('m', 'c'\) has no place in axes \('c',\): sum over \['m'\] first"):
        x.along(("c",))


def test_an_expression_is_data():
    expression = -sum_(a * square(b) / count("m", "c"), "m") + 2
    assert expression.names() == {"a", "b"}
    assert [node.op for node in expression.walk()] == [
        "add", "neg", "sum", "div", "mul", "ref", "square", "ref", "count", "number",
    ]  # fmt: skip
    plain = expression.as_list()
    assert json.loads(json.dumps(plain)) == plain
    assert plain == [
        "add", [],
        ["neg", [], ["sum", ["m"], ["div", [],
            ["mul", [], ["ref", ["a"]], ["square", [], ["ref", ["b"]]]], ["count", ["m", "c"]]]]],
        ["number", [2.0]],
    ]  # fmt: skip
    assert expression == -sum_(ref("a") * square(ref("b")) / count("m", "c"), "m") + 2
    assert len({expression, expression + 0}) == 2


def test_what_is_not_there_is_an_error():
    with pytest.raises(KeyError, match="a"):
        evaluate(a, {}, {})
    with pytest.raises(KeyError, match="cosh"):
        evaluate(Expression("cosh", (a,)), {"a": Named((), np.asarray(1.0))}, {})
    with pytest.raises(KeyError, match="k"):
        evaluate(sum_(a, "k"), {"a": Named((), np.asarray(1.0))}, {"m": 2})
    with pytest.raises(ValueError, match="broadcast"):
        evaluate(a + b, {"a": Named(("m",), np.ones(2)), "b": Named(("m",), np.ones(3))}, {"m": 2})
