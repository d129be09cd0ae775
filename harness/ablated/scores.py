"""The scores themselves: arms by test sets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from harness.ablated import words
from harness.ablated.answers import Answers
from harness.inference.means import ArmMean
from harness.pages.document import Block, Cell, Refusal, Section, Table, Text
from harness.table import metric_name

OVERALL = "all, equal weights"


def scores(found: Answers) -> Section:
    """The ablation table: a row an arm, a column a test set."""
    title = "Ablation table"
    if not found.means:
        return Section(title, (Refusal("no trial has scores on a set that judges."),))
    blocks: list[Block] = [_table(found)]
    apart = [best for best in found.best if best.apart]
    if not apart:
        blocks.insert(
            0, Text("No arm is in bold: nowhere does the difference between the best arm and all others hold.")
        )
    return Section(title, tuple(blocks))


def _table(found: Answers) -> Table:
    columns = [None, *(target.name for target in found.cells.targets)]
    bold = {(best.arm, best.target) for best in found.best if best.apart}
    cells = {(mean.arm, mean.target): mean for mean in found.means}
    rows = tuple(
        (Cell(arm), *(Cell(_cell(cells[arm, name]), bold=(arm, name) in bold) for name in columns),
         Cell(_replicates([cells[arm, name] for name in columns])))
        for arm in found.cells.arms
    )  # fmt: skip
    header = ("arm", OVERALL, *(f"{t.name} (n = {_size(found, t.name)})" for t in found.cells.targets), "replicates")
    caption = (
        f"Mean {metric_name(found.ablation.primary)} with its 95 % interval over replicates and patients. Bold: the "
        "best arm, where its paired difference to every other arm holds at 5 %, corrected for their number and for "
        "having been chosen by the data. Overlap of these intervals says nothing about a difference: arms are paired."
    )
    return Table("scores", caption, header, rows, pd.DataFrame(map(asdict, found.means)))


def _cell(mean: ArmMean) -> str:
    return words.NONE if math.isnan(mean.mean) else words.scored(mean.mean, mean.low, mean.high)


def _size(found: Answers, name: str) -> str:
    own = [mean for mean in found.means if mean.target == name]
    images, patients = max(mean.images for mean in own), max(mean.patients for mean in own)
    return f"{words.count(images, 'image')}, {words.count(patients, 'patient')}"


def _replicates(means: Sequence[ArmMean]) -> str:
    fewest = min(mean.replicates for mean in means)
    return words.share(fewest, means[0].declared)
