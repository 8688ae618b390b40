"""What the kernels' gate would write instead, and what it leaves alone."""

from __future__ import annotations

import pytest

from mutation import cuda_operators
from mutation.cuda_operators import functions, slips, tokenize


def texts(source: str) -> set[str]:
    return {slip.text for slip in slips(source)}


def of_line(line: str) -> set[str]:
    return texts(f"__global__ void f(scalar* a, int n) {{ {line} }}")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("return a + b;", {"a + b -> a - b", "a + b -> a", "a + b -> b"}),
        ("return a - b;", {"a - b -> a + b", "a - b -> a", "a - b -> -(b)"}),
        ("return a * b;", {"a * b -> a", "a * b -> b"}),
        ("return a / b;", {"a / b -> a", "a / b -> a * b"}),
        ("return a % b;", {"a % b -> a"}),
        ("return -a;", {"-a -> a"}),
        ("return -a * b;", {"-a * b -> -a", "-a * b -> b", "-a * b -> a * b"}),
        ("return a && b;", {"a && b -> a", "a && b -> b"}),
        # Every term is dropped once.
        (
            "return a + b + c;",
            {"a + b -> a - b", "a + b -> a", "a + b -> b", "a + b + c -> a + b", "a + b + c -> a + b - c"},
        ),
        # Operands end at brackets, weaker operators and commas.
        ("return f(a * b, c);", {"a * b -> a", "a * b -> b"}),
        (
            "return (a + b) * c;",
            {"a + b -> a - b", "a + b -> a", "a + b -> b", "(a + b) * c -> (a + b)", "(a + b) * c -> c"},
        ),
        ("return x[i] * at.y();", {"x[i] * at.y() -> x[i]", "x[i] * at.y() -> at.y()", "x[i] -> x[i + 1]"}),
        ("return (scalar)a * b;", {"(scalar)a * b -> (scalar)a", "(scalar)a * b -> b"}),
        ("return (double)*a;", set()),  # a pointer's target has one operand
        ("const scalar* b = a;", set()),
        ("a += b;", {"a += b; -> a = b;", "a += b; -> a -= b;", "a += b; -> (dropped)"}),
        ("a *= b;", {"a *= b; -> a = b;", "a *= b; -> a /= b;", "a *= b; -> (dropped)"}),
        ("a[k] = b;", {"a[k] = b; -> (dropped)", "a[k] -> a[k + 1]"}),
        ("scalar c = b;", set()),  # without a declaration it would not compile
        ("b = 0.5;", {"b = 0.5 -> b = 1.0", "b = 0.5; -> (dropped)"}),
        (
            "scalar b = (scalar)2 * c;",
            {"(scalar)2 * c -> (scalar)2", "(scalar)2 * c -> c", "(scalar)2 * c -> (scalar)3 * c"},
        ),
        ("a[0] = b;", {"a[0] = b; -> (dropped)", "a[0] -> a[1]"}),
        ("for (int k = 0; k < n; ++k) g(k);", {"k = 0 -> k = 1", "k < n -> k <= n", "g(k) -> (dropped)"}),
        ("for (int k = n; k > 0; k -= 2) ;", {"k > 0 -> k >= 0", "k > 0 -> k > 1", "k -= 2 -> k -= 3"}),
        ("if (a == 0) g();", {"if (a == 0) -> if (true)", "if (a == 0) -> if (false)", "g() -> (dropped)"}),
        (
            "if (a < b) g();",
            {"if (a < b) -> if (true)", "if (a < b) -> if (false)", "a < b -> a <= b", "g() -> (dropped)"},
        ),
        (
            "if (a) b += c;",
            {"if (a) -> if (true)", "if (a) -> if (false)"}
            | {"b += c; -> b = c;", "b += c; -> b -= c;", "b += c; -> (dropped)"},
        ),
        ("return a > b ? a : b;", {f"a > b ? a : b -> {c} ? a : b" for c in ("true", "false")}),
        ("return exp(a);", {"exp(a) -> (a)"}),
        ("return fmax(a, b);", {"fmax(a, b) -> fmin(a, b)"}),
        ("return blockIdx.x;", {"blockIdx.x -> blockIdx.y"}),
        ("__syncthreads();", {"__syncthreads() -> (dropped)"}),
        # What is no arithmetic is left alone: sizes of arrays, masks, assertions, comments, preprocessor lines.
        ("__shared__ double total[THREADS / 32];", set()),
        ("scalar w[2 * K], v[K + 1];", set()),
        ("return __ballot_sync(0xffffffffu, a);", set()),
        ('static_assert(K + 1 <= THREADS, "a thread each");', set()),
        ("return a;  // a + b\n", set()),
        ("\n#pragma unroll 1 + 2\nreturn a;", set()),
    ],
)
def test_a_line_gives_these_slips(line, expected):
    assert of_line(line) == expected


def test_the_source_holds_the_slip_and_nothing_else_changed():
    source = "// sums\n__device__ int f(int a) {\n  return a + 1;  // one more\n}\n"
    by_text = {slip.text: slip for slip in slips(source)}
    assert by_text["a + 1 -> a - 1"].source == source.replace("a + 1", "a - 1")
    assert by_text["a + 1 -> a - 1"].function == "f"
    assert by_text["a + 1 -> a - 1"].operator == "sign"
    assert by_text["a + 1 -> a + 2"].operator == "number"


def test_equal_texts_of_a_function_are_numbered():
    found = slips("void f() { g(a % b); h(a % b); } void k() { g(a % b); }")
    texts = [(slip.function, slip.text) for slip in found if slip.operator == "divisor"]
    assert texts == [("f", "a % b -> a"), ("f", "a % b -> a #2"), ("k", "a % b -> a")]


def test_functions_are_found_with_their_names():
    source = """
    typedef REAL scalar;
    constexpr int K = COMPONENTS;
    struct Pair {
      scalar a, b;
      __device__ Pair(scalar x) : a(x + 1), b(x) { a = 2; }
      __device__ scalar sum() const { return a + b; }
    };
    template <int N>
    __device__ inline void g(const scalar (&x)[N]) { if (N > 1) { h(); } }
    extern "C" __global__ void __launch_bounds__(THREADS) kernel(scalar* x) { x[0] = 1; }
    extern "C" {
    __global__ void another(scalar* x) { x[0] = 1; }
    }
    """
    names = ["Pair::Pair", "Pair::sum", "g", "kernel", "another"]
    assert [name for name, _, _ in functions(tokenize(source))] == names
    found = {(slip.function, slip.text) for slip in slips(source)}
    assert ("Pair::Pair", "x + 1 -> x") in found  # a constructor's initializers too
    assert ("kernel", "x[0] -> x[1]") in found


def test_no_slip_twice_and_none_without_effect_on_the_text():
    source = "void f() { a = b + c * d - e / g[k]; if (a > 0 && b < 1) a += b; }"
    found = [slip.source for slip in slips(source)]
    assert len(found) == len(set(found)) > 20
    assert source not in found


def test_brackets_that_do_not_close_are_no_source():
    with pytest.raises(ValueError, match="nothing closes"):
        slips("void f() { g(a; }")


def test_tokens_keep_their_places():
    source = "a<<=0x1fu; // b\nc = 1.5e-3f;"
    found = tokenize(source)
    assert [token.text for token in found] == ["a", "<<=", "0x1fu", ";", "c", "=", "1.5e-3f", ";"]
    assert all(source[token.start : token.end] == token.text for token in found)
    assert cuda_operators.TOKEN.fullmatch("# define A 1")
