"""A study to which replicates were added until its verdicts were in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from harness.ablated.answers import verdicts
from harness.ablated.verdicts import plainly
from harness.inference.looks import judge_looks
from harness.inference.missing import missing
from harness.inference.verdicts import Matters, Undecided
from harness.table import StudyTable

LOOKS = {"schedule": [3, 5, 7], "done": [{"replicates": 3}, {"replicates": 5}]}


def test_its_verdicts_are_those_of_its_last_look_with_the_error_kept_over_all(table: StudyTable) -> None:
    found, plain = verdicts(replace(table, looks=LOOKS), 0), verdicts(table, 0)
    declared = found.ablation
    expected = judge_looks(found.cells, declared.contrasts, declared.smallest, [3, 5], 7, np.random.default_rng([0, 1]))
    assert found.judged == expected
    assert {one.effect.declared for one in found.judged} == {5}
    assert [one.holm_p for one in found.judged] != [one.holm_p for one in plain.judged]


def test_it_says_so(table: StudyTable) -> None:
    told = plainly(verdicts(replace(table, looks=LOOKS), 0))
    assert "the last look, at 5 of up to 7 replicates, after 2 looks" in told
    first = plainly(verdicts(replace(table, looks={**LOOKS, "done": LOOKS["done"][:1]}), 0))
    assert "so far none: these are the verdicts of the first look, at 3 of up to 7 replicates" in first
    assert "look" not in plainly(verdicts(table, 0))


def test_a_trial_that_was_not_asked_for_has_not_failed(table: StudyTable) -> None:
    later = (table.trials["param/arm"] == "empty") & (table.trials["seed"] >= 3)
    crashed = int((table.trials["outcome"] != "completed").sum())
    found = verdicts(replace(table, trials=table.trials[~later], looks=LOOKS), 0)
    assert int((~found.measured.asked).sum()) == later.sum() == 4
    assert f"{crashed} of 52 trials have no result" in plainly(found)
    assert "4 trials were not asked for: their arms are in no comparison that was open." in found.measured.left_out
    counted = missing(found.cells, np.random.default_rng(0), found.measured.asked).arms
    assert {one.arm: (one.declared, one.failed) for one in counted}["empty"] == (3, 0)
    assert verdicts(table, 0).measured.asked.all()


def test_a_look_stands_as_it_was_recorded(table: StudyTable) -> None:
    """What the last look saw decides, not what its replicates hold now; without a record of it, what they hold now."""
    names = [contrast.name for contrast in verdicts(table, 0).ablation.contrasts]
    targets = {name: [0.9, 0.9, 0.001] for name in ("cedar", "willow", "rowan")}
    seen: dict[str, Any] = {name: {"mean": [0.9, 1.0, 0.9, 0.001], "targets": targets} for name in names}
    second = {**seen, names[0]: {"mean": [1e-9, 1e-9, 1.0, -0.02], "targets": targets}}
    kept = {**LOOKS, "done": [{"replicates": 3, "tests": seen}, {"replicates": 5, "tests": second}]}
    first, *others = verdicts(replace(table, looks=kept), 0).judged
    assert first.verdict == Matters("hurts")
    assert all(isinstance(one.verdict, Undecided) for one in others)
    before = {**LOOKS, "done": [{"replicates": 3, "tests": seen}, {"replicates": 5}]}
    assert [one.holm_p for one in verdicts(replace(table, looks=before), 0).judged] != [
        first.holm_p,
        *(o.holm_p for o in others),
    ]
