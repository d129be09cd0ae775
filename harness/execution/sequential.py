"""The interim looks of an ablation: verdicts come at numbers of replicates that were fixed before.

A study with a fixed number of replicates is looked at when they have all ended; ``--until-decided`` plans several
looks, and adds replicates between them where verdicts are open. Either may grow later, with further looks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console

from harness.execution.cells import Cell, cells, crashed, missing, parameters
from harness.experiments.ablation import Ablation
from harness.record import table
from harness.record.ablation_scores import ablation_scores, recorded_ablation
from harness.record.study import Record
from harness.stats.sequential import Looks, judge_looks, look_record, schedule
from harness.stats.verdicts import Differs, Judged, Undecided, phrase
from sam2lora.cli.messages import say

GIVE_UP = 0.1
"""The chance of a verdict below which no replicate is added: what a study thinks of its chances is rough. To stop where
80 % are out of reach would lose half of the effects of which 20 replicates find four in five; this loses one in fifty.
"""


@dataclass
class InterimLooks:
    """Looks at the verdicts when all trials have ended, and says which cells come next; `Queued.more` calls it.

    Looks happen at numbers of replicates that are fixed before (``harness.stats.sequential``), and are written into the
    study, so that a resumed study spends no error twice. ``adding``: whether replicates are added between two of
    them, to the arms of open contrasts alone, as long as one of the looks to come has a chance of `GIVE_UP` or more to
    decide more, with effect and variances as they seem. Then it ends when there are no such contrasts, at
    ``ablation.most`` replicates, or, before the next round starts, once ``deadline`` (of the monotonic clock; None:
    never) has passed: a round that has started is finished.
    """

    record: Record
    ablation: Ablation
    console: Console
    adding: bool = False
    deadline: float | None = None
    tried: set[Cell] = field(default_factory=set)

    def begin(self, before: Mapping[str, Any]) -> None:
        """Write the looks to come into the study, whose attributes were ``before`` this command.

        A study that had ended before looks were kept was looked at when it had. Raises as `plan`.
        """
        state = self._state()
        looks = Looks.of(state)
        if "looks" not in before and (had := _replicates(before)) and self._ended(had):
            looks = Looks().planned((had,)).looked()
            state["done"] = [{"replicates": had}]
        planned = plan(looks, self.ablation, adding=self.adding)
        state |= {**planned.json(), "adding": self.adding}
        if planned != looks and planned.done:
            state["done"][-1] |= self._judged(state, planned)
        self.record.write(looks=state)

    def __call__(self) -> Sequence[Mapping[str, Any]]:
        """The parameters of the cells that come next; none when it is over."""
        while (at := self._next_look()) is not None:
            fresh = [cell for cell in missing(self.record, self._cells(at)) if cell not in self.tried]
            if fresh and not self.adding:
                return ()
            if fresh:
                if self.deadline is not None and time.monotonic() >= self.deadline:
                    say(self.console, "The budget is spent; run the same command again to continue from here.")
                    return ()
                self.tried.update(fresh)
                self._grow(at)
                return parameters(fresh)
            self._look(at)
        return ()

    def _state(self) -> dict[str, Any]:
        return {"schedule": [], "errors": [], "done": [], **self.record.attributes.get("looks", {})}

    def _ended(self, count: int) -> bool:
        """Whether every trial of the first ``count`` replicates has ended, crashed or not."""
        declared = cells(self.ablation.repeated(count))
        return set(missing(self.record, declared)) <= set(crashed(self.record, declared))

    def _next_look(self) -> int | None:
        state = self._state()
        ahead = Looks.of(state).ahead
        if not ahead or (self.adding and state["done"] and not state["done"][-1]["open"]):
            return None
        return ahead[0]

    def _cells(self, count: int) -> list[Cell]:
        """The cells in the first ``count`` replicates; where they are added, of the arms that are still of interest."""
        declared, done = cells(self.ablation.repeated(count)), self._state()["done"]
        if not (self.adding and done):
            return declared
        open_contrasts = [contrast for contrast in self.ablation.contrasts if contrast.name in done[-1]["open"]]
        arms = {arm for contrast in open_contrasts for arm in contrast.weights}
        return [cell for cell in declared if cell.arm in arms]

    def _grow(self, count: int) -> None:
        """Write into the study's question that it has so many replicates."""
        question = dict(self.record.attributes["question"])
        drawn = [[one.seed, one.fold] for one in self.ablation.repeated(count).replicates.all()]
        if len(drawn) > len(question["ablation"]["replicates"]):
            question["ablation"] = {**question["ablation"], "replicates": drawn}
            self.record.write(question=question)

    def _look(self, at: int) -> None:
        self._grow(at)
        state = self._state()
        seen = self._judged(state, Looks.of(state).looked())
        state["done"] = [*state["done"], {"replicates": at, **seen}]
        self.record.write(looks=state)
        verdicts = "; ".join(f"{name}: {word}" for name, word in seen["verdicts"].items())
        say(self.console, f"After {at} replicates: {verdicts}.")

    def _judged(self, state: Mapping[str, Any], looks: Looks) -> dict[str, Any]:
        """What the last of the ``looks`` that are done sees: verdicts, contrasts worth more replicates, p-values."""
        read = table.read(self.record.storage_url, self.record.name, self.record.out)
        scores = ablation_scores(read, recorded_ablation(read)).cells
        smallest = self.ablation.smallest_of_interest
        kept = [one.get("tests") for one in state["done"]]
        judged = judge_looks(scores, self.ablation.contrasts, smallest, looks, np.random.default_rng(0), kept=kept)
        again = kept[looks.done - 1] if len(kept) == looks.done else None
        return {
            "verdicts": {one.effect.contrast: phrase(one.verdict) for one in judged},
            "open": [one.effect.contrast for one in judged if _worth(one)],
            "tests": again or look_record([(one.effect, one.targets) for one in judged], smallest),
        }


def plan(looks: Looks, ablation: Ablation, *, adding: bool) -> Looks:
    """The looks of a study with those that a command plans: where replicates are added, or once all have ended.

    Raises ``ValueError`` where looks are to come and no error is left for them.
    """
    count = len(ablation.replicates.all())
    return looks.planned(schedule(count, ablation.most) if adding else (count,))


def _replicates(attributes: Mapping[str, Any]) -> int:
    """How many replicates a study of these attributes was asked for; 0 if there was none."""
    return len(attributes["question"]["ablation"]["replicates"]) if "question" in attributes else 0


def _worth(judged: Judged) -> bool:
    """Whether further replicates may decide whether it matters: an effect that is there may turn out to."""
    if not isinstance(judged.verdict, Undecided | Differs):
        return False
    return judged.verdict.chance >= GIVE_UP or (bool(judged.effect.why) and judged.verdict.more is not None)
