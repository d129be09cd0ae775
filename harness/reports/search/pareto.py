"""The Pareto front of a search with several objectives."""

from __future__ import annotations

from collections.abc import Callable

from harness.record.metric_names import metric_name
from harness.record.table import completed_trials, label, objective_columns
from harness.reports.document import Columns, Figure, Record, Refusal, Section, Table, Text, table
from harness.reports.figures import pareto
from harness.reports.search.best import judged, oracle
from harness.reports.search.columns import score_columns, setting_columns
from harness.reports.search.findings import Findings
from harness.reports.search.format import images_of, marked, score
from harness.text import amount, count


def front(findings: Findings) -> tuple[Section, ...]:
    """The trials that no other beats in everything; no section for a search with one objective."""
    if len(findings.table.objectives) == 1:
        return ()
    title = "The Pareto front"
    if findings.front.empty:
        return (Section(title, (Refusal("no trial has completed, so there is none."),)),)
    metric = metric_name(findings.metric)
    text = (
        f"{len(findings.front)} of {count(len(completed_trials(findings.table.trials)), 'completed trial')}: no other "
        f"trial is as good in every objective and better in one. {_clock(findings)}The objectives alone decided; test "
        "scores took no part."
    )
    caption = f"Every objective against validation {metric}, the front filled."
    figure = Figure("pareto", caption, lambda: pareto.draw(findings.table, findings.front))
    return (Section(title, (Text(text), _table(findings), *oracle(findings), figure)),)


def _table(findings: Findings) -> Table:
    metric = metric_name(findings.metric)
    tests = findings.front_scores[findings.front_scores["metric"] == findings.metric]
    names = [name for name, _ in judged(tests)]
    further = objective_columns(findings.table)[1:]
    chosen = [name for name in findings.table.distributions if name in findings.front]
    headers = {name: f"test {metric}, {name} ({images_of(tests[tests['dataset'] == name])})" for name in names}

    def objective(name: str) -> Callable[[Record], str]:
        return lambda trial: amount(trial[name])

    columns: Columns[Record] = {
        "trial": marked,
        f"validation {metric}": lambda trial: score(trial["value"]),
        **{label(name): objective(name) for name in further},
        **score_columns(tests, "place", headers),
        **setting_columns(chosen),
    }
    caption = (
        "Test scores: mean over images [95 % t interval over patients]. Validation scores have no interval: they made "
        "the choice, so they are too high by selection. Neighbours on the front that are closer than the spread "
        "between seeds may swap places with another seed."
    )
    return table("front", caption, findings.front.to_dict("records"), columns, findings.front)


def _clock(findings: Findings) -> str:
    if "train_seconds" not in findings.table.objectives:
        return ""
    return (
        "Training seconds are wall-clock time on the machine that ran the trials, whatever else it was doing: they are "
        "not a property of the settings. "
    )
