"""A file whose bytes changed is refused, or read as what was written: never as something else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sam2lora import files, trained
from sam2lora.adapters import LoRA
from sam2lora.backbones import Nano
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.errors import AdapterError, DamagedFile
from sam2lora.integrity import read_checked, read_result
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime
from sam2lora.training.artifacts import finish
from sam2lora.training.checkpoint import open_session, resume, save, state
from sam2lora.training.loop import epoch
from sam2lora.training.scoring import final_scores
from sam2lora.training.session import start

CONFIG = TrialConfig(
    protocol=Transfer(
        sources=(Synthetic(hospital="alder", images=14, size=64),),
        targets=(Synthetic(hospital="cedar", images=4, size=64),),
    ),
    backbone=Nano(weights="random"),
    adapters=(LoRA(rank=2, alpha=4.0, dropout=0.0),),
    image_size=64,
    epochs=2,
)


@pytest.fixture(scope="module")
def folder(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a trial leaves, and its last checkpoint."""
    folder = tmp_path_factory.mktemp("trial")
    session = start(CONFIG, Replicate(), runtime)
    while not session.finished:
        epoch(session)
    save(session, folder / files.CHECKPOINT)
    finish(session, final_scores(session), "key", folder)
    return folder


def variants(content: bytes, count: int) -> Iterator[bytes]:
    """Contents with one bit flipped, cut short, and with a piece of zeros."""
    rng = np.random.default_rng(0)
    for place in rng.integers(len(content), size=count):
        flipped = bytearray(content)
        flipped[place] ^= 1 << int(rng.integers(8))
        yield bytes(flipped)
    for length in (0, 1, len(content) // 2, len(content) - 1):
        yield content[:length]
    third = len(content) // 3
    yield content[:third] + bytes(third) + content[2 * third :]


def read_all(
    path: Path, read: Callable[[Path], object], refusal: type[Exception], count: int
) -> tuple[int, list[object]]:
    """How many variants of the file are refused, and what the others are read as."""
    whole = path.read_bytes()
    refused, accepted = 0, []
    try:
        for content in variants(whole, count):
            path.write_bytes(content)
            try:
                accepted.append(read(path))
            except refusal:
                refused += 1
    finally:
        path.write_bytes(whole)
    return refused, accepted


def test_a_result_is_read_as_it_was_written_or_not_at_all(folder: Path) -> None:
    written = read_result(folder)
    refused, accepted = read_all(folder / files.RESULT, lambda path: read_result(path.parent), DamagedFile, 400)
    assert refused > 390
    assert all(one == written for one in accepted)


@pytest.mark.parametrize("name", [files.IMAGES, files.ADAPTER, files.PREDICTIONS])
def test_a_result_vouches_for_the_files_beside_it(name: str, folder: Path) -> None:
    digest = read_result(folder)["files"][name]
    refused, accepted = read_all(folder / name, lambda path: read_result(path.parent), DamagedFile, 50)
    assert (refused, accepted) == (55, [])
    refused, accepted = read_all(folder / name, lambda path: read_checked(path, digest), DamagedFile, 50)
    assert (refused, accepted) == (55, [])
    assert read_result(folder)


def test_an_adapter_is_read_as_it_was_written_or_not_at_all(folder: Path) -> None:
    def read(path: Path) -> object:
        found = trained.read(path)
        return found.config, found.replicate, found.threshold, {n: t.tolist() for n, t in found.tensors.items()}

    written = read(folder / files.ADAPTER)
    refused, accepted = read_all(folder / files.ADAPTER, read, AdapterError, 400)
    assert refused > 390
    assert all(one == written for one in accepted)


def test_a_checkpoint_is_resumed_as_it_was_written_or_not_at_all(folder: Path, runtime: Runtime) -> None:
    session = start(CONFIG, Replicate(), runtime)

    def read(path: Path) -> object:
        resume(session, path)
        found = state(session)
        moments = [{n: t.tolist() for n, t in one.items()} for one in found["optimizer"]["state"].values()]
        return {n: t.tolist() for n, t in found["adapter"].items()}, moments, found["curve"], found["schedule"]

    written = read(folder / files.CHECKPOINT)
    refused, accepted = read_all(folder / files.CHECKPOINT, read, DamagedFile, 300)
    assert refused > 200
    assert all(one == written for one in accepted), "bytes between the records may change"


def test_a_result_of_an_earlier_version_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / files.RESULT).write_text('{"scores": {"birch/dice": 0.5}}')
    assert read_result(tmp_path) == {"scores": {"birch/dice": 0.5}}
    (tmp_path / files.IMAGES).write_bytes(b"rows")
    assert read_checked(tmp_path / files.IMAGES, None) == b"rows"


def test_a_trial_without_a_checkpoint_is_new(runtime: Runtime, tmp_path: Path) -> None:
    session, warning = open_session(CONFIG, Replicate(), runtime, tmp_path / "none.pt")
    assert (session.epoch, warning) == (0, None)
