"""``uanref docs``: what it builds, where, and what it says where it cannot."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import webbrowser
from pathlib import Path

import pytest

from uanref import cli, docs

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def built(monkeypatch):
    """Stand in for Sphinx; yields what it was asked and which pages were opened."""
    asked, opened = [], []

    def build(checkout, out, **options):
        asked.append((checkout, out))
        return out / "index.html"

    monkeypatch.setattr(docs, "require_extra", lambda: None)
    monkeypatch.setattr(docs, "build", build)
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or True)
    return asked, opened


def refused(capsys, *arguments, code=2):
    assert cli.main(["docs", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def test_it_builds_and_opens(built, capsys, monkeypatch):
    monkeypatch.chdir(CHECKOUT / "docs")
    assert cli.main(["docs"]) == 0
    folder = CHECKOUT / "docs" / "_build" / "html"
    assert built == ([(CHECKOUT, folder)], [(folder / "index.html").as_uri()])
    assert str(folder) in capsys.readouterr().out.replace("\n", "")


def test_it_builds_alone(built, tmp_path, monkeypatch):
    monkeypatch.chdir(CHECKOUT)
    assert cli.main(["docs", "--no-open", "--out", str(tmp_path / "pages [1]")]) == 0
    assert [out for _, out in built[0]] == [tmp_path / "pages [1]"]
    assert not built[1]


def test_a_checkout_around_the_reader_comes_first(tmp_path):
    for name in ("docs/conf.py", "uanref/docs.py", "docs/deep/down/here"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert docs.find_checkout(tmp_path / "docs" / "deep" / "down") == tmp_path
    assert docs.find_checkout(CHECKOUT / "tests") == CHECKOUT


def test_no_checkout(tmp_path, monkeypatch, capsys):
    installed = tmp_path / "site-packages" / "uanref" / "docs.py"
    monkeypatch.setattr(docs, "__file__", str(installed))
    monkeypatch.chdir(tmp_path)
    assert "from a checkout" in refused(capsys)


def test_no_extra(monkeypatch, capsys):
    monkeypatch.chdir(CHECKOUT)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "furo" else find_spec(name))
    monkeypatch.setattr(docs, "build", lambda *_, **__: pytest.fail("built"))
    if find_spec("sphinx") and find_spec("myst_nb"):
        assert "needs furo: run pip install" in refused(capsys)
    assert "furo" in refused(capsys)


def test_a_folder_of_other_things_is_left_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(CHECKOUT)
    monkeypatch.setattr(docs, "require_extra", lambda: None)
    (tmp_path / "thesis.txt").write_text("mine")
    assert "something else" in refused(capsys, "--out", str(tmp_path))
    assert "something else" in refused(capsys, "--out", str(tmp_path / "thesis.txt"))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_build_that_fails(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(docs, "require_extra", lambda: None)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "conf.py").write_text("raise SystemExit(3)")
    monkeypatch.setattr(docs, "find_checkout", lambda: tmp_path)
    assert cli.main(["docs", "--no-open", "--out", str(tmp_path / "out")]) == 1
    assert "could not be built" in capfd.readouterr().err


def stand_in(tmp_path, script):
    """A program in Sphinx's place."""
    (tmp_path / "program.py").write_text(script)
    return [sys.executable, "-u", str(tmp_path / "program.py")]


def test_pages_read_and_written_are_told_and_complaints_passed_on(tmp_path):
    pages = ("reading sources... [ 50%] api/norms", "reading sources... [100%] index", "loading")
    said = "\\n".join((*pages, "writing output... [  1%] api/norms"))
    script = f"import sys; print('{said}'); sys.stderr.write('WARNING: lost\\n'); sys.exit(3)"
    told, complaints = [], []
    code = docs._run(stand_in(tmp_path, script), {}, lambda *page: told.append(page), complaints.append)
    assert code == 3
    assert told == [("reading", 50, "api/norms"), ("reading", 100, "index"), ("writing", 1, "api/norms")]
    assert complaints == ["WARNING: lost"]


@pytest.mark.parametrize("signal", [KeyboardInterrupt, ValueError])
def test_what_ends_the_waiting_ends_sphinx(tmp_path, signal):
    script = (
        "import os, time\n"
        f"open({str(tmp_path / 'id')!r}, 'w').write(str(os.getpid()))\n"
        "print('reading sources... [  1%] index')\n"
        "time.sleep(600)"
    )

    def interrupted(*page):
        raise signal

    with pytest.raises(signal):
        docs._run(stand_in(tmp_path, script), {}, interrupted, lambda line: None)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "id").read_text()), 0)


def test_a_build_that_was_broken_off_is_begun_anew(tmp_path, monkeypatch):
    (tmp_path / ".doctrees").mkdir()
    (tmp_path / "index.html").touch()
    monkeypatch.setattr(docs, "_run", lambda *_: 0)
    assert docs.build(CHECKOUT, tmp_path) == tmp_path / "index.html"


def test_without_a_terminal_a_few_lines_tell_of_the_build(built, capsys, monkeypatch):
    monkeypatch.chdir(CHECKOUT)

    def build(checkout, out, *, report, complain):
        for phase in ("reading", "writing"):
            for percent in range(1, 101):
                report(phase, percent, "index")
        complain("WARNING: [bold]lost")
        return out / "index.html"

    monkeypatch.setattr(docs, "build", build)
    assert cli.main(["docs", "--no-open"]) == 0
    told = capsys.readouterr().err.splitlines()
    quarters = [f"{phase}: {percent} %" for phase in ("reading", "writing") for percent in (25, 50, 75, 100)]
    assert told == [*quarters, "WARNING: [bold]lost"]


@pytest.mark.slow
def test_a_build_among_the_sources_is_not_read_again(site, tmp_path):
    """The default folder lies in ``docs``: a second build must not take the first one's pages for sources."""
    shutil.copytree(CHECKOUT / "docs" / "_ext", tmp_path / "docs" / "_ext")
    conf = (CHECKOUT / "docs" / "conf.py").read_text("utf-8")
    (tmp_path / "docs" / "conf.py").write_text(conf + "html_css_files = html_static_path = []\n")
    (tmp_path / "docs" / "index.md").write_text("# Small\n")
    for _ in range(2):
        page = docs.build(tmp_path, tmp_path / "docs" / "pages", strict=True)
    assert "Small" in page.read_text("utf-8")
