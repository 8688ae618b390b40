"""Tables of rich as Markdown."""

from __future__ import annotations

import pytest
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from uanref.experiments.markdown import table, words


def test_a_table_keeps_words_order_and_sides():
    made = Table(title="A [bold]title[/bold]", caption=Text("mean ± sd [0, 1]"))
    made.add_column("norm")
    made.add_column("accuracy (%)", justify="right")
    made.add_row("bn", "97.1\n3/10")
    made.add_section()
    made.add_row(Text("a|b"), "[red]1.5[/red]")
    assert table(made).splitlines() == [
        "**A title**",
        "",
        "| norm | accuracy (%) |",
        "| --- | ---: |",
        "| bn | 97.1<br>3/10 |",
        "| a\\|b | 1.5 |",
        "",
        "mean ± sd \\[0, 1\\]",
    ]


def test_tables_without_rows_or_columns():
    assert table(Table()) == ""
    assert table(Table("a", "b")).splitlines() == ["| a | b |", "| --- | --- |"]


def test_a_cell_of_another_kind_is_printed():
    made = Table("a")
    made.add_row(Panel("inside"))
    assert "inside" in table(made)


@pytest.mark.parametrize("text", ["a_b_c", "2 * 3 * 4", "$x$ and $y$", "<b>", "`code`", "[a](b)", "a ~~b~~", r"\n"])
def test_what_means_something_to_markdown_is_shown_as_it_is(text):
    from markdown_it import MarkdownIt

    shown = MarkdownIt().enable("strikethrough").renderInline(words(text))
    for character, name in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        shown = shown.replace(character, name)
    assert shown == text


def test_lines_become_breaks():
    assert words(" a\n\n b ") == "a<br><br>b"
