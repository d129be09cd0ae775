"""The queue of an ablation, driven without Ray: what runs, what is taken over, what is tried again, what is added."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from rich.console import Console

from harness.designs import AddOneIn, Factorial, setting
from harness.errors import OtherQuestion
from harness.execution.arm_tuning import nuisances, space
from harness.execution.cells import Cell, cells, crashed, missing, parameters, proposing
from harness.execution.reuse import OtherStudies
from harness.execution.searcher import Searcher
from harness.execution.sequential import InterimLooks
from harness.execution.sources import Queued
from harness.experiments.ablation import Ablation
from harness.experiments.question import ablation_question
from harness.experiments.replicates import replicates
from harness.record import table
from harness.record.arm_studies import tuned_study
from harness.record.outcome import Completed, Crashed, Diverged
from harness.record.storage import open_storage
from harness.record.study import Record, attributes, open_record, trial_count
from harness.record.trials import RecordedTrial, standing_by_key
from harness.reports.ablation.judgement import judge
from harness.stats.verdicts import Undecided
from sam2lora.config import TrialConfig
from sam2lora.files import ADAPTER, IMAGES, PREDICTIONS, RESULT
from sam2lora.integrity import digests_of, seal
from sam2lora.losses import BCE, FocalTversky, SoftDice
from sam2lora.runtime import Runtime

Score = Callable[[Cell], float]
QUIET = Console(quiet=True)


@pytest.fixture
def pair(tiny: TrialConfig) -> Ablation:
    """Three arms in three replicates."""
    design = Factorial({"bce": BCE(), "dice": SoftDice()})
    return Ablation(tiny, design, replicates(3), primary="dice", smallest_of_interest=0.01)


@dataclass
class Warnings:
    """A listener that keeps what it is warned of."""

    texts: list[str]

    def began(self, trial: RecordedTrial) -> None:
        pass

    def advanced(self, trial: RecordedTrial, entry: Mapping[str, float]) -> None:
        pass

    def warned(self, trial: RecordedTrial, text: str) -> None:
        self.texts.append(text)

    def ended(self, trial: RecordedTrial) -> None:
        pass


class Bench:
    """Studies in one folder, whose trials end as they are told; ``tuned`` by so many trials before, where not 0."""

    def __init__(self, folder: Path, tuned: int = 0) -> None:
        self.folder, self.tuned = folder, tuned
        self.name = tuned_study("study") if tuned else "study"
        self.url = f"sqlite:///{folder / 'optuna.db'}"
        self.trained: list[Cell] = []
        self.warned: list[str] = []

    def open(self, ablation: Ablation, name: str | None = None) -> Record:
        name = name or self.name
        asked = ablation_question("x", ablation, {"data": "1"}, ablation.settings, self.tuned)
        sampler = RandomSampler(seed=0)
        return open_record(self.url, name, self.folder, asked, sampler, growing="ablation.replicates")

    def ask(self, book: Record, ablation: Ablation, more: InterimLooks | None = None) -> Searcher:
        wanted = cells(ablation)
        queue = missing(book, wanted)
        if more is not None:
            more.tried.update(queue)
        source = Queued(book, len(wanted), parameters(queue), more or tuple)
        others = OtherStudies(book)
        return Searcher(
            source,
            proposing(ablation.settings),
            standing_by_key(book.trials()),
            {"data": "1"},
            Runtime(),
            others=others,
            listeners=(Warnings(self.warned),),
        )

    def run(
        self, ask: Searcher, score: Score = lambda cell: 0.5, fate: Callable[[Cell], str] = lambda cell: ""
    ) -> None:
        number = 0
        while isinstance(order := ask.suggest(f"t{number}"), dict):
            cell = Cell(**ask.open[f"t{number}"].trial.params)
            self.trained.append(cell)
            self.end(ask, f"t{number}", order, score(cell), fate(cell))
            number += 1

    def end(self, ask: Searcher, trial_id: str, order: dict[str, Any], score: float, fate: str) -> None:
        if fate:
            ask.close(trial_id, Crashed(1, fate) if fate == "bug" else Diverged(1, fate))
            return
        ask.open[trial_id].curve = [{"epoch": 1, "score": score}]
        ask.open[trial_id].cost = {"train_seconds": 2.0}
        files = ask.record.files(order["key"])
        files.mkdir(parents=True)
        for name in (ADAPTER, PREDICTIONS):
            (files / name).write_text(order["key"])
        images = {
            "key": order["key"],
            "dataset": "cedar",
            "role": "target",
            "image": list("abcd"),
            "patient": list("abcd"),
        }
        noise = np.random.default_rng(len(self.trained)).normal(scale=1e-3, size=4)
        pd.DataFrame({**images, "dice": score + noise}).to_parquet(files / IMAGES)
        digests = digests_of(files, (ADAPTER, IMAGES, PREDICTIONS))
        (files / RESULT).write_text(seal({"files": digests}))
        named: dict[str, Any] = {
            "scores": {"cedar/dice": score},
            "n_images": {"cedar": 4},
            "roles": {"cedar": "target"},
            "files": digests,
        }
        ask.close(trial_id, Completed(epoch=1, score=score, **named, validation={"alder/dice": score}))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_every_arm_runs_in_a_replicate_before_the_next_one_begins(bench: Bench, pair: Ablation) -> None:
    book = bench.open(pair)
    bench.run(ask := bench.ask(book, pair))
    assert bench.trained == [Cell(arm, k, k) for k in range(3) for arm in ("bce", "dice", "bce+dice")]
    assert (ask.wanted, ask.source.ended, ask.source.trials) == (0, 9, 9)
    assert {(t.params["arm"], t.params["seed"], t.params["fold"]) for t in book.trials()} == {
        (cell.arm, cell.seed, cell.fold) for cell in bench.trained
    }
    for trial in book.trials():
        assert trial.replicate == {"seed": trial.params["seed"], "fold": trial.params["fold"]}
        assert json.loads(trial.config)["loss"] == json.loads(recorded_loss(pair.settings[trial.params["arm"]]))
    assert bench.ask(book, pair).wanted == 0


def recorded_loss(config: TrialConfig) -> str:
    from sam2lora.choice import to_json

    return to_json(config.loss)


def test_an_interrupted_ablation_goes_on_where_it_was(bench: Bench, pair: Ablation) -> None:
    book = bench.open(pair)
    killed = bench.ask(book, pair)
    orders = [killed.suggest("a"), killed.suggest("b")]
    book.study.enqueue_trial({"arm": "bce", "seed": 2, "fold": 2})  # killed between enqueuing and asking
    bench.run(again := bench.ask(book, pair))
    assert again.wanted == 0
    done = [trial for trial in book.trials() if trial.state == TrialState.COMPLETE]
    assert sorted(Cell(**trial.params) for trial in done) == sorted(cells(pair))
    assert [book.trial(n).key for n in (0, 1)] == [order["key"] for order in orders]  # type: ignore[index]
    assert not [trial for trial in book.trials() if not trial.state.is_finished()]


def test_a_crashed_cell_is_not_replaced_and_is_tried_again_by_the_next_run(bench: Bench, pair: Ablation) -> None:
    book, broken = bench.open(pair), Cell("dice", 1, 1)
    bench.run(ask := bench.ask(book, pair), fate=lambda cell: "bug" if cell == broken else "")
    assert ask.wanted == 0
    assert bench.trained.count(broken) == 1
    assert crashed(book, cells(pair)) == [broken]
    bench.trained.clear()
    bench.run(bench.ask(book, pair))
    assert bench.trained == [broken]
    assert crashed(book, cells(pair)) == []


def test_a_diverged_cell_has_an_ending(bench: Bench, pair: Ablation) -> None:
    book = bench.open(pair)
    bench.run(bench.ask(book, pair), fate=lambda cell: "loss" if cell.arm == "bce" else "")
    assert missing(book, cells(pair)) == []


def test_more_replicates_extend_a_study_and_nothing_else_may_change(bench: Bench, pair: Ablation) -> None:
    bench.run(bench.ask(bench.open(pair), pair))
    bench.trained.clear()
    grown = pair.repeated(4)
    book = bench.open(grown)
    bench.run(bench.ask(book, grown))
    assert {cell.seed for cell in bench.trained} == {3}
    assert len(book.attributes["question"]["ablation"]["replicates"]) == 4
    assert len(bench.open(pair).attributes["question"]["ablation"]["replicates"]) == 4, "none are forgotten"
    with pytest.raises(OtherQuestion, match=r"ablation\.smallest_of_interest: recorded 0\.01; now 0\.02"):
        bench.open(replace(pair, smallest_of_interest=0.02))


@pytest.mark.parametrize("name", [ADAPTER, IMAGES, PREDICTIONS, RESULT])
def test_a_damaged_result_of_another_study_is_not_taken(name: str, bench: Bench, pair: Ablation) -> None:
    book = bench.open(pair)
    bench.run(bench.ask(book, pair))
    first = book.trials()[0]
    path = book.files(first.key) / name
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    read = table.read(book.storage_url, "study", bench.folder)
    assert read.left_out["number"].tolist() == ([first.number] if name == IMAGES else [])
    assert read.left_out["why"].str.contains("its checksum differs: restore it").all()
    bench.trained.clear()
    bench.run(bench.ask(bench.open(pair, "again"), pair))
    assert bench.trained == [Cell(**first.params)]
    (warning,) = bench.warned
    assert f"{path} must be as it was written, but its checksum differs" in warning


def test_a_second_ablation_trains_only_the_arms_that_the_first_has_not(bench: Bench, pair: Ablation) -> None:
    bench.run(bench.ask(bench.open(pair), pair), score=lambda cell: 0.4 + cell.seed / 10)
    bench.trained.clear()
    design = Factorial({"bce": BCE(), "dice": SoftDice(), "ft": FocalTversky()})
    wider = replace(pair, design=design)
    book = bench.open(wider, "wider")
    bench.run(ask := bench.ask(book, wider))
    assert {cell.arm for cell in bench.trained} == {"ft", "bce+ft", "dice+ft", "bce+dice+ft"}
    assert ask.source.ended == 21
    read = table.read(book.storage_url, "wider", bench.folder)
    taken = read.trials[read.trials["copied_from"].notna()]
    assert len(taken) == 9
    assert set(taken["copied_from"]) == {f"study {number}" for number in range(9)}
    assert len(table.completed_trials(read.trials)) == 21, "what was taken is a measurement of this study"
    assert set(taken["key"]) <= set(read.images["key"])
    assert read.left_out.empty
    assert taken["value"].tolist() == pytest.approx([0.4 + seed / 10 for seed in taken["seed"]])
    assert (taken["cost/train_seconds"] == 2.0).all()


def test_a_trial_whose_files_are_gone_is_trained(bench: Bench, pair: Ablation) -> None:
    book = bench.open(pair)
    bench.run(bench.ask(book, pair), fate=lambda cell: "loss" if cell.arm == "dice" else "")
    lost = next(trial for trial in book.trials() if Cell(**trial.params) == Cell("bce", 0, 0))
    (book.files(lost.key) / IMAGES).unlink()
    bench.trained.clear()
    bench.run(bench.ask(bench.open(pair, "again"), pair))
    assert set(bench.trained) == {Cell("bce", 0, 0), *(Cell("dice", k, k) for k in range(3))}, "nor what diverged"


def planned(bench: Bench, ablation: Ablation, deadline: float | None = None) -> tuple[Record, InterimLooks]:
    return looking(bench, ablation, adding=True, deadline=deadline)


def looking(bench: Bench, ablation: Ablation, **ways: Any) -> tuple[Record, InterimLooks]:
    """A command's looks, in the order in which it comes to them."""
    before = attributes(open_storage(bench.url), bench.name)
    book = bench.open(ablation)
    more = InterimLooks(book, ablation, QUIET, **ways)
    more.begin(before)
    return book, more


def command(bench: Bench, ablation: Ablation, score: Score, fate: Callable[[Cell], str] = lambda cell: "") -> Any:
    """The command with a fixed number of replicates, to its end; returns what the study says of its looks."""
    book, more = looking(bench, ablation)
    bench.run(bench.ask(book, ablation, more), score=score, fate=fate)
    return book.attributes["looks"]


def clear(cell: Cell, gain: float = 0.008) -> float:
    """Soft Dice helps beyond doubt, clipping cannot be told from chance, though it may come to be."""
    luck = np.random.default_rng(cell.seed).normal(gain, 0.02) if "clip" in cell.arm else 0.0
    return 0.5 + (0.2 if "dice" in cell.arm else 0.0) + float(luck)


@pytest.fixture
def two(tiny: TrialConfig) -> Ablation:
    """Two things added to a base, one clear and one not."""
    from sam2lora.losses import Focal

    design = AddOneIn({"dice": Focal(), "clip": setting(clip_norm=5.0)})
    return Ablation(tiny, design, replicates(4), primary="dice", smallest_of_interest=0.001, most=9)


def test_only_undecided_contrasts_get_replicates_and_looks_are_counted(bench: Bench, two: Ablation) -> None:
    book, more = planned(bench, two)
    bench.run(bench.ask(book, two, more), score=clear)
    looks = book.attributes["looks"]
    assert looks["schedule"] == [4, 6, 9]
    assert [one["replicates"] for one in looks["done"]] == [4, 6, 9]
    assert looks["done"][0]["verdicts"] == {"dice": "matters: helps", "clip": "undecided"}
    assert [set(one["tests"]) for one in looks["done"]] == [{"dice", "clip"}] * 3
    assert {cell.arm for cell in bench.trained if cell.seed >= 4} == {"base", "with clip"}
    assert {cell.seed for cell in bench.trained} == set(range(9))
    assert len(book.attributes["question"]["ablation"]["replicates"]) == 9
    bench.trained.clear()
    again, more = planned(bench, two)
    bench.run(bench.ask(again, two, more), score=clear)
    assert not bench.trained
    assert again.attributes["looks"] == looks, "a resumed study spends nothing twice"


def test_what_no_look_to_come_is_likely_to_decide_gets_no_more_replicates(bench: Bench, two: Ablation) -> None:
    book, more = planned(bench, two)
    bench.run(bench.ask(book, two, more), score=lambda cell: clear(cell, gain=0.0))
    assert {cell.seed for cell in bench.trained} == set(range(6))
    last = book.attributes["looks"]["done"][-1]
    assert (last["replicates"], last["verdicts"]["clip"], last["open"]) == (6, "undecided", [])


def test_a_spent_budget_adds_nothing_and_what_follows_goes_on(bench: Bench, two: Ablation) -> None:
    book, more = planned(bench, two, deadline=0.0)
    bench.run(bench.ask(book, two, more), score=clear)
    assert {cell.seed for cell in bench.trained} == {0, 1, 2, 3}
    assert len(book.attributes["looks"]["done"]) == 1
    again, more = planned(bench, two)
    bench.run(bench.ask(again, two, more), score=clear)
    assert {cell.seed for cell in bench.trained} == set(range(9))


def level(looks: Any) -> list[float]:
    return [round(error, 6) for error in looks["errors"]]


def at(looks: Any) -> list[int]:
    return [one["replicates"] for one in looks["done"]]


@pytest.mark.parametrize("tuned", [0, 3])
def test_a_study_is_looked_at_when_its_replicates_have_ended_and_growing_it_is_a_look(
    tmp_path: Path, two: Ablation, tuned: int
) -> None:
    """No report is opened. What was decided stays so although all its later replicates say the opposite."""
    bench = Bench(tmp_path, tuned)
    first = command(bench, two, clear)
    assert (at(first), level(first)) == ([4], [0.04])
    assert first["done"][0]["verdicts"] == {"dice": "matters: helps", "clip": "undecided"}
    assert command(bench, two, clear) == first, "the same number is no look"
    assert command(bench, two.repeated(3), clear) == first, "nor are fewer"
    grown = command(bench, two.repeated(6), lambda cell: clear(cell) - (2.0 if cell.arm == "with dice" else 0.0))
    assert (at(grown), level(grown)) == ([4, 6], [0.04, 0.008])
    assert grown["done"][0] == first["done"][0] | {name: grown["done"][0][name] for name in ("open",)}
    assert grown["done"][1]["verdicts"]["dice"] == "matters: helps"
    assert {cell.seed for cell in bench.trained} == set(range(6))


def test_an_interruption_after_the_last_trial_leaves_the_look_to_the_next_command(bench: Bench, two: Ablation) -> None:
    """Until then no report has a verdict, so nobody has looked."""
    book, _ = looking(bench, two)
    bench.run(bench.ask(book, two), score=clear)
    assert not missing(book, cells(two))
    found = judge(table.read(bench.url, bench.name, bench.folder), 0)
    assert (found.looks.done, {type(one.verdict) for one in found.judged}) == (0, {Undecided})
    looks = command(bench, two, clear)
    assert (at(looks), level(looks)) == ([4], [0.04])
    assert looks["done"][0]["verdicts"]["dice"] == "matters: helps"
    assert len(bench.trained) == len(cells(two)), "nothing is trained again"


def test_a_growth_before_the_end_of_what_was_asked_costs_nothing(bench: Bench, two: Ablation) -> None:
    """Nobody has looked yet: neither where replicates are asked for again, nor where fewer are."""
    book, more = looking(bench, two)
    ask = bench.ask(book, two, more)
    bench.end(ask, "t0", ask.suggest("t0"), 0.5, "")  # type: ignore[arg-type]
    assert book.attributes["looks"]["done"] == []
    looks = command(bench, two.repeated(3), clear)
    assert (at(looks), looks["schedule"]) == ([], [4]), "the study has three of the four that it is looked at with"
    looks = command(bench, two.repeated(6), clear)
    assert (at(looks), level(looks)) == ([6], [0.04])


def test_a_study_from_before_looks_were_kept_was_looked_at_when_it_had_ended(bench: Bench, two: Ablation) -> None:
    """Its look is computed from the replicates that it had then, which the growth's are added to."""
    book = bench.open(two)
    bench.run(bench.ask(book, two), score=clear)
    assert "looks" not in book.attributes
    looks = command(bench, two.repeated(6), lambda cell: clear(cell) - (2.0 if cell.seed > 3 else 0.0))
    assert (at(looks), level(looks)) == ([4, 6], [0.04, 0.008])
    assert looks["done"][0]["verdicts"] == {"dice": "matters: helps", "clip": "undecided"}
    assert looks["done"][0]["tests"]["dice"]["mean"][3] == pytest.approx(0.2, abs=0.01)


def test_a_study_that_had_not_ended_was_not_looked_at(bench: Bench, two: Ablation) -> None:
    book = bench.open(two)
    ask = bench.ask(book, two)
    bench.end(ask, "t0", ask.suggest("t0"), 0.5, "")  # type: ignore[arg-type]
    looks = command(bench, two.repeated(6), clear)
    assert (at(looks), level(looks)) == ([6], [0.04])


def test_a_grown_study_goes_on_until_decided_with_the_error_that_is_left_and_the_reverse(
    bench: Bench, two: Ablation
) -> None:
    command(bench, two, clear)
    book, more = planned(bench, two)
    bench.run(bench.ask(book, two, more), score=clear)
    looks = book.attributes["looks"]
    assert looks["schedule"] == [4, 6, 9]
    assert at(looks)[:2] == [4, 6]
    assert sum(looks["errors"][1:]) == pytest.approx(0.008)
    assert {cell.arm for cell in bench.trained if cell.seed >= 4} == {"base", "with clip"}
    looks = command(bench, two.repeated(11), clear)
    assert at(looks)[-1] == 11
    assert sum(looks["errors"]) < 0.05
    assert {cell.seed for cell in bench.trained if cell.arm == "with dice"} == set(range(11))


def test_trials_that_crashed_at_a_look_and_are_trained_later_are_no_look(bench: Bench, two: Ablation) -> None:
    looks = command(bench, two, clear, lambda cell: "bug" if cell.seed == 3 else "")
    assert at(looks) == [4]
    again = command(bench, two, clear)
    assert again == looks
    assert Cell("base", 3, 3) in bench.trained


def test_what_the_arms_are_about_is_not_tuned(pair: Ablation, tiny: TrialConfig) -> None:
    import optuna

    from harness.experiments import declarations

    assert nuisances(pair) == ("optimizer.lr", "optimizer.weight_decay")
    assert nuisances(declarations.ablation("optimizer_basics")) == ("optimizer.lr",)
    trial = optuna.create_study(sampler=RandomSampler(seed=1)).ask()
    drawn = space(tiny, ("optimizer.lr",))(trial)
    assert set(trial.params) == {"lr"}
    assert replace(drawn, optimizer=tiny.optimizer) == tiny
    assert tiny.optimizer.lr / 10 <= drawn.optimizer.lr <= tiny.optimizer.lr * 10


def test_a_tuned_ablation_says_what_was_chosen(pair: Ablation, tiny: TrialConfig) -> None:
    better = replace(pair.settings["dice"], optimizer=replace(tiny.optimizer, lr=0.5))
    asked = ablation_question("x", pair, {}, {**pair.settings, "dice": better}, tuning_trials=7)["ablation"]
    assert (asked["tuned"], asked["chosen"]) == (7, {"bce": {}, "dice": {"optimizer.lr": 0.5}, "bce+dice": {}})
    assert asked["arms"]["dice"]["optimizer.lr"] == 0.5


def test_abandoned_trials_are_no_endings(bench: Bench, pair: Ablation) -> None:
    book = bench.open(pair)
    book.study.ask()
    assert missing(book, cells(pair)) == cells(pair)
    bench.run(bench.ask(book, pair))
    assert trial_count(open_storage(book.storage_url), "study") == 10
