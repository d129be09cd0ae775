"""Laws of importance: what may enter it, what it must find, and what it must refuse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from pandas.testing import assert_frame_equal

from harness.importance import Fanova, Importance, PedAnova, is_probe
from harness.importance.resampling import COLUMNS

Probe = tuple[pd.DataFrame, dict[str, BaseDistribution]]
FAST = (
    Fanova(trees=16, resample_trees=4, bootstraps=8, shuffles=19),
    PedAnova(bootstraps=10, shuffles=19),
)


def measure(
    how: Importance,
    trials: pd.DataFrame,
    distributions: dict[str, BaseDistribution],
    seed: int = 0,
    *,
    blind: bool = True,
) -> pd.DataFrame:
    return how.importance(trials, np.random.default_rng(seed), distributions, "maximize", blind=blind)


def value_of(table: pd.DataFrame, parameter: str, column: str = "importance") -> float:
    return table.set_index("parameter").loc[parameter, column]


def test_fanova_recovers_the_known_order(probe: Probe) -> None:
    table = measure(Fanova(trees=16, resample_trees=6, bootstraps=8, shuffles=19), *probe)
    assert table["parameter"].iloc[0] == "weight/soft_dice"
    assert set(table[table["importance"] > table["chance"]]["parameter"]) == {"weight/soft_dice", "param/lr"}
    # A weight that does nothing falls where the decisive one rises, by as much as the level of chance knows.
    assert value_of(table, "weight/bce") > value_of(table, "param/lr")
    assert value_of(table, "weight/soft_dice", "is_first") == 1.0


def test_ped_anova_puts_the_decisive_weight_first(probe: Probe) -> None:
    assert measure(FAST[1], *probe)["parameter"].iloc[0] == "weight/soft_dice"


@pytest.fixture(scope="module")
def part(probe: Probe) -> Probe:
    """The first 50 trials of the probe: enough for every law, and cheap."""
    return probe[0].head(50), probe[1]


@pytest.mark.parametrize("how", FAST, ids=lambda how: how.kind)
class TestLaws:
    def test_columns_and_parameters(self, how: Importance, part: Probe) -> None:
        table = measure(how, *part)
        assert tuple(table.columns) == COLUMNS
        assert sorted(table["parameter"]) == sorted(part[1])
        assert (table["n"] == 50).all()

    def test_trials_without_a_result_change_nothing(self, how: Importance, part: Probe) -> None:
        trials, distributions = part
        others = trials.head(30).assign(key=[f"other{index}" for index in range(30)], last_score=0.99)
        kinds = ["stopped", "diverged", "out_of_memory", "crashed", "running", "unreadable"]
        # Were one of them to enter, its value would turn the answer round.
        others = others.assign(outcome=np.resize(kinds, 30), value=1.0 - others["value"])
        assert_frame_equal(
            measure(how, pd.concat([trials, others]), distributions), measure(how, trials, distributions)
        )

    def test_a_reused_trial_is_not_a_second_measurement(self, how: Importance, part: Probe) -> None:
        trials, distributions = part
        repeated = pd.concat([trials, trials.head(30)])
        assert_frame_equal(measure(how, repeated, distributions), measure(how, trials, distributions))

    def test_all_zero_stays_all_zero(self, how: Importance, part: Probe) -> None:
        trials, distributions = part
        table = measure(how, trials.assign(value=0.7), distributions)
        assert (table[["importance", "low", "high", "chance"]] == 0.0).all(axis=None)
        assert table[["keeps_rank", "is_first"]].isna().all(axis=None)

    @pytest.mark.parametrize("seed", range(3))
    def test_the_spread_over_refits_holds_the_estimate(self, how: Importance, part: Probe, seed: int) -> None:
        trials, distributions = part
        noisy = trials.assign(value=np.random.default_rng(seed).normal(size=50))
        table = measure(how, noisy, distributions, seed)
        assert ((table["low"] <= table["importance"]) & (table["importance"] <= table["high"])).all()
        assert ((table["low"] >= 0.0) & (table["importance"] <= 1.0)).all()

    def test_trials_that_a_sampler_chose_have_no_chance_level(self, how: Importance, part: Probe) -> None:
        told, blind = (measure(how, *part, blind=blind) for blind in (False, True))
        assert told["chance"].isna().all()
        assert blind["chance"].notna().all()
        assert_frame_equal(told.drop(columns="chance"), blind.drop(columns="chance"))

    def test_equal_seeds_give_equal_tables(self, how: Importance, part: Probe) -> None:
        first, second, other = (measure(how, *part, seed=seed) for seed in (5, 5, 6))
        assert_frame_equal(first, second)
        assert not first["low"].equals(other["low"])

    def test_too_few_trials_are_refused_with_what_is_needed_and_no_figure(self, how: Importance, part: Probe) -> None:
        trials, distributions = part
        needed = 10 if how.kind == "fanova" else 50
        table = measure(how, trials.head(needed - 1), distributions)
        assert table[["importance", "low", "high", "chance", "rank", "keeps_rank", "is_first"]].isna().all(axis=None)
        assert table["note"].str.contains(f"needs {needed} completed").all()
        assert table["note"].str.contains(f"there are {needed - 1}").all()
        assert len(table) == len(distributions)

    def test_a_constant_parameter_has_no_importance(self, how: Importance, part: Probe) -> None:
        trials, distributions = part
        table = measure(how, trials.assign(**{"param/rank": 8}), distributions)
        assert value_of(table, "param/rank") == 0.0
        assert value_of(table, "param/rank", "present") == 50
        assert value_of(table, "param/rank", "note").startswith("constant")

    def test_a_study_without_parameters_gives_an_empty_table(self, how: Importance, part: Probe) -> None:
        assert measure(how, part[0], {}).empty


def test_a_category_can_matter(probe: Probe) -> None:
    trials, distributions = probe
    kinds = np.where(trials["number"] % 2 == 0, "adamw", "sgd")
    chosen = trials.assign(**{"param/optimizer": kinds}, value=trials["value"] + (kinds == "adamw"))
    table = measure(FAST[0], chosen, distributions | {"param/optimizer": CategoricalDistribution(["adamw", "sgd"])})
    assert table["parameter"].iloc[0] == "param/optimizer"
    assert value_of(table, "param/optimizer") > 0.8


def test_a_conditional_parameter_is_refused_by_fanova_and_kept_by_ped_anova(probe: Probe) -> None:
    trials, distributions = probe
    partial = trials.assign(**{"param/rank": trials["param/rank"].where(trials["number"] >= 40).astype(float)})
    fanova, ped = (measure(how, partial, distributions) for how in FAST)
    assert np.isnan(value_of(fanova, "param/rank"))
    assert value_of(fanova, "weight/soft_dice") > 0.5
    assert np.isfinite(value_of(ped, "param/rank"))
    for table in (fanova, ped):
        assert value_of(table, "param/rank", "note") == "conditional: in 60 of 100 trials"
        assert value_of(table, "param/rank", "present") == 60


def test_ped_anova_says_nothing_before_its_best_tenth_holds_five_trials(probe: Probe) -> None:
    trials, distributions = probe
    assert PedAnova().needed == 50
    assert PedAnova(quantile=0.2).needed == 25
    few, enough = (measure(FAST[1], trials.head(n), distributions) for n in (49, 50))
    assert few["importance"].isna().all()
    assert few["note"].str.contains("needs 50 completed trials, there are 49").all()
    assert enough["importance"].notna().all()
    assert (enough["note"] == "").all()


def test_a_logarithmic_parameter_is_measured_on_its_own_scale() -> None:
    rng = np.random.default_rng(0)
    share = rng.random((100, 2))
    trials = pd.DataFrame(
        {
            "number": range(100),
            "key": [str(index) for index in range(100)],
            "outcome": "completed",
            "value": share.sum(axis=1),
            "param/log": 10.0 ** (-5.0 + 3.0 * share[:, 0]),
            "param/flat": share[:, 1],
        }
    )
    spreads = {"param/log": FloatDistribution(1e-5, 1e-2, log=True), "param/flat": FloatDistribution(0.0, 1.0)}
    table = measure(FAST[0], trials, spreads)
    # Equal effects over the space as it was sampled; on the linear axis the first would have next to none.
    assert value_of(table, "param/log") == pytest.approx(value_of(table, "param/flat"), abs=0.15)


def test_the_direction_decides_which_trials_are_the_best(probe: Probe) -> None:
    trials, distributions = probe
    mirrored = FAST[1].importance(
        trials.assign(value=-trials["value"]), np.random.default_rng(0), distributions, "minimize", blind=True
    )
    assert_frame_equal(mirrored, measure(FAST[1], trials, distributions))


def test_a_trace_is_told_from_a_probe() -> None:
    assert all(map(is_probe, ("random", "qmc", "grid")))
    assert not any(map(is_probe, ("tpe", "gp", "cmaes", "nsga2", "unheard_of")))
