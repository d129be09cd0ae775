"""MLflow as a view of the record: a real tracking store on SQLite."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from optuna.samplers import RandomSampler

from harness import patience
from harness.errors import TrackingError
from harness.record import optuna_writer
from harness.record.outcome import Completed, Crashed, Diverged, Infeasible, Outcome, Stopped
from harness.record.study import Record, open_record
from harness.tracking import mlflow_tracker
from harness.tracking.mlflow_tracker import MlflowTracker, settings
from harness.tracking.mlflow_tracking import MlflowTracking
from harness.tracking.tracker import Conclusion, Material
from sam2lora.choice import to_json
from sam2lora.config import Replicate, TrialConfig

from ..conftest import QUESTION

MATERIALS = (
    Material("alder", "a" * 16, "procedural", "training", 14),
    Material("cedar", "c" * 16, "procedural", "testing", 4),
)
ENDINGS: list[Outcome] = [
    Completed(
        epoch=2,
        score=0.7,
        scores={"cedar/dice": 0.6, "cedar/auc": 0.9, "cedar/hd95": 12.5},
        n_images={"cedar": 4},
        roles={"cedar": "target"},
        validation={"alder/dice": 0.7},
        undefined={"cedar/hd95": 1},
        threshold=0.37,
    ),
    Stopped(1, 0.3),
    Diverged(2, "the loss is not finite"),
    Crashed(1, "a bug"),
]
CURVE = [{"epoch": e, "score": 0.2 * e, "alder/dice": 0.2 * e, "loss/bce": 1.0 / e, "lr": 1e-3} for e in (1, 2)]


def play(record: Record, config: TrialConfig, tracker: MlflowTracker | None) -> None:
    """Four trials with four endings, heard by ``tracker`` while they run."""
    for number, outcome in enumerate(ENDINGS):
        trial = record.study.ask()
        optuna_writer.begin(
            trial, f"key{number}", to_json(config), to_json(Replicate(seed=number)), oracle_prompt=False
        )
        if tracker:
            tracker.began(record.trial(number))
        curve = CURVE[: outcome.epoch]
        for entry in curve:
            optuna_writer.report(trial, int(entry["epoch"]), entry["score"])
            if tracker:
                tracker.advanced(record.trial(number), entry)
        files = record.files(f"key{number}")
        if isinstance(outcome, Completed):
            files.mkdir(parents=True)
            (files / "predictions.png").write_bytes(b"png")
            (files / "adapter.safetensors").write_bytes(b"adapter")
        frozen = optuna_writer.tell(record, trial, outcome, curve, {"train_seconds": 3.0})
        if tracker:
            tracker.ended(frozen)


def test_what_a_result_does_not_tell_is_no_metric(
    record: Record, tiny: TrialConfig, uri: str, conclusion: Conclusion
) -> None:
    tracker = MlflowTracker(uri, record, QUESTION, MATERIALS)
    tracker.wait()
    trial = record.study.ask()
    optuna_writer.begin(trial, "old", to_json(tiny), to_json(Replicate()), oracle_prompt=False)
    tracker.began(record.trial(0))
    known = {"scores": {"cedar/hd95": 12.5}, "n_images": {"cedar": 4}, "roles": {"cedar": "target"}, "validation": {}}
    record.files("old").mkdir(parents=True)
    tracker.ended(optuna_writer.tell(record, trial, Completed(1, 0.7, **known, undefined=None, threshold=None), [], {}))
    tracker.close(conclusion)
    metrics = runs(uri)["0"].data.metrics
    assert metrics["test/cedar/hd95"] == 12.5
    assert not [name for name in metrics if name.endswith("/undefined") or name == "threshold"]


def runs(uri: str) -> dict[str, Run]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("loss_weights")
    assert experiment is not None
    return {run.data.tags.get("trial", "study"): run for run in client.search_runs([experiment.experiment_id])}


def content(uri: str) -> dict[str, object]:
    """Everything that a run says, without ids and times."""
    client = MlflowClient(uri)
    found = {}
    for name, run in runs(uri).items():
        history = {
            metric: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)]
            for metric in run.data.metrics
        }
        tags = {k: v for k, v in run.data.tags.items() if not k.startswith("mlflow.") or k == "mlflow.note.content"}
        inputs = [(i.dataset.name, i.dataset.digest, i.tags[0].value) for i in run.inputs.dataset_inputs]
        artifacts = sorted(artifact.path for artifact in client.list_artifacts(run.info.run_id))
        found[name] = (run.info.status, history, dict(run.data.params), tags, sorted(inputs), artifacts)
    return found


def test_what_mlflow_shows_of_every_ending(record: Record, tiny: TrialConfig, uri: str, conclusion: Conclusion) -> None:
    tracker = MlflowTracker(uri, record, QUESTION, MATERIALS)
    tracker.wait()
    play(record, tiny, tracker)
    tracker.close(conclusion)
    found = runs(uri)
    parent = found["study"]
    assert {name: run.info.status for name, run in found.items()} == {
        "study": "FINISHED", "0": "FINISHED", "1": "FINISHED", "2": "FAILED", "3": "FAILED",
    }  # fmt: skip
    assert [found[str(n)].data.tags["outcome"] for n in range(4)] == ["completed", "stopped", "diverged", "crashed"]
    assert all(found[str(n)].data.tags["mlflow.parentRunId"] == parent.info.run_id for n in range(4))
    assert parent.data.metrics["best/val/dice"] == 0.7
    best = found["0"]
    assert best.data.metrics["test/cedar/dice"] == 0.6
    assert best.data.metrics["score"] == 0.7
    assert best.data.metrics["test/cedar/hd95"] == 12.5
    assert best.data.metrics["n/cedar/images"] == 4
    assert best.data.metrics["n/cedar/hd95/undefined"] == 1
    assert best.data.metrics["threshold"] == 0.37
    assert best.data.metrics["cost/train_seconds"] == 3.0
    assert "score" not in found["1"].data.metrics, "a truncated score must not be sorted among final ones"
    assert best.data.params["adapter.rank"] == "2"
    assert float(best.data.params["weight/bce"]) == pytest.approx(1 / 3)
    client = MlflowClient(uri)
    curve = client.get_metric_history(best.info.run_id, "val/dice")
    assert [(point.step, point.value) for point in curve] == [(1, 0.2), (2, 0.4)]
    assert [artifact.path for artifact in client.list_artifacts(best.info.run_id)] == [
        "adapter.safetensors",
        "predictions.png",
    ]
    contexts = {i.dataset.name: i.tags[0].value for i in best.inputs.dataset_inputs}
    assert contexts == {"alder": "training", "cedar": "testing"}


def test_mlflow_can_be_rebuilt_from_the_record(
    record: Record, tiny: TrialConfig, uri: str, tmp_path: Path, conclusion: Conclusion
) -> None:
    shutil.copy(tmp_path / "mlflow.db", tmp_path / "again.db")
    live = MlflowTracker(uri, record, QUESTION, MATERIALS)
    live.wait()
    play(record, tiny, live)
    live.close(conclusion)
    rebuilt_uri = f"sqlite:///{tmp_path / 'again.db'}"
    rebuilt = MlflowTracker(rebuilt_uri, record, QUESTION, MATERIALS)
    rebuilt.close(conclusion)
    assert content(rebuilt_uri) == content(uri)


def test_writing_twice_changes_nothing(record: Record, tiny: TrialConfig, uri: str, conclusion: Conclusion) -> None:
    play(record, tiny, None)
    MlflowTracker(uri, record, QUESTION, MATERIALS).close(conclusion)
    once = content(uri)
    MlflowTracker(uri, record, QUESTION, MATERIALS).close(conclusion)
    twice = content(uri)
    assert once.keys() == twice.keys()
    assert [once[str(n)] for n in range(4)] == [twice[str(n)] for n in range(4)]


def test_a_trial_that_an_interrupted_run_left_half_written_is_completed(
    record: Record, tiny: TrialConfig, uri: str, conclusion: Conclusion
) -> None:
    first = MlflowTracker(uri, record, QUESTION, MATERIALS)
    first.wait()
    trial = record.study.ask()
    optuna_writer.begin(trial, "key0", to_json(tiny), to_json(Replicate()), oracle_prompt=False)
    first.began(record.trial(0))
    first.advanced(record.trial(0), CURVE[0])
    first._thread.shutdown()  # the driver dies here
    optuna_writer.report(trial, 1, 0.2)
    optuna_writer.report(trial, 2, 0.4)
    optuna_writer.tell(record, trial, ENDINGS[0], CURVE, {})
    second = MlflowTracker(uri, record, QUESTION, MATERIALS)
    second.close(conclusion)
    run = runs(uri)["0"]
    history = MlflowClient(uri).get_metric_history(run.info.run_id, "val/dice")
    assert [point.step for point in history] == [1, 2]
    assert run.info.status == "FINISHED"
    assert len(runs(uri)) == 2


class Faulty:
    """MLflow's client whose call number ``at`` fails: it does its work and the answer is lost, or it does nothing.

    After a ``fault`` called *killed* all later calls do nothing either.
    """

    def __init__(self, client: MlflowClient, at: int, fault: str) -> None:
        self.client, self.at, self.fault, self.calls = client, at, fault, 0

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            fails = self.calls == self.at + 1 or (self.fault == "killed" and self.calls > self.at)
            answer = None
            if not fails or self.fault == "its answer lost":
                answer = getattr(self.client, name)(*arguments, **named)
            if fails:
                raise MlflowException(self.fault)
            return answer

        return call


@pytest.mark.parametrize("fault", ["killed", "its answer lost", "refused"])
def test_whatever_call_fails_the_same_command_again_completes_the_view(
    fault: str, record: Record, tiny: TrialConfig, migrated: Path, tmp_path: Path, conclusion: Conclusion,
    monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None],
) -> None:  # fmt: skip
    play(record, tiny, None)
    clients: list[Faulty] = []
    said: dict[str, None] = {}

    def tracked(name: str, at: int) -> dict[str, object]:
        """The view after a run in which a call failed, and another in which none did."""

        def connect(uri: str) -> Faulty:
            clients.append(client := Faulty(MlflowClient(uri), at, fault))
            return client

        shutil.copy(migrated, tmp_path / name)
        uri = f"sqlite:///{tmp_path / name}"
        with monkeypatch.context() as patched:
            patched.setattr(mlflow_tracker, "MlflowClient", connect)
            tracker = MlflowTracker(uri, record, QUESTION, MATERIALS)
            try:
                tracker.wait()
                tracker.close(conclusion)
            except TrackingError as error:
                said[str(error).replace(str(tmp_path), ".").replace(f"{at}.db", "mlflow.db")] = None
        again = MlflowTracker(uri, record, QUESTION, MATERIALS)
        again.wait()
        again.close(conclusion)
        return content(uri)

    whole = tracked("whole.db", 10**6)
    calls = clients[0].calls
    assert calls > 30
    differing = [at for at in range(calls) if tracked(f"{at}.db", at) != whole]
    row = {"fault": f"each call to MLflow in turn, {fault}", "tries": calls, "survived": calls - len(differing)}
    record_property("fault", {**row, "lost": len(differing), "repeated": 0, "said": [*said]})  # of `make test-faults`
    assert not differing


def test_of_runs_made_twice_the_bare_one_is_deleted_and_none_that_holds_something(
    record: Record, tiny: TrialConfig, uri: str, conclusion: Conclusion
) -> None:
    play(record, tiny, None)
    MlflowTracker(uri, record, QUESTION, MATERIALS).close(conclusion)
    client, first = MlflowClient(uri), runs(uri)["0"]
    tags = {name: value for name, value in first.data.tags.items() if name != "sam2lora.sealed"}
    bare, other = (client.create_run(first.info.experiment_id, tags=tags).info.run_id for _ in range(2))
    client.log_param(other, "adapter.rank", "2")
    MlflowTracker(uri, record, QUESTION, MATERIALS).close(conclusion)
    stages = [client.get_run(run).info.lifecycle_stage for run in (first.info.run_id, bare, other)]
    assert stages == ["active", "deleted", "active"]


def test_runs_of_a_deleted_parent_get_the_new_one_and_a_deleted_experiment_comes_back(
    record: Record, tiny: TrialConfig, uri: str, conclusion: Conclusion
) -> None:
    play(record, tiny, None)
    MlflowTracker(uri, record, QUESTION, MATERIALS).close(conclusion)
    client, before = MlflowClient(uri), runs(uri)
    client.delete_run(before["study"].info.run_id)
    MlflowTracker(uri, record, QUESTION, MATERIALS).close(conclusion)
    after = runs(uri)
    assert after.keys() == before.keys()
    parents = {run.data.tags["mlflow.parentRunId"] for name, run in after.items() if name != "study"}
    assert parents == {after["study"].info.run_id} != {before["study"].info.run_id}
    client.delete_experiment(after["study"].info.experiment_id)
    tracker = MlflowTracker(uri, record, QUESTION, MATERIALS)
    assert "was deleted; it is restored" in tracker.wait()
    tracker.close(conclusion)
    assert runs(uri).keys() == before.keys()


def test_a_look_at_a_complete_study_asks_for_none_of_its_runs_and_what_is_deleted_comes_back(
    record: Record, tiny: TrialConfig, uri: str, conclusion: Conclusion, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(record, tiny, None)
    MlflowTracker(uri, record, QUESTION, MATERIALS).close(conclusion)
    before = content(uri)
    client, first = MlflowClient(uri), runs(uri)["0"]
    found, search = [], MlflowClient.search_runs

    def counting(*arguments: Any, **named: Any) -> Any:
        page = search(*arguments, **named)
        found.extend(run.data.tags.get("trial", "study") for run in page)
        return page

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "search_runs", counting)
        MlflowTracker(uri, record, QUESTION, MATERIALS).close(conclusion)
        assert found == ["study"]
        client.delete_run(first.info.run_id)
        MlflowTracker(uri, record, QUESTION, MATERIALS).close(conclusion)
    assert content(uri) == before
    assert runs(uri)["0"].info.run_id != first.info.run_id
    assert {name for name in found if name != "study"} == {"0"} | {str(n) for n in range(4)}


def test_an_ablation_shows_its_verdicts_arms_and_command(
    tiny: TrialConfig, uri: str, tmp_path: Path, conclusion: Conclusion
) -> None:
    ablation = {
        "design": {"kind": "factorial", **{f"level {number}": number for number in range(150)}},  # more than one call
        "arms": {"bce+soft_dice": {"loss.terms": [1, 2]}},
        "contrasts": {"bce": {"bce+soft_dice": 1.0}},
        "components": {"bce": ["bce+soft_dice"]},
    }
    question = {**QUESTION, "ablation": ablation}
    book = open_record(
        f"sqlite:///{tmp_path / 'ablation.db'}", "study", tmp_path, question, RandomSampler(seed=0),
        "python -m harness.ablate loss_components --replicates 3",
    )  # fmt: skip
    trial = book.study.ask()
    trial.suggest_categorical("arm", ["bce+soft_dice"])
    optuna_writer.begin(trial, "key0", to_json(tiny), to_json(Replicate(seed=4, fold=2)), oracle_prompt=False)
    optuna_writer.tell(book, trial, ENDINGS[0], CURVE, {})
    summary = {f"mean/bce+soft_dice/{number}": 0.5 for number in range(1200)}  # more than MLflow takes in one call
    told = {"verdict/a > b": "undecided: 7 more replicates"}
    MlflowTracker(uri, book, question, MATERIALS).close(replace(conclusion, summary=summary, tags=told))
    found = runs(uri)
    parent, child = found["study"], found["0"]
    assert {run.data.tags["mlflow.source.name"] for run in found.values()} == {"harness.ablate"}
    assert parent.data.tags["verdict/a _ b"] == "undecided: 7 more replicates"
    assert parent.data.tags["mlflow.note.content"] == "a note"
    assert len(parent.data.metrics) == 1200
    assert parent.data.metrics["mean/bce plus soft_dice/0"] == 0.5
    assert "ablation.arms.bce plus soft_dice.loss.terms" in parent.data.params
    assert parent.data.params["ablation.design.level 149"] == "149"
    assert parent.data.params["epochs"] == str(QUESTION["epochs"])
    assert not [name for name in parent.data.params if "contrasts" in name or "components" in name]
    assert (child.data.params["arm"], child.data.params["seed"], child.data.params["fold"]) == (
        "bce+soft_dice",
        "4",
        "2",
    )
    client = MlflowClient(uri)
    assert {one.path for one in client.list_artifacts(parent.info.run_id)} == {"question.json", "report"}
    whole = json.loads(Path(client.download_artifacts(parent.info.run_id, "question.json")).read_text())
    assert whole == question


def test_an_unreachable_server_is_one_message_before_the_first_trial(
    record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.0)
    with socket.socket() as taken:  # bound but not listening: connections are refused at once
        taken.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        tracker = MlflowTracker(uri, record, QUESTION, MATERIALS)
        with pytest.raises(TrackingError, match=r"MLflow must be reachable.*MLFLOW_TRACKING_URI"):
            tracker.wait()


class ExpiredError(Exception):
    """An error of a library of object stores, which is no kind of any that others know."""


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (ModuleNotFoundError("No module named 'boto3'", name="boto3"), "needs the Python package boto3"),
        (ExpiredError("the token expired"), "Set the credentials of the store"),
    ],
)
def test_a_store_of_files_that_cannot_be_used_is_one_message(
    error: Exception, remedy: str, record: Record, uri: str, monkeypatch: pytest.MonkeyPatch, conclusion: Conclusion
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_dict", refuse)
        with pytest.raises(TrackingError, match=rf"this machine must be able to write, .*{error}\).*{remedy}"):
            MlflowTracker(uri, record, QUESTION, MATERIALS).wait()
    tracker = MlflowTracker(uri, record, QUESTION, MATERIALS)
    tracker.wait()
    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_artifacts", refuse)
        with pytest.raises(TrackingError, match=f"{error}. Nothing is lost: the record has all"):
            tracker.close(conclusion)


def test_a_server_that_goes_away_loses_nothing(
    record: Record, tiny: TrialConfig, uri: str, monkeypatch: pytest.MonkeyPatch, conclusion: Conclusion
) -> None:
    tracker = MlflowTracker(uri, record, QUESTION, MATERIALS)
    tracker.wait()

    def away(*_: object, **__: object) -> None:
        raise MlflowException("connection refused")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_batch", away)
        play(record, tiny, tracker)
        with pytest.raises(TrackingError, match=r"Nothing is lost.*Run the same command again"):
            tracker.close(conclusion)
    MlflowTracker(uri, record, QUESTION, MATERIALS).close(conclusion)
    found = runs(uri)
    assert [found[str(n)].data.tags["outcome"] for n in range(4)] == ["completed", "stopped", "diverged", "crashed"]
    assert len(found) == 5


def test_a_server_that_hangs_holds_up_the_end_by_a_few_calls_however_many_wait(
    record: Record, tiny: TrialConfig, uri: str, monkeypatch: pytest.MonkeyPatch, conclusion: Conclusion
) -> None:
    tracker = MlflowTracker(uri, record, QUESTION, MATERIALS)
    tracker.wait()
    queued, calls = Event(), []

    def hang(*_: object, **__: object) -> None:
        queued.wait()
        calls.append(1)
        raise MlflowException("timed out")

    for name in ("create_run", "log_batch", "search_runs", "set_tag", "set_terminated"):
        monkeypatch.setattr(MlflowClient, name, hang)
    play(record, tiny, tracker)
    queued.set()
    with pytest.raises(TrackingError, match=r"timed out.*Nothing is lost"):
        tracker.close(conclusion)
    assert len(calls) == 2, "one while trials ran, and one at the end"


def test_epochs_that_wait_for_a_slow_server_are_one_call(
    record: Record, tiny: TrialConfig, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = MlflowTracker(uri, record, QUESTION, MATERIALS)
    tracker.wait()
    trial = record.study.ask()
    optuna_writer.begin(trial, "key0", to_json(tiny), to_json(Replicate()), oracle_prompt=False)
    queued, batches, log_batch = Event(), [], MlflowClient.log_batch

    def slow(client: MlflowClient, run_id: str, metrics: Any = (), **named: Any) -> None:
        queued.wait()
        batches.append(sorted({metric.step for metric in metrics}))
        log_batch(client, run_id, metrics, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", slow)
    tracker.began(record.trial(0))
    for epoch in range(1, 51):
        tracker.advanced(record.trial(0), {"epoch": epoch, "score": 0.01 * epoch, "lr": 1e-3})
    queued.set()
    tracker.close(None)
    assert [steps for steps in batches if steps] == [list(range(1, 51))]
    run = runs(uri)["0"]
    history = MlflowClient(uri).get_metric_history(run.info.run_id, "val/dice")
    assert [point.step for point in history] == list(range(1, 51))


def test_settings_are_flat_and_name_the_loss_by_its_parts(tiny: TrialConfig) -> None:
    flat = settings(json.loads(to_json(tiny)))
    assert flat["optimizer.lr"] == 3e-3
    assert flat["loss.focal_tversky.alpha"] == 0.7
    assert sum(value for name, value in flat.items() if name.startswith("weight/")) == pytest.approx(1)
    assert not any("terms" in name or "protocol." in name for name in flat)


@pytest.mark.parametrize("oracle", [True, False])
def test_a_run_says_whether_its_scores_were_prompted_from_the_ground_truth(
    record: Record, tiny: TrialConfig, uri: str, oracle: bool
) -> None:
    tracker = MlflowTracker(uri, record, QUESTION, ())
    tracker.wait()
    trial = record.study.ask()
    optuna_writer.begin(trial, "key0", to_json(tiny), to_json(Replicate()), oracle_prompt=oracle)
    tracker.began(record.trial(0))
    tracker.close(None)
    tags = runs(uri)["0"].data.tags
    assert tags["oracle_prompt"] == ("yes" if oracle else "no")
    assert ("prompts from the ground truth" in tags.get("mlflow.note.content", "")) == oracle


def test_the_front_is_tagged_and_whoever_leaves_it_loses_the_tag(
    tiny: TrialConfig, uri: str, tmp_path: Path, conclusion: Conclusion
) -> None:
    book = open_record(
        f"sqlite:///{tmp_path / 'several.db'}", "study", tmp_path, QUESTION, RandomSampler(seed=0),
        objectives=("val/dice", "trainable_parameters"),
    )  # fmt: skip
    for number, outcome in enumerate((ENDINGS[0], ENDINGS[0], Infeasible(0, "too many"), Diverged(1, "nan"))):
        trial = book.study.ask()
        optuna_writer.begin(trial, f"key{number}", to_json(tiny), to_json(Replicate()), oracle_prompt=False)
        optuna_writer.tell(book, trial, outcome, [], {"trainable_parameters": 100.0 * (number + 1)})
    for front in ((0, 1), (1,)):
        MlflowTracker(uri, book, QUESTION, MATERIALS).close(replace(conclusion, front=front))
        found = runs(uri)
        tagged = [name for name, run in found.items() if run.data.tags.get("pareto_front") == "true"]
        assert sorted(tagged) == sorted(map(str, front))
    assert found["0"].data.metrics["score"] == 0.7
    assert found["0"].data.metrics["objective/trainable_parameters"] == 100.0
    assert (found["2"].info.status, found["2"].data.tags["outcome"]) == ("FAILED", "infeasible")
    assert found["2"].data.tags["why"] == "too many"
    assert not [name for name in ("2", "3") if "score" in found[name].data.metrics]


@pytest.mark.parametrize(
    ("address", "command"),
    [
        ("sqlite:////data/my runs/mlflow.db", "python -m harness.ui lora --out '/data/my runs'"),
        ("sqlite:////data/other.db", "python -m harness.ui lora --mlflow sqlite:////data/other.db"),
        ("https://mlflow.example", "python -m harness.ui lora --mlflow https://mlflow.example"),
    ],
)
def test_a_hint_can_be_pasted_into_a_shell(address: str, command: str) -> None:
    assert MlflowTracking(address).hint("lora").command == command
