"""The functional ANOVA of a random forest: exact shares of variance of one parameter, and of two beyond both.

Hutter, Hoos and Leyton-Brown (ICML 2014). A tree is constant on boxes, so its mean over all parameters but a few is a
step function that can be written down: of one parameter p its values m_p on the intervals between the tree's splits,
of two their values m_pq on the rectangles. With the tree's mean m, all under a uniform distribution over the space,

    V_p = E (m_p − m)²        V_pq = E (m_pq − m_p − m_q + m)²

are the terms of the variance that p explains alone and that p and q explain together beyond that; divided by the tree's
variance they are shares, and a forest's share is the mean over its trees that are not constant. Loss weights add up to
one: they are one block, over which means are taken on points of the simplex as a search draws them, and m_p of a weight
is the mean over the others given its own value. The forest is scikit-learn's, as in Optuna's evaluator, whose shares
these are for continuous numbers without weights; Optuna has none for pairs, gives the first and the last of some
integers half the extent of the others, spreads a category over a cube of indicators, of which most corners are no
category, and takes four times as long (60 trials).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from harness.experiments.stick_breaking import ABSENT, uniform
from harness.importance.resampling import Array, Measure

MAX_DEPTH = 64
MIXTURES = 512
"""Points of the simplex over which means are taken."""
_BINS = 10


@dataclass(frozen=True)
class Axis:
    """One parameter: its first column of the points, the range of a number, or how many choices it has (else 0)."""

    column: int
    low: float = 0.0
    high: float = 1.0
    choices: int = 0


@dataclass(frozen=True)
class Simplex:
    """Loss weights, which are varied together: the ``axes`` that they are, and points of theirs (points, weights).

    ``cells``: of every weight which of its cells each point lies in, (points, cells) of 0 and 1.
    """

    axes: tuple[int, ...]
    drawn: Array
    cells: tuple[Array, ...]


@dataclass(frozen=True)
class Points:
    """Where the forest is fitted: ``values`` (trials, columns), a category as one indicator for each choice."""

    values: Array
    axes: tuple[Axis, ...]
    simplex: Simplex | None = None


def points(sample: pd.DataFrame, spreads: Mapping[str, BaseDistribution]) -> Points:
    """The rows of ``sample`` in the order of ``spreads``, none of them missing, logarithmic numbers as logarithms.

    (Optuna's own command measures these on the linear scale, where a learning rate's lower decades have no extent.)
    An integer extends half a step to either side, before the logarithm, as Optuna draws it: without that the ends
    of its range would have half a value's share.
    """
    columns: list[Array] = []
    axes = []
    for name, spread in spreads.items():
        if isinstance(spread, CategoricalDistribution):
            axes.append(Axis(len(columns), choices=len(spread.choices)))
            columns += [np.array([value == choice for value in sample[name]], float) for choice in spread.choices]
        else:
            numeric = cast(FloatDistribution | IntDistribution, spread)
            low, high, column = float(numeric.low), float(numeric.high), sample[name].to_numpy(dtype=float)
            if isinstance(numeric, IntDistribution):
                low, high = low - numeric.step / 2, high + numeric.step / 2
            if numeric.log:
                low, high, column = math.log10(low), math.log10(high), np.log10(column)
            axes.append(Axis(len(columns), low, high))
            columns.append(column)
    values = np.column_stack(columns) if columns else np.empty((len(sample), 0))
    return Points(values, tuple(axes), _simplex(sample, list(spreads)))


def _simplex(sample: pd.DataFrame, names: Sequence[str]) -> Simplex | None:
    """The weights among ``names``, if there are two or more; components are absent now and then if any trial's is."""
    found = tuple(place for place, name in enumerate(names) if name.startswith("weight/"))
    if len(found) < 2:
        return None
    absent = ABSENT if (sample[[names[place] for place in found]] == 0.0).any(axis=None) else 0.0
    drawn = uniform(len(found), MIXTURES, np.random.default_rng(0), absent)
    return Simplex(found, drawn, tuple(_cells(weights) for weights in drawn.T))


def _cells(weights: Array) -> Array:
    """Absent, alone, and `_BINS` of as many points each in between."""
    inside = (weights > 0.0) & (weights < 1.0)
    edges = np.quantile(weights[inside], np.linspace(0, 1, _BINS + 1)[1:-1])
    place = np.where(weights == 0.0, 0, np.where(weights == 1.0, 1, 2 + np.searchsorted(edges, weights)))
    cells: Array = (place[:, None] == np.arange(_BINS + 2)).astype(float)
    return cells[:, cells.any(axis=0)]


def forest_measure(where: Points, pairs: Sequence[tuple[int, int]], trees: int, rng: np.random.Generator) -> Measure:
    """Shares of the axes, or of ``pairs`` beyond theirs if there are any, by a new forest each time it is asked."""

    def measure(picked: npt.NDArray[np.int64], scores: Array) -> Array:
        there = replace(where, values=where.values[picked])
        found = shares(there, scores, pairs, trees, int(rng.integers(2**31)))
        return found[len(where.axes) :] if pairs else found

    return measure


def shares(points: Points, scores: Array, pairs: Sequence[tuple[int, int]], trees: int, seed: int) -> Array:
    """The shares of every axis, then of every one of ``pairs`` beyond its two axes; each in [0, 1].

    ``scores`` (trials,) are finite. Zero throughout where every tree is constant.
    """
    # Imported here: it takes seconds to load, and a report prints its first tables before it is needed.
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(n_estimators=trees, max_depth=MAX_DEPTH, random_state=seed)
    grown = [each.tree_ for each in forest.fit(points.values, scores).estimators_]
    found = [terms for tree in grown if (terms := tree_shares(tree, points, pairs)) is not None]
    return np.mean(found, axis=0) if found else np.zeros(len(points.axes) + len(pairs))


def tree_shares(tree: Any, points: Points, pairs: Sequence[tuple[int, int]]) -> Array | None:
    """`shares` of one fitted tree of scikit-learn; None where it is constant over the space.

    No one of ``pairs`` is of two weights of the simplex.
    """
    axes, simplex = points.axes, points.simplex
    values, low, high = _leaves(tree, axes)
    known = [_cover(axis, low, high) for axis in axes]
    sizes = np.column_stack([cover @ weight for cover, weight in known])
    blocks = [[axis] for axis in range(len(axes))]
    if simplex is not None:
        inside = _inside(simplex, axes, low, high)
        sizes[:, list(simplex.axes)] = 1.0  # of the block, the first one stands for all
        sizes[:, simplex.axes[0]] = inside.mean(axis=1)
        for axis, cells in zip(simplex.axes, simplex.cells, strict=True):
            blocks[axis] = list(simplex.axes)
            known[axis] = inside @ cells / cells.sum(axis=0), cells.mean(axis=0)
    covers, weights = zip(*known, strict=True)
    volumes = sizes.prod(axis=1)
    mean = float(volumes @ values)
    total = float(volumes @ (values - mean) ** 2)
    if total <= 0.0:
        return None
    others = [values * np.delete(sizes, blocks[p], axis=1).prod(axis=1) for p in range(len(axes))]
    curves = [other @ cover - mean for other, cover in zip(others, covers, strict=True)]
    terms = [float(weight @ curve**2) for weight, curve in zip(weights, curves, strict=True)]
    for p, q in pairs:
        other = values * np.delete(sizes, blocks[p] + blocks[q], axis=1).prod(axis=1)
        beyond = covers[p].T @ (other[:, None] * covers[q]) - mean - curves[p][:, None] - curves[q][None, :]
        terms.append(float(weights[p] @ beyond**2 @ weights[q]))
    return np.array(terms) / total


def _leaves(tree: Any, axes: Sequence[Axis]) -> tuple[Array, Array, Array]:
    """Value (L,) of every leaf and its box: ``low`` and ``high`` (L, columns)."""
    start = np.array([(axis.low, axis.high) for axis in axes for _ in range(max(axis.choices, 1))])
    low = np.tile(start[:, 0], (tree.node_count, 1))
    high = np.tile(start[:, 1], (tree.node_count, 1))
    level = np.array([0])
    while level.size:  # all nodes of a depth at once
        level = level[tree.children_left[level] >= 0]
        left, right, split = tree.children_left[level], tree.children_right[level], tree.feature[level]
        for child in (left, right):
            low[child], high[child] = low[level], high[level]
        high[left, split] = low[right, split] = tree.threshold[level]
        level = np.concatenate([left, right])
    leaf = tree.children_left < 0
    return tree.value[leaf, 0, 0], low[leaf], high[leaf]


def _inside(simplex: Simplex, axes: Sequence[Axis], low: Array, high: Array) -> Array:
    """Which of the simplex's points every leaf's box holds, (L, points) of 0 and 1. A box is open below."""
    inside = np.ones((len(low), len(simplex.drawn)), dtype=bool)
    for axis, weight in zip(simplex.axes, simplex.drawn.T, strict=True):
        left, right = low[:, axes[axis].column, None], high[:, axes[axis].column, None]
        inside &= ((weight > left) | (left == axes[axis].low)) & (weight <= right)
    return inside.astype(float)


def _cover(axis: Axis, low: Array, high: Array) -> tuple[Array, Array]:
    """Which cells of the axis every leaf covers, (L, cells) of 0 and 1, and the share of the axis that each cell has.

    Cells: the intervals between the tree's splits, or the choices.
    """
    if axis.choices:
        columns = slice(axis.column, axis.column + axis.choices)
        without, within = high[:, columns] < 1.0, low[:, columns] > 0.0  # splits are at one half
        elsewhere = within.sum(axis=1, keepdims=True) - within
        return (~without & (elsewhere == 0)).astype(float), np.full(axis.choices, 1.0 / axis.choices)
    left, right = low[:, axis.column], high[:, axis.column]
    edges = np.unique(np.concatenate([left, right]))
    cover = (edges[:-1] >= left[:, None]) & (edges[:-1] < right[:, None])
    return cover.astype(float), np.diff(edges) / (axis.high - axis.low)
