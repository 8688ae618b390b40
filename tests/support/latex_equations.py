r"""The derivations' LaTeX, read and evaluated one entry at a time, as a reader with paper and pencil would.

:meth:`Reader.read` parses an equation such as ``d\mu_c \mathrel{+}= -\sum_m d\bar x_{mc}``; :attr:`Equation.at` gives
its right side for one choice of indices. Nothing is taken from the expressions: symbols, indices, sums, fractions and
powers mean what they mean on paper. What has no meaning (an index that no sum binds, a symbol that nobody defined, an
index of another axis) is a :class:`LatexError`.
"""

from __future__ import annotations

import copy
import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from uanref.derivations import Derivation

TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|\S")
SPACES = {r"\,", r"\;", r"\ ", r"\left", r"\right"}
ENDS = {"+", "-", "=", ",", "}", ")", "]", ">", r"\quad", r"\mathrel", ""}

Env = dict[str, int]
Value = Callable[[Env], float]
Uses = dict[str, str]  # index to its axis


class LatexError(Exception):
    """The equation has no meaning."""


def tokens(latex: str) -> list[str]:
    """Return the signs of an equation, without spaces and the size of parentheses."""
    return [token for token in TOKEN.findall(latex) if token not in SPACES]


@dataclass
class Symbol:
    """What a sign stands for: a value, a gradient's root, or a shorthand such as ``\\lambda_{kc}``."""

    signs: tuple[str, ...]
    axes: tuple[str, ...]
    name: str = ""
    shorthand: Value | None = None


@dataclass
class Equation:
    """One equation.

    Attributes:
        name: of the value on the left.
        gradient: whether its gradient stands there.
        adds: whether the sign is +=.
        at: the right side at given indices.
    """

    name: str
    gradient: bool
    adds: bool
    axes: tuple[str, ...]
    at: Value


class Reader:
    """Reads the equations of one derivation.

    Args:
        derivation: whose symbols are known.
        values: what they stand for, by name, gradients as ``"d_" + name``.
        sizes: of the axes.
    """

    def __init__(self, derivation: Derivation, values: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> None:
        self.axes, self.values, self.sizes = derivation.axes, values, sizes
        self.elementwise = derivation.forward_only  # an optimizer's equations have no indices
        self.symbols = [Symbol(tuple(tokens(n.symbol)), n.axes, n.name) for n in derivation.nodes]
        for latex in equations(derivation):
            self.define(latex)

    def define(self, latex: str) -> None:
        r"""Learn the shorthands of a line, ``\lambda_{kc} = e^{\ell_{kc}}`` behind a quad; they replace older ones."""
        for part in parts(latex)[1:]:
            signs = tokens(part)
            left = signs[: signs.index("=")] if "=" in signs else []
            if not left:
                raise LatexError(f"{part} is no equation")
            known = self._symbol(left, int(left[0] == "d")) or self._symbol(left, 0)
            if known is not None and known.shorthand is None:
                continue  # an equation, not a shorthand
            at = left.index("_") if "_" in left else len(left)
            parameters = tuple(sign for sign in left[at + 1 :] if sign not in "{}")
            self.symbols = [symbol for symbol in self.symbols if symbol.signs != tuple(left[:at])]
            value = Parser(self, signs, len(left) + 1).whole()
            self.symbols.append(Symbol(tuple(left[:at]), parameters, "", value))

    def read(self, latex: str) -> list[Equation]:
        """Return the equations of a line: the first one, and those behind a quad that are no shorthand."""
        found = []
        own = copy.copy(self)
        own.define(latex)
        for i, part in enumerate(parts(latex)):
            signs = tokens(part)
            parser = Parser(own, signs, 0)
            gradient = signs[:1] == ["d"] and own._symbol(signs, 0) is None
            parser.at = int(gradient)
            symbol = own._symbol(signs, parser.at)
            if symbol is None or (symbol.shorthand is not None and i == 0):
                raise LatexError(f"the left side of {part} is no value")
            if symbol.shorthand is not None:
                continue
            parser.at += len(symbol.signs)
            indices = parser.indices(symbol.axes)
            if [index[0] for index in indices] != [(axis,) for axis in symbol.axes]:
                raise LatexError(f"the left side of {part} has other indices than {symbol.axes}")
            adds = signs[parser.at : parser.at + 4] == [r"\mathrel", "{", "+", "}"]
            parser.at += 4 * adds
            parser.expect("=")
            found.append(Equation(symbol.name, gradient, adds, symbol.axes, parser.whole()))
        return found

    def _symbol(self, signs: list[str], at: int) -> Symbol | None:
        fitting = [s for s in self.symbols if tuple(signs[at : at + len(s.signs)]) == s.signs]
        return max(fitting, key=lambda s: len(s.signs), default=None)


class Parser:
    """Reads one right side, sign by sign. Every rule returns what it evaluates to; ``uses`` notes the indices' axes."""

    def __init__(self, reader: Reader, signs: list[str], at: int) -> None:
        self.reader, self.signs, self.at = reader, signs, at
        self.uses: Uses = {}

    def peek(self, ahead: int = 0) -> str:
        return self.signs[self.at + ahead] if self.at + ahead < len(self.signs) else ""

    def take(self) -> str:
        sign = self.peek()
        self.at += 1
        return sign

    def expect(self, sign: str) -> None:
        if self.take() != sign:
            raise LatexError(f"expected {sign} at {self.at - 1} of {' '.join(self.signs)}")

    def whole(self) -> Value:
        value = self.sum()
        if self.at != len(self.signs):
            raise LatexError(f"cannot read {' '.join(self.signs[self.at :])}")
        return value

    def sum(self) -> Value:
        terms: list[tuple[float, Value]] = []
        first = True
        while True:
            sign = 1.0
            if self.peek() in ("+", "-"):
                sign = -1.0 if self.take() == "-" else 1.0
            elif not first:
                break
            terms.append((sign, self.term()))
            first = False
        return lambda env: sum(sign * term(env) for sign, term in terms)

    def term(self) -> Value:
        if self.peek() in ENDS:
            raise LatexError(f"nothing to read at {self.at} of {' '.join(self.signs)}")
        factors: list[Value] = []
        while self.peek() not in ENDS:
            if self.peek() == "/":
                self.take()
                divisor = self.factor()
                if self.peek() not in ENDS:
                    raise LatexError("a factor behind a / could belong to either side of it")
                factors.append(_inverse(divisor))
            else:
                factors.append(self.factor())
        if len(factors) == 1:
            return factors[0]
        return lambda env: math.prod(factor(env) for factor in factors)

    def factor(self) -> Value:
        value = self.power(self.bare())
        return value

    def power(self, base: Value) -> Value:
        if self.peek() != "^":
            return base
        self.take()
        exponent = self.group()
        return lambda env: base(env) ** exponent(env)

    def group(self) -> Value:
        """What stands in braces, or the single sign that stands without."""
        if self.peek() != "{":
            return self.bare()
        self.take()
        value = self.sum()
        self.expect("}")
        return value

    def bare(self) -> Value:
        start, sign = self.at, self.peek()
        if re.fullmatch(r"\d+(\.\d+)?", sign):
            number = float(self.take())
            return lambda env: number
        if sign in (r"\frac", r"\tfrac"):
            self.take()
            if re.fullmatch(r"\d\d", self.peek()):  # \tfrac12
                digits = self.take()
                return lambda env: float(digits[0]) / float(digits[1])
            above, below = self.group(), self.group()
            return lambda env: above(env) / below(env)
        if sign == r"\sqrt":
            self.take()
            radicand = self.group()
            return lambda env: _sqrt(radicand(env))
        if sign == r"\log":
            self.take()
            argument = self.term()
            return lambda env: _log(argument(env))
        if sign == r"\sum":
            return self.over()
        if self.signs[start : start + 6] == [r"\mathrm", "{", "m", "a", "x", "}"]:
            self.at += 6
            self.expect("(")
            one = self.sum()
            self.expect(",")
            other = self.sum()
            self.expect(")")
            return lambda env: max(one(env), other(env))
        if sign == "(":
            self.take()
            value = self.sum()
            self.expect(")")
            return value
        if sign == "[":
            self.take()
            left = self.sum()
            self.expect(">")
            right = self.sum()
            self.expect("]")
            return lambda env: float(left(env) > right(env))
        return self.named()

    def named(self) -> Value:
        """A value, a gradient, a shorthand, e to a power, or a number of elements."""
        start = self.at
        symbol, prefix = self.reader._symbol(self.signs, start), ""
        if self.peek() == "d" and self.reader._symbol(self.signs, start + 1) is not None:
            symbol, prefix = self.reader._symbol(self.signs, start + 1), "d_"
            self.take()
        if symbol is None or (prefix and symbol.shorthand is not None):
            sign = self.take()
            if sign == "e" and self.peek() == "^":
                self.take()
                exponent = self.group()
                return lambda env: math.exp(exponent(env))
            if sign.lower() in self.reader.axes and sign.isupper():
                size = float(self.reader.sizes[sign.lower()])
                return lambda env: size
            raise LatexError(f"nobody defined {sign} in {' '.join(self.signs)}")
        self.at += len(symbol.signs)
        indices = self.indices(symbol.axes)
        if symbol.shorthand is not None:
            called, names = symbol.shorthand, symbol.axes
            return lambda env: called(dict(zip(names, [_at(env, index) for index in indices], strict=True)))
        if prefix + symbol.name not in self.reader.values:
            raise LatexError(f"{prefix}{symbol.name} has no value")
        array = self.reader.values[prefix + symbol.name]

        def entry(env: Env) -> float:
            place = tuple(_at(env, index) for index in indices)
            if any(not 0 <= i < n for i, n in zip(place, array.shape, strict=True)):
                raise LatexError(f"{symbol.name} has no entry {place}")
            return float(array[place])

        return entry

    def indices(self, axes: tuple[str, ...]) -> list[tuple[tuple[str, ...], str]]:
        """Read ``_{mc}`` or ``_{n, i, p+u}``; each index as the letters that it adds up, and their sign."""
        if not axes:
            return []
        if self.reader.elementwise:
            return [((axis,), "+") for axis in axes]
        self.expect("_")
        inside = [self.take()]
        if inside == ["{"]:
            inside = list(itertools.takewhile(lambda sign: sign != "}", iter(self.take, "")))
        text = "".join(inside)
        pieces = text.split(",") if "," in text else list(text)
        if len(pieces) != len(axes):
            raise LatexError(f"{text} are not the indices of a value with the axes {axes}")
        found = []
        for piece, axis in zip(pieces, axes, strict=True):
            letters = tuple(re.split(r"[+-]", piece))
            if len(letters) == 1 and self.uses.setdefault(piece, piece if piece in self.reader.axes else axis) != axis:
                raise LatexError(f"{piece} is no index of the axis {axis}")
            for letter in letters if len(letters) > 1 else ():
                self.uses.setdefault(letter, letter)
            found.append((letters, "-" if "-" in piece else "+"))
        return found

    def over(self) -> Value:
        r"""``\sum_m``, ``\sum_{i,u,v}`` or ``\sum_{p+u=h}``, and all factors that follow."""
        self.take()
        self.expect("_")
        inside = [self.take()]
        if inside == ["{"]:
            inside = list(itertools.takewhile(lambda sign: sign != "}", iter(self.take, "")))
        text = "".join(inside)
        condition = re.fullmatch(r"(\w)\+(\w)=(\w)", text)
        bound = condition.groups()[:2] if condition else tuple(text.split(","))
        outer = dict(self.uses)
        for letter in bound:
            if letter in outer and letter not in self.reader.axes:
                del self.uses[letter]  # a dummy index may be used again
        body = self.term()
        for letter in bound:
            if not re.fullmatch(r"[a-z]", letter) or letter not in self.uses:
                raise LatexError(f"no index {letter} to sum over in {' '.join(self.signs)}")
        sizes = [self.reader.sizes[self.uses[letter]] for letter in bound]

        def summed(env: Env) -> float:
            if set(bound) & set(env):
                raise LatexError(f"{bound} stand for something already in {' '.join(self.signs)}")
            total = 0.0
            for places in itertools.product(*map(range, sizes)):
                if condition is None or sum(places) == _at(env, ((condition[3],), "+")):
                    total += body({**env, **dict(zip(bound, places, strict=True))})
            return total

        return summed


def _at(env: Env, index: tuple[tuple[str, ...], str]) -> int:
    letters, sign = index
    try:
        first, *others = (env[letter] for letter in letters)
    except KeyError as error:
        raise LatexError(f"the index {error} is not bound") from None
    return first + sum(others) if sign == "+" else first - sum(others)


def _inverse(value: Value) -> Value:
    return lambda env: 1.0 / value(env)


def _sqrt(x: float) -> float:
    return math.sqrt(x) if x >= 0 else math.nan


def _log(x: float) -> float:
    return math.log(x) if x > 0 else math.nan


def parts(latex: str) -> list[str]:
    r"""Return the equations of a line, which a ``\quad`` separates."""
    return re.split(r",\s*\\quad", latex)


def equations(derivation: Derivation) -> list[str]:
    """Return all lines of LaTeX of a derivation."""
    found = [s.equation for s in derivation.steps]
    found += [local.equation for s in derivation.steps for local in s.backward.values()]
    return found + [line.equation for told in derivation.collapse for line in told.lines]
