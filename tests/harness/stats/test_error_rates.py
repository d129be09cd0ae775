"""The promises themselves, on a thousand simulated studies each; a report judges the very numbers measured there."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.error_rates import (
    ALPHA,
    ARMS,
    COLLAPSES,
    FAMILY,
    FIRST,
    GROWTHS,
    LOOKS,
    RANKED,
    SCENARIOS,
    WORDED,
    Rate,
    Scenario,
    collapsed,
    documented,
    draw,
    grown,
    looked,
    measure,
    plain,
    worded,
)
from harness.simulation.scores import Truth, scores, simulate
from harness.stats.crossed_variance import crossed
from harness.stats.multiplicity import adjust
from harness.stats.scores import Cells, Contrast
from harness.stats.sequential import Looks, judge_looks


def kept(name: str, studies: int) -> dict[str, Rate]:
    """The rates of a scenario, none of which breaks its promise by more than three standard errors."""
    rates = measure(SCENARIOS[name], studies, np.random.default_rng(11))
    slack = 3.0 * math.sqrt(ALPHA * (1.0 - ALPHA) / studies)
    assert rates["matters"].hits / studies <= FIRST + slack
    assert rates["does_not_matter"].hits / studies <= FIRST + slack
    assert rates["covers"].hits / rates["covers"].count >= 0.95 - slack
    return rates


@pytest.mark.parametrize(
    "name",
    [
        "3 replicates", "5 replicates", "3, replicates dominate", "5 seeds x 3 folds",
        "5, 2 patients beside 60, these dominate",
        "5, 5, 28 and 200 images, these dominate", "5, 1 to 6 images a patient, these dominate",
        "5, the same patients in 2 of 3 targets, images dominate", "5, arms that vary unlike",
        "6 in turn, folds dominate", "7 in turn, folds dominate", "8 in turn, folds dominate",
    ],
)  # fmt: skip
def test_error_rates_are_kept(name: str) -> None:
    """At most 4 %, and 5 % outside intervals, within three standard errors of the simulation."""
    rates = kept(name, 1000)
    if "found" in rates:
        assert rates["found"].hits / rates["found"].count == pytest.approx(0.8, abs=0.05)
        assert rates["equivalent"].hits / rates["equivalent"].count == pytest.approx(0.8, abs=0.05)


@pytest.mark.parametrize("name", ["7, a run in 20 fails", "7, a run in 3 of an unsteady arm fails"])
def test_error_rates_are_kept_where_runs_fail(name: str) -> None:
    """As a report does it, study by study; with all failures of one arm that varies four times as much as others."""
    rates = kept(name, 200)
    assert rates["refused"].hits / rates["refused"].count < 0.1


def test_patients_taken_for_others_and_targets_without_a_cap_would_break_the_promise() -> None:
    """Why patients of two targets count once; and why the degrees of freedom of two patients beside 60 have a cap."""
    setting = SCENARIOS["5, the same patients in 2 of 3 targets, images dominate"]
    assert measure(setting, 1000, np.random.default_rng(11))["apart"].interval()[0] > ALPHA
    setting = SCENARIOS["5, 2 patients beside 60, these dominate"]
    assert measure(setting, 1000, np.random.default_rng(11))["uncapped"].interval()[0] > ALPHA


def test_a_component_whose_runs_collapse_now_and_then_misleads_and_its_mean_effect_is_none() -> None:
    """No promise is made of it; its draws are what they are said to be."""
    setting = COLLAPSES["5 replicates"]
    assert [setting.truth.effect(contrast) for contrast in FAMILY] == pytest.approx([0.0] * 3, abs=1e-15)
    drawn = scores(setting.truth, 2000, np.random.default_rng(0))
    with_it = [arm for arm, name in enumerate(ARMS) if "bce" in name.split("+")]
    fallen = np.stack([one.mean(axis=3) for one in drawn]) < 0.6
    assert (fallen[0] == fallen).all(), "a run collapses on every target"
    assert fallen[0][:, with_it].mean() == pytest.approx(0.05, abs=0.005)
    assert not np.delete(fallen[0], with_it, axis=1).any()
    rates = collapsed(setting, 1000, np.random.default_rng(11))
    assert rates["helps"].interval()[0] > 0.3


def test_the_documents_show_all_that_was_measured() -> None:
    """The tables are those of the file of results, and the README counts its scenarios and names the worst."""
    root = Path(__file__).parents[3]
    results = json.loads((root / "benchmarks" / "results" / "error_rates.json").read_text())
    for part, declared in (
        ("scenarios", SCENARIOS), ("ranks", RANKED), ("words", WORDED), ("collapses", COLLAPSES),
        ("growths", [name for name, *_ in GROWTHS]), ("looks", [f"{name}, from {start}" for name, start in LOOKS]),
    ):  # fmt: skip
        assert list(results[part]) == list(declared)
    text = (root / "docs" / "verdicts.md").read_text()
    assert [row for row in documented(results) if row not in text] == []
    scenarios = results["scenarios"].values()
    worst = max(rates[key]["share"] for rates in scenarios for key in ("matters", "does_not_matter"))
    readme = " ".join((root / "README.md").read_text().split())
    assert f"In each of {len(scenarios)} kinds of simulated studies" in readme
    assert f"at most {100 * worst:.1f} %" in readme


def test_error_rates_are_kept_over_looks() -> None:
    found = looked(SCENARIOS["10 replicates"], 3, 1000, np.random.default_rng(11))
    assert found["looks"] == [3, 5, 8, 10]
    slack = 3.0 * math.sqrt(ALPHA * (1.0 - ALPHA) / 1000)
    assert found["matters"].hits / 1000 <= ALPHA + slack
    assert found["does_not_matter"].hits / 1000 <= ALPHA + slack


def test_a_study_that_grows_as_it_is_advised_keeps_the_error_rate() -> None:
    """Up to four times. Where every look has the whole 5 %, it is wrong in more than a tenth of studies."""
    _, setting, start = GROWTHS[2]
    found, free = (grown(setting, start, 4, 250, np.random.default_rng(5), spends) for spends in (True, False))
    assert found["matters"].hits / 250 <= ALPHA + 3.0 * math.sqrt(ALPHA * (1.0 - ALPHA) / 250)
    assert free["matters"].interval()[0] > ALPHA
    assert found["most_looks"] > 2


def test_one_quantile_for_all_parts_would_break_the_promise() -> None:
    """Why each part has its own: three replicates and Satterthwaite's degrees of freedom call too many."""
    rates = measure(SCENARIOS["3 replicates"], 1000, np.random.default_rng(11))
    assert rates["one_quantile_matters"].interval()[0] > ALPHA


SLACK = 3.0 * math.sqrt(ALPHA * (1.0 - ALPHA) / 1000)


@pytest.mark.parametrize("name", ["10 replicates, .8 of the smallest", "5 exact ones, the smallest"])
def test_effects_that_are_no_larger_than_the_smallest_of_interest_rarely_matter(name: str) -> None:
    """To differ from 0, which they do, was once enough."""
    found = worded(*WORDED[name], 1000, np.random.default_rng(3))
    matters, on_average, differs = (found[key] for key in ("matters", "on_average", "differs_at_all"))
    assert isinstance(matters, Rate)
    assert isinstance(on_average, Rate)
    assert isinstance(differs, Rate)
    assert matters.hits / 1000 <= ALPHA + SLACK
    assert differs.hits / 1000 > 0.7
    if name.endswith(", the smallest"):
        assert on_average.hits / 1000 <= ALPHA + SLACK


def test_effects_that_cancel_over_targets_are_named_and_never_said_not_to_matter() -> None:
    found = worded(*WORDED["5 exact ones, +.02 and -.02"], 1000, np.random.default_rng(3))
    assert (found["does_not_matter"], found["on_average"]) == (Rate(0, 1000), Rate(0, 1000))
    assert found["opposed"] == found["small_at_all"] == Rate(1000, 1000)


def test_what_is_of_interest_on_one_target_is_rarely_said_not_to_matter() -> None:
    found = worded(*WORDED["5 exact ones, the smallest on one target"], 1000, np.random.default_rng(3))
    assert isinstance(found["does_not_matter"], Rate)
    assert found["does_not_matter"].hits / 1000 <= ALPHA + SLACK


def test_selected_effects_are_overstated_as_much_as_is_said() -> None:
    for name in ("5 replicates, .8 of the smallest", "20 replicates, .8 of the smallest"):
        found = worded(*WORDED[name], 1000, np.random.default_rng(3))
        assert found["overstated"] == pytest.approx(found["forecast"], abs=0.04)


def test_a_report_judges_the_very_numbers_that_are_measured_here() -> None:
    setting = Scenario(Truth(effects=dict.fromkeys(ARMS, 0.0), replicates=plain(4)))
    together = crossed(draw(setting, 1, np.random.default_rng(5)), setting.truth.replicates)
    cells, looks = simulate(setting.truth, np.random.default_rng(5)), Looks().planned((4,)).looked()
    judged = judge_looks(cells, FAMILY, 0.005, looks, np.random.default_rng(0))
    shown = ALPHA / FIRST  # reports show p so adjusted that it is to be compared with 5 %
    np.testing.assert_allclose([one.effect.estimate for one in judged], together.estimate[0], atol=1e-12)
    np.testing.assert_allclose(
        [one.differs_p for one in judged], np.minimum(1.0, shown * adjust(together.p())[0]), rtol=1e-6
    )
    small = np.minimum(1.0, shown * adjust(together.equivalence_p(0.005))[0])
    np.testing.assert_allclose([one.equivalence_p for one in judged], small, rtol=1e-6)


def test_planted_effects_are_in_the_scores() -> None:
    effects = {arm: 0.01 * ("dice" in arm.split("+")) for arm in ARMS}
    truth = Truth(effects=effects, replicates=plain(3), replicate=0.0, image_arm=0.0, residual=0.0)
    cells: Cells = simulate(truth, np.random.default_rng(0))
    means = cells.means().mean(axis=(1, 2))
    assert [truth.effect(contrast) for contrast in FAMILY] == pytest.approx([0.0, 0.01, 0.0])
    assert [contrast.vector(ARMS) @ means for contrast in FAMILY] == pytest.approx([0.0, 0.01, 0.0])


@pytest.mark.parametrize("skew", [0.0, -2.0, 1.0])
def test_noise_has_the_spread_and_skewness_that_it_says(skew: float) -> None:
    truth = Truth(
        effects={"a": 0.0, "b": 0.0}, replicates=plain(5), images={"cedar": 400},
        image=0.0, replicate=0.0, image_arm=0.0, residual=0.02, skew=skew,
    )  # fmt: skip
    drawn = scores(truth, 40, np.random.default_rng(0))[0] - 0.78
    assert drawn.mean() == pytest.approx(0.0, abs=2e-4)
    assert drawn.std() == pytest.approx(0.02, rel=0.02)
    assert ((drawn / drawn.std()) ** 3).mean() == pytest.approx(skew, abs=0.12)


def test_images_of_a_patient_share_the_arm_s_shift() -> None:
    truth = Truth(
        effects={"a": 0.0, "b": 0.0}, replicates=plain(2), images={"cedar": 4}, per_patient=2,
        image=0.0, replicate=0.0, residual=0.0,
    )  # fmt: skip
    cells = simulate(truth, np.random.default_rng(0))
    assert cells.targets[0].patients.tolist() == ["cedar-000", "cedar-000", "cedar-001", "cedar-001"]
    drawn = cells.targets[0].scores
    np.testing.assert_array_equal(drawn[..., 0], drawn[..., 1])
    assert (drawn[..., 1] != drawn[..., 2]).all()


def test_patients_may_have_unlike_numbers_of_images_and_be_in_two_targets() -> None:
    truth = Truth(
        effects={"a": 0.0, "b": 0.0}, replicates=plain(2), images={"cedar": 7, "rowan": 7, "oak": 3},
        per_patient=(1, 3), pool=frozenset({"cedar", "rowan"}), image=0.0, replicate=0.0, residual=0.0,
    )  # fmt: skip
    cedar, rowan, oak = simulate(truth, np.random.default_rng(0)).targets
    assert np.unique(cedar.patients, return_counts=True)[1].tolist() == [1, 3, 1, 2]
    np.testing.assert_array_equal(cedar.scores, rowan.scores)
    assert cedar.pools == rowan.pools
    assert not cedar.pools & oak.pools
    assert oak.patients.tolist() == ["oak-000", "oak-001", "oak-001"]


def test_arms_may_vary_unlike_and_fail() -> None:
    truth = Truth(
        effects={"a": 0.0, "b": 0.0}, replicates=plain(400), images={"cedar": 10}, image=0.0,
        factors={"b": 4.0}, failing={"b": 0.25},
    )  # fmt: skip
    cells = simulate(truth, np.random.default_rng(0))
    assert cells.finished[0].all()
    assert cells.finished[1].mean() == pytest.approx(0.75, abs=0.08)
    assert np.isnan(cells.targets[0].scores[~cells.finished]).all()
    assert np.nanstd(cells.targets[0].scores[1]) == pytest.approx(4 * cells.targets[0].scores[0].std(), rel=0.2)


def test_folds_and_seeds_shift_all_replicates_that_share_them() -> None:
    truth = Truth(
        effects={"a": 0.0, "b": 0.0}, replicates=SCENARIOS["5 seeds x 3 folds"].truth.replicates, fold=0.01,
        image=0.0, replicate=0.0, residual=0.0, image_arm=0.0,
    )  # fmt: skip
    means = simulate(truth, np.random.default_rng(0)).means()[..., 0].reshape(2, 5, 3)
    assert np.ptp(means, axis=1) == pytest.approx(0.0, abs=1e-12)
    assert np.ptp(means, axis=2).min() > 0.0


def test_a_rate_s_interval_is_wilson_s() -> None:
    from scipy.stats import binomtest

    oracle = binomtest(7, 120).proportion_ci(0.95, "wilson")
    assert Rate(7, 120).interval() == pytest.approx((oracle.low, oracle.high), abs=1e-4)


def test_main_effects_compare_with_and_without() -> None:
    assert FAMILY[0].name == "bce"
    assert isinstance(FAMILY[0], Contrast)
    assert {arm for arm, weight in FAMILY[0].weights.items() if weight > 0} == {"bce+dice", "bce+tversky", ARMS[-1]}
    assert {arm for arm, weight in FAMILY[0].weights.items() if weight < 0} == {"dice", "tversky", "dice+tversky"}
