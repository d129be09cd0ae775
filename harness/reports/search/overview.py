"""What was asked, what came of it in plain words, and how the trials ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd

from harness.importance.resampling import ALPHA
from harness.record.table import empty_truths, label, measured, metric_name
from harness.reports.document import Block, Section, Table, Text, row
from harness.reports.search.findings import Findings
from harness.reports.search.format import interval, kind_of, score, setting, sizes
from harness.reports.search.gain import validated, what_tuning_gained
from harness.text import count, listed

OUTCOME_WORDS = {
    "completed": "trained all its epochs and was tested",
    "stopped": "stopped early by the scheduler; its score belongs to an earlier epoch and is used nowhere as a result",
    "diverged": "the loss or a gradient was no longer a number; told to the sampler as the worst score",
    "out_of_memory": "did not fit into memory; told to the sampler as infeasible",
    "infeasible": "missed a constraint of the search; never trained, told to the sampler, not counted as a trial",
    "crashed": "ended with an error that is not its settings' fault; not used",
    "reused": "asked for settings that had been run before; repeats that result, untrained, and is not counted twice",
    "running": "not closed in the record: in progress, or left behind by a run that was killed",
    "waiting": "queued, not started",
    "unreadable": "outcome and state in the record contradict each other; not used",
}
FEWEST = 10
"""Completed trials below which importance is not measured."""


def plainly(found: Findings) -> tuple[str, ...]:
    """The result in a few paragraphs, for somebody who has not seen the code."""
    question, counts = found.table.question, found.outcomes
    sources, targets = listed(question.get("sources") or ()), listed(question.get("targets") or ())
    total = sum(counts.values())
    validated = sources if question.get("sources") else targets
    text = (
        f"This search looked for the settings with the best validation {metric_name(found.metric)} on images of "
        f"{validated}."
    )
    text += f" {_untouched(question, targets)}" if question.get("targets") else ""
    done = len(measured(found.table.trials))
    if done == 0:
        rest = f" Of {count(total, 'trial')} none has completed yet, so there is no result: {_ended(counts)}."
        return text + (rest if total else " No trial has been run yet."), "Run it again to go on."
    others = {kind: number for kind, number in counts.items() if kind != "completed"}
    text += f" Of {count(total, 'trial')}, {done} completed"
    text += f"; the others: {_ended(others)}." if others else "."
    top = found.best.iloc[0]
    text += f" The best settings, trial {top['number']}, reach {score(top['value'])} in validation{validated_on(found)}"
    told = ", ".join(f"{name} {value}" for name, value in chosen(found).items())
    text += f": {told}." if told else "."
    if found.mixed:
        text += " Trials that were prompted from the ground truth are ranked after it: their scores do not compare."
    elif found.oracle:
        text += " The prompts of validation were taken from the ground truth."
    gained = what_tuning_gained(found)
    scored = (_on_targets(found), *empty_truths(found.table.images))
    return text, *scored, *([gained] if gained else []), _what_mattered(found)


def validated_on(found: Findings) -> str:
    """On how many images and patients the validation score of the best rests, in brackets; empty where unknown."""
    known = validated(found)
    return "" if pd.isna(known["n"]) else f" ({sizes(known)})"


def chosen(found: Findings) -> dict[str, str]:
    """What the best trial chose by name, without loss weights of 0."""
    top = found.best.iloc[0]
    names = [name for name in found.table.distributions if name in found.best and not pd.isna(top[name])]
    return {label(name): setting(top[name]) for name in names if not name.startswith("weight/") or top[name] > 0}


def shots_of(question: Mapping[str, Any]) -> int:
    """How many patients each target gave to the training; 0 of a target that the model has not seen."""
    return int((question.get("protocol") or {}).get("shots", 0))


def judges(question: Mapping[str, Any]) -> str:
    """What a set that judges is called: ``unseen``, or by the patients that it gave."""
    shots = shots_of(question)
    return f"after {count(shots, 'patient')}" if shots else "unseen"


def chosen_on(question: Mapping[str, Any]) -> str:
    """Whose validation chose the best settings: the sources alone, or where there are none, the targets' fold."""
    return "the sources alone" if question.get("sources") else "other patients of the targets"


def hospitals(found: Findings) -> str:
    """What the targets are called together."""
    shots = shots_of(found.table.question)
    return f"hospitals that gave {count(shots, 'patient')} each" if shots else "unseen hospitals"


def needed(found: Findings) -> str:
    """A sentence on completed trials that are still missing for importance; empty if there are enough."""
    n = len(measured(found.table.trials))
    if n < FEWEST:
        return f"With {n} completed trials nothing can be said about what mattered: that needs at least {FEWEST}."
    return ""


def question(found: Findings) -> Section:
    """Data, objective, model and search, as they were asked for."""
    asked = found.table.question
    data = asked.get("materials") or asked.get("data") or {}
    rows = [
        ("search", f"`{asked.get('search', found.table.name)}`"),
        ("sources (training and validation)", listed(asked.get("sources") or ())),
        (f"targets ({judges(asked)}, test only)", listed(asked.get("targets") or ())),
        ("objective", "; ".join(f"{name}, {way}d" for name, way in found.table.objectives.items())),
        *([("constraints", "; ".join(map(described, asked["constraints"])))] if asked.get("constraints") else []),
        *((name, described(asked.get(name))) for name in ("backbone", "image_size", "epochs")),
        *((name, described(asked.get(name))) for name in ("sampler", "scheduler", "seed", "fold")),
        *(
            (f"files of {name} left out, as asked", f"{len(why)}: {'; '.join(why)}")
            for name, why in asked.get("left_out", {}).items()
        ),
        *([("photographs that may be copies", "; ".join(asked["copies"]))] if asked.get("copies") else []),
        ("data digests", ", ".join(f"{name} `{digest}`" for name, digest in data.items()) or "not recorded"),
    ]
    rows = [(name.replace("_", " "), text) for name, text in rows]
    frame = pd.DataFrame(rows, columns=["what", "value"])
    table = Table("question", "What was asked for.", ("what", "value"), tuple(row(*line) for line in rows), frame)
    return Section("The question", (table,))


def described(value: Any) -> str:
    """A choice by its kind and its settings; anything else as it is."""
    if value is None:
        return "not recorded"
    if not isinstance(value, Mapping):
        return str(value)
    rest = ", ".join(f"{name} {json.dumps(inner)}" for name, inner in value.items() if name != "kind")
    return f"{kind_of(value)}" + (f" ({rest})" if rest else "")


def outcomes(found: Findings) -> Section:
    """How many trials ended how, and why those that went wrong did."""
    counts = [(kind.replace("_", " "), number, OUTCOME_WORDS[kind]) for kind, number in found.outcomes.items()]
    frame = pd.DataFrame(counts, columns=["outcome", "trials", "meaning"])
    header = ("outcome", "trials", "which means")
    rows = tuple(row(kind, str(number), words) for kind, number, words in counts) or (row("none", "0", ""),)
    apart = ", the references apart" * bool(len(found.table.references))
    table = Table("outcomes", f"Every trial of the study once{apart}.", header, rows, frame)
    return Section("What became of the trials", (table, *_refused(found), *_reasons(found.table.trials)))


def _untouched(question: Mapping[str, Any], targets: str) -> str:
    shots = shots_of(question)
    if not shots:
        return f"Images of {targets} were never used to choose anything."
    told = f"Of {targets}, {count(shots, 'patient')} each joined the training; only test parts judge."
    return told if question.get("sources") else f"{told} A fold of their other patients validated, labels and all."


def _ended(counts: Mapping[str, int]) -> str:
    words = {"running": "not closed (in progress, or interrupted and taken up by the same command)"}
    told = (f"{number} {words.get(kind, kind.replace('_', ' '))}" for kind, number in counts.items())
    return ", ".join(told) or "no trial"


def _on_targets(found: Findings) -> str:
    rows = found.scores[(found.scores["place"] == 1) & (found.scores["metric"] == found.metric)]
    targets = rows[rows["role"] == "target"].to_dict("records")
    if not targets:
        return "No unseen hospital was tested, so this report says nothing about how the settings carry over."
    told = "; ".join(f"{interval(one)} on {one['dataset']} ({sizes(one)})" for one in targets)
    seen = "; ".join(
        f"{interval(one)} on {one['dataset']} ({sizes(one)})"
        for one in rows[rows["role"] == "source"].to_dict("records")
    )
    prompted = bool(found.best.iloc[0]["oracle_prompt"])
    return (
        f"On {hospitals(found)} these settings score a mean test {metric_name(found.metric)} (with 95 % interval) of "
        f"{told}."
        + f" On other images of the hospitals that trained them: {seen}." * bool(seen)
        + " The prompts were taken from the ground truth, which a real patient does not have." * prompted
    )


def _what_mattered(found: Findings) -> str:
    told = [
        any(table["importance"].notna().any() for _, table in tables) for tables in (found.probed, found.importance)
    ]
    probed = bool(found.probed) and (told[0] or not told[1])
    tables = [table for how, table in (found.probed if probed else found.importance) if how.kind == "fanova"]
    if not tables or tables[0].empty:
        return needed(found) or "Importance was not measured."
    if tables[0]["importance"].isna().all():
        whose = " of the probe" * probed
        return f"Nothing can be said about what mattered: importance{whose} {tables[0]['note'].iloc[0]}."
    if not (found.probe or probed):
        return (
            "Which settings mattered cannot be said: an optimiser chose the trials, and no level of chance holds for "
            "those. A probe (`--probe 60`) or an ablation can say it."
        )
    n = f"{int(tables[0]['n'].max())} trials{' of the probe' * probed}"
    above = tables[0][tables[0]["importance"] > tables[0]["chance"]]
    named = "; ".join(
        f"{label(one['parameter'])}, which alone explains {score(one['importance'])} of the score's variance"
        for one in above.to_dict("records")
    )
    trees = f"What stands out from chance: {named} (fANOVA, {n})." if named else ""
    sure = [label(str(name)) for name in found.regression[found.regression["holm"] <= ALPHA]["parameter"]]
    lines = f"By a regression, {listed(sure)} {'matters' if len(sure) == 1 else 'matter'} (p < 0.05, Holm)."
    if not trees and not sure:
        return f"No setting's importance stands out from chance with this many trials ({n})."
    return " ".join(filter(None, (trees or f"No setting stands out from chance by fANOVA ({n}).", lines * bool(sure))))


def _refused(found: Findings) -> tuple[Block, ...]:
    """Which constraint refused how many proposals, and by how much they missed it."""
    refused = found.table.trials[found.table.trials["outcome"] == "infeasible"]
    rows = []
    for constraint in found.table.question.get("constraints") or ():
        excess = refused[f"constraint/{constraint['kind']}"] if len(refused) else pd.Series(dtype=float)
        missed = excess[excess > 0]
        if len(missed):
            rows.append((described(constraint), len(missed), missed.min(), missed.max()))
    if not rows:
        return ()
    header = ("constraint", "proposals that missed it", "by")
    cells = tuple(row(name, str(number), f"{least:.3g} to {most:.3g}") for name, number, least, most in rows)
    frame = pd.DataFrame(rows, columns=["constraint", "proposals", "least", "most"])
    return (Table("refused", "Refused before training.", header, cells, frame),)


def _reasons(trials: pd.DataFrame) -> tuple[Block, ...]:
    """Outcome, how many trials, and the reason that they give, of the trials that went wrong."""
    wrong = trials[trials["outcome"].isin(["diverged", "out_of_memory", "crashed", "unreadable"])]
    wrong = wrong[wrong["reused_from"].isna() & (wrong["why"].astype(str) != "")]
    if wrong.empty:
        return ()
    counts = wrong.assign(why=wrong["why"].astype(str).str.slice(0, 200)).groupby(["outcome", "why"])["key"].size()
    frame = counts.reset_index(name="trials")[["outcome", "trials", "why"]]
    cells = tuple(
        row(str(kind).replace("_", " "), str(number), str(why))
        for kind, number, why in frame.itertuples(index=False, name=None)
    )
    return (Text("Recorded reasons:"), Table("reasons", "Trials that went wrong.", tuple(frame.columns), cells, frame))
