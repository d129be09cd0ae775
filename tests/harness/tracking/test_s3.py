"""Files of MLflow in an object store: a real S3 server, and what is missing on the way to it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from mlflow import MlflowClient
from mlflow.store.artifact import s3_artifact_repo
from moto.server import ThreadedMotoServer

from harness.errors import TrackingError
from harness.record.study import Record
from harness.tracking.adapters import locate
from harness.tracking.mlflow_tracker import MlflowTracker
from harness.tracking.tracker import Conclusion
from sam2lora.config import TrialConfig

from ..conftest import QUESTION
from .test_mlflow_tracker import MATERIALS, play, runs


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(endpoint: str, uri: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket in which MLflow keeps the files of the search."""
    keys = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in {**keys, "MLFLOW_S3_ENDPOINT_URL": endpoint, "AWS_EC2_METADATA_DISABLED": "true"}.items():
        monkeypatch.setenv(name, value)
    s3_artifact_repo._cached_get_s3_client.cache_clear()  # MLflow keeps clients, and credentials in them
    store = boto3.resource("s3", endpoint_url=endpoint)
    bucket = store.create_bucket(Bucket="fundus")
    MlflowClient(uri).create_experiment(str(QUESTION["search"]), artifact_location="s3://fundus/loss_weights")
    yield "fundus"
    bucket.objects.delete()
    bucket.delete()


def test_a_study_keeps_its_files_in_a_bucket_and_gets_its_adapter_back(
    bucket: str, endpoint: str, record: Record, tiny: TrialConfig, uri: str, tmp_path: Path,
    conclusion: Conclusion, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    tracker = MlflowTracker(uri, record, QUESTION, MATERIALS)
    assert tracker.wait() == ""
    play(record, tiny, tracker)
    tracker.close(conclusion)
    held = {
        one.key.partition("/artifacts/")[2]
        for one in boto3.resource("s3", endpoint_url=endpoint).Bucket(bucket).objects.all()
    }
    assert held == {"question.json", "adapter.safetensors", "predictions.png", "report/report.html"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with locate(f"runs:/{runs(uri)['0'].info.run_id}", tmp_path, None) as adapter:
        assert adapter.read_bytes() == b"adapter"


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("library", r"needs the Python package boto3, which is not there: pip install -e '\.\[s3\]' brings it"),
        ("credentials", "MLflow keeps the files of runs at s3://.*Set the credentials of the store"),
    ],
)
def test_what_a_bucket_lacks_is_one_message_before_the_first_trial(
    missing: str, message: str, bucket: str, record: Record, uri: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if missing == "library":
        monkeypatch.setitem(sys.modules, "boto3", None)
    else:
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with pytest.raises(TrackingError, match=message):
        MlflowTracker(uri, record, QUESTION, MATERIALS).wait()


def test_a_bucket_that_is_gone_at_the_end_is_a_message_and_the_next_run_writes_what_is_missing(
    bucket: str,
    endpoint: str,
    record: Record,
    tiny: TrialConfig,
    uri: str,
    conclusion: Conclusion,
) -> None:
    tracker = MlflowTracker(uri, record, QUESTION, MATERIALS)
    tracker.wait()
    gone = boto3.resource("s3", endpoint_url=endpoint).Bucket(bucket)
    gone.objects.delete()
    gone.delete()
    play(record, tiny, tracker)
    with pytest.raises(TrackingError, match=r"NoSuchBucket.*Nothing is lost"):
        tracker.close(conclusion)
    gone.create()
    MlflowTracker(uri, record, QUESTION, MATERIALS).close(conclusion)
    assert any(one.key.endswith("/adapter.safetensors") for one in gone.objects.all())
    assert runs(uri)["0"].info.status == "FINISHED"
