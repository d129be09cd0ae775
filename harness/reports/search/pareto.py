"""The Pareto front of a search with several objectives."""

from __future__ import annotations

from harness.record.table import label, measured, metric_name, objective_columns
from harness.reports.document import Figure, Refusal, Section, Table, Text, row
from harness.reports.search.best import judged, oracle
from harness.reports.search.findings import Findings
from harness.reports.search.format import images_of, marked, score, setting, with_gaps
from harness.text import amount, count


def front(found: Findings) -> tuple[Section, ...]:
    """The trials that no other beats in everything; no section for a search with one objective."""
    if len(found.table.objectives) == 1:
        return ()
    title = "The Pareto front"
    if found.front.empty:
        return (Section(title, (Refusal("no trial has completed, so there is none."),)),)
    metric = metric_name(found.metric)
    told = (
        f"{count(len(found.front), 'trial')} of {len(measured(found.table.trials))} completed: no other trial is as "
        f"good in every objective and better in one. {_clock(found)}Places on the front were given by the objectives "
        "alone; test scores took no part."
    )
    figure = Figure("pareto", f"Every objective against validation {metric}, the front filled.")
    return (Section(title, (Text(told), _table(found), *oracle(found), figure)),)


def _table(found: Findings) -> Table:
    metric = metric_name(found.metric)
    tests = found.front_scores[found.front_scores["metric"] == found.metric]
    names = [name for name, _ in judged(tests)]
    further = objective_columns(found.table)[1:]
    chosen = [name for name in found.table.distributions if name in found.front]
    header = ["trial", f"validation {metric}", *map(label, further)]
    header += [f"test {metric}, {name} ({images_of(tests[tests['dataset'] == name])})" for name in names]
    rows = []
    for one in found.front.to_dict("records"):
        cells = {test["dataset"]: with_gaps(test) for test in tests[tests["place"] == one["place"]].to_dict("records")}
        rows.append(
            row(
                marked(one),
                score(one["value"]),
                *(amount(one[name]) for name in further),
                *(cells.get(name, "not tested") for name in names),
                *(setting(one[name]) for name in chosen),
            )
        )
    caption = (
        "Test scores: mean over images [95 % t interval over patients]. Validation has no interval: it chose, "
        "so it is too high by selection; and neighbours on the front that are closer than the spread between seeds may "
        "change places with another seed."
    )
    return Table("front", caption, (*header, *map(label, chosen)), tuple(rows), found.front)


def _clock(found: Findings) -> str:
    if "train_seconds" not in found.table.objectives:
        return ""
    return (
        "Training seconds are wall-clock time as measured on the machine that ran the trials, with what else it was "
        "doing: not a property of the settings. "
    )
