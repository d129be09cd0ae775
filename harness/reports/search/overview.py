"""The question, the result in plain words, and the outcomes of the trials."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from harness.importance.resampling import ALPHA
from harness.record.metric_names import metric_name
from harness.record.table import completed_trials, empty_truths, failed, label
from harness.reports import commands
from harness.reports.document import Block, Code, Columns, Section, Text, plain_table, row, table
from harness.reports.search.findings import Findings
from harness.reports.search.format import interval, kind_of, score, setting, sizes
from harness.reports.search.gain import validated, what_tuning_gained
from harness.stats.multiplicity import CORRECTION
from harness.text import count, listed

OUTCOME_WORDS = {
    "completed": "trained all its epochs and was tested",
    "stopped": "stopped early by the scheduler; its score belongs to an earlier epoch and is used nowhere as a result",
    "diverged": "the loss or a gradient was no longer a number; the sampler saw the worst score",
    "out_of_memory": "did not fit into memory; the sampler saw it as infeasible",
    "infeasible": "missed a constraint of the search; never trained, seen by the sampler, not counted as a trial",
    "crashed": "ended with an error that its settings did not cause; not used",
    "reused": "has the settings of an earlier trial; repeats its result without training and is not counted twice",
    "running": "not closed in the record: in progress, or left by a run that was killed",
    "waiting": "queued, not started",
    "unreadable": "outcome and state in the record contradict each other; not used",
}
FEWEST = 10
"""Completed trials below which importance is not measured."""


def plainly(findings: Findings) -> tuple[str, ...]:
    """The result in a few paragraphs, for readers who do not know the code."""
    question, counts = findings.table.question, findings.outcomes
    sources, targets = listed(question.get("sources") or ()), listed(question.get("targets") or ())
    total = sum(counts.values())
    validated = sources if question.get("sources") else targets
    text = (
        f"This search looked for the settings with the best validation {metric_name(findings.metric)} on images of "
        f"{validated}."
    )
    text += f" {_untouched(question, targets)}" if question.get("targets") else ""
    done = len(completed_trials(findings.table.trials))
    if done == 0:
        rest = f" Of {count(total, 'trial')} none has completed yet, so there is no result: {_ended(counts)}."
        return text + (rest if total else " No trial has been run yet."), "Run it again to continue."
    others = {kind: number for kind, number in counts.items() if kind != "completed"}
    text += f" Of {count(total, 'trial')}, {done} completed"
    text += f"; the others: {_ended(others)}." if others else "."
    text += f" {missing(findings)}" if missing(findings) else ""
    top = findings.best.iloc[0]
    text += (
        f" The best settings, trial {top['number']}, reach {score(top['value'])} in validation{validated_on(findings)}"
    )
    settings = ", ".join(f"{name} {value}" for name, value in chosen(findings).items())
    text += f": {settings}." if settings else "."
    if findings.mixed:
        text += " Trials prompted from the ground truth are ranked below it: their scores are not comparable."
    elif findings.oracle:
        text += " The prompts of validation were taken from the ground truth."
    gained = what_tuning_gained(findings)
    scored = (_on_targets(findings), *empty_truths(findings.table.images))
    return text, *scored, *([gained] if gained else []), _what_mattered(findings)


def validated_on(findings: Findings) -> str:
    """The images and patients behind the validation score of the best trial, in brackets; empty where unknown."""
    known = validated(findings)
    return "" if pd.isna(known["n"]) else f" ({sizes(known)})"


def chosen(findings: Findings) -> dict[str, str]:
    """The settings of the best trial by name, without loss weights of 0."""
    top = findings.best.iloc[0]
    names = [name for name in findings.table.distributions if name in findings.best and not pd.isna(top[name])]
    return {label(name): setting(top[name]) for name in names if not name.startswith("weight/") or top[name] > 0}


def shots_of(question: Mapping[str, Any]) -> int:
    """The number of patients of each target in the training; 0 for an unseen target."""
    return int((question.get("protocol") or {}).get("shots", 0))


def judges(question: Mapping[str, Any]) -> str:
    """The label of a target: ``unseen``, or the number of its patients in the training."""
    shots = shots_of(question)
    return f"after {count(shots, 'patient')}" if shots else "unseen"


def chosen_on(question: Mapping[str, Any]) -> str:
    """The images whose validation chose the best settings: those of the sources, or where there are none, a fold of the
    targets."""
    return "the sources alone" if question.get("sources") else "other patients of the targets"


def hospitals(findings: Findings) -> str:
    """The targets, as one noun."""
    shots = shots_of(findings.table.question)
    return f"hospitals that gave {count(shots, 'patient')} each" if shots else "unseen hospitals"


def needed(findings: Findings) -> str:
    """A sentence on completed trials that are still missing for importance; empty if there are enough."""
    n = len(completed_trials(findings.table.trials))
    if n < FEWEST:
        return f"With {n} completed trials nothing can be said about what mattered: that needs at least {FEWEST}."
    return ""


def question(findings: Findings) -> Section:
    """Data, objective, model and search of the study."""
    asked = findings.table.question
    data = asked.get("materials") or asked.get("data") or {}
    rows = [
        ("search", f"`{asked.get('search', findings.table.name)}`"),
        ("sources (training and validation)", listed(asked.get("sources") or ())),
        (f"targets ({judges(asked)}, test only)", listed(asked.get("targets") or ())),
        ("objective", "; ".join(f"{name}, {way}d" for name, way in findings.table.objectives.items())),
        *([("constraints", "; ".join(map(described, asked["constraints"])))] if asked.get("constraints") else []),
        *((name, described(asked.get(name))) for name in ("backbone", "image_size", "epochs")),
        *((name, described(asked.get(name))) for name in ("sampler", "scheduler", "seed", "fold")),
        *(
            (f"files of {name} left out on request", f"{len(why)}: {'; '.join(why)}")
            for name, why in asked.get("left_out", {}).items()
        ),
        *([("photographs that may be copies", "; ".join(asked["copies"]))] if asked.get("copies") else []),
        ("data digests", ", ".join(f"{name} `{digest}`" for name, digest in data.items()) or "not recorded"),
    ]
    frame = pd.DataFrame([(name.replace("_", " "), text) for name, text in rows], columns=["what", "value"])
    return Section("The question", (plain_table("question", "The question of the study.", frame),))


def described(value: Any) -> str:
    """A choice by its kind and its settings; anything else as it is."""
    if value is None:
        return "not recorded"
    if not isinstance(value, Mapping):
        return str(value)
    rest = ", ".join(f"{name} {json.dumps(inner)}" for name, inner in value.items() if name != "kind")
    return f"{kind_of(value)}" + (f" ({rest})" if rest else "")


def outcomes(findings: Findings) -> Section:
    """The number of trials by outcome, and the reasons of failed ones."""
    counts = [(kind.replace("_", " "), number, OUTCOME_WORDS[kind]) for kind, number in findings.outcomes.items()]
    frame = pd.DataFrame(counts, columns=["outcome", "trials", "meaning"])
    apart = ", without the references" * bool(len(findings.table.references))
    shown = plain_table("outcomes", f"Every trial of the study once{apart}.", frame)
    if not counts:
        shown = replace(shown, rows=(row("none", "0", ""),))
    blocks = (*_missing(findings), *_refused(findings), *_reasons(findings.table.trials))
    return Section("Outcomes of the trials", (shown, *blocks))


def missing(findings: Findings) -> str:
    """The number of combinations of a grid without a result, in words; empty where all have one, and without a grid."""
    grid = findings.table.grid
    if grid is None or grid.ended == grid.are:
        return ""
    kinds = {"crashed": len(grid.failed), "not run to the end": grid.waiting}
    named = listed([f"{number} {kind}" for kind, number in kinds.items() if number])
    return f"**{grid.are - grid.ended} of the {grid.are} combinations of the grid have no result**: {named}."


def _missing(findings: Findings) -> tuple[Block, ...]:
    """The combinations of a grid that crashed, and the command that asks for them again."""
    grid, text = findings.table.grid, missing(findings)
    if grid is None or not text:
        return ()
    blocks: list[Block] = [Text(text)]
    if grid.failed:
        names = sorted({name for settings in grid.failed for name in settings})
        rows = [tuple(setting(one[name]) if name in one else "" for name in names) for one in grid.failed]
        frame = pd.DataFrame(rows, columns=names)
        blocks.append(plain_table("missing", "The combinations that crashed, and have no result.", frame))
    return (*blocks, Text("The same command asks for them again:"), Code(commands.go_on(findings.table), "sh"))


def _untouched(question: Mapping[str, Any], targets: str) -> str:
    shots = shots_of(question)
    if not shots:
        return f"Images of {targets} were never used to choose anything."
    text = (
        f"Of {targets}, {count(shots, 'patient')} each joined the training; test scores are those of their test parts."
    )
    return text if question.get("sources") else f"{text} Validation used a fold of their other patients, with labels."


def _ended(counts: Mapping[str, int]) -> str:
    words = {"running": "not closed (in progress, or interrupted: the same command continues them)"}
    counted = (f"{number} {words.get(kind, kind.replace('_', ' '))}" for kind, number in counts.items())
    return ", ".join(counted) or "no trial"


def _on_targets(findings: Findings) -> str:
    rows = findings.scores[(findings.scores["place"] == 1) & (findings.scores["metric"] == findings.metric)]
    targets = rows[rows["role"] == "target"].to_dict("records")
    if not targets:
        return "No unseen hospital was tested, so this report says nothing about how the settings transfer."
    text = "; ".join(f"{interval(one)} on {one['dataset']} ({sizes(one)})" for one in targets)
    seen = "; ".join(
        f"{interval(one)} on {one['dataset']} ({sizes(one)})"
        for one in rows[rows["role"] == "source"].to_dict("records")
    )
    prompted = bool(findings.best.iloc[0]["oracle_prompt"])
    return (
        f"On {hospitals(findings)} these settings score a mean test {metric_name(findings.metric)} (with 95 % "
        f"interval) of {text}."
        + f" On other images of the training hospitals: {seen}." * bool(seen)
        + " The prompts were taken from the ground truth, which a new patient does not have." * prompted
    )


def _what_mattered(findings: Findings) -> str:
    known = [
        any(table["importance"].notna().any() for _, table in tables)
        for tables in (findings.probed, findings.importance)
    ]
    probed = bool(findings.probed) and (known[0] or not known[1])
    tables = [table for how, table in (findings.probed if probed else findings.importance) if how.kind == "fanova"]
    if not tables or tables[0].empty:
        return needed(findings) or "Importance was not measured."
    if tables[0]["importance"].isna().all():
        whose = " of the probe" * probed
        return f"Nothing can be said about what mattered: importance{whose} {tables[0]['note'].iloc[0]}."
    if not (findings.probe or probed):
        return (
            "Which settings mattered cannot be said: an optimiser chose the trials, and no chance level holds for such "
            "trials. A probe (`--probe 60`) or an ablation can tell."
        )
    n = f"{int(tables[0]['n'].max())} trials{' of the probe' * probed}"
    above = tables[0][tables[0]["importance"] > tables[0]["chance"]]
    named = "; ".join(
        f"{label(one['parameter'])}, which alone explains {score(one['importance'])} of the score's variance"
        for one in above.to_dict("records")
    )
    trees = f"What stands out from chance: {named} (fANOVA, {n})." if named else ""
    sure = [label(str(name)) for name in findings.regression[findings.regression["holm"] <= ALPHA]["parameter"]]
    lines = f"By a regression, {listed(sure)} {'matters' if len(sure) == 1 else 'matter'} (p < 0.05, {CORRECTION})."
    if not trees and not sure:
        return f"No setting's importance stands out from chance with this many trials ({n})."
    return " ".join(filter(None, (trees or f"No setting stands out from chance by fANOVA ({n}).", lines * bool(sure))))


def _refused(findings: Findings) -> tuple[Block, ...]:
    """The proposals that each constraint refused, and by how much they missed it."""
    refused = findings.table.trials[findings.table.trials["outcome"] == "infeasible"]
    rows = []
    for constraint in findings.table.question.get("constraints") or ():
        excess = refused[f"constraint/{constraint['kind']}"] if len(refused) else pd.Series(dtype=float)
        missed = excess[excess > 0]
        if len(missed):
            rows.append((described(constraint), len(missed), missed.min(), missed.max()))
    if not rows:
        return ()
    columns: Columns[tuple[str, int, float, float]] = {
        "constraint": lambda line: line[0],
        "proposals that missed it": lambda line: str(line[1]),
        "by": lambda line: f"{line[2]:.3g} to {line[3]:.3g}",
    }
    frame = pd.DataFrame(rows, columns=["constraint", "proposals", "least", "most"])
    return (table("refused", "Refused before training.", rows, columns, frame),)


def _reasons(trials: pd.DataFrame) -> tuple[Block, ...]:
    """Outcome, how many trials, and the reason that they give, of the trials that went wrong."""
    wrong = failed(trials)
    wrong = wrong[wrong["reused_from"].isna() & (wrong["why"].astype(str) != "")]
    if wrong.empty:
        return ()
    counts = wrong.assign(why=wrong["why"].astype(str).str.slice(0, 200)).groupby(["outcome", "why"])["key"].size()
    frame = counts.reset_index(name="trials")[["outcome", "trials", "why"]]
    shown = plain_table("reasons", "Trials that failed.", frame.assign(outcome=frame["outcome"].str.replace("_", " ")))
    return (Text("Recorded reasons:"), replace(shown, frame=frame))
