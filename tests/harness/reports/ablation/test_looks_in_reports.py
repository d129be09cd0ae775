"""A study to which replicates were added until its verdicts were in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from harness.record.table import StudyTable
from harness.reports.ablation.judgement import judge
from harness.reports.ablation.verdicts import plainly
from harness.stats.missing_data import missing
from harness.stats.sequential import Looks, judge_looks
from harness.stats.verdicts import Matters, Undecided

LOOKS = {"schedule": [3, 5, 7], "done": [{"replicates": 3}, {"replicates": 5}]}


def test_its_verdicts_are_those_of_its_last_look_with_the_error_kept_over_all(table: StudyTable) -> None:
    found, plain = judge(replace(table, looks=LOOKS), 0), judge(table, 0)
    declared = found.ablation
    looks = Looks.of(LOOKS)
    expected = judge_looks(found.cells, declared.contrasts, declared.smallest, looks, np.random.default_rng([0, 1]))
    assert found.judged == expected
    assert {one.effect.declared for one in found.judged} == {5}
    assert [one.differs_p for one in found.judged] != [one.differs_p for one in plain.judged]


def test_it_says_so(table: StudyTable) -> None:
    told = plainly(judge(replace(table, looks=LOOKS), 0))
    assert (
        "This is look 2 at the study, at 5 replicates (earlier looks: at 3); all looks together err in at most 5 %"
        in told
    )
    assert "Replicates are added where verdicts are open, up to 7." in told
    first = plainly(judge(replace(table, looks={**LOOKS, "done": LOOKS["done"][:1]}), 0))
    assert "This is the first look at the study, at 3 replicates" in first


def test_a_study_without_looks_was_looked_at_once_when_it_had_ended(table: StudyTable) -> None:
    found = judge(table, 0)
    assert found.looks == Looks().planned((7,)).looked()
    told = plainly(found)
    assert (
        "This is the first look at the study, at 7 replicates; all looks together err in at most 5 % of studies, "
        in told
    )
    assert "this one in 4 %." in told
    assert (
        "Adding replicates is a further look**, which may err in 0.8 % of studies; the numbers of further replicates"
        in told
    )
    early = table.trials[table.trials["seed"] < 4]
    unfinished = judge(replace(table, trials=early), 0)
    assert unfinished.looks == Looks().planned((7,))
    assert all(isinstance(one.verdict, Undecided) for one in unfinished.judged)
    told = plainly(unfinished)
    assert "its verdict comes at 7 replicates" in told
    assert "look at the study" not in told


def test_a_trial_that_was_not_asked_for_has_not_failed(table: StudyTable) -> None:
    later = (table.trials["param/arm"] == "empty") & (table.trials["seed"] >= 3)
    crashed = int((table.trials["outcome"] != "completed").sum())
    found = judge(replace(table, trials=table.trials[~later], looks=LOOKS), 0)
    assert int((~found.scores.asked).sum()) == later.sum() == 4
    assert f"{crashed} of 52 trials have no result" in plainly(found)
    assert "4 trials were not asked for: their arms are in no comparison that was open." in found.scores.left_out
    counted = missing(found.cells, np.random.default_rng(0), found.scores.asked).arms
    assert {one.arm: (one.declared, one.failed) for one in counted}["empty"] == (3, 0)
    assert judge(table, 0).scores.asked.all()


def test_a_look_stands_as_it_was_recorded(table: StudyTable) -> None:
    """What the last look saw decides, not what its replicates hold now; without a record of it, what they hold now."""
    names = [contrast.name for contrast in judge(table, 0).ablation.contrasts]
    targets = {name: [0.9, 0.9, 0.001] for name in ("cedar", "willow", "rowan")}
    seen: dict[str, Any] = {name: {"mean": [0.9, 1.0, 0.9, 0.001], "targets": targets} for name in names}
    second = {**seen, names[0]: {"mean": [1e-9, 1e-9, 1.0, -0.02], "targets": targets}}
    kept = {**LOOKS, "done": [{"replicates": 3, "tests": seen}, {"replicates": 5, "tests": second}]}
    first, *others = judge(replace(table, looks=kept), 0).judged
    assert first.verdict == Matters("hurts")
    assert all(isinstance(one.verdict, Undecided) for one in others)
    before = {**LOOKS, "done": [{"replicates": 3, "tests": seen}, {"replicates": 5}]}
    assert [one.differs_p for one in judge(replace(table, looks=before), 0).judged] != [
        first.differs_p,
        *(o.differs_p for o in others),
    ]
