"""The same ablation with fixed and with tuned settings, arm by arm: does the ranking depend on tuning?"""

from __future__ import annotations

import copy
import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness.record.ablation_scores import RecordedAblation
from harness.record.arm_studies import fixed_study, tuned_study
from harness.record.storage import open_to_read
from harness.record.study import questions
from harness.record.table import StudyTable, read
from harness.reports.ablation.design import untrained
from harness.reports.ablation.judgement import Judgement, judge
from harness.stats.arm_means import ArmMean, arm_means
from harness.stats.effects import Effect, effect
from harness.stats.multiplicity import adjust
from harness.stats.ranks import Rank, ranks
from harness.stats.refusal import Refused
from harness.stats.scores import Cells, Contrast
from harness.stats.verdicts import Judged


@dataclass(frozen=True)
class ArmBothWays:
    """A trained arm with fixed and with tuned settings. Ranks are None where they are refused or a score is missing.

    ``gain``: tuned less fixed over the replicates of both studies, refused where scores cannot be paired; ``gain_p``:
    its p, Holm-adjusted over all arms.
    """

    arm: str
    fixed: ArmMean
    tuned: ArmMean
    fixed_rank: Rank | None
    tuned_rank: Rank | None
    gain: Effect | Refused
    gain_p: float

    @property
    def moved(self) -> bool:
        """Whether the intervals of the two ranks are disjoint."""
        fixed, tuned = self.fixed_rank, self.tuned_rank
        return fixed is not None and tuned is not None and (fixed.worst < tuned.best or tuned.worst < fixed.best)


@dataclass(frozen=True)
class FixedVsTuned:
    """Two studies that differ in tuning alone.

    ``fixed``, ``tuned``: their names; ``budget``: tuning trials of each arm; ``judged``: the verdicts of every
    comparison, with fixed and with tuned settings.
    """

    fixed: str
    tuned: str
    budget: int
    arms: tuple[ArmBothWays, ...]
    judged: tuple[tuple[Judged, Judged], ...]


def compare_fixed_and_tuned(judgement: Judgement, seed: int, folder: Path) -> FixedVsTuned | Refused | None:
    """The study compared with its counterpart, fixed with tuned or tuned with fixed, from the same record.

    None where a study with fixed settings has no tuned one; refused, with the command that makes it, where the study
    with fixed settings is missing, and where one of the two has no scores yet. An untrained arm has no settings and is
    left out. ``folder``: where results lie, as for `harness.record.table.read`; draws are seeded by ``seed``.
    """
    name = _counterpart(judgement.table, judgement.ablation)
    if name is None:
        return _refused(judgement.table) if judgement.ablation.tuned else None
    counterpart = judge(read(judgement.table.storage, name, folder), seed)
    fixed, tuned = (counterpart, judgement) if judgement.ablation.tuned else (judgement, counterpart)
    for study in (fixed, tuned):
        if not study.cells.targets:
            what = f"study {study.table.name!r} has no trial with scores yet"
            return Refused("Fixed and tuned arms are compared by their scores", what, "let its trials finish")
    empty = untrained(fixed.ablation)
    arms = _arms(fixed.cells.without(empty), tuned.cells.without(empty), np.random.default_rng([seed, 9]))
    judged = tuple(zip(fixed.judged, tuned.judged, strict=True))
    return FixedVsTuned(fixed.table.name, tuned.table.name, tuned.ablation.tuned, tuple(arms), judged)


def _refused(table: StudyTable) -> Refused:
    command = fixed_command(str(table.provenance.get("command") or ""))
    return Refused(
        "Fixed and tuned settings are compared where both were run",
        "the record has no study of this question with fixed settings",
        f"make it with `{command}`" if command else "run the same command without --tuned",
    )


def fixed_command(command: str) -> str:
    """``command`` without its ``--tuned N``."""
    words = shlex.split(command)
    kept, skip = [], False
    for word in words:
        flag, given, _ = word.partition("=")
        if skip:
            skip = False
        elif len(flag) > len("--t") and "--tuned".startswith(flag):  # argparse takes a unique beginning
            skip = not given
        else:
            kept.append(word)
    return shlex.join(kept)


def _counterpart(table: StudyTable, ablation: RecordedAblation) -> str | None:
    """The name of the study that differs in tuning alone: the expected name if that study does, else the latest."""
    asked = untuned(table.question)
    expected = fixed_study(table.name) if ablation.tuned else tuned_study(table.name)
    fitting = [
        name
        for name, question in questions(open_to_read(table.storage)).items()
        if name != table.name and bool(_tuned(question)) != bool(ablation.tuned) and untuned(question) == asked
    ]
    return expected if expected in fitting else fitting[-1] if fitting else None


def _tuned(question: Mapping[str, Any]) -> int:
    return int((question.get("ablation") or {}).get("tuned") or 0)


def untuned(question: Mapping[str, Any]) -> dict[str, Any] | None:
    """A question without its tuning and its number of replicates; None if it is not that of an ablation."""
    if "ablation" not in question:
        return None
    asked = copy.deepcopy(dict(question))
    ablation = asked["ablation"]
    chosen = ablation.pop("chosen", {})
    ablation.pop("tuned", None)
    ablation.pop("replicates", None)
    ablation["arms"] = {
        arm: {path: value for path, value in own.items() if path not in chosen.get(arm, {})}
        for arm, own in ablation["arms"].items()
    }
    return asked


def _arms(fixed: Cells, tuned: Cells, rng: np.random.Generator) -> Iterator[ArmBothWays]:
    fixed_means, tuned_means = _overall(fixed), _overall(tuned)
    fixed_ranks, tuned_ranks = _ranks(fixed), _ranks(tuned)
    both = _both(fixed, tuned)
    gains = [_gain(both, arm, rng) for arm in fixed.arms]
    adjusted = adjust(np.array([math.nan if isinstance(gain, Refused) else gain.p for gain in gains]))
    for arm, gain, p in zip(fixed.arms, gains, adjusted.tolist(), strict=True):
        yield ArmBothWays(arm, fixed_means[arm], tuned_means[arm], fixed_ranks.get(arm), tuned_ranks.get(arm), gain, p)


def _ranks(cells: Cells) -> dict[str, Rank]:
    ranked = ranks(cells)
    return {} if isinstance(ranked, Refused) else {rank.arm: rank for rank in ranked}


def _gain(both: Cells | Refused, arm: str, rng: np.random.Generator) -> Effect | Refused:
    if isinstance(both, Refused):
        return both
    return effect(both, Contrast(arm, {_named(arm, "tuned"): 1.0, _named(arm, "fixed"): -1.0}), None, rng)


def _overall(cells: Cells) -> dict[str, ArmMean]:
    return {mean.arm: mean for mean in arm_means(cells) if mean.target is None}


def _named(arm: str, how: str) -> str:
    return f"{arm} ({how})"


def _both(fixed: Cells, tuned: Cells) -> Cells | Refused:
    """The cells of both studies in their common replicates, with every arm twice."""
    common = [pair for pair in fixed.replicates if pair in tuned.replicates]
    at = [[cells.replicates.index(pair) for pair in common] for cells in (fixed, tuned)]
    alike = [target.name for target in fixed.targets] == [target.name for target in tuned.targets] and all(
        np.array_equal(one.patients, other.patients) for one, other in zip(fixed.targets, tuned.targets, strict=False)
    )
    if not common or not alike:
        what = "the studies share no replicate" if alike else "the studies were not tested on the same images"
        return Refused("A gain is paired by replicate and image", what, "let both studies finish")
    targets = tuple(
        replace(one, scores=np.concatenate([one.scores[:, at[0]], other.scores[:, at[1]]]))
        for one, other in zip(fixed.targets, tuned.targets, strict=True)
    )
    arms = (*(_named(arm, "fixed") for arm in fixed.arms), *(_named(arm, "tuned") for arm in tuned.arms))
    finished = np.concatenate([fixed.finished[:, at[0]], tuned.finished[:, at[1]]])
    return Cells(arms, tuple(common), targets, finished)
