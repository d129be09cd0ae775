"""The best settings, and how they do on every data set."""

from __future__ import annotations

import json

import pandas as pd

from harness.record.table import ORACLE, label, measured, metric_name, reading, twins
from harness.reports.document import Block, Code, Figure, Heading, Refusal, Section, Table, Text, row
from harness.reports.search.findings import Findings
from harness.reports.search.format import IN_DOMAIN, images_of, marked, score, setting, with_gaps
from harness.reports.search.overview import chosen_on, hospitals, validated_on
from harness.text import count


def best(found: Findings) -> Section:
    """The best trials by validation, their test scores, and the settings of the first."""
    title = "Best settings"
    if found.best.empty:
        return Section(title, (Refusal("no trial has completed, so there are none."),))
    metric = metric_name(found.metric)
    done = len(measured(found.table.trials))
    each = " (with and without prompts from the ground truth)" if found.mixed else ""
    told = (
        f"The {len(found.best)} best{each} of {count(done, 'completed trial')}, **chosen by validation on "
        f"{chosen_on(found.table.question)}**{validated_on(found)}. A best-of-many validation score is too high by "
        "selection; test scores took no part in the choice."
    )
    blocks: tuple[Block, ...] = (
        Text(told),
        _chosen(found),
        *oracle(found),
        *_tests(found, "target", f"Test {metric} on {hospitals(found)}"),
        *_tests(found, "source", f"Test {metric} in domain (test split of the sources: same hospitals)"),
        Figure("targets", "Test scores of the best settings with 95 % intervals over patients."),
        *_every_metric(found),
    )
    return Section(title, blocks)


def complete(found: Findings) -> tuple[Section, ...]:
    """Every setting of the best trial, to be pasted; no section before there is one."""
    if found.best.empty:
        return ()
    config = json.dumps(json.loads(str(found.best.iloc[0]["config"])), indent=1, sort_keys=True)
    return (Section("Settings of the best trial, complete", (Code(config, "json"),)),)


def oracle_note(found: Findings) -> str:
    """What `ORACLE` means in this study, in a sentence or two; empty if no trial has it."""
    if not found.oracle:
        return ""
    apart = " They come after the trials without such prompts, whatever their scores: the two do not compare."
    told = f"{ORACLE} Prompted from ground truth: upper bounds, not what an unlabelled image would get."
    return told + apart * found.mixed


def oracle(found: Findings) -> tuple[Block, ...]:
    """`oracle_note` as a paragraph, if there is anything to say."""
    return (Text(oracle_note(found)),) if found.oracle else ()


def with_scores(found: Findings) -> pd.DataFrame:
    """The best trials, each with ``test/DATASET/METRIC`` and its ``_low``, ``_high`` and ``_n`` beside it."""
    rows = found.scores[found.scores["metric"] == found.metric]
    wide = pd.DataFrame(index=found.best.index)
    for name in ("mean", "low", "high", "n"):
        suffix = "" if name == "mean" else f"_{name}"
        for dataset, part in rows.groupby("dataset"):
            by_place = part.set_index("place")[name]
            wide[f"test/{dataset}/{found.metric}{suffix}"] = found.best["place"].map(by_place)
    return pd.concat([found.best, wide[sorted(wide.columns)]], axis=1)


def judged(scores: pd.DataFrame) -> list[tuple[str, str]]:
    """Every data set of ``scores`` with its role, targets first, each by name."""
    pairs = scores[["dataset", "role"]].drop_duplicates()
    ordered = pairs.sort_values(["role", "dataset"], ascending=[False, True])
    return [(str(dataset), str(role)) for dataset, role in ordered.itertuples(index=False, name=None)]


def _chosen(found: Findings) -> Table:
    names = [name for name in found.table.distributions if name in found.best]
    header = ("place", "trial", f"validation {metric_name(found.metric)}", *map(label, names))
    rows = tuple(
        row(str(one["place"]), marked(one), score(one["value"]), *(setting(one[name]) for name in names))
        for one in found.best.to_dict("records")
    )
    return Table("best", "The best settings, by validation.", header, rows, with_scores(found))


def _tests(found: Findings, role: str, title: str) -> tuple[Block, ...]:
    scores = found.scores[(found.scores["metric"] == found.metric) & (found.scores["role"] == role)]
    if scores.empty:
        return Heading(title), Refusal(f"the record has no {role} scores of these trials.")
    datasets = sorted(scores["dataset"].unique())
    header = ("place", "trial", *(f"{name} ({images_of(scores[scores['dataset'] == name])})" for name in datasets))
    rows = []
    for place, part in scores.groupby("place"):
        cells = {one["dataset"]: with_gaps(one) for one in part.to_dict("records")}
        rows.append(
            row(str(place), marked(part.iloc[0].to_dict()), *(cells.get(name, "not tested") for name in datasets))
        )
    caption = (
        "Mean over images [95 % t interval over patients]. The interval holds for other patients of the "
        "same hospital; it does not contain the spread between training runs."
    )
    return Heading(title), Table(f"tests_{role}", caption, header, tuple(rows), scores), *oracle(found)


def _every_metric(found: Findings) -> tuple[Block, ...]:
    """Every test metric of the best trial, a row each."""
    scores = found.scores[found.scores["place"] == 1]
    if scores.empty:
        return ()
    datasets = judged(scores)
    words = {"target": "target", "source": IN_DOMAIN}
    header = ["metric"]
    header += [f"{name} ({words[role]}, {images_of(scores[scores['dataset'] == name])})" for name, role in datasets]
    rows = []
    for metric, part in scores.groupby("metric", sort=False):
        decimals = 1 if reading(str(metric)).unit else 3
        cells = {one["dataset"]: with_gaps(one, decimals) for one in part.to_dict("records")}
        rows.append(row(_read(str(metric)), *(cells.get(name, "undefined") for name, _ in datasets)))
    top = found.best.iloc[0].to_dict()
    threshold = "The threshold of its masks was not recorded."
    if not pd.isna(top["threshold"]):
        threshold = f"A pixel is predicted where its probability is above {setting(float(top['threshold']))}."
    caption = (
        f"Trial {marked(top)}: mean over images [95 % t interval over patients], in the field of view "
        f"unless said otherwise. Distances are in pixels of the photographs, which differ between cameras. {threshold}"
        f"{twins(_by_metric(scores))}"
    )
    table = Table("tests_every_metric", caption, tuple(header), tuple(rows), scores)
    return Heading("Every test metric of the best trial"), table, *(oracle(found) if top["oracle_prompt"] else ())


def _by_metric(scores: pd.DataFrame) -> pd.DataFrame:
    return scores.pivot(index=["dataset", "role"], columns="metric", values="mean").reset_index()


def _read(metric: str) -> str:
    read = reading(metric)
    return read.name + f" [{read.unit}]" * bool(read.unit) + ", smaller is better" * read.smaller
