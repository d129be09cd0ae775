"""A document's tables as LaTeX (booktabs), to be pasted into a paper."""

from __future__ import annotations

from harness.reports.document import Cell, Table, marks
from harness.reports.rendering.markdown import SIGNS

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "\n": " ", "\r": " ",
    "±": r"$\pm$", "−": "$-$", "→": r"$\to$", "†": r"$\dagger$", "▲": r"$\blacktriangle$", "▼": r"$\blacktriangledown$",
    "△": r"$\vartriangle$", "▽": r"$\triangledown$", "↕": r"$\updownarrow$", "≈": r"$\approx$",
    "×": r"$\times$", "≥": r"$\ge$", "≤": r"$\le$", "–": "--", "Δ": r"$\Delta$",
}  # fmt: skip


def table(made: Table) -> str:
    """A floating table. Needs the packages ``booktabs`` and ``amssymb`` (signs of verdicts)."""
    body = [" & ".join(map(_cell, row)) + r" \\" for row in made.rows]
    header = " & ".join(escaped(name) for name in made.header) + r" \\"
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(made.caption)}}}",
        rf"\label{{tab:{made.name}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(made.header) - 1)}}}",
        r"\toprule",
        header,
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _cell(cell: Cell) -> str:
    text = escaped(f"{SIGNS[cell.tone]} {cell.text}" if cell.tone else cell.text)
    return rf"\textbf{{{text}}}" if cell.bold else text


def escaped(text: str) -> str:
    """``text`` with its marks as commands and every character that LaTeX would take for its own escaped."""
    commands = {"plain": "{}", "strong": r"\textbf{{{}}}", "code": r"\texttt{{{}}}"}
    return "".join(
        commands[mark].format("".join(_SPECIAL.get(letter, letter) for letter in piece)) for mark, piece in marks(text)
    )
