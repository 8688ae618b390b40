"""The terminal: what keys do, what is on the screen, and the walk printed whole."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pytest
from rich.cells import cell_len
from rich.console import Console

from uanref.derivations import DERIVATIONS, find
from uanref.stepping.printed import print_walk
from uanref.stepping.terminal import Screen
from uanref.stepping.unicode import equation, local_equation
from uanref.stepping.walk import Walk


def console(width: int = 100, height: int = 40) -> Console:
    return Console(file=io.StringIO(), width=width, height=height, force_terminal=False, color_system=None)


def printed(screen: Screen) -> str:
    made = console(screen.console.size.width, screen.console.size.height)
    made.print(screen.view())
    return made.file.getvalue()


def on_screen(name: str, keys: str = "", answers: Sequence[str] = ()) -> Screen:
    left = iter(answers)
    screen = Screen(Walk(find(name)), console(), ask=lambda question: next(left))
    for key in keys:
        screen.press(key)
    return screen


@pytest.mark.parametrize("derivation", DERIVATIONS, ids=[derivation.name for derivation in DERIVATIONS])
def test_the_whole_walk_is_printed(derivation):
    target = console(width=200)
    print_walk(Walk(derivation), target)
    text = target.file.getvalue()
    assert derivation.title in text
    for step in derivation.steps:
        assert equation(step, derivation) in text
        assert f"{step.file}:{step.line}" in text
        for name in step.backward:
            if not getattr(derivation.node(name), "constant", False):
                assert local_equation(step, name, derivation) in text
    assert "WRONG" not in text
    assert "✗" not in text
    assert text.count("✓") == sum(node.error is not None for node in derivation.trace().nodes.values())


def test_a_planted_mistake_is_printed():
    walk = Walk(find("bn"))
    walk.go("centred")
    walk.plant(next(m for m in walk.mistakes() if m.input == "mu"))
    target = console()
    print_walk(walk, target)
    text = target.file.getvalue()
    assert f"planted mistake: {walk.mistake.id}" in text
    assert "<- the mistake" in text
    assert text.count("WRONG") == len(walk.wrong()) == 2


@pytest.mark.parametrize(
    ("keys", "name"),
    [("n", "centred"), ("nn", "squared"), ("nnp", "centred"), ("nnbn", "centred"), ("nbfn", "squared")],
)
def test_keys_move(keys, name):
    assert on_screen("bn", keys).walk.node.name == name


@pytest.mark.parametrize("key", ["\x1b[C", "\x1b[B", " "])
def test_arrows_move_on(key):
    screen = on_screen("bn")
    screen.press(key)
    assert screen.walk.node.name == "centred"
    screen.press("\x1b[D")
    assert screen.walk.node.name == "mu"


def test_value_gradient_and_check_are_switched():
    screen = on_screen("bn", "n")
    node = screen.walk.node
    assert f"{node.value[0, 0]: .5f}" in printed(screen)
    assert "relative error" not in printed(screen)
    screen.press("g")
    shown = printed(screen)
    assert f"{node.gradient[0, 0]: .5f}" in shown
    assert "through x_hat" in shown
    assert "through squared" in shown
    screen.press("c")
    screen.press("j")
    screen.press("j")
    assert f"✓ relative error {node.error:.1e}" in printed(screen)


def test_large_arrays_are_summarized_until_v():
    screen = Screen(Walk(find("uan"), find("uan").example(0, m=40)), console(height=24))
    screen.walk.go("tau" if "tau" in screen.walk.trace.nodes else "weight")
    assert "numbers: smallest" in printed(screen)
    screen.press("v")
    shown = printed(screen)
    assert "numbers: smallest" not in shown
    assert "more lines: j" in shown
    first = shown
    screen.press("j")
    assert printed(screen) != first
    screen.press("k")
    assert printed(screen) == first


def test_an_edit_by_keys():
    screen = on_screen("bn", "e", ["x 0 0 = 7.25"])
    screen.walk.go("x")
    assert "7.25000" in printed(screen)
    screen = on_screen("bn", "e", ["x 9 9 = 1"])
    assert "indices 0-4 0-1" in printed(screen)
    before = screen.walk.trace
    screen._ask = lambda question: ""
    screen.press("e")
    assert screen.walk.trace is before


def test_a_mistake_by_keys():
    screen = on_screen("bn", "nm", ["1"])
    shown = printed(screen)
    assert "planted:" in shown
    assert "✗" in shown
    assert screen.walk.wrong()
    screen.press("m")
    assert screen.walk.mistake is None
    assert "taken away" in printed(screen)
    for answer, told in (
        ("99", "expected a number from 1"),
        ("9" * 5000, "expected a number from 1"),
        ("0", "from 1"),
        ("x", "expected a number from 1"),
        ("", ""),
    ):
        screen._ask = lambda question, answer=answer: answer
        screen.press("m")
        assert screen.walk.mistake is None
        assert told in screen.message
    screen.walk.go("x")
    screen.press("m")
    assert "sends nothing back" in screen.message


def test_an_unknown_key_is_told():
    assert "no such key: 'z'" in printed(on_screen("bn", "z"))


@pytest.mark.parametrize("last", ["q", "\x1b", "\x04"])
def test_the_loop_ends(last):
    keys = iter(["n", "n", last])
    target = Console(file=io.StringIO(), width=80, height=24, force_terminal=True)
    screen = Screen(Walk(find("uan")), target, read_key=lambda: next(keys))
    screen.run()
    assert screen.walk.node.name == "spread"
    assert "spread" in target.file.getvalue()


def test_keys_that_come_together_are_told_apart():
    keys = iter(["\x1b[C\x1b[Cn", "gq"])
    screen = Screen(Walk(find("bn")), Console(file=io.StringIO(), force_terminal=True), read_key=lambda: next(keys))
    screen.run()
    assert screen.walk.node.name == "var"
    assert screen.gradient


def test_the_end_of_the_input_ends_the_loop():
    def no_more() -> str:
        raise EOFError

    screen = Screen(Walk(find("bn")), Console(file=io.StringIO(), force_terminal=True), read_key=no_more)
    screen.run()
    assert screen.walk.node.name == "mu"


@pytest.mark.parametrize("size", [(80, 24), (60, 15), (200, 60)])
def test_every_node_fits_every_screen(size):
    screen = Screen(Walk(find("uan")), console(*size))
    screen.press("b")
    screen.press("c")
    screen.walk.position = len(screen.walk.derivation.nodes) - 1
    for _ in screen.walk.derivation.nodes:
        lines = printed(screen).rstrip("\n").split("\n")
        assert len(lines) <= size[1]
        assert all(cell_len(line) <= size[0] for line in lines)
        screen.press("n")
