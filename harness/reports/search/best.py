"""The best settings, and their scores on every data set."""

from __future__ import annotations

import json

import pandas as pd

from harness.record.metric_names import metric_name, twins
from harness.record.table import completed_trials
from harness.reports.document import (
    Block,
    Code,
    Columns,
    Figure,
    Heading,
    Record,
    Refusal,
    Section,
    Table,
    Text,
    table,
)
from harness.reports.figures import targets
from harness.reports.search.columns import score_columns, setting_columns
from harness.reports.search.findings import Findings
from harness.reports.search.format import IN_DOMAIN, images_of, marked, score, setting, with_gaps
from harness.reports.search.overview import chosen_on, hospitals, judges, validated_on
from harness.text import count
from sam2lora.intervals import ORACLE_NOTE
from sam2lora.metrics import reading


def best(findings: Findings) -> Section:
    """The best trials by validation, their test scores, and the settings of the first."""
    title = "Best settings"
    if findings.best.empty:
        return Section(title, (Refusal("no trial has completed, so there are none."),))
    metric = metric_name(findings.metric)
    done = len(completed_trials(findings.table.trials))
    each = " (with and without prompts from the ground truth)" if findings.mixed else ""
    text = (
        f"The best {len(findings.best)}{each} of {count(done, 'completed trial')}, **chosen by validation on "
        f"{chosen_on(findings.table.question)}**{validated_on(findings)}. The best of many validation scores is too "
        "high by selection; test scores took no part in the choice."
    )
    blocks: tuple[Block, ...] = (
        Text(text),
        _chosen(findings),
        *oracle(findings),
        *_tests(findings, "target", f"Test {metric} on {hospitals(findings)}"),
        *_tests(findings, "source", f"Test {metric} in domain (test split of the sources: same hospitals)"),
        *_targets(findings),
        *_every_metric(findings),
    )
    return Section(title, blocks)


def _targets(findings: Findings) -> tuple[Block, ...]:
    scores = findings.scores[findings.scores["metric"] == findings.metric]
    if scores.empty:
        return ()
    caption = "Test scores of the best settings with 95 % intervals over patients."
    role = judges(findings.table.question)
    return (Figure("targets", caption, lambda: targets.draw(scores, findings.metric, role)),)


def complete(findings: Findings) -> tuple[Section, ...]:
    """Every setting of the best trial, to be pasted; no section before there is one."""
    if findings.best.empty:
        return ()
    config = json.dumps(json.loads(str(findings.best.iloc[0]["config"])), indent=1, sort_keys=True)
    return (Section("Settings of the best trial, complete", (Code(config, "json"),)),)


def oracle_note(findings: Findings) -> str:
    """The meaning of `ORACLE` in this study, in a sentence or two; empty if no trial has it."""
    if not findings.oracle:
        return ""
    apart = " They are ranked below the trials without such prompts, whatever their scores: the two are not comparable."
    return ORACLE_NOTE + apart * findings.mixed


def oracle(findings: Findings) -> tuple[Block, ...]:
    """`oracle_note` as a paragraph, if there is anything to say."""
    return (Text(oracle_note(findings)),) if findings.oracle else ()


def with_scores(findings: Findings) -> pd.DataFrame:
    """The best trials, with the columns ``test/DATASET/METRIC`` and its ``_low``, ``_high`` and ``_n``."""
    rows = findings.scores[findings.scores["metric"] == findings.metric]
    wide = pd.DataFrame(index=findings.best.index)
    for name in ("mean", "low", "high", "n"):
        suffix = "" if name == "mean" else f"_{name}"
        for dataset, part in rows.groupby("dataset"):
            by_place = part.set_index("place")[name]
            wide[f"test/{dataset}/{findings.metric}{suffix}"] = findings.best["place"].map(by_place)
    return pd.concat([findings.best, wide[sorted(wide.columns)]], axis=1)


def judged(scores: pd.DataFrame) -> list[tuple[str, str]]:
    """Every data set of ``scores`` with its role, targets first, each by name."""
    pairs = scores[["dataset", "role"]].drop_duplicates()
    ordered = pairs.sort_values(["role", "dataset"], ascending=[False, True])
    return [(str(dataset), str(role)) for dataset, role in ordered.itertuples(index=False, name=None)]


def _chosen(findings: Findings) -> Table:
    names = [name for name in findings.table.distributions if name in findings.best]
    columns: Columns[Record] = {
        "place": lambda trial: str(trial["place"]),
        "trial": marked,
        f"validation {metric_name(findings.metric)}": lambda trial: score(trial["value"]),
        **setting_columns(names),
    }
    caption = "The best settings, by validation."
    return table("best", caption, findings.best.to_dict("records"), columns, with_scores(findings))


def _tests(findings: Findings, role: str, title: str) -> tuple[Block, ...]:
    scores = findings.scores[(findings.scores["metric"] == findings.metric) & (findings.scores["role"] == role)]
    if scores.empty:
        return Heading(title), Refusal(f"the record has no {role} scores of these trials.")
    headers = {str(name): f"{name} ({images_of(part)})" for name, part in scores.groupby("dataset")}
    columns: Columns[Record] = {
        "place": lambda trial: str(trial["place"]),
        "trial": marked,
        **score_columns(scores, "place", headers),
    }
    trials = scores.drop_duplicates("place").sort_values("place").to_dict("records")
    caption = (
        "Mean over images [95 % t interval over patients]. The interval holds for other patients of the same hospital; "
        "it does not include the spread between training runs."
    )
    return Heading(title), table(f"tests_{role}", caption, trials, columns, scores), *oracle(findings)


def _every_metric(findings: Findings) -> tuple[Block, ...]:
    """Every test metric of the best trial, a row each."""
    scores = findings.scores[findings.scores["place"] == 1]
    if scores.empty:
        return ()
    words = {"target": "target", "source": IN_DOMAIN}
    headers = {
        name: f"{name} ({words[role]}, {images_of(scores[scores['dataset'] == name])})" for name, role in judged(scores)
    }

    def written(score: Record) -> str:
        return with_gaps(score, decimals=1 if reading(score["metric"]).unit else 3)

    columns: Columns[Record] = {
        "metric": lambda one: _read(one["metric"]),
        **score_columns(scores, "metric", headers, written, missing="undefined"),
    }
    metrics = scores.drop_duplicates("metric").to_dict("records")
    top = findings.best.iloc[0].to_dict()
    threshold = "The threshold of its masks was not recorded."
    if not pd.isna(top["threshold"]):
        threshold = f"A pixel counts as foreground where its probability is above {setting(float(top['threshold']))}."
    caption = (
        f"Trial {marked(top)}: mean over images [95 % t interval over patients], in the field of view "
        f"unless said otherwise. Distances are in pixels of the photographs, which differ between cameras. {threshold}"
        f"{twins(_by_metric(scores))}"
    )
    shown = table("tests_every_metric", caption, metrics, columns, scores)
    return Heading("Every test metric of the best trial"), shown, *(oracle(findings) if top["oracle_prompt"] else ())


def _by_metric(scores: pd.DataFrame) -> pd.DataFrame:
    return scores.pivot(index=["dataset", "role"], columns="metric", values="mean").reset_index()


def _read(metric: str) -> str:
    read = reading(metric)
    return read.name + f" [{read.unit}]" * bool(read.unit) + ", smaller is better" * read.smaller
