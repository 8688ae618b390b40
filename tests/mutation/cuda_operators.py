"""Slips in CUDA code: small changes of its text that a person writing a kernel could make.

The text is cut into tokens, and the operands of an operator are found by precedence: enough for the arithmetic of
kernels, far less than a compiler. What comes out need not compile; the gate leaves such slips out.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from mutation.operators import DROPPED

TOKEN = re.compile(
    r"""
    (?P<talk>//[^\n]*|/\*.*?\*/|^[ \t]*\#(?:[^\n\\]|\\.)*|\s+)
    |(?P<string>"(?:[^"\\]|\\.)*")
    |(?P<number>0x[0-9a-fA-F]+[uUlL]*|(?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?[fFuUlL]*)
    |(?P<name>[A-Za-z_]\w*)
    |(?P<sign><<=|>>=|->|\+\+|--|<<|>>|<=|>=|==|!=|&&|\|\||[-+*/%&|^]=|::|.)
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
PRECEDENCE = {"*": 10, "/": 10, "%": 10, "+": 9, "-": 9, "<<": 8, ">>": 8, "<": 7, ">": 7, "<=": 7, ">=": 7}
PRECEDENCE |= {"==": 6, "!=": 6, "&": 5, "^": 4, "|": 3, "&&": 2, "||": 1}
ASSIGNMENTS = {"=", "+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=", "<<=", ">>="}
OPEN, CLOSE = {"(": ")", "[": "]", "{": "}"}, {")", "]", "}"}
ENDS = {";", ",", "?", ":", *ASSIGNMENTS}  # of an operand, besides brackets and weaker operators
KEYWORDS = {"return", "if", "else", "for", "while", "do", "break", "continue", "case", "switch"}
TYPES = {"const", "void", "bool", "char", "short", "int", "unsigned", "signed", "long", "float", "double", "auto"}
TYPES |= {"size_t", "scalar", "REAL", "static", "constexpr", "volatile", "__shared__", "__restrict__"}

NEIGHBOURS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
SWAPS = {"fmax": "fmin", "fmin": "fmax", "max": "min", "min": "max", "fmaxf": "fminf", "fminf": "fmaxf"}
ELEMENTWISE = {"exp", "expm1", "log", "log1p", "sqrt", "rsqrt", "tanh", "fabs", "abs", "erf"}
AXES = {"x": "y", "y": "x"}  # of blockIdx and gridDim


class Token(NamedTuple):
    """A piece of the text.

    Attributes:
        text: the piece.
        kind: ``"name"``, ``"number"``, ``"sign"`` or ``"string"``.
        start: where it begins.
        end: where it ends, exclusive.
    """

    text: str
    kind: str
    start: int
    end: int


class Slip(NamedTuple):
    """One slip.

    Attributes:
        function: the function that it is in.
        operator: its kind.
        text: ``"before -> after"``, numbered where a function has the same text twice.
        source: the whole source with the slip in it.
    """

    function: str
    operator: str
    text: str
    source: str


class _Change(NamedTuple):
    """``after`` instead of what stands from ``start`` to ``end``; shown from ``show_start`` to ``show_end``."""

    operator: str
    start: int
    end: int
    after: str
    show_start: int
    show_end: int


def slips(source: str) -> list[Slip]:
    """Return every slip in the functions of a CUDA source, in its order; none of them equals another."""
    tokens = tokenize(source)
    found: list[Slip] = []
    seen = {source}
    repeats: dict[tuple[str, str], int] = {}
    for name, first, last in functions(tokens):
        for change in _changes(_Body(source, tokens[first:last], _struct_names(tokens))):
            changed = source[: change.start] + change.after + source[change.end :]
            if changed in seen:
                continue
            seen.add(changed)
            before = source[change.show_start : change.show_end]
            after = source[change.show_start : change.start] + change.after + source[change.end : change.show_end]
            text = f"{_line(before)} -> {DROPPED if _line(after) in ('', ';') else _line(after)}"
            repeats[name, text] = repeats.get((name, text), 0) + 1
            if repeats[name, text] > 1:
                text += f" #{repeats[name, text]}"
            found.append(Slip(name, change.operator, text, changed))
    return found


def _line(text: str) -> str:
    return " ".join(re.sub(r"//[^\n]*", "", text).split())


def tokenize(source: str) -> list[Token]:
    """Cut a source into tokens; comments, white space and preprocessor lines are left out."""
    matches = TOKEN.finditer(source)
    return [Token(m[0], m.lastgroup or "", m.start(), m.end()) for m in matches if m.lastgroup != "talk"]


def functions(tokens: list[Token]) -> list[tuple[str, int, int]]:
    """Return (name, first token, end) of every function that is defined; members are called ``Struct::member``.

    The first token is the brace that opens the body, or the colon before a constructor's initializers.
    """
    found, scopes, begin, i = [], [""], 0, 0
    while i < len(tokens):
        text = tokens[i].text
        if text == ";":
            begin = i + 1
        elif text == "}":
            scopes.pop()
            begin = i + 1
        elif text == "{":
            head = [token.text for token in tokens[begin:i]]
            end = _matching(tokens, i)
            if "(" in head:
                name = next(
                    head[k] for k in range(len(head) - 1) if head[k + 1] == "(" and head[k] != "__launch_bounds__"
                )
                closed = _matching(tokens, begin + _call_of(head, name))
                colon = closed + 1 if tokens[closed + 1].text == ":" else i
                found.append((scopes[-1] + name, colon, end + 1))
                begin, i = end + 1, end
            else:  # a struct, or extern "C" around functions
                scopes.append(f"{head[head.index('struct') + 1]}::" if "struct" in head else scopes[-1])
                begin = i + 1
        i += 1
    return found


def _call_of(head: list[str], name: str) -> int:
    return next(k + 1 for k in range(len(head) - 1) if head[k] == name and head[k + 1] == "(")


def _struct_names(tokens: list[Token]) -> set[str]:
    return {after.text for before, after in itertools.pairwise(tokens) if before.text == "struct"}


def _matching(tokens: list[Token], opening: int) -> int:
    """Return the position of the bracket that closes the one at ``opening``."""
    depth = 0
    for i in range(opening, len(tokens)):
        if tokens[i].text in OPEN:
            depth += 1
        elif tokens[i].text in CLOSE:
            depth -= 1
            if depth == 0:
                return i
    raise ValueError(f"nothing closes {tokens[opening].text!r}")


# --- reading a body ---------------------------------------------------------------------------------


class _Body:
    """The tokens of one function's body, with what each of them is."""

    def __init__(self, source: str, tokens: list[Token], types: set[str]) -> None:
        self.source, self.tokens, self.types = source, tokens, TYPES | types
        self.partner: dict[int, int] = {}
        for i, token in enumerate(tokens):
            if token.text in OPEN:
                j = _matching(tokens, i)
                self.partner[i], self.partner[j] = j, i
        self.talk = self._array_sizes() | self._assertions()

    def __getitem__(self, i: int) -> str:
        return self.tokens[i].text if 0 <= i < len(self.tokens) else ""

    def text(self, first: int, last: int) -> str:
        """Return the text of the tokens from ``first`` to ``last``, both included."""
        return self.source[self.tokens[first].start : self.tokens[last].end]

    def is_operand_end(self, i: int) -> bool:
        """Tell whether an operand can end here, so that a sign which follows has two operands."""
        token = self.tokens[i]
        if token.kind == "name":
            return token.text not in self.types | KEYWORDS
        return token.kind == "number" or (token.text in (")", "]") and not self.is_cast(i))

    def is_cast(self, closing: int) -> bool:
        """Tell whether the bracket that closes here holds a type and nothing else."""
        opening = self.partner[closing]
        inside = [self[i] for i in range(opening + 1, closing)]
        after_name = opening > 0 and self.tokens[opening - 1].kind == "name" and self[opening - 1] not in KEYWORDS
        return not after_name and bool(inside) and all(text in self.types | {"*"} for text in inside)

    def is_binary(self, i: int) -> bool:
        """Tell whether this is an operator with two operands."""
        return self[i] in PRECEDENCE and i > 0 and self.is_operand_end(i - 1)

    def left(self, i: int) -> int:
        """Return where the left operand of the operator at ``i`` begins."""
        strength = PRECEDENCE[self[i]]
        j = i - 1
        while True:
            if self[j] in (")", "]"):
                j = self.partner[j]
            before = self[j - 1] if j > 0 else ";"
            if before in OPEN or before in ENDS or before in ("{", "}") or before in KEYWORDS:
                return j
            if self.is_binary(j - 1) and PRECEDENCE[before] < strength:
                return j
            j -= 1

    def right(self, i: int) -> int:
        """Return where the right operand of the operator at ``i`` ends."""
        strength = PRECEDENCE.get(self[i], 11)
        j = i + 1
        while True:
            if self[j] in OPEN:
                j = self.partner[j]
            after = self[j + 1]
            if after in CLOSE or after in ENDS or after == "":
                return j
            if self.is_binary(j + 1) and PRECEDENCE[after] <= strength:
                return j
            j += 1

    def is_chain(self, first: int, i: int) -> bool:
        """Tell whether the left operand, from ``first`` to before ``i``, is an operation as strong as that at ``i``."""
        j = first
        while j < i:
            if self[j] in OPEN:
                j = self.partner[j]
            elif self.is_binary(j) and PRECEDENCE[self[j]] == PRECEDENCE[self[i]]:
                return True
            j += 1
        return False

    def is_condition(self, first: int, last: int) -> bool:
        """Tell whether these tokens decide a choice: always and never are slips of their own.

        Of an ``if`` the whole of ``==`` or ``!=``, whose neighbour is its opposite. Of ``a > b ? ... : ...`` each
        comparison: with equal sides, as at a bound, both choices are the same number.
        """
        whole_if = self[first - 2] == "if" and self.partner.get(first - 1) == last + 1
        return self[last + 1] == "?" or (whole_if and {"==", "!="} & {self[j] for j in range(first, last)} != set())

    def statement(self, i: int) -> tuple[int, int] | None:
        """Return the first and last token of the statement around ``i``; None inside brackets, as of ``for (...)``."""
        first = i
        while self[first - 1] not in (";", "{", "}", "else", ""):
            if self[first - 1] == ")" and self._is_head(first - 1):
                break
            if self[first - 1] in OPEN:
                return None
            first = self.partner[first - 1] if self[first - 1] in CLOSE else first - 1
        last = i
        while self[last] != ";":
            if self[last] in CLOSE or self[last] == "":
                return None
            last = self.partner[last] if self[last] in OPEN else last
            last += 1
        return first, last

    def _is_head(self, closing: int) -> bool:
        return self[self.partner[closing] - 1] in ("if", "for", "while")

    def _array_sizes(self) -> set[int]:
        """Return the tokens inside the brackets of array declarations: a size is no arithmetic."""
        inside: set[int] = set()
        for i, token in enumerate(self.tokens):
            if token.text == "[":
                j = i
                while self[j - 1] not in (";", "{", "}", "(", "=", "+=", "return", ""):
                    j = self.partner[j - 1] if self[j - 1] in ("]", ")") else j - 1
                if self[j] in self.types:
                    inside.update(range(i, self.partner[i] + 1))
        return inside

    def _assertions(self) -> set[int]:
        asserted = [i for i, token in enumerate(self.tokens) if token.text == "static_assert"]
        return {j for i in asserted for j in range(i, self.partner[i + 1] + 1)}


# --- what a slip would write -------------------------------------------------------------------------


def _changes(body: _Body) -> Iterator[_Change]:
    for i, token in enumerate(body.tokens):
        if i in body.talk:
            continue
        if body.is_binary(i):
            yield from _binary(body, i)
        elif token.text == "-" and body[i - 1] != "operator":
            yield _replaced(body, "sign", i, i, "", shown=(i, body.right(i)))
        elif token.kind == "number":
            yield from _number(body, i)
        elif token.text in ASSIGNMENTS:
            yield from _assignment(body, i)
        elif token.text == "?":
            yield from _choice(body, i)
        elif token.text == "[":
            yield from _index(body, i)
        elif token.kind == "name":
            yield from _name(body, i)


def _replaced(
    body: _Body, operator: str, first: int, last: int, after: str, shown: tuple[int, int] | None = None
) -> _Change:
    """Write ``after`` instead of the tokens from ``first`` to ``last``; the text of ``shown`` tells where."""
    tokens = body.tokens
    show = shown or (first, last)
    return _Change(operator, tokens[first].start, tokens[last].end, after, tokens[show[0]].start, tokens[show[1]].end)


def _binary(body: _Body, i: int) -> Iterator[_Change]:
    first, last, sign = body.left(i), body.right(i), body[i]
    left, right = body.text(first, i - 1), body.text(i + 1, last)

    def changed(operator: str, after: str) -> _Change:
        return _replaced(body, operator, first, last, after)

    # Each operand of a + b + c, which is (a + b) + c, is dropped once.
    alone = not body.is_chain(first, i)
    if sign in ("+", "-"):
        yield _replaced(body, "sign", i, i, "-" if sign == "+" else "+", shown=(first, last))
        yield changed("term", left)
        if alone:
            yield changed("term", right if sign == "+" else f"-({right})")
    elif sign == "*":
        yield changed("factor", left)
        if alone:
            yield changed("factor", right)
    elif sign in ("/", "%"):
        yield changed("divisor", left)
        if sign == "/":
            yield _replaced(body, "divisor", i, i, "*", shown=(first, last))
    elif sign in NEIGHBOURS and not body.is_condition(first, last):
        yield _replaced(body, "condition", i, i, NEIGHBOURS[sign], shown=(first, last))
    elif sign in ("&&", "||"):
        yield changed("condition", left)
        if alone:
            yield changed("condition", right)


def _number(body: _Body, i: int) -> Iterator[_Change]:
    text = body[i]
    if text.startswith("0x") or body[i - 1] in ("==", "!="):  # a mask of lanes; which thread, or whether it is 0
        return
    digits = text.rstrip("fFuUlL")
    suffix = text[len(digits) :]
    is_whole = digits.isdecimal()
    after = str(int(digits) + 1) if is_whole else repr(2.0 * float(digits) or 1.0)
    first, last = _around(body, i)
    yield _replaced(body, "number", i, i, after + suffix, shown=(first, last))


def _around(body: _Body, i: int) -> tuple[int, int]:
    """Return the tokens to show for a change of one token: the smallest operation or assignment that it is part of."""
    first = last = i
    if body[i - 1] == ")" and body.is_cast(i - 1):
        first = body.partner[i - 1]
    if body.is_binary(first - 1):
        first = body.left(first - 1)
    elif i + 1 < len(body.tokens) and body.is_binary(i + 1):
        last = body.right(i + 1)
    elif body[first - 1] in ASSIGNMENTS:
        first -= 2
        if body[first] in CLOSE:
            first = body.partner[first] - 1
    elif body[first - 1] in ("?", ":", "return"):
        first -= 1
    elif body[i - 1] in OPEN and i >= 2:
        first, last = i - 2, body.partner[i - 1]
    return first, last


def _assignment(body: _Body, i: int) -> Iterator[_Change]:
    around = body.statement(i)
    if around is None:  # the step of a loop: what is wrong there never ends
        return
    first, last = around
    sign = body[i]
    if sign in ("+=", "-=", "*=", "/="):
        kind = "term" if sign in ("+=", "-=") else "factor"
        turned = {"+=": "-=", "-=": "+=", "*=": "/=", "/=": "*="}[sign]
        yield _replaced(body, kind, i, i, "=", shown=(first, last))
        yield _replaced(body, "sign" if kind == "term" else "divisor", i, i, turned, shown=(first, last))
    if body[first] not in body.types:
        # The semicolon stays, for `if (...) x = y;`.
        yield _replaced(body, "statement", first, last, ";")._replace(after="", end=body.tokens[last].start)


def _choice(body: _Body, i: int) -> Iterator[_Change]:
    """``a ? b : c``: always b, or always c."""
    depth, colon = 0, i + 1
    while body[colon] != ":" or depth:
        if body[colon] in OPEN:
            colon = body.partner[colon]
        elif body[colon] == "?":
            depth += 1
        elif body[colon] == ":":
            depth -= 1
        colon += 1
    first = i - 1
    while True:
        if body[first] in (")", "]"):
            first = body.partner[first]
        before = body[first - 1]
        if before in OPEN or before in ENDS or before in ("{", "}", "return", ""):
            break
        first -= 1
    last = colon + 1
    while True:
        if body[last] in OPEN:
            last = body.partner[last]
        after = body[last + 1]
        if after in CLOSE or after in (";", ","):
            break
        last += 1
    yield _replaced(body, "condition", first, i - 1, "true", shown=(first, last))
    yield _replaced(body, "condition", first, i - 1, "false", shown=(first, last))


def _index(body: _Body, i: int) -> Iterator[_Change]:
    last = body.partner[i]
    if last == i + 2 and body.tokens[i + 1].kind == "number":
        return  # the number is changed as a number
    after = f"[{body.text(i + 1, last - 1)} + 1]"
    first = i - 1
    while body[first] in CLOSE:  # of the index before
        first = body.partner[first] - 1
    yield _replaced(body, "index", i, last, after, shown=(first, last))


def _name(body: _Body, i: int) -> Iterator[_Change]:
    name, after = body[i], body[i + 1]
    if name == "if" and after == "(":
        last = body.partner[i + 1]
        for constant in ("true", "false"):
            yield _replaced(body, "condition", i + 1, last, f"({constant})", shown=(i, last))
    elif name in ("blockIdx", "gridDim"):
        yield _replaced(body, "axis", i + 2, i + 2, AXES.get(body[i + 2], "x"), shown=(i, i + 2))
    elif after == "(":
        last = body.partner[i + 1]
        if name in SWAPS:
            yield _replaced(body, "function", i, i, SWAPS[name], shown=(i, last))
        if name in ELEMENTWISE:
            yield _replaced(body, "function", i, i, "", shown=(i, last))
        if body[last + 1] == ";" and (around := body.statement(i)) and around[0] == i and name not in KEYWORDS:
            yield _replaced(body, "statement", i, last, "")
