"""What ``--tuned`` asks of each arm's search, and what it takes from it. The searches themselves are stood in for."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.console import Console

from harness import ablate
from harness.designs import Levels
from harness.errors import OtherQuestion, TooManyFailures
from harness.execution import arm_tuning, searches
from harness.execution.plan import Plan, plan_studies
from harness.experiments import declarations
from harness.experiments.ablation import Ablation
from harness.experiments.question import ablation_question
from harness.experiments.search import Search
from harness.experiments.space import draws, typical_settings
from harness.record.arm_studies import arm_study, tuned_study
from harness.record.storage import open_storage
from harness.record.table import StudyTable
from harness.reports.ablation.fixed_vs_tuned import untuned
from harness.tracking.tracker import Conclusion
from sam2lora.choice import to_json

TRIALS = 3


@pytest.fixture(scope="module")
def ablation() -> Ablation:
    """The full factorial over loss components, with an arm that trains nothing."""
    return declarations.ablation("loss_components")


@pytest.fixture
def plan(tmp_path: Path, ablation: Ablation) -> Plan:
    """The plan of a tuned ablation, whose folder is empty."""
    typed = ["loss_components", "--tuned", str(TRIALS), "--out", str(tmp_path)]
    return plan_studies(ablate.parser().parse_args(typed), "command", ablation.base.protocol)[0]


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Plan, Search]]:
    """Searches that were asked for; each is answered by trials whose target scores contradict their validation."""
    asked: list[tuple[Plan, Search]] = []

    def answer(plan: Plan, search: Search, *rest: Any, **more: Any) -> bool:
        asked.append((plan, search))
        study = optuna.create_study(
            storage=open_storage(plan.storage),
            study_name=plan.study,
            direction="maximize",
            sampler=search.sampler.build(search.replicate.seed, {}),
        )
        for place in range(search.trials):
            trial = study.ask()
            trial.set_user_attr("config", to_json(search.space(trial)))
            trial.set_user_attr("outcome", {"kind": "completed"})
            trial.set_user_attr("scores", {"alder/dice": 1.0 - 0.1 * place})
            study.tell(trial, 0.5 + 0.1 * place)
        return True

    monkeypatch.setattr(searches, "run_search", answer)
    return asked


def quiet() -> Console:
    return Console(file=io.StringIO())


def unwritten(table: StudyTable, console: Console) -> Conclusion:
    raise AssertionError("no search ends, so none has a report")


def test_each_arm_that_trains_runs_with_its_best_by_validation(
    plan: Plan, ablation: Ablation, searched: list[tuple[Plan, Search]]
) -> None:
    found = arm_tuning.tune_arms(plan, ablation, TRIALS, unwritten, quiet())
    assert found is not None
    assert list(found) == list(ablation.settings)
    assert found["empty"] == ablation.settings["empty"]
    storage = open_storage(plan.storage)
    for arm in set(found) - {"empty"}:
        last = optuna.load_study(study_name=arm_study(plan.study, arm), storage=storage).trials[-1]
        assert last.user_attrs["scores"]["alder/dice"] == 0.8, "the best by validation is the worst on the target"
        optimizer = replace(
            ablation.settings[arm].optimizer, lr=last.params["lr"], weight_decay=last.params["weight decay"]
        )
        assert found[arm] == replace(ablation.settings[arm], optimizer=optimizer)


def test_searches_are_equal_draws_with_a_seed_that_judges_nothing(
    plan: Plan, ablation: Ablation, searched: list[tuple[Plan, Search]]
) -> None:
    arm_tuning.tune_arms(plan, ablation, TRIALS, unwritten, quiet())
    judging = {one.seed for one in ablation.repeated(ablation.most).replicates.all()}
    storage = open_storage(plan.storage)
    drawn = []
    for own, search in searched:
        assert (search.trials, search.sampler.kind, search.scheduler.kind) == (TRIALS, "random", "none")
        assert search.replicate.seed not in judging
        drawn.append([t.params for t in optuna.load_study(study_name=own.study, storage=storage).trials])
    assert len(drawn) == 7
    assert all(one == drawn[0] for one in drawn)


def test_an_interrupted_search_ends_tuning(plan: Plan, ablation: Ablation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searches, "run_search", lambda *rest, **more: False)
    assert arm_tuning.tune_arms(plan, ablation, TRIALS, unwritten, quiet()) is None


def test_an_arm_without_a_completed_trial_is_hopeless(
    plan: Plan, ablation: Ablation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverged(plan: Plan, *rest: Any, **more: Any) -> bool:
        study = optuna.create_study(storage=open_storage(plan.storage), study_name=plan.study)
        trial = study.ask()
        trial.set_user_attr("outcome", {"kind": "diverged"})
        study.tell(trial, 0.0)
        return True

    monkeypatch.setattr(searches, "run_search", diverged)
    with pytest.raises(TooManyFailures, match="loss_components/tune/bce has none among 1"):
        arm_tuning.tune_arms(plan, ablation, TRIALS, unwritten, quiet())


def test_another_budget_is_refused_before_anything_is_trained(
    plan: Plan, ablation: Ablation, searched: list[tuple[Plan, Search]]
) -> None:
    made = optuna.create_study(storage=open_storage(plan.storage), study_name=tuned_study(plan.study))
    made.set_user_attr("question", {"ablation": {"tuned": 8}})
    with pytest.raises(OtherQuestion, match=r"tuned with 8 trials each and --tuned asks for 3: .* give --tuned 8"):
        arm_tuning.tune_arms(plan, ablation, TRIALS, unwritten, quiet())
    assert searched == []
    assert arm_tuning.tune_arms(plan, ablation, 8, unwritten, quiet()) is not None


@pytest.mark.parametrize(
    ("name", "free"),
    [
        ("loss_components", ("optimizer.lr", "optimizer.weight_decay")),
        ("rank", ("optimizer.lr", "optimizer.weight_decay")),
        ("optimizer_basics", ("optimizer.lr",)),
    ],
)
def test_what_the_arms_are_about_is_not_tuned(name: str, free: tuple[str, ...]) -> None:
    asked = declarations.ablation(name)
    assert arm_tuning.nuisances(asked) == free
    config = next(iter(asked.settings.values()))
    for drawn, _ in draws(arm_tuning.space(config, free))[:30]:
        assert 0.1 <= drawn.optimizer.lr / config.optimizer.lr <= 10
        if "optimizer.weight_decay" in free:
            assert 1e-5 <= drawn.optimizer.weight_decay <= 1e-1
        kept = {"lr": config.optimizer.lr, "weight_decay": config.optimizer.weight_decay}
        assert replace(drawn.optimizer, **kept) == config.optimizer
        assert replace(drawn, optimizer=config.optimizer) == config


def test_arms_that_differ_in_both_leave_nothing_to_tune(ablation: Ablation) -> None:
    def both(config: Any) -> Any:
        return replace(config, optimizer=replace(config.optimizer, lr=1e-4, weight_decay=0.5))

    design = Levels(
        factor=("optimizer.lr", "optimizer.weight_decay"),
        levels={"low": both, "high": lambda config: config},
        reference="high",
    )
    with pytest.raises(ValueError, match="leave --tuned out"):
        arm_tuning.nuisances(replace(ablation, design=design))


@pytest.mark.parametrize("name", ["loss_components", "rank", "optimizer_basics"])
def test_tuned_settings_are_no_other_question(name: str) -> None:
    asked = declarations.ablation(name)
    free = arm_tuning.nuisances(asked)
    drawn = {arm: typical_settings(arm_tuning.space(config, free)) for arm, config in asked.settings.items()}
    fixed, tuned = ablation_question(name, asked, {}), ablation_question(name, asked.repeated(9), {}, drawn, 5)
    assert fixed != tuned
    assert untuned(fixed) == untuned(tuned)
    other = replace(asked, smallest_of_interest=0.5)
    assert untuned(ablation_question(name, other, {}, drawn, 5)) != untuned(fixed)
