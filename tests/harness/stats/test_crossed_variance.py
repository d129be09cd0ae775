"""The variance of crossed replicates and patients, on layouts of seeds and folds, and the p-values it makes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.stats.crossed_variance import (
    Parts,
    clusters,
    cr2,
    crossed,
    equal_shares,
    per_patient,
    replicate_parts,
    satterthwaite,
    weights,
)
from harness.stats.scores import Pair

GRID = tuple(Pair(seed, fold) for seed in range(5) for fold in range(3))


def parts(estimate: float, variances: list[float], degrees: list[float]) -> Parts:
    names = tuple(f"part {k}" for k in range(len(variances)))
    return Parts(np.array(estimate), names, np.array(variances), np.array(degrees), np.array(0.0))


@given(st.floats(0.01, 20.0), st.floats(1.0, 60.0))
@settings(max_examples=50)
def test_of_one_part_the_p_is_that_of_t(ratio: float, df: float) -> None:
    assert float(parts(ratio * 0.3, [0.09], [df]).p()) == pytest.approx(2 * stats.t.sf(ratio, df), rel=1e-6)


@given(st.floats(0.001, 1.0), st.lists(st.tuples(st.floats(0.001, 1.0), st.floats(1.0, 40.0)), min_size=2, max_size=4))
@settings(max_examples=50)
def test_p_and_interval_agree(estimate: float, found: list[tuple[float, float]]) -> None:
    """An interval of coverage 1 - p just reaches 0."""
    one = parts(estimate, [v for v, _ in found], [df for _, df in found])
    p = float(one.p())
    assume(p > 1e-8)  # the coverage 1 - p keeps few digits of a smaller p
    assert float(one.margin(1.0 - p)) == pytest.approx(estimate, rel=1e-6)


def test_the_margin_lies_between_those_of_the_parts_degrees_of_freedom() -> None:
    one = parts(0.0, [1.0, 1.0], [2.0, 50.0])
    few, many = (stats.t.ppf(0.975, df) * np.sqrt(2.0) for df in (2.0, 50.0))
    assert many < one.margin() < few


@pytest.mark.parametrize(("estimate", "expected"), [(0.004, 0.5), (0.0, 0.0), (0.012, 1.0)])
def test_equivalence_is_the_larger_of_two_one_sided_tests(estimate: float, expected: float) -> None:
    one, se, df = 0.004, 0.0005, 9.0
    found = float(parts(estimate, [se**2], [df]).equivalence_p(one))
    oracle = max(stats.t.sf((estimate + one) / se, df), stats.t.cdf((estimate - one) / se, df))
    assert found == pytest.approx(oracle, rel=1e-6)
    assert found == pytest.approx(expected, abs=1e-4)


def test_no_variance_is_certainty() -> None:
    assert float(parts(0.0, [0.0, 0.0], [2.0, 9.0]).p()) == 1.0
    assert float(parts(1e-9, [0.0, 0.0], [2.0, 9.0]).p()) == 0.0
    assert float(parts(0.001, [0.0], [2.0]).equivalence_p(0.005)) == 0.0
    assert float(parts(0.009, [0.0], [2.0]).equivalence_p(0.005)) == 1.0


def test_the_shipped_default_is_plain_replicates() -> None:
    """Seed k with fold k: nothing is shared."""
    means = np.random.default_rng(0).normal(size=5)
    names, variances, degrees = replicate_parts(means, [Pair(k, k) for k in range(5)])
    assert (names, degrees) == (("replicates",), [4.0])
    assert variances[0] == pytest.approx(stats.sem(means) ** 2)
    for pairs in ([Pair(k, 0) for k in range(5)], [Pair(0, k) for k in range(5)]):
        assert replicate_parts(means, pairs)[1][0] == pytest.approx(variances[0])


def test_replicates_that_share_a_fold_count_once() -> None:
    means = np.random.default_rng(0).normal(size=(3, 10))
    pairs = [Pair(k, k % 5) for k in range(10)]
    names, variances, degrees = replicate_parts(means, pairs)
    assert (names, degrees) == (("folds",), [4.0])
    np.testing.assert_allclose(variances[0], stats.sem((means[:, :5] + means[:, 5:]) / 2, axis=1) ** 2)
    turned = replicate_parts(means, [Pair(pair.fold, pair.seed) for pair in pairs])
    assert turned[0] == ("seeds",)
    np.testing.assert_allclose(turned[1][0], variances[0])


def test_a_grid_is_the_two_way_analysis_of_variance() -> None:
    means = np.random.default_rng(2).normal(size=15) + np.repeat(np.arange(5.0), 3) + np.tile(np.arange(3.0), 5)
    table = means.reshape(5, 3)
    seed = 3 * ((table.mean(1) - table.mean()) ** 2).sum() / 4
    fold = 5 * ((table.mean(0) - table.mean()) ** 2).sum() / 2
    rest = (((table - table.mean()) ** 2).sum() - 4 * seed - 2 * fold) / 8
    names, variances, degrees = replicate_parts(means, GRID)
    assert (names, degrees) == (("folds", "seeds"), [2.0, 4.0])
    assert sum(variances) == pytest.approx((seed + fold - rest) / 15)
    order = np.random.default_rng(3).permutation(15)
    turned = replicate_parts(means[order], [Pair(GRID[k].fold, GRID[k].seed) for k in order])
    assert turned[0] == ("seeds", "folds")
    assert turned[1] == pytest.approx(variances)


def test_a_grid_with_a_hole_uses_what_is_there() -> None:
    means = np.random.default_rng(2).normal(size=15) + np.repeat(np.arange(5.0), 3)
    whole = sum(replicate_parts(means, GRID)[1])
    names, variances, degrees = replicate_parts(means[1:], GRID[1:])
    assert names == ("folds", "seeds")
    np.testing.assert_array_less(degrees, [2.0, 4.0])
    np.testing.assert_array_less([1.9, 3.7], degrees)
    assert 0.8 * whole < sum(variances) < 1.5 * whole
    assert sum(variances) > means[1:].var(ddof=1) / 14


@pytest.mark.parametrize("pairs", [GRID, GRID[1:], tuple(Pair(k, k % 4) for k in range(8)), GRID[::3]])
def test_variances_are_unbiased_or_err_upwards(pairs: tuple[Pair, ...]) -> None:
    """Against the variance of the means of 20,000 draws with seed, fold and own effects."""
    rng = np.random.default_rng(7)
    seeds, folds = np.array([p.seed for p in pairs]), np.array([p.fold for p in pairs])
    draws = rng.normal(size=(20_000, 8))[:, seeds] + rng.normal(size=(20_000, 8))[:, folds] * (len(set(folds)) > 1)
    draws += rng.normal(size=draws.shape)
    found = np.sum(replicate_parts(draws, pairs)[1], axis=0).mean()
    assert 0.97 < found / draws.mean(axis=1).var() < 1.35


def test_a_handful_of_patients_keeps_its_mean_square_whole() -> None:
    """Ten replicates on three patients: the images are known worst, so the residual is taken from the replicates."""
    values = np.random.default_rng(1).normal(size=(10, 3)) + np.random.default_rng(2).normal(size=(10, 1))
    found = crossed([values], [Pair(k, k) for k in range(10)])
    assert found.degrees.tolist() == pytest.approx([9.0, 2.0])
    assert found.variances[1] == pytest.approx(stats.sem(values.mean(axis=0)) ** 2)
    assert found.variances[0] == pytest.approx(stats.sem(values.mean(axis=1)) ** 2 - float(found.residual))


def test_targets_weigh_the_same_whatever_their_size() -> None:
    rng = np.random.default_rng(0)
    small, large = rng.normal(size=(5, 4)), rng.normal(1.0, size=(5, 40))
    found = crossed([small, large], [Pair(k, k) for k in range(5)])
    assert float(found.estimate) == pytest.approx((small.mean() + large.mean()) / 2)


def test_a_thousand_studies_are_a_thousand_single_ones() -> None:
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(6, 2, 5, n)) for n in (4, 7)]
    pairs = [Pair(k, k) for k in range(5)]
    together = crossed(values, pairs)
    alone = crossed([value[3, 1] for value in values], pairs)
    np.testing.assert_allclose(together.variances[:, 3, 1], alone.variances)
    assert together.p()[3, 1] == pytest.approx(float(alone.p()))
    assert together.equivalence_p(0.1)[3, 1] == pytest.approx(float(alone.equivalence_p(0.1)))


def test_patients_keep_the_mean_over_images() -> None:
    patients = np.array(["a", "a", "b", "c", "c", "c"])
    scores = np.random.default_rng(0).normal(size=(4, 6))
    matrix, shares = per_patient(patients)
    np.testing.assert_allclose((scores @ matrix).mean(axis=1), scores.mean(axis=1))
    np.testing.assert_allclose(shares, [2 / 6, 1 / 6, 3 / 6])
    np.testing.assert_allclose(per_patient(np.array(["x", "y"]))[0], np.eye(2))


def test_satterthwaite_lies_between_the_least_and_the_sum() -> None:
    degrees = np.array([4.0, 9.0])
    assert satterthwaite(np.array([1.0, 0.0]), degrees) == 4.0
    assert satterthwaite(np.array([4.0, 9.0]), degrees) == pytest.approx(13.0)
    assert satterthwaite(np.array([0.0, 0.0]), degrees) == 4.0


def test_what_a_bootstrap_resamples() -> None:
    def axes(pairs: Sequence[Pair]) -> dict[str, int]:
        return {name: int(codes.max()) + 1 for name, codes in clusters(pairs).items()}

    assert axes(GRID) == {"seeds": 5, "folds": 3}
    assert axes([Pair(k, k % 5) for k in range(10)]) == {"folds": 5}
    assert axes([Pair(k, 0) for k in range(4)]) == {"replicates": 4}


@given(st.lists(st.integers(1, 6), min_size=2, max_size=8))
@settings(max_examples=50)
def test_unequal_clusters_get_the_variance_of_bell_and_mccaffrey(sizes: list[int]) -> None:
    """Against their matrices: residuals of a mean of clusters, each divided by the root of 1 - its leverage."""
    shares, count = np.array(sizes) / sum(sizes), len(sizes)
    residual = np.eye(count) - shares
    form = residual.T @ np.diag(shares**2 / (1.0 - shares)) @ residual
    x = np.random.default_rng(sum(sizes)).normal(size=count)
    linear = x @ shares + count * shares * (x - x @ shares)
    factors, free = cr2(shares)
    assert float((linear - linear.mean()) ** 2 @ factors) == pytest.approx(float(x @ form @ x))
    assert free == pytest.approx(np.trace(form) ** 2 / np.trace(form @ form))
    assert free <= count - 1 + 1e-9


def test_equal_clusters_get_the_usual_variance() -> None:
    factors, free = cr2(np.full(7, 1 / 7))
    np.testing.assert_allclose(factors, 1 / (7 * 6))
    assert free == pytest.approx(6.0)


def test_a_target_of_two_patients_leaves_few_degrees_of_freedom_even_where_they_agree() -> None:
    """Two patients beside sixty: what they leave is capped, however little the two happen to differ."""
    rng = np.random.default_rng(0)
    many = rng.normal(size=(5, 60))
    for gap in (0.0, 0.01, 5.0):
        few = np.tile([0.0, gap], (5, 1)) + 1e-3 * rng.normal(size=(5, 2))
        free = float(crossed([few, many], [Pair(k, k) for k in range(5)]).degrees[-1])
        assert free <= (1 / 2 + 1 / 60) ** 2 / (1 / 4 + 1 / 60**2 / 59) + 1e-9


def test_folds_weigh_alike_however_many_replicates_they_have() -> None:
    """Seven replicates on five folds: the mean of fold means, whose variance is that of five numbers."""
    pairs = [Pair(k, k % 5) for k in range(7)]
    values = np.random.default_rng(1).normal(size=(7, 12))
    of_fold = [values[[k for k in range(7) if k % 5 == fold]].mean() for fold in range(5)]
    found = crossed([values], pairs)
    assert float(found.estimate) == pytest.approx(np.mean(of_fold))
    assert float(found.variances[0]) == pytest.approx(stats.sem(of_fold) ** 2)
    assert float(found.degrees[0]) == 4.0
    np.testing.assert_allclose(weights(pairs), [0.1, 0.1, 0.2, 0.2, 0.2, 0.1, 0.1])
    np.testing.assert_allclose(weights(GRID[1:]), 1 / 14)


def test_patients_of_two_targets_count_once() -> None:
    """Two targets of the same patients are one target of their averages, whatever the order of the images."""
    rng = np.random.default_rng(2)
    names = np.array([f"p{k}" for k in range(9)])
    one, other, order = rng.normal(size=(5, 9)), rng.normal(size=(5, 9)), rng.permutation(9)
    matrix, shares = per_patient(names, names[order])
    together = np.concatenate([one, other[:, order]], axis=1) @ matrix
    np.testing.assert_allclose(together, (one + other) / 2, atol=1e-12)
    np.testing.assert_allclose(shares, 1 / 9)
    third = rng.normal(size=(5, 9))
    pairs = [Pair(k, k) for k in range(5)]
    found = crossed([together, third], pairs, [shares * 2 / 3, shares / 3])
    plain = crossed([one, other, third], pairs)
    assert float(found.estimate) == pytest.approx(float(plain.estimate))
    assert sum(float(share.sum()) for share in equal_shares([one, third])) == pytest.approx(1.0)
