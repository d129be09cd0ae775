"""The report of an ablation as a document, and its figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from harness.ablated import course, scores, verdicts
from harness.ablated.answers import Answers
from harness.pages.document import Document, Text
from harness.table import metric_name

if TYPE_CHECKING:  # matplotlib takes a second to load
    from matplotlib.figure import Figure


def document(found: Answers) -> Document:
    """Everything the report says, in the order of reading."""
    return Document(
        title=f"What mattered: the ablation `{found.table.question.get('search', found.table.name)}`",
        lead=(Text(verdicts.plainly(found)),),
        sections=(
            verdicts.verdicts(found),
            verdicts.compared(found),
            scores.scores(found),
            course.curves(found),
            course.costs(found),
            course.left_out(found),
        ),
    )


def figures(found: Answers) -> Iterator[tuple[str, Figure]]:
    """Every figure that the answers allow, by name."""
    from harness.figures import arm_curves

    if len(found.curves):
        yield "curves", arm_curves.draw(found.curves, metric_name("dice"))
