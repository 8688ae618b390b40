"""The terminal: what keys do, what is on the screen, and the walk printed whole."""

from __future__ import annotations

import io
import re
import signal
from collections.abc import Sequence

import pytest
from rich.cells import cell_len
from rich.console import Console

from uanref import cli
from uanref.derivations import DERIVATIONS, find
from uanref.derivations.mistakes import mistakes
from uanref.stepping.keys import HELP, ONE_KEY, SENT
from uanref.stepping.page_data import page_data
from uanref.stepping.printed import print_walk
from uanref.stepping.show import WHOLE
from uanref.stepping.signals import on_suspend
from uanref.stepping.terminal import Screen
from uanref.stepping.unicode import equation, local_equation, symbol
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
    walk = Walk(derivation)
    found = re.findall(rf"^(\d+) of {len(walk.stops)}  ", text, re.MULTILINE)
    assert list(dict.fromkeys(found)) == [str(i + 1) for i in range(len(walk.stops))]
    assert ("dv is dL/dv" in text) != derivation.forward_only


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
    ("keys", "where"),
    [
        (["n"], "2 of 19"),
        (["n", "f", "\r", "\n", " ", "\x1b[C", "\x1bOC"], "8 of 19"),
        (["n", "n", "p"], "2 of 19"),
        (["n", "n", "n", "b", "\x1b[D"], "2 of 19"),
        (["L"], "10 of 19"),
        (["t", "b"], "9 of 19"),
        (["L", "n", "n", "b"], "11 of 19"),
        (["\x1b[F"], "19 of 19"),
        (["\x1b[4~", "\x1b[1~"], "1 of 19"),
        (["\xe0O", "\xe0K"], "18 of 19"),
    ],
)
def test_keys_move_along_the_road(keys, where):
    screen = on_screen("bn", "".join(keys) if all(len(key) == 1 for key in keys) else "")
    if any(len(key) > 1 for key in keys):
        for key in ONE_KEY.findall("".join(keys)):
            screen.press(key)
    assert screen.walk.where == where
    assert f"{where} · " in printed(screen)


def test_the_ends_of_the_road_are_told():
    assert "this is the first stop" in printed(on_screen("bn", "b"))
    screen = on_screen("bn")
    screen.press("\x1b[F")
    assert "this is the last stop" not in printed(screen)
    screen.press("n")
    assert "this is the last stop" in printed(screen)
    assert "no way back, and so no loss" in printed(on_screen("adam", "L"))


@pytest.mark.parametrize("name", ["uan", "bn", "softmax-cross-entropy", "conv"])
def test_on_the_way_back_the_proof_is_seen_at_80x24(name):
    screen = Screen(Walk(find(name)), console(80, 24))
    screen.press("L")
    while screen.walk.at + 1 < len(screen.walk.stops):
        screen.press("n")
        node = screen.walk.node
        lines = printed(screen).split("\n")
        assert f"d{symbol(node.definition)}  {node.name}" in lines[1]
        assert f"✓ the numerical gradient agrees: relative error {node.error:.1e}" in "".join(lines[2:4])
        first = float(node.gradient.ravel()[0])
        written = f"{first:.5f}" if node.gradient.ndim > 0 and node.gradient.size <= WHOLE else f"{first:.4g}"
        assert written in printed(screen), "the numbers are on the same screen"
        screen.press("j")
        assert "relative error" in "".join(printed(screen).split("\n")[2:4]), (
            "and the proof stays when the rest is scrolled"
        )


def test_the_loss_has_its_value_its_gradient_and_its_rule():
    screen = on_screen("bn", "L")
    shown = printed(screen)
    assert "L = Σ_mc(g_mc y_mc)" in shown
    assert f"{float(screen.walk.node.value): .6g}" in shown
    assert "dL/dL = 1" in shown
    assert "dy_mc += g_mc dL" in shown


def test_inputs_are_shown_beside_the_steps_that_use_them():
    screen = on_screen("bn", "n")
    assert f"{screen.walk.trace['x'].value[0, 0]: .5f}" in printed(screen)
    screen = on_screen("uan", "L")
    while screen.walk.stop.node != "moment":
        screen.press("n")
    walk = screen.walk
    assert "dx: 2 of 3 parts have arrived" in printed(screen)
    parts = walk.trace["x"].contributions
    so_far = sum(parts[user] for user in walk.arrived("x"))
    assert f"{so_far[0, 0]: .5f}" in printed(screen)
    assert abs(so_far[0, 0] - walk.trace["x"].gradient[0, 0]) > 1e-3


def test_an_input_is_looked_at_by_name():
    screen = on_screen("bn", "ni", ["gamma"])
    assert "2 of 19 · input, seen from centred" in printed(screen)
    assert "γ_c  gamma" in printed(screen)
    screen.press("n")
    assert screen.walk.where == "3 of 19"
    assert "bn has no value 'nowhere'" in printed(on_screen("bn", "i", ["nowhere"]))
    assert on_screen("bn", "i", [""]).message == ""
    screen = on_screen("bn", "Li", ["x"])
    assert "0 of 2 parts have arrived" in printed(screen)
    screen.press("\x1b[F")
    screen._ask = lambda question: "x"
    screen.press("i")
    assert "✓ the numerical gradient agrees" in printed(screen)


def test_value_and_gradient_together_and_the_numerical_one():
    screen = on_screen("bn", "n")
    node = screen.walk.node
    assert f"{node.value[0, 0]: .5f}" in printed(screen)
    assert "relative error" not in printed(screen)
    screen.press("g")
    shown = printed(screen)
    assert f"✓ the numerical gradient agrees: relative error {node.error:.1e}" in shown
    assert f"{node.value[0, 0]: .5f}" in shown
    assert f"{node.gradient[0, 0]: .5f}" in shown
    assert "numerical gradient  " not in shown
    screen.press("c")
    screen.press("j")
    shown = printed(screen)
    assert "through x_hat" in shown
    assert re.search("gradient +numerical gradient", shown), "side by side"


def test_the_help_has_all_keys_and_what_the_signs_mean():
    screen = Screen(Walk(find("bn")), console(80, 24))
    screen.press("?")
    shown = printed(screen)
    for key, _ in HELP:
        assert key in shown
    assert "dv is dL/dv" in shown
    assert "+=  each step that uses v" in shown
    assert "more lines" not in shown, "it fits"
    screen.press("n")
    assert screen.walk.where == "1 of 19", "any key goes back and does nothing else"
    assert "forward" in printed(screen)
    for name, sent in SENT.items():
        told = ["n", "f", "→", "Enter", "space", "p", "b", "←", "Home", "End", "L", "t", "j", "k", "q", "Esc"]
        assert any(key in told or key.startswith(("\x1b", "\r")) for key in sent), name


def test_leaving_asks_before_anything_is_thrown_away():
    assert not on_screen("bn").press("q"), "nothing to lose: it leaves"
    screen = on_screen("bn", "eem", ["x 0 0 = 1", "g 0 0 = 2", "1"])
    for key in ("\x1b", "q"):
        assert screen.press(key)
        assert "2 edits and a mistake will be lost: y to leave" in printed(screen)
        assert screen.press("n"), "any other key stays"
        assert screen.walk.where == "19 of 19"
    screen.press("m")
    screen.press("q")
    assert "2 edits will be lost" in printed(screen)
    assert not screen.press("y")


def test_a_mistake_from_the_command_line_is_not_lost_by_leaving():
    walk = Walk(find("bn"))
    walk.plant(walk.mistakes()[0])
    assert not Screen(walk, console()).press("q")


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
    assert re.search(r"x 0 0: \S+ -> 7.25; L: \S+ -> \S+; moved most: d", printed(screen))
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
    assert "no way back" in screen.message


def test_the_mistakes_offered_along_the_road_are_those_of_the_list(capsys):
    assert cli.main(["step", "bn", "--mistake", "list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    offered = []
    for step in find("bn").steps:
        screen = on_screen("bn")
        screen._ask = lambda question: ""
        screen.walk.go(step.name)
        screen.press("m")
        lines = screen.console.file.getvalue().splitlines()
        offered += [line.strip().split("  ", 1)[1] for line in lines if " <- " in line]
    assert offered == listed == [mistake["id"] for mistake in page_data(find("bn").trace())["mistakes"]]
    screen = on_screen("bn", "m", [listed[-1]])
    assert screen.walk.mistake.id == listed[-1], "a name of the list is understood, too"
    assert screen.walk.where == "11 of 19", "and the reader stands where it was made"


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
    assert screen.both


def test_the_end_of_the_input_ends_the_loop():
    def no_more() -> str:
        raise EOFError

    screen = Screen(Walk(find("bn")), Console(file=io.StringIO(), force_terminal=True), read_key=no_more)
    screen.run()
    assert screen.walk.node.name == "mu"


@pytest.mark.parametrize("size", [(80, 24), (60, 15), (200, 60)])
def test_every_node_fits_every_screen(size):
    screen = Screen(Walk(find("uan")), console(*size))
    screen.press("c")
    for _ in screen.walk.stops:
        lines = printed(screen).rstrip("\n").split("\n")
        assert len(lines) <= size[1]
        assert all(cell_len(line) <= size[0] for line in lines)
        screen.press("n")


@pytest.mark.parametrize("key", ["e", "i", "m"])
@pytest.mark.parametrize(
    ("error", "told"),
    [
        (EOFError(), "nothing is changed"),
        (KeyboardInterrupt(), "nothing is changed"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), "no text in the encoding"),
    ],
    ids=["ctrl-d", "ctrl-c", "no text"],
)
def test_no_answer_changes_nothing(key, error, told):
    def ask(question):
        raise error

    screen = Screen(Walk(find("bn")), console(), ask=ask)
    screen.press("n")
    assert screen.press(key)
    assert told in screen.message
    assert (screen.walk.edits(), screen.walk.mistake, screen.walk.at) == (0, None, 1)


@pytest.mark.skipif(not hasattr(signal, "SIGTSTP"), reason="no Ctrl-Z here")
def test_ctrl_z_gives_the_terminal_back_and_takes_it_again(monkeypatch):
    done = []
    monkeypatch.setattr("uanref.stepping.signals.os.kill", lambda process, number: done.append(number))
    before = signal.getsignal(signal.SIGTSTP)
    with on_suspend(lambda: done.append("left"), lambda: done.append("back")):
        for _ in range(2):
            signal.raise_signal(signal.SIGTSTP)
    assert done == ["left", signal.SIGTSTP, "back"] * 2
    assert signal.getsignal(signal.SIGTSTP) == before


def test_an_input_is_proven_once_all_parts_of_its_gradient_have_arrived():
    walk = Walk(find("posterior"))
    walk.plant(next(m for m in mistakes(walk.derivation) if m.id == "prior_logits <- log_prior: sign flipped"))
    screen = Screen(walk, console(80, 24))
    walk.go("log_prior", "backward")
    shown = printed(screen)
    assert "1 of 1 part has arrived" in shown
    assert "✗ the numerical gradient differs" in shown
    walk.plant(None)
    assert printed(screen).count("✓ the numerical gradient agrees") == 2
