"""What the mutation gate would write instead, and what it leaves alone."""

from __future__ import annotations

import ast

import pytest

from mutation.operators import mutations


def texts(source: str) -> set[str]:
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    return {mutation.text for mutation in mutations(function)}


def of_line(line: str) -> set[str]:
    return texts(f"def backward(dy):\n    {line}\n")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("d = a + b", {"a + b -> a - b", "a + b -> a", "a + b -> b"}),
        ("d = a - b", {"a - b -> a + b", "a - b -> a", "a - b -> -b"}),
        ("d = a * b", {"a * b -> a", "a * b -> b"}),
        ("d = a / b", {"a / b -> a", "a / b -> 1.0 / b"}),
        ("d = 1.0 / b", {"1.0 / b -> 1.0"}),
        ("d = a & b", {"a & b -> a", "a & b -> b"}),
        ("d = a ** 3", {"a ** 3 -> a", "a ** 3 -> a ** (3 - 1)"}),
        ("d = -a", {"-a -> a"}),
        ("d = a.T", {"a.T -> a"}),
        ("d += a", {"d += a -> (dropped)", "d += a -> d -= a", "d += a -> d[...] = a"}),
        ("d -= a", {"d -= a -> (dropped)", "d -= a -> d += a", "d -= a -> d[...] = -a"}),
        ("d *= a", {"d *= a -> (dropped)", "d *= a -> d /= a", "d *= a -> d[...] = a"}),
        ("d[i] += a", {"d[i] += a -> (dropped)", "d[i] += a -> d[i] -= a", "d[i] += a -> d[i] = a"}),
        ("d = a.sum()", {"a.sum() -> a.mean()"}),
        ("d = a.sum(axis=1)", {f"a.sum(axis=1) -> a.{new}" for new in ("mean(axis=1)", "sum(axis=2)", "sum(axis=0)")}),
        ("d = a.max(axis=-1)", {"a.max(axis=-1) -> a.min(axis=-1)", "a.max(axis=-1) -> a.max(axis=-2)", "-1 -> 1"}),
        (
            "d = a.mean(axis=(0, 2))",
            {f"a.mean(axis=(0, 2)) -> a.{new}" for new in ("sum(axis=(0, 2))", "mean(axis=(1, 2))")}
            | {f"a.mean(axis=(0, 2)) -> a.mean(axis=(0, {axis}))" for axis in (1, 3)},
        ),
        ("d = sum_rows(a)", {"sum_rows(a) -> sum_rows(a) / a.shape[-1]"}),
        ("d = a[:, None]", {"a[:, None] -> a[None, :]"}),
        ("d = a[..., None, 0]", {"a[..., None, 0] -> a[None, ..., 0]"}),
        ("d = a.shape[1]", {"a.shape[1] -> a.shape[2]", "a.shape[1] -> a.shape[0]"}),
        ("d = xp.exp(a)", {"xp.exp(a) -> a"}),
        ("d = f_backward(a, b)", {"f_backward(a, b) -> a"}),
        ("return d", {"return d -> return -d"}),
        ("return d, e", {"return (d, e) -> return (-d, e)", "return (d, e) -> return (d, -e)"}),
        ("d = a if b else c", {"if b -> True", "if b -> False"}),
        (
            "xp.subtract(a, b, out=d)",
            {
                f"xp.subtract(a, b, out=d) -> {new}"
                for new in (
                    "(dropped)",
                    "xp.add(a, b, out=d)",
                    "xp.subtract(0.0, b, out=d)",
                    "xp.subtract(a, 0.0, out=d)",
                    "xp.subtract(b, a, out=d)",
                )
            },
        ),
        (
            "self.gamma.receive(d)",
            {"self.gamma.receive(d) -> (dropped)", "self.gamma.receive(d) -> self.gamma.receive(-d)"},
        ),
        ("d = a.transpose(0, 2, 1)", None),
    ],
)  # fmt: skip
def test_what_a_slip_would_write(line, expected):
    found = of_line(line)
    if expected is None:
        assert "a.transpose(0, 2, 1) -> a.transpose(2, 0, 1)" in found
        assert "a.transpose(0, 2, 1) -> a" in found
    else:
        assert found == expected


@pytest.mark.parametrize(
    "line",
    [
        "'a docstring: a + b'",
        "assert a + b",
        "raise ValueError(a + b)",
        "if a + b: raise ValueError('no')",
        "d: Union[a, b[0]] = c",
        "backend.namespace(dy, rows)",
        "self._check_input(x)",
        "if backend.name_of(x) != 'numpy' and a: dx = a * b",
    ],
)
def test_what_computes_nothing_is_left_alone(line):
    assert of_line(line) == set()


def test_the_hosts_side_of_a_condition_on_the_device_is_changed():
    line = "d = a * b if backend.name_of(x) != 'numpy' else a - b"
    assert of_line(line) == {"a - b -> a + b", "a - b -> a", "a - b -> -b"}


def test_the_device_s_side_is_changed_where_it_runs():
    tree = ast.parse("def f(a, b):\n    return a * b if backend.name_of(x) != 'numpy' else a").body[0]
    assert {mutation.text.partition(" -> ")[2] for mutation in mutations(tree, on_device=True)} >= {"a", "b", "True"}


def test_functions_inside_belong_to_the_function_and_their_signatures_are_left_alone():
    source = "def f(a=b + c):\n    def g(x: u[0] = b + c) -> v[1]:\n        return x * y\n    return g\n"
    assert texts(source) == {"x * y -> x", "x * y -> y", "return g -> return -g"}


def test_a_text_that_stands_twice_is_numbered():
    assert of_line("d = [a * b, a * b]") == {"a * b -> a", "a * b -> b", "a * b -> a #2", "a * b -> b #2"}


def test_mutants_compile_differ_and_leave_the_original():
    source = "def f(a, b):\n    a += b.sum(axis=0)\n    if b:\n        a[0] *= -2.0 * b\n    return a - b\n"
    function = ast.parse(source).body[0]
    before = ast.dump(function)
    found = mutations(function)
    dumps = {ast.dump(mutation.tree) for mutation in found}
    assert len(dumps) == len(found) > 10
    assert ast.dump(function) == before
    assert before not in dumps
    for mutation in found:
        compile(ast.fix_missing_locations(ast.Module([mutation.tree], [])), "slip", "exec")
