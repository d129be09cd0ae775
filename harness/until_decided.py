"""``--until-decided``: replicates are added where verdicts are open, and the error is kept over all looks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from harness import table
from harness.ablated import words
from harness.ablation import Ablation
from harness.inference.looks import judge_looks, saw, schedule
from harness.inference.verdicts import Differs, Judged, Undecided
from harness.measured import declared, measured
from harness.queued import Cell, missing, parameters
from harness.record import Record

LOOKS = "looks"
"""The study's attribute that holds its looks: ``schedule``, fixed by the first of them, and the looks ``done``, each
with its ``tests`` (``harness.inference.looks.Saw``), so that its verdicts stand whatever is trained again later. A
look that was recorded before that was kept is computed from the results there are."""
GIVE_UP = 0.1
"""The chance of a verdict below which no replicate is added: what a study thinks of its chances is rough. To stop where
80 % are out of reach would lose half of the effects of which 20 replicates find four in five; this loses one in fifty.
"""


@dataclass
class UntilDecided:
    """Asked for further cells when all others have ended; a ``harness.suggest.More``.

    Looks happen at numbers of replicates that are fixed before the first one (``harness.inference.looks.schedule``),
    and are written into the study, so that a study that goes on spends no error twice. Between two looks, only the arms
    of open contrasts (undecided, or differing from 0 and perhaps too little to matter) get replicates, as long as one
    of the looks to come has a chance of `GIVE_UP` or more to decide more, with effect and variances as they seem. It
    ends when there are no such contrasts, at ``ablation.most`` replicates, or, before the next round begins, once
    ``deadline`` (of the monotonic clock; None: never) has passed: a round that has begun is finished.
    """

    book: Record
    ablation: Ablation
    console: Console
    deadline: float | None
    tried: set[Cell] = field(default_factory=set)

    def __call__(self) -> Sequence[Mapping[str, Any]]:
        """The parameters of the cells that come next; none when it is over."""
        while (at := self._next_look()) is not None:
            fresh = [cell for cell in missing(self.book, self._cells(at)) if cell not in self.tried]
            if fresh:
                if self.deadline is not None and time.monotonic() >= self.deadline:
                    self._say("The budget is spent; the same command goes on from here.")
                    return ()
                self.tried.update(fresh)
                self._grow(at)
                return parameters(fresh)
            self._look(at)
        return ()

    def _state(self) -> dict[str, Any]:
        first = len(self.ablation.replicates.all())
        planned = list(schedule(first, self.ablation.most))
        return dict(self.book.study.user_attrs.get(LOOKS) or {"schedule": planned, "done": []})

    def _next_look(self) -> int | None:
        state = self._state()
        left = state["schedule"][len(state["done"]) :]
        if not left or (state["done"] and not state["done"][-1]["open"]):
            return None
        return int(left[0])

    def _cells(self, count: int) -> list[Cell]:
        """The cells of the arms that are still of interest in the first ``count`` replicates."""
        done = self._state()["done"]
        arms = set(self.ablation.settings)
        if done:
            open_ = set(done[-1]["open"])
            arms = {arm for one in self.ablation.contrasts if one.name in open_ for arm in one.weights}
        drawn = self.ablation.repeated(count).replicates.all()
        return [Cell(arm, one.seed, one.fold) for one in drawn for arm in self.ablation.settings if arm in arms]

    def _grow(self, count: int) -> None:
        """Write into the study's question that it has so many replicates."""
        question = dict(self.book.study.user_attrs["question"])
        drawn = [[one.seed, one.fold] for one in self.ablation.repeated(count).replicates.all()]
        if len(drawn) > len(question["ablation"]["replicates"]):
            question["ablation"] = {**question["ablation"], "replicates": drawn}
            self.book.study.set_user_attr("question", question)

    def _look(self, at: int) -> None:
        self._grow(at)
        state = self._state()
        looks = [int(one["replicates"]) for one in state["done"]] + [at]
        read = table.read(self.book.storage_url, self.book.name, self.book.folder.parents[self.book.name.count("/")])
        cells = measured(read, declared(read)).cells
        judged = judge_looks(
            cells,
            self.ablation.contrasts,
            self.ablation.smallest_of_interest,
            looks,
            state["schedule"][-1],
            np.random.default_rng(0),
            kept=[one.get("tests") for one in state["done"]],
        )
        seen = saw([(one.effect, one.targets) for one in judged], self.ablation.smallest_of_interest)
        worth = [one.effect.contrast for one in judged if _worth(one)]
        verdicts = {one.effect.contrast: words.verdict(one.verdict).text for one in judged}
        state["done"] = [*state["done"], {"replicates": at, "verdicts": verdicts, "open": worth, "tests": seen}]
        self.book.study.set_user_attr(LOOKS, state)
        told = "; ".join(f"{name}: {word}" for name, word in verdicts.items())
        self._say(f"After {at} replicates: {told}.")

    def _say(self, text: str) -> None:
        self.console.print(escape(text), highlight=False, soft_wrap=True)


def _worth(judged: Judged) -> bool:
    """Whether further replicates may decide whether it matters: an effect that is there may turn out to."""
    if not isinstance(judged.verdict, Undecided | Differs):
        return False
    return judged.verdict.chance >= GIVE_UP or (bool(judged.effect.why) and judged.verdict.more is not None)
