"""Weights are those that the backbone names, whole, or they are refused with a remedy."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sam2lora.backbones import Nano, Sam2
from sam2lora.backbones.nano import SHIPPED
from sam2lora.errors import CheckpointError
from sam2lora.models.build import build
from sam2lora.models.weights import check, files_by_digest, read_state, recognise, sha256
from sam2lora.runtime import Runtime


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file in the official format: SAM 2.1 tiny with weights that no seed of ours gives."""
    state = build(Sam2(size="tiny"), 64, Runtime()).sam.state_dict()
    path = tmp_path_factory.mktemp("weights") / "tiny.pt"
    torch.save({"model": {name: tensor * 1.5 + 0.01 for name, tensor in state.items()}}, path)
    return path


def test_a_checkpoint_is_loaded_whole(official: Path) -> None:
    backbone = Sam2(size="tiny", checkpoint=sha256(official))
    sam = build(backbone, 64, Runtime(weights=files_by_digest([official]))).sam
    saved = torch.load(official, weights_only=True)["model"]

    assert all(torch.equal(tensor, saved[name]) for name, tensor in sam.state_dict().items())
    assert len(saved) == len(sam.state_dict())


def test_another_file_than_the_named_one_is_refused(official: Path) -> None:
    backbone = Sam2(size="tiny", checkpoint="0" * 64)
    with pytest.raises(CheckpointError, match=f"the settings name, {'0' * 64}, but .* has {sha256(official)}"):
        build(backbone, 64, Runtime(weights={"0" * 64: official}))


def test_all_files_that_are_missing_or_in_vain_are_named_at_once(official: Path) -> None:
    needed = {"0" * 64: "backbone (sam2)", "1" * 64: "auxiliary.0 (teacher)"}
    with pytest.raises(CheckpointError) as error:
        check(needed, Runtime(weights=files_by_digest([official])))
    _, *wrong = str(error.value).splitlines()
    assert [line.split()[0] for line in wrong] == ["backbone", "auxiliary.0", str(official)]
    assert f"has sha256 {sha256(official)}, but nothing needs it" in wrong[2]
    check({sha256(official): "backbone (sam2)"}, Runtime(weights=files_by_digest([official])))


def test_a_named_checkpoint_without_a_file_is_refused(tmp_path: Path) -> None:
    for runtime in (Runtime(), Runtime(weights={"0" * 64: tmp_path / "absent.pt"})):
        with pytest.raises(CheckpointError, match=r"there is none: name it in Runtime\.weights"):
            build(Sam2(size="tiny", checkpoint="0" * 64), 64, runtime)


def test_a_file_that_cannot_be_read_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="must be a readable file"):
        files_by_digest([tmp_path / "absent.pt"])


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (Sam2(size="small"), r"missing \(image_encoder.*of another shape.*They look like SAM 2\.1 tiny"),
        (Sam2(size="large"), r"missing.*of another shape \(.* instead of .*\).*They look like SAM 2\.1 tiny"),
        (Sam2(size="tiny", version="2.0"), r"unexpected \(no_obj_embed_spatial, .*They look like SAM 2\.1 tiny"),
    ],
)
def test_the_weights_of_another_backbone_are_refused_by_name(official: Path, backbone: Sam2, message: str) -> None:
    named = Sam2(size=backbone.size, version=backbone.version, checkpoint=sha256(official))
    with pytest.raises(CheckpointError, match=message):
        build(named, 64, Runtime(weights=files_by_digest([official])))


def test_a_changed_checkpoint_is_told_from_another_size(official: Path, tmp_path: Path) -> None:
    state = torch.load(official, weights_only=True)["model"]
    del state["no_mem_embed"]
    state["extra"] = torch.zeros(1)
    path = tmp_path / "changed.pt"
    torch.save({"model": state}, path)

    with pytest.raises(CheckpointError, match=r"1 missing \(no_mem_embed\); 1 unexpected \(extra\).*changed file"):
        build(Sam2(size="tiny", checkpoint=sha256(path)), 64, Runtime(weights=files_by_digest([path])))


def test_weights_of_no_sam2_are_recognised_as_such() -> None:
    assert recognise(build(Nano(weights="random"), 64, Runtime()).sam.state_dict()) is None
    assert recognise({}) is None


class Evil:
    """A class that a weights file has no business to name."""


@pytest.mark.parametrize(
    "content",
    [b"", b"not a checkpoint", b"<html>404</html>" * 100, pickle.dumps(Evil()), pickle.dumps({"model": {}})[:9]],
    ids=["empty", "text", "html", "foreign class", "cut"],
)
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="must be a file of tensors"):
        read_state(path)


def test_a_damaged_archive_is_refused(official: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.pt"
    path.write_bytes(official.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match="must be a file of tensors"):
        read_state(path)


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}}, {"model": 3}, {"model": {"a": 1}}, {"a": 1}])
def test_tensors_in_another_format_are_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "file.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=r"must hold a state dict, bare or as \{'model': state dict\}"):
        read_state(path)


def test_foreign_classes_are_not_run(tmp_path: Path) -> None:
    path = tmp_path / "file.pt"
    torch.save({"model": Evil()}, path)
    with pytest.raises(CheckpointError):
        read_state(path)


def test_the_shipped_weights_are_loaded() -> None:
    segmenter = build(Nano(), 64, Runtime())
    saved = load_file(SHIPPED)
    assert all(torch.equal(tensor, saved[name].float()) for name, tensor in segmenter.sam.state_dict().items())
