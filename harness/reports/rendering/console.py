"""Tables and Markdown on a terminal."""

from __future__ import annotations

from typing import Any, ClassVar

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markdown import Markdown, MarkdownElement, TableElement
from rich.table import Table
from rich.text import Text


def table(*header: str) -> Table:
    """An empty table with these columns."""
    made = _Literal(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in header:
        made.add_column(Text(name))
    return made


def show(made: Table, console: Console) -> None:
    """Print a table, or where the terminal is too narrow for its columns, row by row: a number is never cut."""
    if console.measure(made, options=console.options.update(width=10_000)).minimum <= console.width:
        console.print(made)
        return
    names = [str(column.header).replace("\n", " ") for column in made.columns]
    for cells in zip(*(column.cells for column in made.columns), strict=True):
        cells_by_name = (f"{name} {str(cell).replace(chr(10), ' ')}" for name, cell in zip(names, cells, strict=True))
        console.print("; ".join(cells_by_name), highlight=False, markup=False)
    console.print()


def markdown(text: str) -> Markdown:
    """``text`` for a terminal; on a narrow one the cells of its tables are folded: cut, two models could become one."""
    return _Folded(text)


class _Literal(Table):
    """A table whose cells are shown as they are: names of settings may look like markup."""

    def add_row(self, *cells: RenderableType | None, **look: Any) -> None:
        super().add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells), **look)


class _FoldedTable(TableElement):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for part in super().__rich_console__(console, options):
            for column in part.columns if isinstance(part, Table) else ():
                column.overflow = "fold"
            yield part


class _Folded(Markdown):
    elements: ClassVar[dict[str, type[MarkdownElement]]] = {**Markdown.elements, "table_open": _FoldedTable}
