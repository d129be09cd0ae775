"""MLflow: a view of the record, written from one place.

Experiment = search, parent run = study, child run = trial. Runs are found again by the study's name and the trial's
number, so writing a trial twice changes nothing, and a server that was away is brought up to date by the next run.
Everything is sent by one background thread in batches: a slow server does not hold up the trials.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial
from sqlalchemy.exc import SQLAlchemyError

from harness.errors import TrackingError
from harness.record.study import Record, is_probe, is_reference, write_ahead
from sam2lora.artifacts import ADAPTER, IMAGES, PREDICTIONS

# MLflow's own patience is minutes per request, in which a person sees nothing.
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
_STATUS = {
    "completed": "FINISHED",
    "stopped": "KILLED",
    "diverged": "FAILED",
    "out_of_memory": "FAILED",
    "infeasible": "FAILED",
    "crashed": "FAILED",
}
_PARAM_LIMIT, _PARAMS_AT_ONCE = 6000, 100  # characters, and parameters of one call, by MLflow's limits
_BATCH = 900  # metrics a call, by MLflow's limits
_FAULTS = (MlflowException, SQLAlchemyError, OSError)


@dataclass(frozen=True)
class Material:
    """A data set as MLflow shows it: ``context`` is training (a source) or testing (a target)."""

    name: str
    digest: str
    source: str
    context: str
    images: int


class Mirror:
    """Writes a study into MLflow while it runs; a ``harness.execution.searcher.Listener``.

    Raises ``TrackingError`` when the server cannot be used at the start. What fails later never stops a trial: it is
    kept in ``behind`` and sent again by ``close``.
    """

    def __init__(self, uri: str, record: Record, question: Mapping[str, Any], materials: Sequence[Material]) -> None:
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)
        self.uri, self.record, self.question, self.materials = uri, record, dict(question), materials
        self.behind: Exception | None = None
        self._source = _source(record)
        self._runs: dict[int, str] = {}
        self._written: set[int] = set()
        self._epochs: dict[int, int] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mlflow")
        self._ready: Future[None] = self._thread.submit(self._open)

    def wait(self) -> None:
        """Block until the study's run is open and all trials that had ended before are written."""
        try:
            self._ready.result()
        except _FAULTS as error:
            self._thread.shutdown(cancel_futures=True)
            first = str(error).partition("\n")[0]
            raise TrackingError(
                f"MLflow must be reachable before the first trial, but {self.uri} is not: {first}. "
                f"Start the server, mend MLFLOW_TRACKING_URI, or unset it to write into a local file."
            ) from error

    def began(self, trial: FrozenTrial) -> None:
        """Open the trial's run."""
        self._send(self._run_of, trial)

    def advanced(self, trial: FrozenTrial, entry: Mapping[str, float]) -> None:
        """Write an epoch's curves."""
        self._send(self._advance, trial, [dict(entry)])

    def ended(self, trial: FrozenTrial) -> None:
        """Write the ending, scores, cost and files of a trial and close its run."""
        self._send(self._finish, trial)

    def close(
        self,
        summary: Mapping[str, float],
        note: str,
        report: Path | None,
        front: Sequence[int] = (),
        tags: Mapping[str, str] | None = None,
        *,
        finished: bool,
    ) -> None:
        """Write what is missing, the study's own numbers and its report, and end the parent run.

        ``front``: the trials on the Pareto front, whose runs alone are tagged ``pareto_front``. ``tags``: what the
        parent run is marked with, an ablation's verdicts, so that MLflow shows them where runs are compared. Raises
        ``TrackingError`` when the server cannot be used: the record holds everything, and says how to send it.
        """
        self.behind = None
        self._thread.submit(self._sync).add_done_callback(self._note)
        marks = {"mlflow.note.content": note, **(tags or {})}
        done = self._thread.submit(self._close, dict(summary), marks, report, set(front), finished)
        try:
            done.result()
        except _FAULTS as error:
            self.behind = error
        self._thread.shutdown()
        if self.behind is not None:
            first = str(self.behind).partition("\n")[0]
            raise TrackingError(
                f"MLflow at {self.uri} could not be brought up to date: {first}. Nothing is lost: the record has all "
                f"of it. Run the same command again when the server is back."
            )

    def _send(self, write: Callable[..., Any], *arguments: Any) -> None:
        if self.behind is None:
            self._thread.submit(write, *arguments).add_done_callback(self._note)

    def _note(self, future: Future[Any]) -> None:
        error = None if future.cancelled() else future.exception()
        if isinstance(error, Exception):
            self.behind = self.behind or error

    # Everything below runs in the one background thread.

    def _open(self) -> None:
        write_ahead(self.uri)
        self.client = MlflowClient(self.uri)
        name = self.question["search"]
        experiment = self.client.get_experiment_by_name(name)
        if experiment is None:
            local = self.uri.startswith("sqlite:///")
            place = (Path(self.uri.removeprefix("sqlite:///")).parent / "mlartifacts").resolve().as_uri()
            self.experiment = self.client.create_experiment(name, artifact_location=place if local else None)
        else:
            self.experiment = experiment.experiment_id
        self.parent = self._parent()
        self._sync()

    def _parent(self) -> str:
        mine = f"tags.`sam2lora.study` = '{self.record.name}'"
        for run in self._search(f"{mine} and tags.`sam2lora.role` = 'study'"):
            self.client.update_run(run.info.run_id, status="RUNNING")
            return str(run.info.run_id)
        question = self.question
        tags = {
            **self._source,
            "sam2lora.study": self.record.name,
            "sam2lora.role": "study",
            "sources": ", ".join(question["sources"]),
            "targets": ", ".join(question["targets"]),
            "backbone": _backbone(question["backbone"]),
        }
        run_id = str(self.client.create_run(self.experiment, tags=tags, run_name=self.record.name).info.run_id)
        self._log_params(run_id, _flat(_essential(question)))
        self.client.log_dict(run_id, question, "question.json")
        self.client.log_inputs(run_id, [_input(material) for material in self.materials])
        return run_id

    def _log_params(self, run_id: str, values: Mapping[str, Any]) -> None:
        params = [Param(_named(name), str(value)[:_PARAM_LIMIT]) for name, value in values.items()]
        for begin in range(0, len(params), _PARAMS_AT_ONCE):
            self.client.log_batch(run_id, params=params[begin : begin + _PARAMS_AT_ONCE])

    def _search(self, text: str) -> Iterator[Run]:
        token = None
        while True:
            page = self.client.search_runs([self.experiment], text, max_results=1000, page_token=token)
            yield from page
            token = page.token
            if not token:
                return

    def _sync(self) -> None:
        """Write every trial of the record that has ended and whose run is not sealed yet."""
        for run in self._search(f"tags.`sam2lora.study` = '{self.record.name}' and tags.`sam2lora.role` = 'trial'"):
            number = int(run.data.tags["trial"])
            self._runs[number] = run.info.run_id
            self._epochs[number] = int(run.data.metrics.get("epoch", 0))
            if "sam2lora.sealed" in run.data.tags:
                self._written.add(number)
        for trial in self.record.trials():
            if trial.state.is_finished() and "outcome" in trial.user_attrs and trial.number not in self._written:
                self._finish(trial)

    def _run_of(self, trial: FrozenTrial) -> str:
        if trial.number in self._runs:
            return self._runs[trial.number]
        config = json.loads(trial.user_attrs["config"])
        tags = {
            **self._source,
            "mlflow.parentRunId": self.parent,
            "sam2lora.study": self.record.name,
            "sam2lora.role": "trial",
            "trial": str(trial.number),
            "key": trial.user_attrs["key"],
            "outcome": "running",
            "sources": ", ".join(self.question["sources"]),
            "targets": ", ".join(self.question["targets"]),
            "backbone": _backbone(config["backbone"]),
            **({"probe": "yes"} if is_probe(trial) else {}),
            **({"reference": trial.user_attrs["reference"]} if is_reference(trial) else {}),
            **_oracle(trial),
        }
        run = self.client.create_run(
            self.experiment,
            start_time=_milliseconds(trial.datetime_start),
            tags=tags,
            run_name=f"{self.record.name} {trial.number:03d}",
        )
        run_id = self._runs[trial.number] = str(run.info.run_id)
        arm = {"arm": trial.params["arm"]} if "ablation" in self.question else {}
        self._log_params(run_id, arm | settings(config) | _flat(trial.user_attrs["replicate"]))
        self.client.log_inputs(run_id, [_input(material) for material in self.materials])
        return run_id

    def _advance(self, trial: FrozenTrial, curve: Sequence[Mapping[str, float]]) -> None:
        run_id, known = self._run_of(trial), self._epochs.get(trial.number, 0)
        fresh = [entry for entry in curve if entry["epoch"] > known]
        metrics = [metric for entry in fresh for metric in _curve(entry)]
        for begin in range(0, len(metrics), _BATCH):
            self.client.log_batch(run_id, metrics=metrics[begin : begin + _BATCH])
        if fresh:
            self._epochs[trial.number] = int(fresh[-1]["epoch"])

    def _finish(self, trial: FrozenTrial) -> None:
        if trial.number in self._written:
            return
        run_id, attributes = self._run_of(trial), trial.user_attrs
        self._advance(trial, attributes.get("curve", []))
        outcome = attributes["outcome"]
        numbers = {**attributes.get("scores", {})}
        numbers |= {f"cost/{name}": value for name, value in attributes.get("cost", {}).items()}
        numbers |= {f"n_images/{name}": count for name, count in attributes.get("n_images", {}).items()}
        numbers |= {f"n_undefined/{name}": count for name, count in (attributes.get("undefined") or {}).items()}
        if attributes.get("threshold") is not None:
            numbers["threshold"] = attributes["threshold"]
        if outcome["kind"] == "completed":
            numbers["score"] = trial.values[0]
            further = zip(self.record.objectives[1:], trial.values[1:], strict=True)
            numbers |= {f"objective/{name}": value for name, value in further}
        tags = {"outcome": outcome["kind"], "why": outcome["why"][: _PARAM_LIMIT // 2], "sam2lora.sealed": "yes"}
        if "taken_from" in attributes:
            tags["taken_from"] = "{study} {number}".format(**attributes["taken_from"])
        if "reused_from" in attributes:
            tags["reused_from"] = str(attributes["reused_from"])
        else:
            self._files(run_id, self.record.files(attributes["key"]))
        stamp = _milliseconds(trial.datetime_complete)
        self.client.log_batch(
            run_id,
            metrics=[Metric(name, float(value), stamp, 0) for name, value in numbers.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        self.client.set_terminated(run_id, status=_STATUS[outcome["kind"]], end_time=stamp)
        self._written.add(trial.number)

    def _files(self, run_id: str, folder: Path) -> None:
        for name in (PREDICTIONS, ADAPTER, IMAGES):
            if (folder / name).exists():
                self.client.log_artifact(run_id, str(folder / name))

    def _tag_front(self, front: set[int]) -> None:
        """Tag the runs on the front; a run that a later trial has pushed off it loses its tag."""
        mine = f"tags.`sam2lora.study` = '{self.record.name}' and tags.pareto_front = 'true'"
        tagged = {int(run.data.tags["trial"]) for run in self._search(mine)}
        for number in sorted(tagged - front):
            self.client.delete_tag(self._runs[number], "pareto_front")
        for number in sorted(front - tagged):
            self.client.set_tag(self._runs[number], "pareto_front", "true")

    def _close(
        self,
        summary: Mapping[str, float],
        tags: Mapping[str, str],
        report: Path | None,
        front: set[int],
        finished: bool,
    ) -> None:
        if finished and len(self.record.objectives) > 1:
            self._tag_front(front)
        stamp = int(time.time() * 1000)
        metrics = [Metric(_named(name), float(value), stamp, 0) for name, value in summary.items()]
        for begin in range(0, len(metrics), _BATCH):
            self.client.log_batch(self.parent, metrics=metrics[begin : begin + _BATCH])
        self.client.log_batch(self.parent, tags=[RunTag(_named(name), value) for name, value in tags.items()])
        if report is not None:
            self.client.log_artifacts(self.parent, str(report), "report")
        self.client.set_terminated(self.parent, status="FINISHED" if finished else "KILLED")


def _oracle(trial: FrozenTrial) -> dict[str, str]:
    """Tags that mark whether a trial's scores are reached with prompts from the ground truth; a note where they are."""
    if not trial.user_attrs["oracle_prompt"]:
        return {"oracle_prompt": "no"}
    return {
        "oracle_prompt": "yes",
        "mlflow.note.content": "All scores of this run, `val/` too, were reached with **prompts from the ground "
        "truth** of the images that were scored: upper bounds, not to be compared with runs without.",
    }


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A trial's settings as flat names: ``adapter.rank``, ``optimizer.lr``, and ``weight.bce`` for the loss."""
    plain = {name: value for name, value in config.items() if name not in ("loss", "protocol")}
    named = {f"weight.{term['loss']['kind']}": term["weight"] for term in config["loss"]["terms"]}
    loss = {
        f"loss.{term['loss']['kind']}.{name}": value
        for term in config["loss"]["terms"]
        for name, value in term["loss"].items()
        if name != "kind"
    }
    return {**_flat(plain), **named, **loss, "protocol": config["protocol"]["kind"]}


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {k: v for name, inner in value.items() for k, v in _flat(inner, f"{prefix}{name}.").items()}
    return {prefix.removesuffix("."): value}


def _named(name: str) -> str:
    """``name`` as MLflow takes it: an arm such as ``bce+soft_dice`` is a name here and refused there."""
    return re.sub(r"[^\w\-. :/]", "_", name.replace("+", " plus "))


def _source(record: Record) -> dict[str, str]:
    """Tags for the UI's column "Source": the module of the command that made the study."""
    words = str(record.study.user_attrs.get("provenance", {}).get("command", "")).split()
    module = words[2] if words[:2] == ["python", "-m"] and len(words) > 2 else "harness.search"
    return {"mlflow.source.name": module, "mlflow.source.type": "LOCAL"}


def _essential(question: Mapping[str, Any]) -> dict[str, Any]:
    """``question`` without what follows from an ablation's design, which would bury the rest; the file has it all."""
    if "ablation" not in question:
        return dict(question)
    kept = {name: value for name, value in question["ablation"].items() if name not in ("contrasts", "components")}
    return {**question, "ablation": kept}


def _curve(entry: Mapping[str, float]) -> Iterator[Metric]:
    stamp, epoch = int(time.time() * 1000), int(entry["epoch"])
    for name, value in entry.items():
        shown = "val/dice" if name == "score" else f"val/{name}" if name.endswith("/dice") else name
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
