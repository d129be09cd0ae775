"""MLflow as a view of the record: a real tracking store on SQLite."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.samplers import RandomSampler

from harness.errors import TrackingError
from harness.record import study as recorded
from harness.record.outcome import Completed, Crashed, Diverged, Infeasible, Outcome, Stopped
from harness.record.study import Record
from harness.tracking.mlflow_tracker import Material, Mirror, settings
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


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database, migrated once: migrating takes seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def uri(migrated: Path, tmp_path: Path) -> str:
    shutil.copy(migrated, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def play(record: Record, config: TrialConfig, mirror: Mirror | None) -> None:
    """Four trials with four endings, heard by ``mirror`` while they run."""
    for number, outcome in enumerate(ENDINGS):
        trial = record.study.ask()
        recorded.begin(trial, f"key{number}", to_json(config), to_json(Replicate(seed=number)), oracle_prompt=False)
        if mirror:
            mirror.began(record.trial(number))
        curve = CURVE[: outcome.epoch]
        for entry in curve:
            recorded.report(trial, int(entry["epoch"]), entry["score"])
            if mirror:
                mirror.advanced(record.trial(number), entry)
        files = record.files(f"key{number}")
        if isinstance(outcome, Completed):
            files.mkdir(parents=True)
            (files / "predictions.png").write_bytes(b"png")
            (files / "adapter.safetensors").write_bytes(b"adapter")
        frozen = recorded.tell(record, trial, outcome, curve, {"train_seconds": 3.0})
        if mirror:
            mirror.ended(frozen)


def test_what_a_result_does_not_tell_is_no_metric(record: Record, tiny: TrialConfig, uri: str) -> None:
    mirror = Mirror(uri, record, QUESTION, MATERIALS)
    mirror.wait()
    trial = record.study.ask()
    recorded.begin(trial, "old", to_json(tiny), to_json(Replicate()), oracle_prompt=False)
    mirror.began(record.trial(0))
    known = {"scores": {"cedar/hd95": 12.5}, "n_images": {"cedar": 4}, "roles": {"cedar": "target"}, "validation": {}}
    record.files("old").mkdir(parents=True)
    mirror.ended(recorded.tell(record, trial, Completed(1, 0.7, **known, undefined=None, threshold=None), [], {}))
    close(mirror)
    metrics = runs(uri)["0"].data.metrics
    assert metrics["cedar/hd95"] == 12.5
    assert not [name for name in metrics if name.startswith("n_undefined") or name == "threshold"]


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


def close(mirror: Mirror) -> None:
    mirror.close({"best/val/dice": 0.7}, "a note", None, finished=True)


def test_what_mlflow_shows_of_every_ending(record: Record, tiny: TrialConfig, uri: str) -> None:
    mirror = Mirror(uri, record, QUESTION, MATERIALS)
    mirror.wait()
    play(record, tiny, mirror)
    close(mirror)
    found = runs(uri)
    parent = found["study"]
    assert {name: run.info.status for name, run in found.items()} == {
        "study": "FINISHED", "0": "FINISHED", "1": "KILLED", "2": "FAILED", "3": "FAILED",
    }  # fmt: skip
    assert [found[str(n)].data.tags["outcome"] for n in range(4)] == ["completed", "stopped", "diverged", "crashed"]
    assert all(found[str(n)].data.tags["mlflow.parentRunId"] == parent.info.run_id for n in range(4))
    assert parent.data.metrics["best/val/dice"] == 0.7
    best = found["0"]
    assert best.data.metrics["cedar/dice"] == 0.6
    assert best.data.metrics["score"] == 0.7
    assert best.data.metrics["cedar/hd95"] == 12.5
    assert best.data.metrics["n_images/cedar"] == 4
    assert best.data.metrics["n_undefined/cedar/hd95"] == 1
    assert best.data.metrics["threshold"] == 0.37
    assert best.data.metrics["cost/train_seconds"] == 3.0
    assert "score" not in found["1"].data.metrics, "a truncated score must not be sorted among final ones"
    assert best.data.params["adapter.rank"] == "2"
    assert float(best.data.params["weight.bce"]) == pytest.approx(1 / 3)
    client = MlflowClient(uri)
    curve = client.get_metric_history(best.info.run_id, "val/dice")
    assert [(point.step, point.value) for point in curve] == [(1, 0.2), (2, 0.4)]
    assert [artifact.path for artifact in client.list_artifacts(best.info.run_id)] == [
        "adapter.safetensors",
        "predictions.png",
    ]
    contexts = {i.dataset.name: i.tags[0].value for i in best.inputs.dataset_inputs}
    assert contexts == {"alder": "training", "cedar": "testing"}


def test_mlflow_can_be_rebuilt_from_the_record(record: Record, tiny: TrialConfig, uri: str, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "mlflow.db", tmp_path / "again.db")
    live = Mirror(uri, record, QUESTION, MATERIALS)
    live.wait()
    play(record, tiny, live)
    close(live)
    rebuilt_uri = f"sqlite:///{tmp_path / 'again.db'}"
    rebuilt = Mirror(rebuilt_uri, record, QUESTION, MATERIALS)
    close(rebuilt)
    assert content(rebuilt_uri) == content(uri)


def test_writing_twice_changes_nothing(record: Record, tiny: TrialConfig, uri: str) -> None:
    play(record, tiny, None)
    close(Mirror(uri, record, QUESTION, MATERIALS))
    once = content(uri)
    close(Mirror(uri, record, QUESTION, MATERIALS))
    twice = content(uri)
    assert once.keys() == twice.keys()
    assert [once[str(n)] for n in range(4)] == [twice[str(n)] for n in range(4)]


def test_a_trial_that_an_interrupted_run_left_half_written_is_completed(
    record: Record, tiny: TrialConfig, uri: str
) -> None:
    first = Mirror(uri, record, QUESTION, MATERIALS)
    first.wait()
    trial = record.study.ask()
    recorded.begin(trial, "key0", to_json(tiny), to_json(Replicate()), oracle_prompt=False)
    first.began(record.trial(0))
    first.advanced(record.trial(0), CURVE[0])
    first._thread.shutdown()  # the driver dies here
    recorded.report(trial, 1, 0.2)
    recorded.report(trial, 2, 0.4)
    recorded.tell(record, trial, ENDINGS[0], CURVE, {})
    second = Mirror(uri, record, QUESTION, MATERIALS)
    close(second)
    run = runs(uri)["0"]
    history = MlflowClient(uri).get_metric_history(run.info.run_id, "val/dice")
    assert [point.step for point in history] == [1, 2]
    assert run.info.status == "FINISHED"
    assert len(runs(uri)) == 2


def test_an_ablation_shows_its_verdicts_arms_and_command(tiny: TrialConfig, uri: str, tmp_path: Path) -> None:
    ablation = {
        "design": {"kind": "factorial", **{f"level {number}": number for number in range(150)}},  # more than one call
        "arms": {"bce+soft_dice": {"loss.terms": [1, 2]}},
        "contrasts": {"bce": {"bce+soft_dice": 1.0}},
        "components": {"bce": ["bce+soft_dice"]},
    }
    question = {**QUESTION, "ablation": ablation}
    book = recorded.open_record(
        f"sqlite:///{tmp_path / 'ablation.db'}", "study", tmp_path / "study", question, RandomSampler(seed=0),
        "python -m harness.ablate loss_components --replicates 3",
    )  # fmt: skip
    trial = book.study.ask()
    trial.suggest_categorical("arm", ["bce+soft_dice"])
    recorded.begin(trial, "key0", to_json(tiny), to_json(Replicate(seed=4, fold=2)), oracle_prompt=False)
    recorded.tell(book, trial, ENDINGS[0], CURVE, {})
    pages = tmp_path / "report"
    pages.mkdir()
    (pages / "report.html").write_text("<p>")
    summary = {f"mean/bce+soft_dice/{number}": 0.5 for number in range(1200)}  # more than MLflow takes in one call
    told = {"verdict/a > b": "undecided: 7 more replicates"}
    Mirror(uri, book, question, MATERIALS).close(summary, "a note", pages, (), told, finished=True)
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


def test_an_unreachable_server_is_one_message_before_the_first_trial(record: Record) -> None:
    with socket.socket() as taken:  # bound but not listening: connections are refused at once
        taken.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{taken.getsockname()[1]}"
        mirror = Mirror(uri, record, QUESTION, MATERIALS)
        with pytest.raises(TrackingError, match=r"MLflow must be reachable.*MLFLOW_TRACKING_URI"):
            mirror.wait()


def test_a_server_that_goes_away_loses_nothing(
    record: Record, tiny: TrialConfig, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.exceptions import MlflowException

    mirror = Mirror(uri, record, QUESTION, MATERIALS)
    mirror.wait()

    def away(*_: object, **__: object) -> None:
        raise MlflowException("connection refused")

    with monkeypatch.context() as patched:
        patched.setattr(MlflowClient, "log_batch", away)
        play(record, tiny, mirror)
        with pytest.raises(TrackingError, match=r"Nothing is lost.*Run the same command again"):
            close(mirror)
    close(Mirror(uri, record, QUESTION, MATERIALS))
    found = runs(uri)
    assert [found[str(n)].data.tags["outcome"] for n in range(4)] == ["completed", "stopped", "diverged", "crashed"]
    assert len(found) == 5


def test_settings_are_flat_and_name_the_loss_by_its_parts(tiny: TrialConfig) -> None:
    flat = settings(json.loads(to_json(tiny)))
    assert flat["optimizer.lr"] == 3e-3
    assert flat["loss.focal_tversky.alpha"] == 0.7
    assert sum(value for name, value in flat.items() if name.startswith("weight.")) == pytest.approx(1)
    assert not any("terms" in name or "protocol." in name for name in flat)


@pytest.mark.parametrize("oracle", [True, False])
def test_a_run_says_whether_its_scores_were_prompted_from_the_ground_truth(
    record: Record, tiny: TrialConfig, uri: str, oracle: bool
) -> None:
    mirror = Mirror(uri, record, QUESTION, ())
    mirror.wait()
    trial = record.study.ask()
    recorded.begin(trial, "key0", to_json(tiny), to_json(Replicate()), oracle_prompt=oracle)
    mirror.began(record.trial(0))
    mirror.close({}, "", None, finished=False)
    tags = runs(uri)["0"].data.tags
    assert tags["oracle_prompt"] == ("yes" if oracle else "no")
    assert ("prompts from the ground truth" in tags.get("mlflow.note.content", "")) == oracle


def test_the_front_is_tagged_and_whoever_leaves_it_loses_the_tag(tiny: TrialConfig, uri: str, tmp_path: Path) -> None:
    book = recorded.open_record(
        f"sqlite:///{tmp_path / 'several.db'}", "study", tmp_path / "study", QUESTION, RandomSampler(seed=0),
        objectives=("val/dice", "trainable_parameters"),
    )  # fmt: skip
    for number, outcome in enumerate((ENDINGS[0], ENDINGS[0], Infeasible(0, "too many"), Diverged(1, "nan"))):
        trial = book.study.ask()
        recorded.begin(trial, f"key{number}", to_json(tiny), to_json(Replicate()), oracle_prompt=False)
        recorded.tell(book, trial, outcome, [], {"trainable_parameters": 100.0 * (number + 1)})
    for front in ([0, 1], [1]):
        Mirror(uri, book, QUESTION, MATERIALS).close({}, "", None, front, finished=True)
        found = runs(uri)
        tagged = [name for name, run in found.items() if run.data.tags.get("pareto_front") == "true"]
        assert sorted(tagged) == sorted(map(str, front))
    assert found["0"].data.metrics["score"] == 0.7
    assert found["0"].data.metrics["objective/trainable_parameters"] == 100.0
    assert (found["2"].info.status, found["2"].data.tags["outcome"]) == ("FAILED", "infeasible")
    assert found["2"].data.tags["why"] == "too many"
    assert not [name for name in ("2", "3") if "score" in found[name].data.metrics]
