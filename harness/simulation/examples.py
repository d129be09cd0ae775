"""Simulated studies with known answers, declared as their real namesakes declare them.

`loss_components` is what ``python -m harness.demo`` reports; the others show the designs that it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from harness.record.arm_studies import tuned_study
from harness.simulation.scores import Truth, simulate
from harness.simulation.study import SearchTrial, SimulatedStudy
from harness.stats.scores import Cells, Pair
from harness.stats.shapley import main_effect

SOURCES = {"alder": 8, "birch": 8}
TARGETS = {"cedar": 20, "willow": 20, "rowan": 20}
GAINS = {"bce": 0.0, "soft_dice": 0.02, "focal_tversky": 0.004}
"""What each component of `loss_components` truly adds: soft Dice matters, BCE does not, focal Tversky is too little to
be seen with few replicates."""
UNTRAINED = -0.45
"""The distance of the untrained arm below the others."""


_NONE: Mapping[str, float] = {}


def loss_components(
    replicates: int = 7, seed: int = 0, targets: Mapping[str, int] | None = None, gains: Mapping[str, float] = _NONE
) -> SimulatedStudy:
    """The full factorial over three components of the loss, the untrained model as its empty coalition.

    Two of its trials have no result, so that the report has something to say about that: the first arm's last
    replicate diverged, the fourth's second one crashed. ``gains``: what single arms score above that.
    """
    sets = [frozenset(chosen) for size in range(4) for chosen in combinations(GAINS, size)]
    arms = {"+".join(name for name in GAINS if name in own) or "empty": own for own in sets}
    effects = {name: sum(GAINS[part] for part in own) if own else UNTRAINED for name, own in arms.items()}
    effects = {name: effect + gains.get(name, 0.0) for name, effect in effects.items()}
    differences: dict[str, dict[str, Any]] = {
        name: {"loss.terms": _terms(dict.fromkeys(sorted(own), 1 / len(own)))} if own else _FROZEN
        for name, own in arms.items()
    }
    trained = {own: name for name, own in arms.items() if own}
    contrasts = {part: main_effect(part, trained).weights for part in GAINS}
    ablation = {
        "design": {"kind": "factorial", "factors": list(GAINS), "empty": True, "reference": "+".join(GAINS)},
        "components": {part: [name for name, own in arms.items() if part in own] for part in GAINS},
        **_declaration(differences, contrasts, replicates),
    }
    cells = _cells(effects, replicates, seed, SOURCES | dict(targets or TARGETS))
    finished = cells.finished.copy()
    finished[1, -1] = finished[4, 1] = False
    cells = Cells(cells.arms, cells.replicates, cells.targets, finished)
    return SimulatedStudy(
        "loss_components", ablation, cells, _roles(targets), endings={(1, replicates - 1): "diverged"}
    )


def tuned_loss_components(
    budget: int = 16, replicates: int = 7, seed: int = 0, targets: Mapping[str, int] | None = None
) -> SimulatedStudy:
    """`loss_components` after each arm that trains had a search of ``budget`` trials.

    The declared learning rate suits soft Dice; the arms without it gain from another one, by what they lack.
    """
    declared = loss_components(replicates, seed, targets)
    arms = [arm for arm in declared.cells.arms if arm != "empty"]
    lacking = [arm for arm in arms if "soft_dice" not in arm]
    rng = np.random.default_rng([seed, 1])
    searches = {arm: _search(-0.7 * (arm in lacking), budget, rng) for arm in arms}
    best = {arm: max(tried, key=lambda one: np.nan_to_num(one.score)) for arm, tried in searches.items()}
    chosen = {arm: {"optimizer.lr": one.lr, "optimizer.weight_decay": one.decay} for arm, one in best.items()}
    again = loss_components(replicates, seed + 1, targets, dict.fromkeys(lacking, 0.01))
    differences = {arm: {**own, **chosen.get(arm, {})} for arm, own in declared.ablation["arms"].items()}
    ablation = {**declared.ablation, "arms": differences, "tuned": budget, "chosen": {"empty": {}, **chosen}}
    untrained = declared.cells.arms.index("empty")  # the same trials both times
    for target, same in zip(again.cells.targets, declared.cells.targets, strict=True):
        target.scores[untrained] = same.scores[untrained]
    return replace(again, name=tuned_study(again.name), ablation=ablation, searches=searches)


def _search(optimum: float, budget: int, rng: np.random.Generator) -> list[SearchTrial]:
    """A random search; validation falls off by the square of decades from ``optimum``, in decades from 0.001."""
    lr, decay = 10 ** rng.uniform(-4, -2, budget), 10 ** rng.uniform(-5, -1, budget)
    scores = 0.76 - 0.04 * (np.log10(lr) + 3 - optimum) ** 2 + rng.normal(0, 0.003, budget)
    scores[lr > 8e-3] = np.nan
    return [SearchTrial(float(a), float(b), float(c)) for a, b, c in zip(lr, decay, scores, strict=True)]


def loss_mixture(replicates: int = 5, seed: int = 0) -> SimulatedStudy:
    """The simplex-centroid design over three components with the points half-way inside, and a known optimum."""
    names = list(GAINS)
    points: dict[str, tuple[float, ...]] = {}
    for size in (1, 2, 3):
        for chosen in combinations(names, size):
            points["+".join(chosen)] = tuple(1 / size if name in chosen else 0.0 for name in names)
    for place, name in enumerate(names):
        others = "+".join(other for other in names if other != name)
        points[f"4 {name}+{others}"] = tuple(2 / 3 if k == place else 1 / 6 for k in range(3))
    effects = {arm: _surface(weights) for arm, weights in points.items()}
    differences = {
        arm: {"loss.terms": _terms({n: w for n, w in zip(names, weights, strict=True) if w})}
        for arm, weights in points.items()
    }
    contrasts = {
        f"{one} with {other}": {f"{one}+{other}": 1.0, one: -0.5, other: -0.5} for one, other in combinations(names, 2)
    }
    contrasts["mixing all"] = {"+".join(names): 1.0} | dict.fromkeys(names, -1 / 3)
    design = {
        "kind": "mixture",
        "components": names,
        "degree": None,
        "points": {arm: dict(zip(names, weights, strict=True)) for arm, weights in points.items()},
        "reference": "+".join(names),
    }
    ablation = {"design": design, "components": {}, **_declaration(differences, contrasts, replicates)}
    return SimulatedStudy("loss_mixture", ablation, _cells(effects, replicates, seed, SOURCES | TARGETS), _roles(None))


def rank(replicates: int = 5, seed: int = 0) -> SimulatedStudy:
    """Ranks 4 to 256: no effect from 16 on, a little less below."""
    levels = (4, 8, 16, 32, 64, 128, 256)
    effects = {f"rank {level}": -0.012 if level == 4 else -0.004 if level == 8 else 0.0 for level in levels}
    differences = {
        f"rank {level}": {"adapters.0.rank": level, "adapters.0.alpha": 2.0 * level} if level != 64 else {}
        for level in levels
    }
    contrasts = {name: {name: 1.0, "rank 64": -1.0} for name in effects if name != "rank 64"}
    design = {
        "kind": "levels",
        "factor": ["adapters.0.rank", "adapters.0.alpha"],
        "levels": list(effects),
        "reference": "rank 64",
    }
    ablation = {"design": design, "components": {}, **_declaration(differences, contrasts, replicates)}
    return SimulatedStudy("rank", ablation, _cells(effects, replicates, seed, SOURCES | TARGETS), _roles(None))


_FROZEN: dict[str, Any] = {"adapters": [], "epochs": 1}


def _surface(weights: Sequence[float]) -> float:
    """Linear in the weights, but for a synergy of the first two components."""
    linear = float(np.dot(weights, list(GAINS.values())))
    return linear + 0.08 * weights[0] * weights[1]


def _terms(weights: Mapping[str, float]) -> list[dict[str, Any]]:
    return [{"loss": {"kind": name}, "weight": weight} for name, weight in weights.items()]


def _declaration(
    differences: Mapping[str, Mapping[str, Any]], contrasts: Mapping[str, Mapping[str, float]], replicates: int
) -> dict[str, Any]:
    return {
        "base": _BASE,
        "arms": {name: dict(own) for name, own in differences.items()},
        "contrasts": {name: dict(weights) for name, weights in contrasts.items()},
        "replicates": [[pair.seed, pair.fold] for pair in _pairs(replicates)],
        "primary": "dice",
        "smallest_of_interest": 0.005,
        "tuned": 0,
    }


_BASE: dict[str, Any] = {
    "protocol": {
        "kind": "transfer",
        "sources": [{"kind": "synthetic", "hospital": name} for name in SOURCES],
        "targets": [{"kind": "synthetic", "hospital": name} for name in TARGETS],
        "target_images": "all",
    },
    "backbone": {"kind": "simulated"},
    "adapters": [{"kind": "lora", "rank": 64, "alpha": 128.0}],
    "loss": {"terms": _terms(dict.fromkeys(sorted(GAINS), 1 / 3))},
    "optimizer": {"kind": "adamw", "lr": 1e-3},
    "train_prompt": {"kind": "no_prompt"},
    "test_prompt": {"kind": "no_prompt"},
    "epochs": 8,
}


def _pairs(count: int) -> tuple[Pair, ...]:
    return tuple(Pair(seed, seed % 5) for seed in range(count))


def _cells(effects: Mapping[str, float], replicates: int, seed: int, images: Mapping[str, int]) -> Cells:
    truth = Truth(effects=effects, replicates=_pairs(replicates), images=images)
    return simulate(truth, np.random.default_rng(seed))


def _roles(targets: Mapping[str, int] | None) -> dict[str, str]:
    return dict.fromkeys(SOURCES, "source") | dict.fromkeys(targets or TARGETS, "target")
