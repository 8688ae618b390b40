"""The command line's first moments and the signals that end it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.heavy import slow

import uanref
from uanref import startup
from uanref.cli import entry, main
from uanref.verify import check

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")

SCRIPT = "import sys\nfrom uanref.cli import main\nsys.exit(main())\n"
KILL_AT_IMPORT = """
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Finder())
"""


def run(command, folder, **environment):
    path = os.pathsep.join([str(folder / "site"), str(Path(uanref.__file__).parents[1])])
    env = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def commands(tmp_path):
    """Return both ways of starting the command, in a folder whose ``site`` is searched for modules."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "site").mkdir()
    script = tmp_path / "bin" / "uanref"
    script.write_text(SCRIPT, encoding="utf-8")
    return {"script": [sys.executable, str(script)], "module": [sys.executable, "-m", "uanref"]}


@pytest.mark.parametrize("way", ["script", slow("module")])
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), slow((15, 143, "terminated"))]
)
@pytest.mark.parametrize("module", ["numpy", "typer", "uanref.norms.uan"])
def test_a_signal_while_importing_is_one_sentence(way, number, code, word, module, commands, tmp_path):
    hook = KILL_AT_IMPORT.format(module=module, number=int(number))
    (tmp_path / "site" / "sitecustomize.py").write_text(hook, encoding="utf-8")
    done = run([*commands[way], "--version"], tmp_path)
    assert (done.returncode, done.stderr, done.stdout) == (code, f"uanref: {word}\n", "")


@pytest.mark.parametrize("way", ["script", "module"])
def test_a_signal_while_a_text_is_executed_does_not_end_by_it(way, commands, tmp_path):
    """As in a namedtuple that an import makes."""
    interrupted = "import os\\nos.kill(os.getpid(), 2)\\nfor _ in range(1000): pass"
    hook = KILL_AT_IMPORT.replace("os.kill(os.getpid(), {number})", f'exec("{interrupted}")')
    (tmp_path / "site" / "sitecustomize.py").write_text(hook.format(module="uanref.verify.check"), encoding="utf-8")
    done = run([*commands[way], "check"], tmp_path)
    assert (done.returncode, done.stderr, done.stdout) == (130, "uanref: interrupted\n", "")


# Taken apart at Python's own end, after what atexit runs: as compiled code is that a signal left half imported.
FRAGILE = """
import atexit, builtins, os, sys
class Fragile:
    def __del__(self, end=os._exit):
        end(77)
builtins.fragile = Fragile()
atexit.register(print, "registered")
"""


@pytest.mark.parametrize("way", ["script", "module"])
@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_after_a_signal_python_does_not_take_itself_apart(way, number, code, word, commands, tmp_path):
    hook = FRAGILE + KILL_AT_IMPORT.format(module="uanref.verify.check", number=int(number))
    (tmp_path / "site" / "sitecustomize.py").write_text(hook, encoding="utf-8")
    done = run([*commands[way], "check"], tmp_path, PYTHONUNBUFFERED="")
    assert (done.returncode, done.stderr, done.stdout) == (code, f"uanref: {word}\n", "registered\n")
    assert run([*commands[way], "--version"], tmp_path).returncode == 77  # the end that it is kept from


def test_a_signal_after_the_end_changes_nothing(tmp_path):
    script = tmp_path / "uanref"
    late = "import os\nfrom uanref.cli import main\ncode = main()\nos.kill(os.getpid(), 2)\nos.kill(os.getpid(), 15)\n"
    script.write_text(late + "raise SystemExit(code)\n", encoding="utf-8")
    done = run([sys.executable, str(script), "--version"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("uanref ")


def test_other_programs_keep_their_signals():
    code = "import signal; before = signal.getsignal(2), signal.getsignal(15); import uanref.cli; "
    code += "print(before == (signal.getsignal(2), signal.getsignal(15)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (15, 143, "terminated")])
def test_a_signal_while_working_is_one_sentence(number, code, word, monkeypatch, capsys):
    seen = []

    def work(**options):
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt as error:
            seen.append(type(error))
            raise

    monkeypatch.setattr(check, "run", work)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert main(["check"]) == code
    assert capsys.readouterr().err == f"uanref: {word}\n"
    assert seen == [startup.Terminated if number == signal.SIGTERM else KeyboardInterrupt]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (15, 143, "terminated")])
def test_a_signal_inside_a_destructor_is_not_lost(number, code, word, monkeypatch, capsys):
    class Dies:
        def __del__(self):
            os.kill(os.getpid(), number)
            time.sleep(0)

    def work(**options):
        Dies()
        time.sleep(60)

    monkeypatch.setattr(check, "run", work)
    hook = sys.unraisablehook
    assert main(["check"]) == code
    assert capsys.readouterr().err == f"uanref: {word}\n"
    assert sys.unraisablehook is hook


def test_what_is_ignored_stays_ignored():
    """As in ``nohup`` and in a shell's background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        came = []
        with startup.raising(came):
            os.kill(os.getpid(), signal.SIGINT)
        assert came == []
    finally:
        signal.signal(signal.SIGINT, before)


def test_main_runs_in_any_thread():
    codes = []
    thread = threading.Thread(target=lambda: codes.append(main(["--version"])))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.parametrize("way", ["script", slow("module")])
def test_files_in_the_working_folder_are_not_imported(way, commands, tmp_path):
    for name in ("random", "numpy", "queue", "typer", "scipy", "signal", "uuid"):
        (tmp_path / f"{name}.py").write_text("raise SystemError('not the one that was meant')", encoding="utf-8")
    done = run([*commands[way], "--version"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (15, 143, "terminated")])
def test_a_signal_that_another_library_turned_into_a_failure_is_a_signal(number, code, word, monkeypatch, capsys):
    """Matplotlib's compiled code did: "Invalid bounding box" in the place of KeyboardInterrupt."""

    def fails(arguments):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(number)
        return 1, "activations.png could not be drawn"

    monkeypatch.setattr(entry, "_run", fails)
    assert entry.main([]) == code
    assert capsys.readouterr().err == f"uanref: {word}; activations.png could not be drawn\n"
