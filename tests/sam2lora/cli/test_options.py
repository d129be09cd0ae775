"""Options that every command shares."""

from __future__ import annotations

import argparse
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from sam2lora.cli.options import add_machine, add_results, interruptible, path_option
from sam2lora.errors import DiskError
from sam2lora.runtime import default_cache


def device(text: str) -> str:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_machine(parser)
    return str(parser.parse_args(["--device", text]).device)


@pytest.mark.parametrize("text", ["cpu", "cuda", "cuda:0", "cuda:1"])
def test_a_device_that_is_here(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert device(text) == text


@pytest.mark.parametrize("text", ["cuda:2", "cuda:7", "cuda:01"])
def test_a_gpu_that_is_not_here_is_refused_with_those_that_are(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(argparse.ArgumentError, match=f"a GPU of this machine, cuda:0 or cuda:1, but is '{text}'"):
        device(text)


def test_no_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(argparse.ArgumentError, match="this machine has no usable GPU: leave it out"):
        device("cuda")


def test_a_command_can_run_in_any_thread() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def status() -> int:
        with interruptible() as stop:
            assert signal.getsignal(signal.SIGTERM) is before
            return stop.status

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(status).result() == 130
    with interruptible():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("text", ["s3://bucket/x", "gs://b", "file:///data/x", "hdfs://host/x", "abfs://c@a/x"])
def test_a_url_is_no_folder_of_the_results(text: str) -> None:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_results(parser, "--out")
    with pytest.raises(
        argparse.ArgumentError, match=f"a path on a local or shared file system, but is the URL '{text}'"
    ):
        parser.parse_args(["--out", text])


@pytest.mark.parametrize("text", ["runs", "/mnt/s3/bucket", "s3:", "a:/b", "run 1/x:y"])
def test_whatever_else_is_a_path(text: str) -> None:
    assert str(path_option(text)) == text


def test_a_url_is_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM2LORA_CACHE", "s3://bucket/cache")
    with pytest.raises(
        DiskError, match=r"\$SAM2LORA_CACHE must be a path on a local .* but is the URL 's3://bucket/cache'"
    ):
        default_cache()
