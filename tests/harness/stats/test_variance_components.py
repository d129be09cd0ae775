from __future__ import annotations

import math

import numpy as np
import pytest

from harness.stats.refusal import Refused
from harness.stats.scores import Cells, Pair, Target
from harness.stats.variance_components import Variances, variances

TRUE = {
    "arm": 0.010**2,
    "seed": 0.008**2,
    "fold": 0.012**2,
    "arm x replicate": 0.006**2,
    "target": 0.030**2,
    "arm x target": 0.007**2,
    "image": 0.040**2,
    "residual": 0.015**2,
}


def crossed(seeds: int, folds: int) -> list[Pair]:
    return [Pair(seed, fold) for seed in range(seeds) for fold in range(folds)]


def nested(seeds: int, folds: int) -> list[Pair]:
    return [Pair(seed, seed % folds) for seed in range(seeds)]


def simulated(rng: np.random.Generator, arms: int, pairs: list[Pair], images: tuple[int, ...], **zero: float) -> Cells:
    """Scores with the standard deviations of ``TRUE``, or those of ``zero`` in their place."""

    def noise(name: str, *shape: int) -> np.ndarray:
        return rng.normal(0, math.sqrt(zero.get(name, TRUE[name])), shape)

    seed_effect, fold_effect = noise("seed", 100), noise("fold", 100)
    replicate = np.array([seed_effect[pair.seed] + fold_effect[pair.fold] for pair in pairs])
    shared = noise("arm", arms, 1) + replicate + noise("arm x replicate", arms, len(pairs))
    targets = []
    for t, n in enumerate(images):
        own = noise("target", 1, 1, 1) + noise("arm x target", arms, 1, 1) + noise("image", 1, 1, n)
        scores = 0.8 + shared[:, :, None] + own + noise("residual", arms, len(pairs), n)
        targets.append(Target(f"set{t}", scores, np.array([f"p{i}" for i in range(n)])))
    names = tuple(f"arm{a}" for a in range(arms))
    return Cells(names, tuple(pairs), tuple(targets), np.ones((arms, len(pairs)), dtype=bool))


def split(cells: Cells) -> Variances:
    found = variances(cells)
    assert isinstance(found, Variances)
    return found


def mean_estimates(studies: int, pairs: list[Pair], **zero: float) -> dict[str, tuple[float, float]]:
    """Mean and standard error of every part over simulated studies."""
    rng = np.random.default_rng(0)
    rows: dict[str, list[float]] = {}
    for _ in range(studies):
        for part in split(simulated(rng, 4, pairs, (6, 9, 12), **zero)).parts:
            rows.setdefault(part.source, []).append(part.variance)
    return {name: (float(np.mean(v)), float(np.std(v) / math.sqrt(studies))) for name, v in rows.items()}


@pytest.mark.parametrize("pairs", [crossed(3, 2), nested(6, 2)], ids=["crossed", "nested"])
def test_the_parts_are_unbiased(pairs: list[Pair]) -> None:
    found = mean_estimates(400, pairs)
    assert set(found) == set(TRUE)
    for name, (mean, error) in found.items():
        assert mean == pytest.approx(TRUE[name], abs=4 * error), name
        assert error < 0.35 * TRUE[name] or name in {"seed", "fold"}, "an estimate that says nothing tests nothing"


def test_seed_and_fold_of_their_own_are_one_source() -> None:
    found = mean_estimates(300, nested(5, 5))
    mean, error = found.pop("seed and fold")
    assert mean == pytest.approx(TRUE["seed"] + TRUE["fold"], abs=4 * error)
    assert set(found) == set(TRUE) - {"seed", "fold"}


def test_one_fold_leaves_the_seed_and_one_seed_the_fold() -> None:
    rng = np.random.default_rng(0)
    seeds = [part.source for part in split(simulated(rng, 3, crossed(5, 1), (5, 5))).parts]
    folds = [part.source for part in split(simulated(rng, 3, crossed(1, 5), (5, 5))).parts]
    assert "seed" in seeds
    assert "fold" not in seeds
    assert "fold" in folds
    assert "seed" not in folds


def test_a_source_that_does_nothing_has_a_variance_around_zero() -> None:
    found = mean_estimates(200, nested(6, 2), **{"arm": 0.0, "seed": 0.0, "arm x target": 0.0})
    for name in ("arm", "seed", "arm x target"):
        mean, error = found[name]
        assert abs(mean) < 4 * error
        assert abs(mean) < 0.2 * TRUE["arm"]


def test_one_data_set_has_no_target_and_keeps_the_rest() -> None:
    rng = np.random.default_rng(0)
    rows: dict[str, list[float]] = {}
    for _ in range(300):
        for part in split(simulated(rng, 4, nested(6, 2), (12,), **{"arm x target": 0.0})).parts:
            rows.setdefault(part.source, []).append(part.variance)
    assert set(rows) == set(TRUE) - {"target", "arm x target"}
    for name, values in rows.items():
        assert np.mean(values) == pytest.approx(TRUE[name], abs=4 * np.std(values) / math.sqrt(300)), name


def test_shares_add_up_and_count_their_levels() -> None:
    found = split(simulated(np.random.default_rng(0), 4, crossed(3, 2), (6, 9)))
    assert sum(part.share for part in found.parts) == pytest.approx(1.0)
    assert all(part.share == 0.0 for part in found.parts if part.variance < 0)
    assert {part.source: part.n for part in found.parts} == {
        "arm": 4, "seed": 3, "fold": 2, "arm x replicate": 24, "target": 2, "arm x target": 8, "image": 15,
        "residual": 360,
    }  # fmt: skip


def test_the_parts_of_a_noiseless_layout_are_its_sample_variances() -> None:
    """Additive scores: every mean square is that of its own source alone."""
    arm, replicate, image = np.array([0.1, 0.4, 0.3]), np.array([0.0, 0.2]), np.array([0.5, 0.6, 0.9, 0.1])
    scores = arm[:, None, None] + replicate[:, None] + image
    cells = Cells(
        ("a", "b", "c"),
        (Pair(0, 0), Pair(1, 0)),
        (Target("drive", scores, np.array(list("wxyz"))),),
        np.ones((3, 2), dtype=bool),
    )
    found = {part.source: part.variance for part in split(cells).parts}
    assert found == pytest.approx(
        {
            "arm": arm.var(ddof=1),
            "seed": replicate.var(ddof=1),
            "arm x replicate": 0.0,
            "image": image.var(ddof=1),
            "residual": 0.0,
        },
        abs=1e-12,
    )


def test_the_balanced_part_says_what_it_left_out() -> None:
    cells = simulated(np.random.default_rng(0), 4, nested(6, 2), (6, 9))
    cells.finished[3] = False  # an arm that always fails
    cells.finished[0, 5] = False  # a trial of another
    cells.targets[1].scores[1, 2, 4] = math.nan  # an undefined score
    cells.targets[0].scores[~cells.finished] = math.nan
    cells.targets[1].scores[~cells.finished] = math.nan
    found = split(cells)
    assert (found.arms, found.replicates, found.targets, found.images) == (3, 5, 2, 14)
    assert (found.left_out_arms, found.left_out_replicates) == (("arm3",), 1)
    assert (found.left_out_targets, found.left_out_images) == ((), 1)
    whole = Cells(
        cells.arms[:3],
        cells.replicates[:5],
        tuple(
            Target(t.name, t.scores[:3, :5][:, :, keep], t.patients[keep])
            for t, keep in zip(cells.targets, (np.arange(6) > -1, np.arange(9) != 4), strict=True)
        ),
        np.ones((3, 5), dtype=bool),
    )
    assert found.parts == split(whole).parts


def test_too_little_in_common_is_refused() -> None:
    cells = simulated(np.random.default_rng(0), 2, nested(3, 1), (6,))
    cells.finished[0, :2] = False
    refused = variances(cells)
    assert isinstance(refused, Refused)
    assert "2 arms share 1 replicates" in refused.value


def test_constant_scores_have_no_variance_to_share() -> None:
    """Shares of nothing would be drawn as not a number."""
    cells = Cells(
        ("a", "b"),
        (Pair(0, 0), Pair(1, 0)),
        (Target("drive", np.full((2, 2, 3), 0.5), np.array(list("xyz"))),),
        np.ones((2, 2), dtype=bool),
    )
    refused = variances(cells)
    assert isinstance(refused, Refused)
    assert refused.value == "all are equal"
