"""Eight drivers at once on one SQLite record and one MLflow file: studies of a group that shares a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna
from mlflow import MlflowClient

DRIVERS, TRIALS = 8, 6
ROOT = Path(__file__).parent.parent.parent

DRIVER = """
import sys
from pathlib import Path

import optuna
from optuna.samplers import RandomSampler

from harness.record import optuna_writer
from harness.record.outcome import Completed, Diverged, Stopped
from harness.record.study import open_record
from harness.tracking.mlflow_tracker import MlflowTracker
from harness.tracking.mlflow_tracking import local_tracking
from sam2lora.choice import to_json
from sam2lora.config import Replicate
from sam2lora.defaults import BASE

optuna.logging.set_verbosity(optuna.logging.WARNING)
out, name, trials = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
question = {"search": "loss_weights", "sources": [], "targets": [], "backbone": {"kind": "nano"}, "epochs": 3}
print("ready", flush=True)
sys.stdin.readline()
record = open_record(f"sqlite:///{out / 'optuna.db'}", name, out, question, RandomSampler(seed=0))
tracker = MlflowTracker(local_tracking(out), record, question, ())
if warning := tracker.wait():
    sys.exit(warning)
for number in range(trials):
    trial = record.study.ask()
    key = f"{name} {trial.number}"
    optuna_writer.begin(trial, key, to_json(BASE), to_json(Replicate()), oracle_prompt=False)
    tracker.began(record.trial(trial.number))
    curve = [{"epoch": epoch, "score": 0.1 * epoch} for epoch in (1, 2, 3)]
    for entry in curve:
        optuna_writer.report(trial, entry["epoch"], entry["score"])
        tracker.advanced(record.trial(trial.number), entry)
    results = {"scores": {"cedar/dice": 0.5}, "n_images": {}, "roles": {}, "validation": {}}
    outcome = [Completed(3, 0.3, **results), Stopped(3, 0.3), Diverged(3, "nan")][number % 3]
    tracker.ended(optuna_writer.tell(record, trial, outcome, curve, {"train_seconds": 1.0}))
tracker.close(None)
"""


def drive(out: Path) -> None:
    """Every driver adds its trials to its study; all begin together, once all have loaded their libraries."""
    command = [sys.executable, "-c", DRIVER, str(out)]
    drivers = [
        subprocess.Popen(
            [*command, f"study{number}", str(TRIALS)], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for number in range(DRIVERS)
    ]  # fmt: skip
    try:
        for driver in drivers:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "ready\n"
        for driver in drivers:
            assert driver.stdin is not None
            driver.stdin.write("go\n")
            driver.stdin.flush()
        ended = [(*driver.communicate(), driver.returncode) for driver in drivers]
    finally:
        for driver in drivers:
            driver.kill()
    assert [(error[-2000:], status) for _, error, status in ended if status] == []


def test_eight_drivers_lose_nothing_cold_and_warm(tmp_path: Path) -> None:
    for expected in (TRIALS, 2 * TRIALS):
        drive(tmp_path)
        storage = optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'optuna.db'}")
        client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
        experiment = client.get_experiment_by_name("loss_weights")
        assert experiment is not None
        for number in range(DRIVERS):
            trials = optuna.load_study(study_name=f"study{number}", storage=storage).trials
            assert len(trials) == expected
            assert all(trial.state.is_finished() and len(trial.user_attrs["curve"]) == 3 for trial in trials)
            mine = f"tags.`sam2lora.study` = 'study{number}' and tags.`sam2lora.role` = 'trial'"
            runs = client.search_runs([experiment.experiment_id], mine)
            assert sorted(int(run.data.tags["trial"]) for run in runs) == list(range(expected))
            assert all(run.info.status != "RUNNING" for run in runs)
            for run in runs:
                curve = client.get_metric_history(run.info.run_id, "val/dice")
                assert [point.step for point in curve] == [1, 2, 3], run.data.tags
                assert run.data.metrics["val/dice"] == curve[-1].value
            kinds = {int(run.data.tags["trial"]): run.data.tags["outcome"] for run in runs}
            assert kinds == {trial.number: trial.user_attrs["outcome"]["kind"] for trial in trials}
