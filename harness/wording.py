"""Findings in words: the Markdown text of a report, made of tables that can be pasted and sentences that hold."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from harness.findings import Findings, Importances, kind_of
from harness.importance import Fanova, Importance
from harness.levels import axes
from harness.table import ORACLE, label, measured, metric_name, objective_columns, reading

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


@dataclass(frozen=True)
class Places:
    """Where things lie: MLflow's address, and the figures that were drawn, by name."""

    mlflow: str
    figures: Mapping[str, str]


def markdown(found: Findings, places: Places) -> str:
    """The whole report. Equal findings give equal text."""
    sections = (
        _title(found),
        _plainly(found),
        _question(found),
        _outcomes(found),
        _front(found, places),
        _best(found, places),
        _levels(found, places),
        _losses(found, places),
        _importance(found, places),
        _course(found, places),
        _cost(found),
        _left_out(found),
        _limits(found),
        _where(found, places),
        _provenance(found),
    )
    return "\n\n".join("\n".join(lines).rstrip() for lines in sections if lines) + "\n"


def note(found: Findings) -> str:
    """The result in plain words, a few sentences: the first section of the report."""
    return "\n".join(_plainly(found))


def grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table. A bar inside a cell is written as an entity, since it would end the cell."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "&#124;").replace("\n", " ") for cell in line) + " |" for line in lines]


def score(value: float, decimals: int = 3) -> str:
    """A score with ``decimals``, or "undefined"."""
    return "undefined" if pd.isna(value) else f"{value:.{decimals}f}"


def interval(row: Mapping[Any, Any] | pd.Series, name: str = "mean", decimals: int = 3) -> str:
    """A figure with its 95 % interval in brackets: ``0.712 [0.690, 0.731]``."""
    if pd.isna(row[name]):
        return "undefined"
    if pd.isna(row["low"]):
        return f"{score(row[name], decimals)} (no interval)"
    return f"{score(row[name], decimals)} [{score(row['low'], decimals)}, {score(row['high'], decimals)}]"


def with_gaps(row: Mapping[Any, Any], decimals: int = 3) -> str:
    """`interval` of a test score, with how many of the images have none: a mean over the others flatters or harms."""
    undefined = 0 if pd.isna(row["undefined"]) else int(row["undefined"])
    told = interval(row, decimals=decimals)
    return told + (f", {undefined} of {int(row['n']) + undefined} images undefined" if undefined else "")


def amount(value: float) -> str:
    """A number of parameters or seconds: whole with separators from 100 up, else three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def marked(row: Mapping[Any, Any]) -> str:
    """A trial's number, with `ORACLE` if its scores were reached with prompts from the ground truth."""
    return f"{row['number']} {ORACLE}" if row["oracle_prompt"] else str(row["number"])


def oracle_note(found: Findings) -> str:
    """What `ORACLE` means in this study, in a sentence or two; empty if no trial has it."""
    if not found.oracle:
        return ""
    apart = (
        " They come after the trials without such prompts, whatever their scores: the two do not compare."
        if found.mixed
        else ""
    )
    return f"{ORACLE} Prompted from ground truth: upper bounds, not what an unlabelled image would get.{apart}"


def setting(value: Any) -> str:
    """A setting with as many digits as a reader can use."""
    if value is None or (not isinstance(value, str) and pd.isna(value)):
        return "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Seconds as a person would say them."""
    if math.isnan(seconds):
        return "unknown"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def command(found: Findings) -> str:
    """The command that goes on with the study: the one that began it, as it was typed, if the record has it."""
    typed = found.table.provenance.get("command")
    return str(typed) if typed else search_command(str(found.table.question.get("search", found.table.name)))


def search_command(name: str) -> str:
    """The command that runs the declaration ``name``: an ablation if only ``ablations/`` has it, else a search."""
    module = "ablate" if name in declared("ablations") and name not in declared("search_spaces") else "search"
    return f"python -m harness.{module} {name}"


def declared(package: str) -> list[str]:
    """The declarations in ``search_spaces`` or ``ablations``, by file name; nothing of them is imported or run."""
    spec = importlib.util.find_spec(package)
    folders = list(spec.submodule_search_locations or ()) if spec else []
    files = [file.stem for folder in folders for file in Path(folder).glob("*.py")]
    return sorted(name for name in files if not name.startswith("_"))


def mlflow_command(uri: str) -> str:
    """What opens MLflow: its command for a local store, the address itself for a server."""
    return f"open {uri}" if uri.startswith("http") else f"mlflow ui --backend-store-uri {uri}"


def needed(found: Findings) -> str:
    """A sentence on completed trials that are still missing for importance; empty if there are enough."""
    n, wanted = len(measured(found.table.trials)), 10
    if n < wanted:
        return f"With {n} completed trials nothing can be said about what mattered: that needs at least {wanted}."
    return ""


def _title(found: Findings) -> list[str]:
    search = found.table.question.get("search", found.table.name)
    name = found.table.name
    return [f"# What the search `{search}` found" + ("" if name == search else f" (study `{name}`)")]


def _plainly(found: Findings) -> list[str]:
    question, counts = found.table.question, found.outcomes
    sources, targets = _names(question.get("sources")), _names(question.get("targets"))
    total = sum(counts.values())
    metric = metric_name(found.metric)
    validated = sources if question.get("sources") else targets
    asked = f"This search looked for the settings with the best validation {metric} on images of {validated}."
    unseen = f" {_untouched(question, targets)}" if question.get("targets") else ""
    done = len(measured(found.table.trials))
    if done == 0:
        rest = f" Of {_count(total, 'trial')} none has completed yet, so there is no result: {_ended(counts)}."
        return [asked + unseen + (rest if total else " No trial has been run yet."), "", "Run it again to go on."]
    others = {kind: number for kind, number in counts.items() if kind != "completed"}
    text = asked + unseen + f" Of {_count(total, 'trial')}, {done} completed"
    text += f"; the others: {_ended(others)}." if others else "."
    top = found.best.iloc[0]
    text += f" The best settings, trial {top['number']}, reach {score(top['value'])} in validation."
    if found.mixed:
        text += " Trials that were prompted from the ground truth are ranked after it: their scores do not compare."
    elif found.oracle:
        text += " The prompts of validation were taken from the ground truth."
    return [text, "", _on_targets(found), "", _what_mattered(found)]


def shots_of(question: Mapping[str, Any]) -> int:
    """How many patients each target gave to the training; 0 of a target that the model has not seen."""
    return int((question.get("protocol") or {}).get("shots", 0))


def judges(question: Mapping[str, Any]) -> str:
    """What a set that judges is called: ``unseen``, or by the patients that it gave."""
    shots = shots_of(question)
    return f"after {_count(shots, 'patient')}" if shots else "unseen"


def chosen_on(question: Mapping[str, Any]) -> str:
    """Whose validation chose the best settings: the sources alone, or where there are none, the targets' fold."""
    return "the sources alone" if question.get("sources") else "other patients of the targets"


def _untouched(question: Mapping[str, Any], targets: str) -> str:
    shots = shots_of(question)
    if not shots:
        return f"Images of {targets} were never used to choose anything."
    told = f"Of {targets}, {_count(shots, 'patient')} each joined the training; only test parts judge."
    return told if question.get("sources") else f"{told} A fold of their other patients validated, labels and all."


def _ended(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in counts.items()) or "no trial"


def _on_targets(found: Findings) -> str:
    rows = found.scores[(found.scores["place"] == 1) & (found.scores["metric"] == found.metric)]
    targets = rows[rows["role"] == "target"].to_dict("records")
    if not targets:
        return "No unseen hospital was tested, so this report says nothing about how the settings carry over."
    told = [f"{interval(row)} on {row['dataset']} ({_sizes(row)})" for row in targets]
    prompted = " The prompts were taken from the ground truth, which a real patient does not have." * bool(
        found.best.iloc[0]["oracle_prompt"]
    )
    return (
        f"On {_hospitals(found)} these settings score a mean test {metric_name(found.metric)} (with 95 % interval) of "
        + "; ".join(told)
        + "."
        + prompted
    )


def _hospitals(found: Findings) -> str:
    shots = shots_of(found.table.question)
    return f"hospitals that gave {_count(shots, 'patient')} each" if shots else "unseen hospitals"


def _what_mattered(found: Findings) -> str:
    if missing := needed(found):
        return missing
    probed = any(table["importance"].notna().any() for _, table in found.probed)
    source = found.probed if probed else found.importance
    tables = [table for how, table in source if how.kind == "fanova"]
    if not tables:
        return "Importance was not measured."
    table = tables[0]
    above = table[table["importance"] > table["chance"]]
    if above.empty:
        told = "No setting's importance stands out from chance with this many trials."
    else:
        told = "What stands out from chance: " + "; ".join(
            f"{label(row['parameter'])}, which alone explains {interval(row, 'importance')} of the score's variance"
            for row in above.to_dict("records")
        )
        told += f" (fANOVA, {int(table['n'].max())} trials{' of the probe' * probed})."
    hint = (
        ""
        if found.probe or probed
        else " Take it as a hint: the trials were chosen by an optimiser, not spread evenly."
    )
    return told + hint


def _question(found: Findings) -> list[str]:
    question = found.table.question
    data = question.get("materials") or question.get("data") or {}
    rows = [
        ("search", f"`{question.get('search', found.table.name)}`"),
        ("sources (training and validation)", _names(question.get("sources"))),
        (f"targets ({judges(question)}, test only)", _names(question.get("targets"))),
        ("objective", "; ".join(f"{name}, {way}d" for name, way in found.table.objectives.items())),
        *([("constraints", _constraints(question))] if question.get("constraints") else []),
        *((name, _described(question.get(name))) for name in ("backbone", "image_size", "epochs")),
        *((name, _described(question.get(name))) for name in ("sampler", "scheduler", "seed", "fold")),
        *(
            (f"images of {name} left out, as they cannot be read", f"{len(why)}: {'; '.join(why)}")
            for name, why in question.get("left_out", {}).items()
        ),
        ("data digests", ", ".join(f"{name} `{digest}`" for name, digest in data.items()) or "not recorded"),
    ]
    return ["## The question", "", *grid(("what", "value"), [(name.replace("_", " "), text) for name, text in rows])]


def _constraints(question: Mapping[str, Any]) -> str:
    return "; ".join(_described(constraint) for constraint in question["constraints"])


def _described(value: Any) -> str:
    if value is None:
        return "not recorded"
    if not isinstance(value, Mapping):
        return str(value)
    rest = ", ".join(f"{name} {json.dumps(inner)}" for name, inner in value.items() if name != "kind")
    return f"{kind_of(value)}" + (f" ({rest})" if rest else "")


def _names(values: Any) -> str:
    names = [str(value) for value in values or ()]
    if not names:
        return "none"
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def _outcomes(found: Findings) -> list[str]:
    rows = [(kind.replace("_", " "), str(count), OUTCOME_WORDS[kind]) for kind, count in found.outcomes.items()]
    header = ("outcome", "trials", "which means")
    lines = ["## What became of the trials", "", *grid(header, rows or [("none", "0", "")])]
    lines += _refused(found)
    reasons = _reasons(found.table.trials)
    return [*lines, "", "Recorded reasons:", "", *grid(("outcome", "trials", "why"), reasons)] if reasons else lines


def _refused(found: Findings) -> list[str]:
    """Which constraint refused how many proposals, and by how much they missed it."""
    refused = found.table.trials[found.table.trials["outcome"] == "infeasible"]
    rows = []
    for constraint in found.table.question.get("constraints") or ():
        missed = refused[refused[f"constraint/{constraint['kind']}"] > 0] if len(refused) else refused
        if len(missed):
            excess = missed[f"constraint/{constraint['kind']}"]
            span = f"{excess.min():.3g} to {excess.max():.3g}"
            rows.append((_described(constraint), str(len(missed)), span))
    header = ("constraint", "proposals that missed it", "by")
    return ["", "Refused before training:", "", *grid(header, rows)] if rows else []


def _reasons(trials: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Outcome, how many trials, and the reason that they give, of the trials that went wrong."""
    wrong = trials[trials["outcome"].isin(["diverged", "out_of_memory", "crashed", "unreadable"])]
    wrong = wrong[wrong["reused_from"].isna() & (wrong["why"].astype(str) != "")]
    counts = wrong.assign(why=wrong["why"].astype(str).str.slice(0, 200)).groupby(["outcome", "why"])["key"].size()
    rows = counts.reset_index(name="n").itertuples(index=False, name=None)
    return [(str(kind).replace("_", " "), str(n), str(why)) for kind, why, n in rows]


def _best(found: Findings, places: Places) -> list[str]:
    if found.best.empty:
        return ["## Best settings", "", "No trial has completed, so there are none."]
    chosen = [name for name in found.table.distributions if name in found.best]
    header = ["place", "trial", f"validation {metric_name(found.metric)}", *map(label, chosen)]
    rows = [
        [str(row["place"]), marked(row), score(row["value"]), *(setting(row[name]) for name in chosen)]
        for row in found.best.to_dict("records")
    ]
    metric = metric_name(found.metric)
    return [
        "## Best settings",
        "",
        f"The {len(found.best)} best{_of_each(found)} of "
        f"{_count(len(measured(found.table.trials)), 'completed trial')}, **chosen by "
        f"validation on {chosen_on(found.table.question)}**. A best-of-many validation score is too high by selection; "
        "test scores took no part in the choice.",
        "",
        *grid(header, rows),
        "",
        *_oracle(found),
        *_scores(found, "target", f"### Test {metric} on {_hospitals(found)}"),
        *_scores(found, "source", f"### Test {metric} in domain (test split of the sources: same hospitals)"),
        *_figure(places, "targets", "Test scores of the best settings with 95 % intervals over patients"),
        *_every_metric(found),
        "Settings of the best trial, complete:",
        "",
        "```json",
        json.dumps(json.loads(str(found.best.iloc[0]["config"])), indent=1, sort_keys=True),
        "```",
    ]


def _front(found: Findings, places: Places) -> list[str]:
    if len(found.table.objectives) == 1:
        return []
    title = "## The Pareto front"
    if found.front.empty:
        return [title, "", "No trial has completed, so there is none."]
    n = len(measured(found.table.trials))
    tests = found.front_scores[found.front_scores["metric"] == found.metric]
    datasets = tests[["dataset", "role"]].drop_duplicates().sort_values(["role", "dataset"], ascending=[False, True])
    names = datasets["dataset"].tolist()
    metric = metric_name(found.metric)
    further = objective_columns(found.table)[1:]
    chosen = [name for name in found.table.distributions if name in found.front]
    header = ["trial", f"validation {metric}", *map(label, further)]
    header += [f"test {metric}, {name} ({_size(tests[tests['dataset'] == name])})" for name in names]
    rows = []
    for row in found.front.to_dict("records"):
        own = tests[tests["place"] == row["place"]]
        cells = {test["dataset"]: with_gaps(test) for test in own.to_dict("records")}
        rows.append(
            [marked(row), score(row["value"]), *(amount(row[name]) for name in further)]
            + [cells.get(name, "not tested") for name in names]
            + [setting(row[name]) for name in chosen]
        )
    return [
        title,
        "",
        f"{_count(len(found.front), 'trial')} of {n} completed: no other trial is as good in every objective and "
        f"better in one. {_clock(found)}Places on the front were given by the objectives alone; test scores (mean over "
        "images with a 95 % bootstrap interval over patients) took no part. Validation has no interval: it "
        "chose, so it is too high by selection; and neighbours on the front that are closer than the spread between "
        "seeds may change places with another seed.",
        "",
        *grid([*header, *map(label, chosen)], rows),
        "",
        *_oracle(found),
        *_figure(places, "pareto", f"Every objective against validation {metric}, the front filled"),
    ]


def _clock(found: Findings) -> str:
    if "train_seconds" not in found.table.objectives:
        return ""
    return (
        "Training seconds are wall-clock time as measured on the machine that ran the trials, with what else it was "
        "doing: not a property of the settings. "
    )


def _levels(found: Findings, places: Places) -> list[str]:
    if found.levels.empty or found.best.empty:
        return []
    metric = metric_name(found.metric)
    lines = [
        "## By level of the categorical settings",
        "",
        f"Completed trials only. Validation {metric}: mean [95 % interval over trials]. Test {metric}: every image "
        "averaged over the level's trials, then mean [95 % interval over patients]. "
        + _company(found)
        + "Levels of one setting may differ in the others.",
        "",
    ]
    for parameter, part in found.levels.groupby("parameter", sort=False):
        lines += [f"### {label(str(parameter))}", ""]
        for whose, own in _apart(part):
            lines += [*whose, *_level_table(own, judges(found.table.question)), ""]
    told = (
        f"{ORACLE}: how many of the trials were prompted from ground truth; a mean over both kinds describes neither."
    )
    return [*lines, *([told, ""] if found.oracle else []), *_cross(found, places)]


def _company(found: Findings) -> str:
    if found.probe:
        return ""
    instead = "compare levels by the probe's trials. " if found.levels["probe"].any() else "no fair comparison. "
    return f"The sampler gave good levels more trials and better company: {instead}"


def _apart(rows: pd.DataFrame) -> list[tuple[list[str], pd.DataFrame]]:
    """The rows of the probe, if there are any, and those of the sampler, each with the line that says which it is."""
    if not rows["probe"].any():
        return [([], rows)]
    return [
        ([f"Trials of the {name}:", ""], part)
        for name, part in (("probe", rows[rows["probe"]]), ("sampler", rows[~rows["probe"]]))
    ]


def _counted(row: Mapping[Any, Any]) -> str:
    """How many trials, and how many of them were prompted from the ground truth: ``8, 5 †``."""
    return str(row["trials"]) + (f", {row['oracle_trials']} {ORACLE}" if row["oracle_trials"] else "")


def _level_table(part: pd.DataFrame, target: str) -> list[str]:
    tests = part[part["role"] != "val"][["dataset", "role"]].drop_duplicates()
    names = tests.sort_values(["role", "dataset"], ascending=[False, True])["dataset"].tolist()
    roles = dict(tests.itertuples(index=False, name=None))
    words = {"target": target, "source": "in domain"}
    rows = []
    for level, own in part.groupby("level", sort=False):
        cells = {row["dataset"]: with_gaps(row) for row in own.to_dict("records")}
        trials = int(own["trials"].iloc[0])
        validation = cells["validation"] if trials else "no completed trial"
        rows.append(
            [
                str(level),
                _counted(own.iloc[0].to_dict()),
                validation,
                *(cells.get(name, "not tested") for name in names),
            ]
        )
    return grid(["level", "trials", "validation", *(f"{name} ({words[roles[name]]})" for name in names)], rows)


def _cross(found: Findings, places: Places) -> list[str]:
    if found.cross.empty:
        return []
    (down, _), (across, _) = axes(found.table)
    columns = list(dict.fromkeys(found.cross["column"]))
    lines = [f"### Validation {metric_name(found.metric)} of every combination (trials)", ""]
    for whose, own in _apart(found.cross):
        rows = [
            [str(row), *(_cross_cell(cell) for cell in part.to_dict("records"))]
            for row, part in own.groupby("row", sort=False)
        ]
        figure = "cross_probe" if own["probe"].all() else "cross"
        lines += [
            *whose,
            *grid([f"{label(down)} / {label(across)}", *columns], rows),
            "",
            *_figure(places, figure, f"Mean score of every combination of {label(down)} and {label(across)}"),
        ]
    return lines


def _cross_cell(cell: Mapping[Any, Any]) -> str:
    return f"{score(cell['validation'])} ({_counted(cell)})" if cell["trials"] else "none"


def _scores(found: Findings, role: str, title: str) -> list[str]:
    rows = found.scores[(found.scores["metric"] == found.metric) & (found.scores["role"] == role)]
    if rows.empty:
        return [title, "", f"None: the record has no {role} scores of these trials.", ""]
    datasets = sorted(rows["dataset"].unique())
    header = ["place", "trial", *(f"{name} ({_size(rows[rows['dataset'] == name])})" for name in datasets)]
    lines = []
    for place, part in rows.groupby("place"):
        cells = {row["dataset"]: with_gaps(row) for row in part.to_dict("records")}
        lines.append(
            [str(place), marked(part.iloc[0].to_dict()), *(cells.get(name, "not tested") for name in datasets)]
        )
    said = (
        "Mean over images [95 % bootstrap interval, resampling patients]. The interval holds for other patients of the "
        "same hospital; it does not contain the spread between training runs."
    )
    return [title, "", said, "", *grid(header, lines), "", *_oracle(found)]


def _oracle(found: Findings) -> list[str]:
    return [oracle_note(found), ""] if found.oracle else []


def _of_each(found: Findings) -> str:
    return " (with and without prompts from the ground truth)" if found.mixed else ""


def _every_metric(found: Findings) -> list[str]:
    """Every test metric of the best trial, a row each."""
    rows = found.scores[found.scores["place"] == 1]
    if rows.empty:
        return []
    datasets = rows[["dataset", "role"]].drop_duplicates().sort_values(["role", "dataset"], ascending=[False, True])
    words = {"target": "target", "source": "in domain"}
    header = [
        f"{name} ({words[role]}, {_size(rows[rows['dataset'] == name])})"
        for name, role in datasets.itertuples(index=False, name=None)
    ]
    lines = []
    for metric, part in rows.groupby("metric", sort=False):
        decimals = 1 if reading(str(metric)).unit else 3
        cells = {row["dataset"]: with_gaps(row, decimals) for row in part.to_dict("records")}
        lines.append([_read(str(metric)), *(cells.get(name, "undefined") for name in datasets["dataset"])])
    best = found.best.iloc[0].to_dict()
    used = best["threshold"]
    threshold = " The threshold of its masks was not recorded."
    if not pd.isna(used):
        threshold = f" A pixel is predicted where its probability is above {setting(float(used))}."
    said = (
        f"Trial {marked(best)}: mean over images [95 % bootstrap interval, resampling patients], in the field of view "
        "unless said otherwise. Distances are in pixels of the photographs, which differ between cameras."
    )
    title = "### Every test metric of the best trial"
    return [
        title,
        "",
        said + threshold,
        "",
        *grid(["metric", *header], lines),
        "",
        *_oracle(found) * bool(best["oracle_prompt"]),
    ]


def _read(metric: str) -> str:
    read = reading(metric)
    return read.name + f" [{read.unit}]" * bool(read.unit) + ", smaller is better" * read.smaller


def _size(rows: pd.DataFrame) -> str:
    known = rows[rows["clusters"].notna()]
    return _sizes((known if len(known) else rows).sort_values("n").iloc[-1].to_dict())


def _sizes(row: Mapping[Any, Any]) -> str:
    undefined = 0 if pd.isna(row["undefined"]) else int(row["undefined"])
    images = "images unknown" if pd.isna(row["n"]) else _count(int(row["n"]), "image")
    images += f" and {undefined} undefined" if undefined else ""
    return images if pd.isna(row["clusters"]) else f"{images}, {_count(int(row['clusters']), 'patient')}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _figure(places: Places, name: str, caption: str) -> list[str]:
    return [f"![{caption}]({places.figures[name]})", ""] if name in places.figures else []


def _losses(found: Findings, places: Places) -> list[str]:
    weights = [name for name in found.table.distributions if name.startswith("weight/")]
    if not weights or found.best.empty:
        return []
    source = found.probed or found.importance
    tables = [(how, table.set_index("parameter")) for how, table in source]
    top = found.best.iloc[0]
    done = measured(found.table.trials)
    header = ["component", "weight in the best", f"mean in the best {len(found.best)}", f"mean in all {len(done)}"]
    header += [f"{how.title} importance{' (probe)' * bool(found.probed)}" for how, _ in tables]
    rows = [
        [name.removeprefix("weight/"), *map(setting, (float(top[name]), found.best[name].mean(), done[name].mean()))]
        + [_told(table.loc[name].to_dict()) for _, table in tables]
        for name in weights
    ]
    n = len(done)
    return [
        "## Which parts of the loss mattered",
        "",
        f"From {n} completed trials. The weights add up to one, so a weight can only rise if another falls: the "
        "importance of one holds what was given up for it. Importance has no sign; the figure shows the direction.",
        "",
        *grid(header, rows),
        "",
        *_figure(places, "simplex", f"Loss weights and score: {n} completed trials filled, stopped ones hollow"),
    ]


def _told(row: Mapping[Any, Any]) -> str:
    if pd.isna(row["importance"]):
        return f"not shown: {row['note']}"
    beyond = "above chance" if row["importance"] > row["chance"] else "within the reach of chance"
    return interval(row, "importance") + f", {beyond}" + ("" if row["trusted"] else ", not to be trusted")


def _importance(found: Findings, places: Places) -> list[str]:
    lines = [
        "## Which settings mattered",
        "",
        "*Importance* is a share from 0 to 1 with a 95 % interval from a bootstrap over trials. *Chance* is what 95 % "
        "of studies with shuffled scores stay below: less than that is no evidence. *Rank kept*: share of bootstraps "
        "with the same rank; *comes first*: share in which it is the largest.",
        "",
    ]
    if len(found.table.objectives) > 1:
        lines += [
            f"Importance is that of validation {metric_name(found.metric)} alone, not of the other objectives.",
            "",
        ]
    if found.outcomes.get("infeasible"):
        lines += ["Settings that miss a constraint were not measured: importance is about those that meet it.", ""]
    caption = "Importance of every searched setting with 95 % intervals"
    trials = found.table.trials
    if found.probed:
        lines += [
            "**From the probe.** Its trials cover the space evenly, were proposed without regard to scores and were "
            "stopped by no scheduler. The sampler never saw them, and none of its own trials is among them.",
            "",
            *_early(trials[trials["probe"]], found.probed),
            *(line for how, table in found.probed for line in _evaluator(how, table)),
            *_pairs(found.probed, found.probed_pairs),
            *_figure(places, "importance_probe", f"{caption}, from the probe"),
        ]
    lines += _trace_note(found)
    lines += _early(trials[~trials["probe"]], found.importance)
    for how, table in found.importance:
        lines += _evaluator(how, table)
    lines += _pairs(found.importance, found.pairs)
    return lines + _figure(places, "importance", caption + ", from the trace" * bool(found.probed))


def _trace_note(found: Findings) -> list[str]:
    """What must not be made of the trials that an optimiser chose; empty if they were spread evenly."""
    if found.probe:
        return ["**From the sampler's own trials.**", ""] if found.probed else []
    sampler = kind_of(found.table.question.get("sampler", "unknown"))
    where = (
        "Believe the probe where the two differ."
        if found.probed
        else "For an answer that holds, add a probe (`--probe 60`), search with the random or quasi-random sampler, or "
        "run a designed ablation."
    )
    return [
        f"**A trace is not a probe.** The sampler `{sampler}` looked at scores while it chose, so settings that it "
        f"left early are hardly covered, and importance read off such trials often has the wrong order. {where}",
        "",
    ]


PER_SETTING = 12
"""Completed trials for each setting below which an order of importance is more often wrong than right."""


def _early(trials: pd.DataFrame, tables: Importances) -> list[str]:
    """What makes these trials say less than their tables look like: too few, or a part of them stopped or open."""
    n, own = len(measured(trials)), trials["reused_from"].isna()
    settings = max((len(table) for _, table in tables), default=0)
    stopped = int((own & (trials["outcome"] == "stopped")).sum())
    still = int(trials["outcome"].isin(["running", "waiting"]).sum())
    told = []
    if n < PER_SETTING * settings:
        told.append(
            f"{_count(n, 'completed trial')} for {_count(settings, 'setting')}: too few for an order to be relied upon "
            f"({PER_SETTING * settings} is where it begins to be)."
        )
    if stopped:
        told.append(
            f"The scheduler stopped {_count(stopped, 'trial')} early. They have no final score and are not here, so "
            "what made a trial bad early looks less important than it is."
        )
    if still:
        told.append(f"{_count(still, 'trial')} still open: the study was not at its end.")
    return [*(f"**Caution.** {line}" for line in told), ""] if told else []


def _evaluator(how: Importance, table: pd.DataFrame) -> list[str]:
    n = int(table["n"].max()) if len(table) else 0
    lines = [f"### {how.title}, {how.question}", ""]
    if table.empty:
        return [*lines, "No setting was searched.", ""]
    if table["importance"].isna().all():
        return [*lines, f"Not shown: {table['note'].iloc[0]}.", ""]
    header = ("setting", "importance", "chance", "rank", "rank kept", "comes first", "remark")
    rows = [(label(row["parameter"]), *_shares(row), row["note"]) for row in table.to_dict("records")]
    bootstraps = f"{n} completed trials, {how.bootstraps} bootstraps, {how.shuffles} shuffles."
    return [*lines, bootstraps, "", *grid(header, rows), ""]


def _shares(row: Mapping[Any, Any]) -> tuple[str, ...]:
    """Importance, chance, rank, how often it was kept, how often it was the first."""
    return (
        interval(row, "importance") if not pd.isna(row["importance"]) else "not shown",
        "" if pd.isna(row["chance"]) else score(row["chance"]),
        "" if pd.isna(row["rank"]) or pd.isna(row["keeps_rank"]) else str(int(row["rank"])),
        "" if pd.isna(row["keeps_rank"]) else f"{100 * row['keeps_rank']:.0f} %",
        "" if pd.isna(row["is_first"]) else f"{100 * row['is_first']:.0f} %",
    )


PAIRS_SHOWN = 10


def _pairs(asked: Importances, table: pd.DataFrame) -> list[str]:
    """What pairs explain beyond their settings: the `PAIRS_SHOWN` largest, and why others have no figure."""
    forests = [how for how, _ in asked if isinstance(how, Fanova)]
    if table.empty or not forests:
        return []
    how = forests[0]
    told = table[table["importance"].notna()]
    lines = [
        f"### Pairs, {how.title}: what share do two settings explain beyond what each explains alone?",
        "",
    ]
    if len(told):
        lines += [
            f"{how.bootstraps} bootstraps, {how.shuffles} shuffles. Chance is the larger of two: shuffled scores, and "
            "separate effects of the settings with the remainder shuffled, which a forest takes for joint ones now and "
            "then. A share within its reach is no evidence, and neither is it evidence that there is no joint effect: "
            "40 trials show large ones only. PED-ANOVA is not defined for pairs.",
            "",
            *grid(
                ("settings", "importance", "chance", "rank", "rank kept", "comes first", "trials", "remark"),
                [
                    (_couple(row), *_shares(row), str(row["n"]), row["note"])
                    for row in told.head(PAIRS_SHOWN).to_dict("records")
                ],
            ),
            "",
        ]
        if len(told) > PAIRS_SHOWN:
            lines += [f"The {len(told) - PAIRS_SHOWN} smaller ones are in `importance_pairs.csv`.", ""]
    for why, rows in table[table["importance"].isna()].groupby("note", sort=False):
        lines += [f"Not shown ({why}): {_names(map(_couple, rows.to_dict('records')))}.", ""]
    return lines


def _couple(row: Mapping[Any, Any]) -> str:
    return f"{label(row['first'])} × {label(row['second'])}"


def _course(found: Findings, places: Places) -> list[str]:
    drawn = _figure(places, "history", "Score of every trial by number and by time") + _figure(
        places, "curves", "Validation score by epoch"
    )
    return ["## The course of the search", "", *drawn] if drawn else []


def _cost(found: Findings) -> list[str]:
    cost = found.cost
    spent = cost.setup + cost.train + cost.evaluate
    rows = [
        ("from the first start to the last end, pauses included", duration(cost.wall)),
        (f"trial time ({_count(cost.counted, 'trial')})", duration(spent)),
        ("- setting up", duration(cost.setup)),
        ("- training", duration(cost.train)),
        ("- evaluating", duration(cost.evaluate)),
        ("peak memory of a trial", _span(cost.peak_mib, "{:,.0f}", " MiB")),
        ("trained parameters", _span(cost.trainable, "{:,.0f}")),
        ("share of all parameters that is trained", _span(cost.share, "{:.3%}").replace("%", " %")),
    ]
    return ["## What it cost", "", *grid(("what", "how much"), rows)]


def _span(span: tuple[float, float], form: str, unit: str = "") -> str:
    low, high = span
    if math.isnan(low):
        return "not recorded"
    first, last = form.format(low), form.format(high)
    return first + unit if first == last else f"{first} to {last}{unit}"


def _left_out(found: Findings) -> list[str]:
    gone = found.table.left_out
    undefined = undefined_counts(found)
    lines = ["## What was left out", ""]
    if gone.empty and not undefined:
        return [*lines, "Nothing: every per-image file was read, and every score was defined."]
    if undefined:
        lines += ["Images whose score is not a number are left out of the means and counted here:", ""]
        lines += [*grid(("data set", "metric", "undefined", "of"), undefined), ""]
    if not gone.empty:
        lines += ["Per-image files that could not be read; their trials keep their recorded means, without intervals:"]
        lines += [""]
        rows = [(str(row["number"]), f"`{row['path']}`", row["why"]) for row in gone.to_dict("records")]
        lines += grid(("trial", "file", "why"), rows)
    return lines


def undefined_counts(found: Findings) -> list[tuple[str, str, str, str]]:
    """Data set, metric, number of undefined scores and number of scores, over all completed trials that were read."""
    images = found.table.images
    metrics = [name for name in images.columns if pd.api.types.is_float_dtype(images[name])]
    counts = [
        (str(dataset), metric, int(part[metric].isna().sum()), len(part))
        for dataset, part in images.groupby("dataset")
        for metric in metrics
    ]
    return [(dataset, metric, str(missing), str(n)) for dataset, metric, missing, n in counts if missing]


def _limits(found: Findings) -> list[str]:
    table = found.table
    seeds = table.trials["seed"].dropna().nunique()
    targets = len(table.question.get("targets") or ())
    n = len(measured(table.trials))
    lines = [needed(found)] if needed(found) else []
    for how, _ in found.importance:
        if how.kind == "ped_anova" and 10 <= n < how.needed:
            lines.append(f"{how.title} looks at the best tenth of the trials: {n} are too few, it needs {how.needed}.")
    few = found.scores[(found.scores["metric"] == found.metric) & (found.scores["clusters"] < 10)]["dataset"].unique()
    if len(few):
        lines.append(
            f"Fewer than 10 patients in {_names(sorted(few))}: intervals from so few are a little too narrow (95 % "
            "ones cover some 90 % at five patients)."
        )
    if seeds <= 1:
        lines.append(
            "Every setting was trained with one seed: a difference between places that is smaller than the spread "
            "between seeds means nothing. Train the best again with other seeds, or run an ablation, to claim it."
        )
    judged = "hospital" if shots_of(table.question) else "unseen hospital"
    if 0 < targets < 6:
        lines.append(
            f"{_count(targets, judged)}: a signed-rank test over {targets} data sets cannot go below "
            f"p = {min(2 / 2**targets, 1.0):.3g}, so no claim about hospitals in general can be significant here (that "
            "needs 6)."
        )
    if found.mixed:
        lines.append(
            "Trials with and without prompts from the ground truth are mixed. Importance compares all of them: that of "
            "a setting that decides about the test prompt says what the prompt gives away, not what the model learned."
        )
    lines.append("A search shows which settings did well, not why. Cause and effect of a component need an ablation.")
    return ["## What this report cannot tell", "", *(f"- {line}" for line in lines)]


def _where(found: Findings, places: Places) -> list[str]:
    table = found.table
    return [
        "## Where it lies and how to go on",
        "",
        "- In MLflow, the study is a parent run and its trials are the child runs, found by the trial's key:",
        "",
        *_code(mlflow_command(places.mlflow)),
        "- The record itself, an Optuna study:",
        "",
        *_code(f"optuna-dashboard {table.storage}"),
        "- Go on: run the same command again, with more `--trials` if you like. What is finished is not run again.",
        "",
        *_code(command(found)),
        "- As files beside this report: `trials.csv` (every trial), `best.csv` (the best and their test scores), "
        "`scores.csv` (every metric with its interval), `importance.csv`, `importance_pairs.csv`.",
    ]


def _code(line: str) -> list[str]:
    return ["  ```sh", f"  {line}", "  ```", ""]


def _provenance(found: Findings) -> list[str]:
    known = {name: value for name, value in found.table.provenance.items() if name != "command"}
    if not known:
        return ["## Provenance", "", "Not recorded."]
    rows = [(str(name), _described(value)) for name, value in sorted(known.items())]
    return ["## Provenance", "", *grid(("what", "version"), rows)]
