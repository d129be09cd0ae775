from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest

from harness.stats.refusal import Refused
from harness.stats.tuning_curves import TUNING_COLUMNS, tuning_curves


def trials(**arms: list[float]) -> pd.DataFrame:
    return pd.DataFrame([{"arm": arm, "score": score} for arm, scores in arms.items() for score in scores])


def test_the_curve_is_that_of_the_best_of_n_draws_from_the_trials() -> None:
    scores = [0.1, 0.4, 0.6, 0.9]
    curve = tuning_curves(trials(a=scores), np.random.default_rng(0)).curves
    assert list(curve.columns) == list(TUNING_COLUMNS)
    for n, row in zip(range(1, 5), curve.itertuples(), strict=True):
        drawn = np.array(np.meshgrid(*[scores] * n)).reshape(n, -1).max(axis=0)
        assert row.mean == pytest.approx(drawn.mean(), abs=1e-12)
        # the smallest score that at least half of all draws do not exceed
        assert row.median == pytest.approx(min(s for s in scores if np.mean(drawn <= s) >= 0.5))
        assert 0.0 <= row.low <= row.median <= row.high <= 1.0


def test_bands_hold_the_whole_true_curve_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)  # one generator, so that opda simulates its band once
    number = np.arange(1, 11)
    truth = 0.5 ** (1 / number)  # the median of the best of n uniforms
    held = 0
    for _ in range(300):
        curve = tuning_curves(trials(a=rng.random(10).tolist()), rng).curves
        held += bool(((curve["low"] <= truth) & (truth <= curve["high"])).all())
    # Over ten points of the curve and not all quantiles, the band covers with at least 95 %.
    assert held / 300 >= 0.95 - 3 * math.sqrt(0.05 * 0.95 / 300)


def test_a_failed_trial_spent_its_budget_and_found_nothing() -> None:
    with_failures = tuning_curves(trials(a=[0.5, math.nan, 0.7, math.nan]), np.random.default_rng(0)).curves
    as_worst = tuning_curves(trials(a=[0.5, 0.0, 0.7, 0.0]), np.random.default_rng(0)).curves
    pd.testing.assert_frame_equal(with_failures.drop(columns="failed"), as_worst.drop(columns="failed"))
    assert with_failures["failed"].unique().tolist() == [2]
    assert as_worst["failed"].unique().tolist() == [0]


def test_equal_generators_give_equal_bands_and_ties_do_not_warn() -> None:
    tied = trials(a=[0.5, 0.5, 0.7, 0.5], b=[0.1, 0.2, 0.3, 0.4])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one = tuning_curves(tied, np.random.default_rng(4)).curves
    pd.testing.assert_frame_equal(one, tuning_curves(tied, np.random.default_rng(4)).curves)
    assert one["arm"].unique().tolist() == ["a", "b"]


def test_a_long_search_has_a_band_at_once() -> None:
    scores = np.random.default_rng(0).random(2000)
    curve = tuning_curves(trials(a=scores.tolist()), np.random.default_rng(0)).curves
    assert len(curve) == 2000
    assert (curve["low"] <= curve["median"]).all()
    assert curve["median"].is_monotonic_increasing


def test_two_trials_are_no_curve() -> None:
    found = tuning_curves(trials(a=[0.1, 0.2], b=[0.1, 0.2, 0.3]), np.random.default_rng(0))
    assert isinstance(found.refused["a"], Refused)
    assert found.curves["arm"].unique().tolist() == ["b"]
    assert tuning_curves(trials(a=[0.1]), np.random.default_rng(0)).curves.empty


def test_scores_out_of_bounds_are_refused() -> None:
    with pytest.raises(ValueError, match="give the bounds of the metric"):
        tuning_curves(trials(a=[0.1, 0.2, 71.0]), np.random.default_rng(0))
