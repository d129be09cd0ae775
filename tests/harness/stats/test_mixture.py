from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness.simulation.scores import Truth, simulate
from harness.stats.effects import effect
from harness.stats.mixture import (
    LackOfFit,
    Mixture,
    Model,
    Region,
    fit_mixture,
    lattice,
    mixture_runs,
    over_patients,
)
from harness.stats.multiplicity import adjust
from harness.stats.refusal import Refused
from harness.stats.scores import Cells, Contrast, Pair, Target

NAMES = ("bce", "dice", "ft")
CENTROID = np.array(
    [
        [1, 0, 0], [0, 1, 0], [0, 0, 1], [1 / 2, 1 / 2, 0], [1 / 2, 0, 1 / 2], [0, 1 / 2, 1 / 2], [1 / 3, 1 / 3, 1 / 3],
        [2 / 3, 1 / 6, 1 / 6], [1 / 6, 2 / 3, 1 / 6], [1 / 6, 1 / 6, 2 / 3],
    ]
)  # fmt: skip
PLANTED = {"bce": 0.70, "dice": 0.74, "ft": 0.72, "bce*dice": 0.2, "bce*ft": -0.1, "dice*ft": 0.3}
CUBIC = {**PLANTED, "bce*dice*ft": 0.9}


def surface(x: np.ndarray, planted: dict[str, float]) -> np.ndarray:
    return sum(value * x[:, [NAMES.index(n) for n in term.split("*")]].prod(axis=1) for term, value in planted.items())


def runs(planted: dict[str, float], noise: float, replicates: int = 5, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for r in range(replicates):
        score = surface(CENTROID, planted) + rng.normal(0, 0.02) + rng.normal(0, noise, len(CENTROID))
        parts.append(pd.DataFrame(CENTROID, columns=list(NAMES)).assign(replicate=r, score=score))
    return pd.concat(parts, ignore_index=True)


def fitted(table: pd.DataFrame, model: Model = "quadratic", seed: int = 0) -> Mixture:
    found = fit_mixture(table, NAMES, model, np.random.default_rng(seed))
    assert isinstance(found, Mixture)
    return found


@pytest.mark.parametrize(("model", "planted"), [("quadratic", PLANTED), ("special_cubic", CUBIC)])
def test_without_noise_the_planted_coefficients_come_back(model: Model, planted: dict[str, float]) -> None:
    table = runs(planted, 0.0)
    # The blocks' effects are drawn, so that their mean is in the level of the pure components.
    level = float((table["score"] - np.tile(surface(CENTROID, planted), 5)).mean())
    found = fitted(table, model).terms.set_index("term")["estimate"].to_dict()
    expected = {term: value + level * ("*" not in term) for term, value in planted.items()}
    assert found == pytest.approx(expected, abs=1e-10)


def test_the_optimum_is_the_analytic_one() -> None:
    # 0.7 + xy with x + y + z = 1 is highest at x = y = 1/2
    found = fitted(runs({"bce": 0.7, "dice": 0.7, "ft": 0.7, "bce*dice": 0.4}, 0.0))
    assert found.best == {"bce": 0.5, "dice": 0.5, "ft": 0.0}
    assert isinstance(found.region, Region)
    assert found.region.share == pytest.approx(1 / len(found.surface)), "no noise, no doubt"
    assert found.surface.loc[found.surface["in_region"], list(NAMES)].to_numpy().tolist() == [[0.5, 0.5, 0.0]]


def test_the_region_holds_the_true_optimum_as_often_as_it_says() -> None:
    planted = {"bce": 0.70, "dice": 0.70, "ft": 0.68, "bce*dice": 0.15, "bce*ft": 0.12, "dice*ft": 0.12}
    grid = lattice(3)
    top = grid[surface(grid, planted).argmax()]
    held, shares = 0, []
    for seed in range(60):
        found = fit_mixture(
            runs(planted, 0.005, seed=seed), NAMES, "quadratic", np.random.default_rng(seed), resamples=200
        )
        assert isinstance(found, Mixture)
        inside = found.surface.loc[found.surface["in_region"], list(NAMES)].to_numpy()
        held += bool(np.isclose(inside, top).all(axis=1).any())
        shares.append(len(inside) / len(grid))
    assert held / 60 > 0.95 - 3 * math.sqrt(0.05 * 0.95 / 60)
    assert np.mean(shares) < 0.5, "a region that is the whole simplex would hold anything"


def test_lack_of_fit_cries_wolf_in_one_study_of_twenty_and_sees_a_wrong_degree() -> None:
    p = []
    for seed in range(200):
        found = fit_mixture(runs(PLANTED, 0.01, seed=seed), NAMES, "quadratic", np.random.default_rng(0), resamples=10)
        assert isinstance(found, Mixture)
        assert isinstance(found.lack_of_fit, LackOfFit)
        assert (found.lack_of_fit.df_points, found.lack_of_fit.df_error) == (4, 36)
        p.append(found.lack_of_fit.p)
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=3 * math.sqrt(0.05 * 0.95 / 200))
    wrong = fitted(runs(PLANTED, 0.005), "linear").lack_of_fit
    assert isinstance(wrong, LackOfFit)
    assert wrong.p < 1e-6


def test_lack_of_fit_is_the_textbook_sum_of_squares_when_balanced() -> None:
    table = runs(PLANTED, 0.01)
    found = fitted(table)
    assert isinstance(found.lack_of_fit, LackOfFit)
    y = table["score"].to_numpy().reshape(5, 10)
    means = y.mean(axis=0)
    pure = ((y - means - y.mean(axis=1, keepdims=True) + y.mean()) ** 2).sum() / 36
    x = np.column_stack([CENTROID, *(CENTROID[:, i] * CENTROID[:, j] for i, j in ((0, 1), (0, 2), (1, 2)))])
    left = means - x @ np.linalg.lstsq(x, means)[0]
    assert found.lack_of_fit.f == pytest.approx(5 * (left**2).sum() / 4 / pure, rel=1e-8)


def test_replicates_are_blocks() -> None:
    quiet = runs(PLANTED, 0.01)
    loud = quiet.assign(score=quiet["score"] + quiet["replicate"] * 0.5)
    terms, other = fitted(quiet).terms, fitted(loud).terms
    cross = terms["term"].str.contains("*", regex=False)
    pd.testing.assert_frame_equal(terms[cross], other[cross], atol=1e-9)


def test_the_surface_is_the_lattice_and_only_its_highest_point_has_an_interval() -> None:
    found = fitted(runs(PLANTED, 0.01))
    table = found.surface
    np.testing.assert_allclose(table[list(NAMES)].sum(axis=1), 1.0, atol=1e-12)
    assert len(table) == 61 * 62 // 2
    assert list(table) == [*NAMES, "predicted", "in_region"]
    assert found.low < found.predicted < found.high
    corner = table[(table["dice"] == 1.0)].iloc[0]
    term = found.terms.set_index("term").loc["dice"]
    assert corner["predicted"] == pytest.approx(term["estimate"], abs=1e-12)
    assert found.predicted == table["predicted"].max()
    assert isinstance(found.region, Region)
    assert all(low <= found.best[name] <= high for name, (low, high) in found.region.within.items())


@pytest.mark.parametrize("components", [2, 3, 4, 5])
def test_every_lattice_has_its_corners_and_its_middle_of_two(components: int) -> None:
    grid = lattice(components)
    assert (grid >= 0).all()
    np.testing.assert_allclose(grid.sum(axis=1), 1.0, atol=1e-12)
    assert len(np.unique(grid, axis=0)) == len(grid)
    assert (grid.max(axis=1) == 1.0).sum() == components
    assert (np.isclose(np.sort(grid, axis=1)[:, -2:], 0.5).all(axis=1)).sum() == components * (components - 1) // 2


def test_equal_generators_give_equal_regions() -> None:
    table = runs(PLANTED, 0.01)
    pd.testing.assert_frame_equal(fitted(table, seed=1).surface, fitted(table, seed=1).surface)


def test_runs_without_a_score_are_counted_and_replicates_without_a_point_leave_the_region() -> None:
    table = runs(PLANTED, 0.01)
    table.loc[[3, 15], "score"] = math.nan
    found = fitted(table)
    assert (found.runs, found.declared, found.points, found.replicates) == (48, 50, 10, 5)
    assert isinstance(found.region, Region)
    assert found.region.replicates == 3
    table.loc[25, "score"] = math.nan
    region = fitted(table).region
    assert isinstance(region, Refused)
    assert "2 of 5 have them" in region.value
    assert fitted(table).surface["in_region"].all()


def test_too_few_points_or_runs_are_refused() -> None:
    table = runs(PLANTED, 0.01)
    corners = table[table[list(NAMES)].max(axis=1) == 1.0]
    few = fit_mixture(corners, NAMES, "quadratic", np.random.default_rng(0))
    assert isinstance(few, Refused)
    assert "6 terms" in few.rule
    single = fit_mixture(corners[corners["replicate"] == 0], NAMES, "linear", np.random.default_rng(0))
    assert isinstance(single, Refused)
    assert isinstance(fitted(corners, "linear").lack_of_fit, Refused)
    assert isinstance(fit_mixture(table.assign(score=math.nan), NAMES, "linear", np.random.default_rng(0)), Refused)


def test_more_replicates_than_a_fit_can_hold_are_refused() -> None:
    many = fit_mixture(runs(PLANTED, 0.01, replicates=201), NAMES, "linear", np.random.default_rng(0))
    assert isinstance(many, Refused)
    assert many.value == "there are 201"


def test_weights_off_the_simplex_are_refused() -> None:
    with pytest.raises(ValueError, match="sum to 1, but a run has"):
        fit_mixture(runs(PLANTED, 0.01).assign(bce=1.0), NAMES, "linear", np.random.default_rng(0))
    with pytest.raises(ValueError, match="two or more components"):
        fit_mixture(runs(PLANTED, 0.01), ["bce"], "linear", np.random.default_rng(0))


def test_runs_of_cells_are_means_over_data_sets() -> None:
    one = np.arange(12.0).reshape(2, 3, 2) / 100
    two = np.arange(18.0).reshape(2, 3, 3) / 100
    two[1, 2] = math.nan
    cells = Cells(
        ("half", "pure"),
        (Pair(0, 0), Pair(1, 0), Pair(2, 0)),
        (Target("a", one, np.array(["p", "q"])), Target("b", two, np.array(["p", "q", "r"]))),
        np.ones((2, 3), dtype=bool),
    )
    table = mixture_runs(cells, {"half": {"bce": 0.5, "dice": 0.5}, "pure": {"dice": 1.0}})
    assert table[["bce", "dice", "replicate"]].to_numpy().tolist() == [
        [0.5, 0.5, 0], [0.5, 0.5, 1], [0.5, 0.5, 2], [0.0, 1.0, 0], [0.0, 1.0, 1], [0.0, 1.0, 2],
    ]  # fmt: skip
    expected = (one.mean(axis=2) + two.mean(axis=2)).ravel() / 2
    np.testing.assert_allclose(table["score"], expected, equal_nan=True)
    with pytest.raises(ValueError, match=r"also are \['gone'\]"):
        mixture_runs(cells, {"gone": {"bce": 1.0}})


POINTS = {
    "x": {"bce": 1.0},
    "y": {"dice": 1.0},
    "z": {"ft": 1.0},
    "xy": {"bce": 0.5, "dice": 0.5},
    "xz": {"bce": 0.5, "ft": 0.5},
    "yz": {"dice": 0.5, "ft": 0.5},
    "xyz": {"bce": 1 / 3, "dice": 1 / 3, "ft": 1 / 3},
}


def flat(seed: int, **settings: float) -> Cells:
    """A study of equal points."""
    pairs = tuple(Pair(k, k) for k in range(5))
    return simulate(
        Truth(effects=dict.fromkeys(POINTS, 0.0), replicates=pairs, **settings), np.random.default_rng(seed)
    )


def test_coefficients_over_patients_are_contrasts_of_arms() -> None:
    cells = flat(1)
    plain = fitted(mixture_runs(cells, POINTS), "linear")
    found = over_patients(plain, cells, POINTS)
    assert found.terms["p"].isna().all(), "no score is 0"
    product = over_patients(fitted(mixture_runs(cells, POINTS)), cells, POINTS).terms.set_index("term")
    solve = np.linalg.pinv(
        np.array(
            [
                [p.get(n, 0.0) for n in NAMES] + [p.get(a, 0.0) * p.get(b, 0.0) for a, b in PAIRED]
                for p in POINTS.values()
            ]
        )
    )
    own = [
        effect(cells, Contrast("x", dict(zip(POINTS, row, strict=True))), None, np.random.default_rng(0))
        for row in solve[3:]
    ]
    assert product["estimate"].iloc[3:].tolist() == pytest.approx([one.estimate for one in own], abs=1e-9)
    assert product["low"].iloc[3:].tolist() == pytest.approx([one.low for one in own], abs=1e-9)
    assert product["p"].iloc[3:].tolist() == pytest.approx(adjust(np.array([one.p for one in own])).tolist(), abs=1e-9)


PAIRED = [("bce", "dice"), ("bce", "ft"), ("dice", "ft")]


def test_images_that_vary_are_no_lack_of_fit() -> None:
    """Where images dominate, a fit that takes them as given finds products and a lack of fit in most flat studies."""
    wrong = {"before": 0, "after": 0, "products": 0}
    for seed in range(20):
        cells = flat(seed, replicate=0.001, image_arm=0.04)
        before = fitted(mixture_runs(cells, POINTS))
        after = over_patients(replace(before, region=Refused("", "", "")), cells, POINTS)
        assert isinstance(before.lack_of_fit, LackOfFit)
        assert isinstance(after.lack_of_fit, LackOfFit)
        wrong["before"] += before.lack_of_fit.p <= 0.05
        wrong["after"] += after.lack_of_fit.p <= 0.05
        wrong["products"] += bool((after.terms["p"] <= 0.05).any())
    assert wrong["before"] > 8
    assert wrong["after"] <= 4
    assert wrong["products"] <= 4


def test_the_region_is_never_smaller_over_patients() -> None:
    cells = flat(0, image_arm=0.02)
    before = fitted(mixture_runs(cells, POINTS))
    after = over_patients(before, cells, POINTS)
    assert isinstance(before.region, Region)
    assert isinstance(after.region, Region)
    assert after.region.share >= before.region.share
    assert (after.surface["in_region"] | ~before.surface["in_region"]).all()
