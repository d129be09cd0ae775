"""MLflow: a view of the record, written from one place.

Experiment = search, parent run = study, child run = trial. Runs are found again by the study's name and the trial's
number, so writing a trial twice changes nothing, and a server that was away is brought up to date by the next run.
Everything is sent by one background thread in batches: a slow server does not hold up the trials.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import TrackingError
from harness.extras import missing
from harness.patience import await_server
from harness.record.metric_names import unjudgeable
from harness.record.outcome import KIND_OF
from harness.record.storage import write_ahead
from harness.record.study import Record
from harness.record.table import SIMPLEX
from harness.record.trials import RecordedTrial
from harness.tracking import spans
from harness.tracking.mlflow_database import artifact_root, check_schema, create, renew
from harness.tracking.mlflow_views import of_study, saved_view, view_tag
from harness.tracking.tracker import BEST_TRIAL, Conclusion, Material
from sam2lora.choice import dotted, kinds
from sam2lora.environment import set_defaults
from sam2lora.files import ADAPTER, IMAGES, PREDICTIONS
from sam2lora.losses import Loss

# MLflow's own patience is minutes per request, in which a person sees nothing.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
_PARAM_LIMIT, _PARAMS_AT_ONCE = 6000, 100  # characters, and parameters of one call, by MLflow's limits
_BATCH = 900  # metrics a call, by MLflow's limits
SEALED = "sam2lora.sealed"
"""The tag of a trial's run that holds all that the record has of it."""
WRITTEN = "sam2lora.written"
"""The tag of a study's run that lists the trials whose runs are sealed (`harness.tracking.spans`): a later start looks
at what it does not list, and so at what may be missing alone."""
_TAG_LIMIT, _WRITTEN_EVERY = 5000, 100
Name = TypeVar("Name", bound=str | int)
_CURVES = {"score": "val/dice", "seconds": "cost/epoch_seconds"}
_NAMED = 2
"""Parameters in the name of a run, which is read in a list."""
_FAULTS = (MlflowException, SQLAlchemyError, OSError)


class MlflowTracker:
    """Writes a study into MLflow while it runs; a `harness.tracking.tracker.Tracker`.

    What fails while trials run never stops one: it is kept in ``behind``, and ``close`` sends what is missing.
    """

    def __init__(self, uri: str, record: Record, question: Mapping[str, Any], materials: Sequence[Material]) -> None:
        set_defaults(_PATIENCE)
        self.uri, self.record, self.question, self.materials = uri, record, dict(question), materials
        self.behind: Exception | None = None
        self.warning = ""
        self._source = _source(record)
        self._status = "RUNNING"  # of the study's run, before this command
        self._runs: dict[int, str] = {}
        self._written: set[int] = set()
        self._listed = ""
        self._epochs: dict[int, int] = {}
        self._curves: dict[int, list[dict[str, float]]] = {}
        self._searched: list[str] = []
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlflow")
        self._ready: Future[None] = self._thread.submit(self._open)

    def wait(self) -> str:
        """Block until the study's run is open and all trials that had ended before are written."""
        try:
            self._ready.result()
            return self.warning
        except TrackingError:
            self._thread.shutdown(cancel_futures=True)
            raise
        except Exception as error:  # a driver that is missing, among others
            self._thread.shutdown(cancel_futures=True)
            first = str(error).partition("\n")[0]
            remedy = missing(error) or (
                "Start the server, correct MLFLOW_TRACKING_URI, or unset it to write into a local file."
            )
            raise TrackingError(
                f"MLflow must be reachable before the first trial, but {self.uri} is not: {first}. {remedy}"
            ) from error

    def began(self, trial: RecordedTrial) -> None:
        """Open the trial's run."""
        self._send(self._run_of, trial)

    def advanced(self, trial: RecordedTrial, entry: Mapping[str, float]) -> None:
        """Write an epoch's curves, with those of its trial that wait: a call takes MLflow longer than its points do."""
        curve = self._curves.setdefault(trial.number, [])
        curve.append(dict(entry))
        self._send(self._advance, trial, curve)

    def warned(self, trial: RecordedTrial, text: str) -> None:
        """Nothing: a run holds what its trial left."""

    def ended(self, trial: RecordedTrial) -> None:
        """Write the outcome, scores, cost and files of a trial and close its run."""
        self._curves.pop(trial.number, None)
        self._send(self._finish, trial)

    def close(self, conclusion: Conclusion | None) -> None:
        """Write what is missing, then how the study concluded, None where it did not, and end the parent run.

        Of the trials those on the Pareto front alone are tagged ``pareto_front``. Raises ``TrackingError`` when the
        server cannot be used: the record holds everything, and says how to send it.
        """
        self._thread.submit(self._try_again)
        self._send(self._sync)
        self._send(self._close, conclusion)
        self._shut_down()

    def complete(self) -> None:
        """Leave the study's run as it had ended, once `wait` has returned, by which all trials are written.

        Raises as `close`.
        """
        self._send(self._restore_status)
        self._shut_down()

    def _shut_down(self) -> None:
        self._thread.shutdown()
        if self.behind is not None:
            first = str(self.behind).partition("\n")[0]
            raise TrackingError(
                f"MLflow at {self.uri} could not be brought up to date: {first}. Nothing is lost: the record has all "
                f"of it. Run the same command again when the server is back."
            )

    def _send(self, write: Callable[..., Any], *arguments: Any) -> None:
        self._thread.submit(self._write, write, *arguments)

    # Everything below runs in the one background thread.

    def _write(self, write: Callable[..., Any], *arguments: Any) -> None:
        """Write, unless an earlier call failed: a server that hangs would hold up each of those that wait."""
        if self.behind is None:
            try:
                write(*arguments)
            except Exception as error:
                self.behind = error

    def _try_again(self) -> None:
        await_server(self.uri, "MLflow")
        self.behind = None

    def _open(self) -> None:
        await_server(self.uri, "MLflow")
        create(self.uri)
        try:
            check_schema(self.uri)
            self._start()
        except _FAULTS as error:
            self.warning = renew(self.uri, error)
            self._start()

    def _start(self) -> None:
        write_ahead(self.uri)
        self.client = MlflowClient(self.uri)
        name = self.question["search"]
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            place = artifact_root(self.uri, self.record.out)
            self.experiment = self.client.create_experiment(name, artifact_location=place)
        else:
            self.experiment = experiment.experiment_id
            if experiment.lifecycle_stage == "deleted":
                self.client.restore_experiment(self.experiment)
                self.warning += f"The experiment {name} of MLflow was deleted; it is restored, with all of its studies."
        self.parent = self._parent()
        names = (name for trial in self.record.trials() if trial.config for name in searched_parameters(trial))
        self._searched = list(dict.fromkeys(names))
        self._show_view()
        self._sync()

    def _show_view(self) -> None:
        """Save the view of the study's runs; it is the text of what the study asks, and of the parameters so far."""
        view = saved_view(self.record.name, self.question, self._searched)
        self.client.set_experiment_tag(self.experiment, view_tag(self.record.name), view)

    def _parent(self) -> str:
        question = self.question
        self._listed, self._written = "", set[int]()  # of this run, not of one in a file that was set aside
        found = list(search_runs(self.client, self.experiment, of_study(self.record.name, "study")))
        for run in self._distinct(found, lambda run: self.record.name).values():
            self._listed = run.data.tags.get(WRITTEN, "")
            self._written = spans.from_text(self._listed)
            self._status = str(run.info.status)
            self.client.update_run(run.info.run_id, status="RUNNING")
            self._describe_study(run)
            return str(run.info.run_id)
        tags = {
            **self._source,
            "sam2lora.study": self.record.name,
            "sam2lora.role": "study",
            "sources": ", ".join(question["sources"]),
            "targets": ", ".join(question["targets"]),
            "backbone": _backbone(question["backbone"]),
        }
        run = self.client.create_run(self.experiment, tags=tags, run_name=self.record.name)
        self._describe_study(run)
        return str(run.info.run_id)

    def _describe_study(self, run: Run) -> None:
        """Write what is missing of the question, which an earlier run may have left half written."""
        self._log_params(run, dotted(_essential(self.question), lists=False))
        with _filing(run.info.artifact_uri):
            self.client.log_dict(run.info.run_id, self.question, "question.json")
        self._log_inputs(run)

    def _log_inputs(self, run: Run) -> None:
        if not (run.inputs and run.inputs.dataset_inputs):
            self.client.log_inputs(run.info.run_id, [_input(material) for material in self.materials])

    def _distinct(self, runs: Sequence[Run], name: Callable[[Run], Name]) -> dict[Name, Run]:
        """One run of each ``name``; bare others, which were made twice because an answer was lost, are deleted."""

        def rank(run: Run) -> tuple[bool, bool, int, str]:
            return SEALED not in run.data.tags, _is_bare(run), run.info.start_time, run.info.run_id

        kept: dict[Name, Run] = {}
        for run in sorted(runs, key=rank):
            # One that holds something may be of another record's study of this name, on a shared server.
            if kept.setdefault(name(run), run) is not run and _is_bare(run):
                self.client.delete_run(run.info.run_id)
        return kept

    def _log_params(self, run: Run, values: Mapping[str, Any]) -> None:
        """Write the parameters that a run lacks: MLflow lets none change."""
        named = {_named(name): _shown(value)[:_PARAM_LIMIT] for name, value in values.items() if value not in ({}, [])}
        params = [Param(name, value) for name, value in named.items() if name not in run.data.params]
        for begin in range(0, len(params), _PARAMS_AT_ONCE):
            self.client.log_batch(run.info.run_id, params=params[begin : begin + _PARAMS_AT_ONCE])

    def _log_metrics(self, run_id: str, metrics: Sequence[Metric]) -> None:
        for begin in range(0, len(metrics), _BATCH):
            self.client.log_batch(run_id, metrics=metrics[begin : begin + _BATCH])

    def _trial_runs(self, text: str, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
        """The runs of the study's trials for which ``text``, a filter, holds."""
        wanted = f"{of_study(self.record.name, 'trial')} and {text}"
        return list(search_runs(self.client, self.experiment, wanted, view))

    def _sync(self) -> None:
        """Write every trial of the record that has ended and whose run is not sealed yet.

        MLflow is asked for runs that may be incomplete or out of place, never for all of them.
        """
        trials = {trial.number: trial for trial in self.record.trials()}
        self._written -= self._deleted()
        for number, run in self._distinct(self._suspects(trials), _number).items():
            self._runs[number] = run.info.run_id
            if run.data.tags.get("mlflow.parentRunId") != self.parent:
                self.client.set_tag(run.info.run_id, "mlflow.parentRunId", self.parent)
            if SEALED in run.data.tags and run.info.status != "RUNNING":
                self._written.add(number)
            elif number in trials:
                self._epochs[number] = self._last_epoch(run)
                self._describe_trial(run, trials[number])
        for trial in trials.values():
            if trial.outcome is not None and trial.number not in self._written:
                self._finish(trial)
        self._list_written()

    def _deleted(self) -> set[int]:
        """The trials whose sealed runs a person has deleted."""
        gone = {_number(run) for run in self._trial_runs(f"tags.`{SEALED}` = 'yes'", ViewType.DELETED_ONLY)}
        return {number for number in gone & self._written if not self._trial_runs(f"tags.trial = '{number}'")}

    def _suspects(self, trials: Mapping[int, RecordedTrial]) -> list[Run]:
        """Runs without a seal or under another parent, their doubles, and all since the first that is not listed."""
        runs = self._trial_runs(f"tags.`{SEALED}` IS NULL")
        runs += self._trial_runs(f"tags.`mlflow.parentRunId` != '{self.parent}'")
        for number in {_number(run) for run in runs} & self._written:
            runs += self._trial_runs(f"tags.trial = '{number}'")
        ended = (trial for trial in trials.values() if trial.outcome is not None)
        unlisted = [_milliseconds(trial.started) or 0 for trial in ended if trial.number not in self._written]
        if unlisted:
            runs += self._trial_runs(f"attributes.start_time >= {min(unlisted)}")
        return list({run.info.run_id: run for run in runs}.values())

    def _list_written(self) -> None:
        listed = spans.to_text(self._written, _TAG_LIMIT)
        if listed != self._listed:
            self.client.set_tag(self.parent, WRITTEN, listed)
            self._listed = listed

    def _last_epoch(self, run: Run) -> int:
        curve = self.client.get_metric_history(run.info.run_id, "val/dice")
        return max((point.step for point in curve), default=0)

    def _run_of(self, trial: RecordedTrial) -> str:
        if trial.number in self._runs:
            return self._runs[trial.number]
        config = trial.settings
        tags = {
            **self._source,
            "mlflow.parentRunId": self.parent,
            "sam2lora.study": self.record.name,
            "sam2lora.role": "trial",
            "trial": str(trial.number),
            "key": trial.key,
            "outcome": "running",
            "sources": ", ".join(self.question["sources"]),
            "targets": ", ".join(self.question["targets"]),
            "backbone": _backbone(config["backbone"]),
            **({"probe": "yes"} if trial.probe else {}),
            **({} if trial.reference is None else {"reference": trial.reference}),
            **_oracle(trial),
        }
        run = self.client.create_run(
            self.experiment,
            start_time=_milliseconds(trial.started),
            tags=tags,
            run_name=self._name(trial),
        )
        run_id = self._runs[trial.number] = str(run.info.run_id)
        self._describe_trial(run, trial)
        return run_id

    def _describe_trial(self, run: Run, trial: RecordedTrial) -> None:
        """Write what is missing of what a trial runs, which an earlier run may have left half written."""
        searched = searched_parameters(trial)
        self._log_params(run, searched | settings(trial.settings) | dict(trial.replicate or {}))
        self._log_inputs(run)
        if new := [name for name in searched if name not in self._searched]:
            self._searched += new
            self._show_view()

    def _name(self, trial: RecordedTrial) -> str:
        """What a person calls a trial: its reference or arm, else its number and the first of what was searched."""
        if trial.reference is not None:
            return f"#{trial.number} {trial.reference}"
        if "ablation" in self.question:
            return " / ".join([trial.params["arm"], *(f"{k} {v}" for k, v in (trial.replicate or {}).items())])
        shown = list(searched_parameters(trial).items())[:_NAMED]
        named = ", ".join(f"{name.removeprefix('weight/')} {_short(value)}" for name, value in shown)
        return f"#{trial.number} {named}"

    def _advance(self, trial: RecordedTrial, curve: Sequence[Mapping[str, float]]) -> None:
        run_id, known = self._run_of(trial), self._epochs.get(trial.number, 0)
        fresh = [entry for entry in curve if entry["epoch"] > known]
        self._log_metrics(run_id, [metric for entry in fresh for metric in _curve(entry)])
        if fresh:
            self._epochs[trial.number] = int(fresh[-1]["epoch"])

    def _finish(self, trial: RecordedTrial) -> None:
        if trial.number in self._written:
            return
        run_id, kind = self._run_of(trial), KIND_OF[str(trial.outcome)]
        self._advance(trial, trial.curve)
        if trial.reused_from is None:
            for path in (self.record.files(trial.key) / name for name in (PREDICTIONS, ADAPTER, IMAGES)):
                if path.exists():
                    self.client.log_artifact(run_id, str(path))
        stamp = _milliseconds(trial.finished)
        self.client.log_batch(
            run_id,
            metrics=[Metric(name, value, stamp, 0) for name, value in final_metrics(trial, self.record).items()],
            tags=[RunTag(name, value) for name, value in final_tags(trial).items()],
        )
        if trial.completed and "ablation" not in self.question:
            self.client.update_run(run_id, name=f"{self._name(trial)}, dice {_short(trial.values[0])}")
        self.client.set_terminated(run_id, status=kind.run_status, end_time=stamp)
        self.client.set_tag(run_id, SEALED, "yes")  # last: what is sealed is never looked at again
        self._written.add(trial.number)
        if len(self._written) % _WRITTEN_EVERY == 0:
            self._list_written()

    def _link(self, conclusion: Conclusion) -> str:
        """A paragraph with a link to the run of the best trial, empty where there is none."""
        number = conclusion.tags.get(BEST_TRIAL)
        if number is None:
            return ""
        (run,) = self._distinct(self._trial_runs(f"tags.trial = '{number}'"), _number).values()
        return f"\n\n[The best trial, number {number}](#/experiments/{self.experiment}/runs/{run.info.run_id})"

    def _restore_status(self) -> None:
        self.client.set_terminated(self.parent, status="KILLED" if self._status == "RUNNING" else self._status)

    def _tag_front(self, front: set[int]) -> None:
        """Tag the runs on the front; a run that a later trial has pushed off it loses its tag."""
        tagged = {_number(run): run.info.run_id for run in self._trial_runs("tags.pareto_front = 'true'")}
        for number in sorted(tagged.keys() - front):
            self.client.delete_tag(tagged[number], "pareto_front")
        for number in sorted(front - tagged.keys()):
            for run in self._distinct(self._trial_runs(f"tags.trial = '{number}'"), _number).values():
                self.client.set_tag(run.info.run_id, "pareto_front", "true")

    def _close(self, conclusion: Conclusion | None) -> None:
        if conclusion is None:
            self.client.set_tag(self.parent, "mlflow.note.content", "")
            self.client.set_terminated(self.parent, status="KILLED")
            return
        if len(self.record.objectives) > 1:
            self._tag_front(set(conclusion.front))
        # That of the last trial: written again, the same numbers are the same points.
        stamp = max((_milliseconds(trial.finished) or 0 for trial in self.record.trials()), default=0)
        summary = [Metric(_named(name), float(value), stamp, 0) for name, value in conclusion.summary.items()]
        self._log_metrics(self.parent, summary)
        tags = {"mlflow.note.content": conclusion.note + self._link(conclusion), **conclusion.tags}
        self.client.log_batch(self.parent, tags=[RunTag(_named(name), value) for name, value in tags.items()])
        self.client.log_artifacts(self.parent, str(conclusion.folder), "report")
        self.client.set_terminated(self.parent, status="FINISHED")


def search_runs(client: MlflowClient, experiment: str, text: str, view: int = ViewType.ACTIVE_ONLY) -> Iterator[Run]:
    """All runs of ``experiment`` for which ``text``, a filter, holds, page after page. Raises what MLflow raises."""
    token = None
    while True:
        page = client.search_runs([experiment], text, view, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _number(run: Run) -> int:
    return int(run.data.tags["trial"])


@contextmanager
def _filing(place: str) -> Iterator[None]:
    """Raise ``TrackingError`` where the files of a run cannot be written: the libraries of stores raise what they like.

    A store may need a library and credentials on this machine, even where a server answers for all else.
    """
    try:
        yield
    except _FAULTS:
        raise
    except Exception as error:
        first = str(error).partition("\n")[0]
        remedy = missing(error) or (
            "Set the credentials of the store, or have the server store files (mlflow server --artifacts-destination)."
        )
        raise TrackingError(
            f"MLflow keeps the files of runs at {place}, which this machine must be able to write, but cannot "
            f"({type(error).__name__}: {first}). {remedy}"
        ) from error


def final_metrics(trial: RecordedTrial, record: Record) -> dict[str, float]:
    """What the run of a trial that has ended shows of its scores, its cost and its test images."""
    numbers = {f"test/{name}": value for name, value in trial.scores.items()}
    numbers |= {f"unseen/{metric}": value for metric, value in _means_over_targets(trial).items()}
    numbers |= {f"cost/{name}": value for name, value in trial.cost.items()}
    numbers |= {f"n/{name}/images": count for name, count in trial.n_images.items()}
    numbers |= {f"n/{name}/undefined": count for name, count in (trial.undefined or {}).items()}
    if trial.threshold is not None:
        numbers["threshold"] = trial.threshold
    if trial.completed:
        numbers["score"] = trial.values[0]
        further = zip(record.objectives[1:], trial.values[1:], strict=True)
        numbers |= {f"objective/{name}": value for name, value in further}
    return {name: float(value) for name, value in numbers.items()}


def final_tags(trial: RecordedTrial) -> dict[str, str]:
    """The tags of the run of a trial that has ended, which say how."""
    tags = {"outcome": str(trial.outcome), "why": trial.why[: _PARAM_LIMIT // 2]}
    if trial.copied_from is not None:
        tags["copied_from"] = trial.copied_from
    if trial.reused_from is not None:
        tags["reused_from"] = str(trial.reused_from)
    return tags


def _is_bare(run: Run) -> bool:
    return not run.data.params and not run.data.metrics


def _oracle(trial: RecordedTrial) -> dict[str, str]:
    """Tags that mark whether a trial's scores are reached with prompts from the ground truth; a note where they are."""
    if not trial.oracle_prompt:
        return {"oracle_prompt": "no"}
    return {
        "oracle_prompt": "yes",
        "mlflow.note.content": "All scores of this run, `val/` too, were reached with **prompts from the ground "
        "truth** of the images that were scored: upper bounds, not to be compared with runs without.",
    }


def searched_parameters(trial: RecordedTrial) -> dict[str, Any]:
    """What was drawn for a trial, by the names of its run's parameters: shares of a simplex as the weights they are."""
    drawn = {name: value for name, value in trial.params.items() if not name.startswith(SIMPLEX)}
    if len(drawn) < len(trial.params):
        drawn |= {name: value for name, value in _weights(trial.settings).items() if value}
    return drawn


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's settings as flat names: ``adapter.rank``, of several ``adapter.0.rank``, and ``weight/bce``."""
    plain = {name: value for name, value in config.items() if name not in ("loss", "protocol", "adapters")}
    match config["adapters"]:
        case []:
            plain["adapter"] = {"kind": "frozen"}
        case [adapter]:
            plain["adapter"] = adapter
        case adapters:
            plain["adapter"] = {str(place): adapter for place, adapter in enumerate(adapters)}
    loss = {
        f"loss.{term['loss']['kind']}.{name}": value
        for term in config["loss"]["terms"]
        for name, value in term["loss"].items()
        if name != "kind"
    }
    return {**dotted(plain, lists=False), **_weights(config), **loss, "protocol": config["protocol"]["kind"]}


def _weights(config: Mapping[str, Any]) -> dict[str, float]:
    """The weight of every loss that there is, so that a chart over several trials has one of each for all of them."""
    weights = {f"weight/{kind}": 0.0 for kind in kinds(Loss)}
    for term in config["loss"]["terms"]:
        weights[f"weight/{term['loss']['kind']}"] += float(term["weight"])
    return weights


def _means_over_targets(trial: RecordedTrial) -> dict[str, float]:
    """Of every metric that has a mean over data sets: that over the unseen ones, where each has it."""
    targets = [name for name, role in trial.roles.items() if role == "target"]
    metrics = dict.fromkeys(name.rpartition("/")[2] for name in trial.scores)
    values = {metric: [trial.scores.get(f"{target}/{metric}", math.nan) for target in targets] for metric in metrics}
    means = {metric: sum(each) / len(each) for metric, each in values.items() if each and not unjudgeable(metric)}
    return {metric: mean for metric, mean in means.items() if math.isfinite(mean)}


def _named(name: str) -> str:
    """``name`` as MLflow takes it: an arm such as ``bce+soft_dice`` is a name here and refused there."""
    return re.sub(r"[^\w\-. :/]", "_", name.replace("+", " plus "))


def _shown(value: object) -> str:
    """A parameter's value for a person: a list as its items, what is nested as JSON."""
    if isinstance(value, list) and not any(isinstance(one, list | dict) for one in value):
        return ", ".join(map(str, value))
    return json.dumps(value) if isinstance(value, list | dict) else str(value)


def _short(value: object) -> str:
    """A value in a run's name: of three digits, without a leading zero."""
    return f"{value:.3g}".removeprefix("0") if isinstance(value, float) and value else str(value)


def _source(record: Record) -> dict[str, str]:
    """Tags for the UI's columns "Source" and "Version": the module of the command that made the study, its commit."""
    provenance = record.attributes.get("provenance", {})
    words = str(provenance.get("command", "")).split()
    module = words[2] if words[:2] == ["python", "-m"] and len(words) > 2 else "harness.search"
    commit, _, dirty = str(provenance.get("git", "")).partition("-dirty")
    version = {"mlflow.source.git.commit": commit, "git": f"{commit}, with local changes" * bool(dirty) or commit}
    return {"mlflow.source.name": module, "mlflow.source.type": "LOCAL", **(version if commit else {})}


def _essential(question: Mapping[str, Any]) -> dict[str, Any]:
    """``question`` without what follows from an ablation's design, which would bury the rest; the file has it all."""
    if "ablation" not in question:
        return dict(question)
    kept = {name: value for name, value in question["ablation"].items() if name not in ("contrasts", "components")}
    return {**question, "ablation": kept}


def _curve(entry: Mapping[str, float]) -> Iterator[Metric]:
    stamp, epoch = int(time.time() * 1000), int(entry["epoch"])
    for name, value in entry.items():
        if name != "epoch":
            shown = _CURVES.get(name, f"val/{name}" if name.endswith("/dice") else name)
            yield Metric(shown, float(value), stamp, epoch)


def _input(material: Material) -> DatasetInput:
    profile = json.dumps({"images": material.images})
    kind = "code" if material.source == "procedural" else "local"
    dataset = Dataset(material.name, material.digest, kind, json.dumps({"uri": material.source}), profile=profile)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", material.context)])


def _backbone(backbone: Mapping[str, Any]) -> str:
    match backbone:
        case {"kind": "sam2", "version": version, "size": size}:
            return f"sam{version} {size}"
        case {"kind": "unet", "decoder": decoder, "encoder": encoder}:
            return f"{decoder} {encoder}"
        case _:
            return str(backbone["kind"])


def _milliseconds(moment: Any) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1000)
