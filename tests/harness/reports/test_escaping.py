"""Whatever a name holds, every output shows it as it is: each is read back by a reader that is not ours."""

from __future__ import annotations

import csv as reader
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from harness.reports.document import Cell, Document, Section, Table, Text
from harness.reports.figures import style
from harness.reports.rendering import console, files, html, latex, markdown

NASTY = (
    "[/bold]", "[red]x", "$\\bad{", "$x", "<script>alert(1)</script>", "<!-- x", "&lt;b&gt;", "&copy;", "a|b", "a\nb",
    "\u202eabc", '"quoted"', "it's", "[x](javascript:y)", "![x](y)", "=1+cmd|' /C calc'!A0", "@SUM(A1)", "+x", "-x",
    "\\", "\\n", "a_b^c", "100 %", "#1", "~", "{x}", "x\\", "\\|",
)  # fmt: skip
"""Without the marks of a document, ``**`` and backquotes, which its texts mean."""
names = st.one_of(
    st.sampled_from(NASTY),
    st.lists(st.sampled_from([*"<>&|[](){}$\\#%_^~=+-@!:;'\"/ab1 \n", *NASTY]), min_size=1, max_size=8).map("".join),
).filter(lambda name: name.strip() and "**" not in name and "__" not in name)


def line(text: str) -> str:
    return " ".join(text.split())


def table(name: str) -> Table:
    rows = ((Cell("first"), Cell(f"x{name}y")), (Cell("last"), Cell("z", bold=True)))
    return Table("names", f"Of x{name}y.", ("setting", f"x{name}y"), rows, pd.DataFrame({"value": [name]}))


class Words(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.text, self.tags = [], set[str]()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> tuple[str, set[str]]:
    words = Words()
    words.feed(page)
    words.close()
    return line("".join(words.text)), words.tags


@given(name=names)
def test_html_shows_names_as_they_are(name: str) -> None:
    document = Document(f"T x{name}y", (Text(f"Of x{name}y."),), (Section("s", (table(name),)),))
    text, tags = read(html.write(document, {}))
    assert text.count(line(f"x{name}y")) >= 5
    assert not tags & {"script", "a href", "img", "b"}


@given(name=names)
@example(name="<b>")
def test_markdown_shows_names_as_they_are(name: str) -> None:
    document = Document("T", (Text(f"Of x{name}y."),), (Section("s", (table(name),)),))
    rendered = MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown.write(document, {}))
    text, tags = read(rendered)
    assert text.count(line(f"x{name}y")) == 4, rendered
    assert not tags & {"script", "img", "a", "em", "b"}
    assert rendered.count("<tr>") == 3


@given(name=names)
def test_a_terminal_shows_names_as_they_are(name: str) -> None:
    for width in (1000, 12):
        screen = Console(file=io.StringIO(), width=width, record=True)
        made = console.table("setting", f"h{name}h")
        made.add_row("first", f"x{name}y")
        console.show(made, screen)
        shown = re.sub(r"\s", "", screen.export_text())
        assert re.sub(r"\s", "", f"x{name}y") in shown or "─" in shown


@given(name=names)
def test_latex_holds_no_command_of_a_name(name: str) -> None:
    source = latex.escaped(name)
    bare = re.sub(r"\\textbackslash\{\}|\\text\w+\{\}|\\[&%$#_{}]|\$[^$]*\$", "", source)
    assert not set(bare) & set("\\&%$#_{}~^\n")
    assert len([row for row in latex.table(table(name)).splitlines() if row.endswith(r" \\")]) == 3


@given(name=names)
def test_csv_keeps_names_and_runs_no_formula(name: str) -> None:
    header, row = reader.reader(io.StringIO(files.csv(pd.DataFrame({name: [name], "n": [-1.5]})), newline=""))
    assert row[0].removeprefix("'") == name.removeprefix("'")
    assert row[1] == "-1.5"
    assert not re.match(r"[=@\t\r]|[+-][A-Za-z(]", row[0])
    assert not re.match(r"[=@\t\r]|[+-][A-Za-z(]", header[0])


def test_a_figure_shows_names_as_they_are_and_powers_as_formulas(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    drawn = Figure()
    axes = drawn.subplots()
    for place, name in enumerate(NASTY):
        axes.plot([1, 10], [place, place], label=name)
    axes.set_xscale("log")
    axes.set_xlabel("$\\bad{")
    axes.set_yticks(range(len(NASTY)), NASTY)
    axes.set_title("$x$ and $y$")
    axes.legend()
    png, _ = style.save(drawn, tmp_path / "figure")
    assert png.stat().st_size > 0
    assert not axes.title.get_parse_math()
    assert not any(text.get_parse_math() for text in axes.get_yticklabels())
    assert all(text.get_parse_math() for text in axes.get_xticklabels())
