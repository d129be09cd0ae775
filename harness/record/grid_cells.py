"""Which combinations of a grid search have no result yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.record.trials import RecordedTrial


@dataclass(frozen=True)
class GridCells:
    """The combinations of a grid: how many there ``are``, how many have ``ended``, the settings of those ``failed``.

    A failed one has a trial that crashed, and none that ended or is open. Settings that are not in force are left out.
    """

    are: int
    ended: int
    failed: tuple[Mapping[str, Any], ...]

    @property
    def waiting(self) -> int:
        """How many have no trial yet, or one that is open."""
        return self.are - self.ended - len(self.failed)


def grid_cells(trials: Sequence[RecordedTrial]) -> GridCells | None:
    """The combinations that the trials of a study belong to; None of a study whose sampler has no grid."""
    sampled = [trial for trial in trials if trial.cell is not None]
    if not sampled:
        return None
    ended = {trial.cell for trial in sampled if trial.stands}
    there = {trial.cell for trial in sampled if trial.stands or trial.resumable}
    failed = {trial.cell: trial.params for trial in sampled if trial.outcome == "crashed" and trial.cell not in there}
    return GridCells(max(trial.cells for trial in sampled), len(ended), tuple(failed.values()))
