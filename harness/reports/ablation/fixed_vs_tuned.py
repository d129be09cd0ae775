"""The same ablation with fixed and with tuned settings, arm by arm: does the ranking depend on who was tuned?"""

from __future__ import annotations

import copy
import math
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.record.ablation_scores import Declared
from harness.record.arm_studies import tuned_study
from harness.record.study import open_storage
from harness.record.table import StudyTable, read
from harness.stats.arm_means import ArmMean, arm_means
from harness.stats.effects import Effect, effect
from harness.stats.multiplicity import holm
from harness.stats.ranks import Rank, ranks
from harness.stats.refusal import Refused
from harness.stats.scores import Cells, Contrast
from harness.stats.verdicts import Judged

if TYPE_CHECKING:  # whose module asks this one
    from harness.reports.ablation.findings import Verdicts


@dataclass(frozen=True)
class Placed:
    """An arm that trains, both ways. Ranks are None where they are refused or the arm has no score.

    ``gain``: tuned less fixed over the replicates of both, refused where scores cannot be paired; ``gain_p``: its p,
    Holm-adjusted over all arms.
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
        """Whether the two ranks have none in common that is open."""
        one, other = self.fixed_rank, self.tuned_rank
        return one is not None and other is not None and (one.worst < other.best or other.worst < one.best)


@dataclass(frozen=True)
class Beside:
    """``fixed``, ``tuned``: the names of the studies; ``budget``: trials of tuning of each arm; ``judged``: every
    comparison with fixed and with tuned settings.
    """

    fixed: str
    tuned: str
    budget: int
    arms: tuple[Placed, ...]
    judged: tuple[tuple[Judged, Judged], ...]


def other(table: StudyTable, ablation: Declared, folder: Path) -> StudyTable | Refused | None:
    """The tables of this study's other one, fixed of tuned or tuned of fixed, out of the same record.

    None where a study with fixed settings has no tuned one; refused, with the command that makes it, where it is the
    fixed one that is missing. ``folder``: where results lie, as for `harness.record.table.read`.
    """
    name = _other(table, ablation)
    if name is None:
        return _refused(table) if ablation.tuned else None
    return read(table.storage, name, folder)


def beside(fixed: Verdicts, tuned: Verdicts, untrained: str | None, rng: np.random.Generator) -> Beside | Refused:
    """The two studies of a question side by side. ``untrained``: an arm that has no settings, and is left out.

    Refused where one of them has no scores yet.
    """
    for one in (fixed, tuned):
        if not one.cells.targets:
            found = f"study {one.table.name!r} has no trial with scores yet"
            return Refused("Fixed and tuned arms are compared by their scores", found, "let its trials finish")
    arms = tuple(_placed(fixed.cells.without(untrained), tuned.cells.without(untrained), rng))
    return Beside(
        fixed.table.name,
        tuned.table.name,
        tuned.ablation.tuned,
        arms,
        tuple(zip(fixed.judged, tuned.judged, strict=True)),
    )


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


def _other(table: StudyTable, ablation: Declared) -> str | None:
    """The study that asks the same but for tuning: the one with the expected name if it does, else the latest."""
    asked = untuned(table.question)
    expected = table.name.removesuffix("/tuned") if ablation.tuned else tuned_study(table.name)
    fitting = [
        study.study_name
        for study in sorted(open_storage(table.storage).get_all_studies(), key=lambda one: one._study_id)
        if study.study_name != table.name
        and bool(_tuned(question := study.user_attrs.get("question", {}))) != bool(ablation.tuned)
        and untuned(question) == asked
    ]
    return expected if expected in fitting else fitting[-1] if fitting else None


def _tuned(question: Mapping[str, Any]) -> int:
    return int((question.get("ablation") or {}).get("tuned") or 0)


def untuned(question: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a question asks apart from tuning and the number of replicates; None if it is no ablation's."""
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


def _placed(fixed: Cells, tuned: Cells, rng: np.random.Generator) -> Iterator[Placed]:
    before, after = _overall(fixed), _overall(tuned)
    ranked = [_ranks(cells) for cells in (fixed, tuned)]
    both = _both(fixed, tuned)
    gains = [_gain(both, arm, rng) for arm in fixed.arms]
    adjusted = holm(np.array([math.nan if isinstance(gain, Refused) else gain.p for gain in gains]))
    for arm, gain, p in zip(fixed.arms, gains, adjusted.tolist(), strict=True):
        yield Placed(arm, before[arm], after[arm], ranked[0].get(arm), ranked[1].get(arm), gain, p)


def _ranks(cells: Cells) -> dict[str, Rank]:
    found = ranks(cells)
    return {} if isinstance(found, Refused) else {one.arm: one for one in found}


def _gain(both: Cells | Refused, arm: str, rng: np.random.Generator) -> Effect | Refused:
    if isinstance(both, Refused):
        return both
    return effect(both, Contrast(arm, {_named(arm, "tuned"): 1.0, _named(arm, "fixed"): -1.0}), None, rng)


def _overall(cells: Cells) -> dict[str, ArmMean]:
    return {mean.arm: mean for mean in arm_means(cells) if mean.target is None}


def _named(arm: str, how: str) -> str:
    return f"{arm} ({how})"


def _both(fixed: Cells, tuned: Cells) -> Cells | Refused:
    """The cells of both in the replicates of both, every arm twice."""
    common = [pair for pair in fixed.replicates if pair in tuned.replicates]
    at = [[cells.replicates.index(pair) for pair in common] for cells in (fixed, tuned)]
    alike = [target.name for target in fixed.targets] == [target.name for target in tuned.targets] and all(
        np.array_equal(one.patients, other.patients) for one, other in zip(fixed.targets, tuned.targets, strict=False)
    )
    if not common or not alike:
        found = "the studies share no replicate" if alike else "the studies were not judged on the same images"
        return Refused("A gain is paired by replicate and image", found, "let both studies finish")
    targets = tuple(
        replace(one, scores=np.concatenate([one.scores[:, at[0]], other.scores[:, at[1]]]))
        for one, other in zip(fixed.targets, tuned.targets, strict=True)
    )
    arms = (*(_named(arm, "fixed") for arm in fixed.arms), *(_named(arm, "tuned") for arm in tuned.arms))
    finished = np.concatenate([fixed.finished[:, at[0]], tuned.finished[:, at[1]]])
    return Cells(arms, tuple(common), targets, finished)
