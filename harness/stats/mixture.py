"""Mixture designs: a Scheffe polynomial over weights of loss components, its lack of fit, and its highest point.

In a mixture design every arm is a point x of the simplex, the weights of the components, which sum to 1. Scheffe's
canonical polynomials (1958) have no intercept, since x sums to 1: *linear* is sum b_i x_i, so b_i is the score of the
pure component i; *quadratic* adds b_ij x_i x_j, 4 times what an even blend of i and j scores above the line between the
two; *special cubic* adds b_ijk x_i x_j x_k. Replicates are blocks with effects that sum to 0, since every arm of a
replicate saw the same draws. `fit_mixture` speaks of other replicates on the same test images, `over_patients` of other
patients as well: where images dominate, the former's lack of fit is a false alarm in two studies of three.

*Lack of fit* compares the polynomial with a separate mean for every point: what the points' means deviate from it,
against what replicates deviate from them (F test; Box & Draper 2007). A small p means that the surface is not to be
read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from harness.stats.complete_cases import complete_cases
from harness.stats.multiplicity import adjust
from harness.stats.refusal import Refused
from harness.stats.scores import Cells, Floats

Model = Literal["linear", "quadratic", "special_cubic"]
_DEGREE = {"linear": 1, "quadratic": 2, "special_cubic": 3}

LEAST = 3
MOST = 200
"""Replicates that are fitted at once: as blocks they are columns of the fit, whose cost grows with their cube."""
RESAMPLES = 1000
# Steps of the lattice by number of components: a few thousand points, with halves, thirds and quarters among them.
_STEPS = {2: 120, 3: 60, 4: 24}
_MANY = 12
_Z95 = 1.6448536269514722


@dataclass(frozen=True)
class LackOfFit:
    """The F test that the polynomial holds: degrees of freedom of the points beyond it, and of the pure error."""

    f: float
    df_points: int
    df_error: int
    p: float


@dataclass(frozen=True)
class Region:
    """The points of the surface that may be the best one, at ``level``.

    A point is left out where it lies further below the best than replicates explain. ``within``: lowest and highest
    weight of each component among the points that remain; ``share``: how much of the simplex they are.
    """

    within: dict[str, tuple[float, float]]
    share: float
    replicates: int
    level: float


@dataclass(frozen=True)
class Mixture:
    """A fitted surface.

    ``terms``: columns term, estimate, low, high, p; a row for each coefficient, named ``a`` or ``a*b``. ``surface``:
    the lattice, a column of weights for each component, ``predicted``, and ``in_region`` (all True where the region is
    refused: nothing is left out). ``best``: the weights of its highest point, ``predicted`` there, with the interval
    ``low``, ``high`` of that one point. ``runs`` of ``declared`` were used, at ``points`` over ``replicates``.
    """

    model: Model
    components: tuple[str, ...]
    terms: pd.DataFrame
    lack_of_fit: LackOfFit | Refused
    surface: pd.DataFrame
    best: dict[str, float]
    predicted: float
    low: float
    high: float
    region: Region | Refused
    runs: int
    declared: int
    points: int
    replicates: int

    @property
    def fits(self) -> bool:
        """Whether lack of fit was not shown: a surface that does not fit is not to be read."""
        return isinstance(self.lack_of_fit, Refused) or not self.lack_of_fit.p <= 0.05


def mixture_runs(cells: Cells, weights: Mapping[str, Mapping[str, float]]) -> pd.DataFrame:
    """A row for each arm of ``weights`` and replicate: a column for each component, ``replicate``, and ``score``.

    ``weights``: by arm and component, a component that an arm does not name has 0. ``score`` is the mean over data sets
    of the mean over images, NaN where a data set has none. Raises ``ValueError`` for an arm that is not in ``cells``.
    """
    if unknown := set(weights) - set(cells.arms):
        raise ValueError(f"Arms of a mixture must be among {', '.join(cells.arms)}, but also are {sorted(unknown)}.")
    components = list(dict.fromkeys(name for point in weights.values() for name in point))
    scores = cells.means().mean(axis=2)
    rows = [
        {**{name: point.get(name, 0.0) for name in components}, "replicate": r, "score": score}
        for arm, point in weights.items()
        for r, score in enumerate(scores[cells.arms.index(arm)])
    ]
    return pd.DataFrame(rows, columns=[*components, "replicate", "score"])


def fit_mixture(
    runs: pd.DataFrame,
    components: Sequence[str],
    model: Model,
    rng: np.random.Generator,
    level: float = 0.95,
    resamples: int = RESAMPLES,
) -> Mixture | Refused:
    """Fit ``model`` to ``runs``: a column for each of ``components`` (weights that sum to 1), ``replicate``, ``score``.

    Runs without a score (NaN) are left out and counted. Refused where the points do not identify the terms or leave
    no degree of freedom, and beyond 200 replicates. Raises ``ValueError`` for weights off the simplex or fewer than two
    components.
    """
    names = tuple(components)
    x = _checked(runs, names)
    scored = runs["score"].notna().to_numpy()
    x, y = x[scored], runs["score"].to_numpy(dtype=np.float64)[scored]
    replicates, replicate = np.unique(runs["replicate"].to_numpy()[scored], return_inverse=True)
    if len(replicates) > MOST:
        rule = f"A mixture is fitted to {MOST} replicates at most"
        return Refused(rule, f"there are {len(replicates)}", "fit as many of them as that")
    terms = _terms(len(names), model)
    design, blocks = _polynomial(x, terms), _blocks(replicate, len(replicates))
    full = np.hstack([design, blocks])
    if refused := _unfit(full, design.shape[1], model):
        return refused
    from statsmodels.regression.linear_model import OLS

    fitted = OLS(y, full).fit()
    point = _points(x)
    grid = lattice(len(names))
    basis = _polynomial(grid, terms)
    surface = pd.DataFrame(grid, columns=list(names)).assign(predicted=basis @ fitted.params[: design.shape[1]])
    region, inside = _region(y, design, point, replicate, basis, surface["predicted"].to_numpy(), level, rng, resamples)
    surface["in_region"] = inside
    top = int(surface["predicted"].to_numpy().argmax())
    ((low, high),) = fitted.t_test(np.append(basis[top], np.zeros(blocks.shape[1]))).conf_int(1 - level)
    return Mixture(
        model=model,
        components=names,
        terms=_table(fitted, ["*".join(names[i] for i in term) for term in terms], level),
        lack_of_fit=_lack_of_fit(fitted, y, point, blocks),
        surface=surface,
        best=dict(zip(names, grid[top].tolist(), strict=True)),
        predicted=float(surface["predicted"].iloc[top]),
        low=float(low),
        high=float(high),
        region=_within(region, inside, grid, names, level),
        runs=len(y),
        declared=len(runs),
        points=int(point.max()) + 1,
        replicates=len(replicates),
    )


def lattice(components: int) -> Floats:
    """(points, components): the simplex lattice on which surfaces are drawn, in steps of 1/60 for three components."""
    steps = _STEPS.get(components, _MANY)
    bars = np.array(list(combinations(range(steps + components - 1), components - 1)))
    ends = np.full((len(bars), 1), steps + components - 1)
    edges = np.hstack([np.full((len(bars), 1), -1), bars, ends])
    return np.asarray((np.diff(edges, axis=1) - 1) / steps, dtype=np.float64)


def _checked(runs: pd.DataFrame, names: Sequence[str]) -> Floats:
    if len(names) < 2:
        raise ValueError(f"A mixture has two or more components, but got {list(names)}: name all that were weighted.")
    x = runs[list(names)].to_numpy(dtype=np.float64)
    off = (x < 0).any(axis=1) | ~np.isclose(x.sum(axis=1), 1.0, atol=1e-9)
    if off.any():
        raise ValueError(
            f"Weights of a mixture must be 0 or more and sum to 1, but a run has "
            f"{dict(zip(names, x[off][0].tolist(), strict=True))}: divide by their sum, or name all components."
        )
    return x


def _terms(components: int, model: Model) -> list[tuple[int, ...]]:
    return [term for size in range(1, _DEGREE[model] + 1) for term in combinations(range(components), size)]


def _polynomial(x: Floats, terms: Sequence[tuple[int, ...]]) -> Floats:
    return np.stack([x[:, list(term)].prod(axis=1) for term in terms], axis=1)


def _blocks(replicate: Any, count: int) -> Floats:
    """(runs, replicates - 1): effects that sum to 0, so that the polynomial is that of a mean replicate."""
    dummies = (replicate[:, None] == np.arange(count)).astype(np.float64)
    return np.asarray(dummies[:, :-1] - dummies[:, -1:], dtype=np.float64)


def _unfit(full: Floats, terms: int, model: Model) -> Refused | None:
    runs, columns = full.shape
    if runs == 0 or np.linalg.matrix_rank(full) < columns:
        rule = f"A {model.replace('_', ' ')} polynomial needs points that tell its {terms} terms apart"
        return Refused(rule, f"the {runs} runs with a score do not", "fit a lower degree, or add points to the design")
    if runs == columns:
        found = f"{runs} runs are as many as the terms and replicates"
        return Refused("A fit needs runs beyond its terms", found, "add replicates")
    return None


def _table(fitted: Any, names: list[str], level: float) -> pd.DataFrame:
    count = len(names)
    bounds = np.asarray(fitted.conf_int(1 - level))[:count]
    rows = {"term": names, "estimate": fitted.params[:count], "low": bounds[:, 0], "high": bounds[:, 1]}
    return pd.DataFrame({**rows, "p": fitted.pvalues[:count]})


def _points(x: Floats) -> Any:
    """The design point of every run, numbered; weights that differ by rounding are one point."""
    return np.unique(x.round(9), axis=0, return_inverse=True)[1].ravel()


def _lack_of_fit(fitted: Any, y: Floats, point: Any, blocks: Floats) -> LackOfFit | Refused:
    from statsmodels.regression.linear_model import OLS

    means = (point[:, None] == np.arange(point.max() + 1)).astype(np.float64)
    own = OLS(y, np.hstack([means, blocks])).fit()
    points, error = int(fitted.df_resid - own.df_resid), int(own.df_resid)
    rule = "Lack of fit is judged by points beyond the terms, against replicates that differ"
    if points <= 0:
        return Refused(rule, "there are as many terms as points", "fit a lower degree, or add points")
    if error <= 0 or own.ssr <= 1e-20 * max(float(y @ y), 1e-300):
        return Refused(rule, "replicates leave no error to judge by", "add replicates")
    f, p, _ = own.compare_f_test(fitted)
    return LackOfFit(float(f), points, error, float(p))


def _region(
    y: Floats,
    design: Floats,
    point: Any,
    replicate: Any,
    basis: Floats,
    predicted: Floats,
    level: float,
    rng: np.random.Generator,
    resamples: int,
) -> tuple[int | Refused, Any]:
    """Replicates used and the points (grid,) that the best may be, by inverting a test of each point.

    Were g the best, the surface's maximum would exceed its value there only by error: reject g where it does by more
    than the ``level`` quantile of that error over bootstraps of replicates. Only replicates with every point serve, for
    each has its polynomial, and the fit is their mean. Errors are widened to those of Student's t, because the
    spread among few replicates is known badly.
    """
    count = int(replicate.max()) + 1
    points = int(point.max()) + 1
    full = [r for r in range(count) if len(np.unique(point[replicate == r])) == points]
    if len(full) < LEAST:
        found = f"{len(full)} of {count} have them"
        refused = Refused(f"A region needs {LEAST} replicates with every point", found, "let more trials finish")
        return refused, np.ones(len(basis), dtype=bool)
    own = np.stack([np.linalg.lstsq(design[replicate == r], y[replicate == r])[0] for r in full])
    r = len(full)
    drawn = rng.multinomial(r, np.full(r, 1 / r), size=resamples) / r - 1 / r
    widened = math.sqrt(r / (r - 1)) * float(stdtrit(r - 1, 0.95)) / _Z95
    error = widened * drawn @ own @ basis.T
    excess = np.quantile(error.max(axis=1, keepdims=True) - error, level, axis=0)
    return r, predicted.max() - predicted <= excess + 1e-12


def _within(used: int | Refused, inside: Any, grid: Floats, names: Sequence[str], level: float) -> Region | Refused:
    if isinstance(used, Refused):
        return used
    low, high = grid[inside].min(axis=0).tolist(), grid[inside].max(axis=0).tolist()
    return Region(dict(zip(names, zip(low, high, strict=True), strict=True)), float(inside.mean()), used, level)


def over_patients(
    found: Mixture, cells: Cells, weights: Mapping[str, Mapping[str, float]], level: float = 0.95
) -> Mixture:
    """``found`` with intervals, p and region over replicates *and* patients, by the method of every contrast.

    Every coefficient, and every difference of two points of the surface, is a weighted sum of the arms of ``weights``.
    A product's p is Holm-adjusted over the products; a single component's is NaN, for no score is 0. Lack of fit: the
    smallest p, Holm-adjusted, of what the points' means deviate from the polynomial in. A point leaves the region where
    the best is shown to exceed it as well, at the level divided by the number of coefficients less one. What has
    no interval is NaN, and leaves nothing out; where no coefficient has one, region and lack of fit are refused.
    """
    arms = [arm for arm in weights if arm in cells.arms]
    x = np.array([[weights[arm].get(name, 0.0) for name in found.components] for arm in arms])
    terms = _terms(len(found.components), found.model)
    solve = np.linalg.pinv(_polynomial(x, terms))
    place = [cells.arms.index(arm) for arm in arms]

    def judged(by_point: Floats) -> tuple[float, float, str]:
        """Margin and p, or NaN and why there are none."""
        by_arm = np.zeros(len(cells.arms))
        by_arm[place] = np.where(np.abs(by_point) < 1e-12, 0.0, by_point)
        used = complete_cases(cells, by_arm, None)
        if used.why:
            return math.nan, math.nan, used.why
        parts = used.parts()
        return float(parts.margin(level)), float(parts.p()), ""

    margins, own_p, why = zip(*map(judged, solve), strict=True)
    margin = np.array(margins)
    unanswered = Refused(
        "It is judged over replicates and patients", "no coefficient has an interval over them", why[0]
    )
    products = np.array([len(term) > 1 for term in terms])
    p = np.full(len(terms), math.nan)
    p[products] = adjust(np.array(own_p)[products])
    table = found.terms.assign(low=found.terms["estimate"] - margin, high=found.terms["estimate"] + margin, p=p)
    surface, region, fit = found.surface.copy(), found.region, found.lack_of_fit
    basis = _polynomial(surface[list(found.components)].to_numpy(), terms)
    top = basis[int(surface["predicted"].to_numpy().argmax())]
    half = judged(top @ solve)[0]
    if isinstance(fit, LackOfFit):
        left = np.linalg.svd(_polynomial(x, terms).T)[2][len(terms) :]
        known = adjust(np.array([judged(row)[1] for row in left]))
        fit = unanswered if np.isnan(known).all() else replace(fit, p=float(np.fmin.reduce(known)))
    if isinstance(region, Region) and np.isnan(margin).all():
        region, surface["in_region"] = unanswered, True
    elif isinstance(region, Region):
        out = np.flatnonzero(~surface["in_region"].to_numpy())
        shown = [judged((top - basis[point]) @ solve)[1] * (len(terms) - 1) <= 1 - level for point in out]
        inside = np.ones(len(surface), dtype=bool)
        inside[out[shown]] = False
        surface["in_region"] = inside
        grid = surface[list(found.components)].to_numpy()
        region = _within(region.replicates, inside, grid, found.components, level)
    low, high = found.predicted - half, found.predicted + half
    return replace(found, terms=table, lack_of_fit=fit, surface=surface, low=low, high=high, region=region)
