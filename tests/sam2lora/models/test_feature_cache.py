"""Kept features change no bit of a result, stay within their bound, and are never those of something else."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest
import torch
from safetensors import SafetensorError

from sam2lora.adapters import Attachment, Full, GlobalBlocks, LastBlocks, LoRA
from sam2lora.augments import Fundus, NoAugment
from sam2lora.backbones import Nano, UNet, untouched_blocks
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import Synthetic
from sam2lora.models.build import build
from sam2lora.models.feature_cache import IDLE, FeatureCache, Levels, Store
from sam2lora.models.sam2 import Sam2Segmenter
from sam2lora.models.segmenter import Features, Prediction, Prompts
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime
from sam2lora.training import packing
from sam2lora.training.loop import epoch
from sam2lora.training.scoring import final_scores
from sam2lora.training.session import _frozen, pristine, start

DECODER = TrialConfig(
    protocol=Transfer(
        sources=(Synthetic(hospital="alder", images=8, size=64),),
        targets=(Synthetic(hospital="birch", images=4, size=64),),
    ),
    backbone=Nano(weights="random"),
    adapters=(LoRA(encoder="none", rank=2, alpha=4.0),),
    augment=Fundus(),
    image_size=64,
    epochs=2,
)


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    """A cache of its own; the frozen segmenter of the process is left to nobody."""
    _frozen.cache_clear()
    yield Runtime(cache=tmp_path)
    _frozen.cache_clear()


def features(value: float, side: int = 4) -> Levels:
    return {str(k): torch.full((1, 2, k * side, k * side), float(value)) for k in (1, 4, 2)}


def levels(features: Features) -> Levels:
    return {str(number): level for number, level in enumerate((features.image, *features.finer))}


def same(one: Levels | Features | None, other: Levels | Features) -> bool:
    if one is None:
        return False
    if isinstance(one, Features):
        one, other = levels(one), levels(other)
    return one.keys() == other.keys() and all(torch.equal(level, other[name]) for name, level in one.items())


def files(runtime: Runtime) -> list[Path]:
    return sorted((runtime.cache / "features").glob("??/*.safetensors"))


def trained(config: TrialConfig, runtime: Runtime) -> tuple[list[dict[str, float]], dict[str, torch.Tensor], object]:
    session = start(config, Replicate(), runtime)
    curve = [epoch(session) for _ in range(config.epochs)]
    for entry in curve:
        del entry["seconds"]
    return curve, session.attachment.state(), final_scores(session)


def check_equal(one: tuple[object, ...], other: tuple[object, ...]) -> None:
    assert one[0] == other[0]
    for name, tensor in one[1].items():  # type: ignore[attr-defined]
        assert torch.equal(tensor, other[1][name])  # type: ignore[index]
    pd.testing.assert_frame_equal(one[2], other[2], check_exact=True)  # type: ignore[arg-type]


def test_a_trial_is_bit_for_bit_the_same_without_with_new_and_with_known_features(runtime: Runtime) -> None:
    without = trained(DECODER, replace(runtime, features_mib=0))
    assert not files(runtime)
    check_equal(trained(DECODER, runtime), without)
    first = {file: file.stat().st_ino for file in files(runtime)}
    assert first
    check_equal(trained(DECODER, runtime), without)
    assert {file: file.stat().st_ino for file in files(runtime)} == first, "all were known"


def test_a_gpu_computes_them_in_every_step(runtime: Runtime) -> None:
    assert pristine(DECODER.backbone, 64, runtime).cache is not None
    assert pristine(DECODER.backbone, 64, replace(runtime, device="meta")).cache is None


def test_other_adapters_and_batches_share_them(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(DECODER, runtime)
    known = files(runtime)

    def refuse(self: Sam2Segmenter, images: torch.Tensor) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(Sam2Segmenter, "embed", refuse)
    for change in ({"adapters": ()}, {"batch_size": 3}, {"adapters": (LoRA(encoder="none", decoder="mlp", rank=3),)}):
        trained(replace(DECODER, **change), runtime)  # type: ignore[arg-type]
    assert files(runtime) == known


def test_epochs_share_what_is_not_augmented(runtime: Runtime) -> None:
    session = start(replace(DECODER, augment=NoAugment()), Replicate(), runtime)
    epoch(session)
    known = files(runtime)
    assert len(known) == 6  # all but the test images of the source
    epoch(session)
    assert files(runtime) == known


def test_a_pack_computes_what_a_lone_trial_computes(runtime: Runtime) -> None:
    off = replace(runtime, features_mib=0)
    curve, tensors, _ = trained(DECODER, off)
    for where in (off, runtime, runtime):
        one = start(DECODER, Replicate(), where)
        other = start(replace(DECODER, adapters=(LoRA(encoder="none", rank=3),)), Replicate(), where)
        for _ in range(2):
            packing.epoch([one, other])
        found = one.attachment.state()
        for entry, expected in zip(one.curve, curve, strict=True):
            assert entry["loss/total"] == pytest.approx(expected["loss/total"], rel=1e-4)
        for name, tensor in tensors.items():
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-4)


LAST = LoRA(blocks=LastBlocks(count=2), rank=2)


@pytest.mark.parametrize(
    ("adapter", "blocks"),
    [
        (LAST, 5),
        (LoRA(encoder="mlp", blocks=GlobalBlocks(), decoder="none"), 4),
        (LoRA(encoder="none"), None),
        (LoRA(), 0),
    ],
)
def test_what_lies_in_front_of_the_first_trained_tensor_is_untouched(adapter: LoRA, blocks: int | None) -> None:
    segmenter = build(Nano(weights="random"), 64, Runtime())
    assert Attachment(segmenter, (adapter,)).untouched == blocks


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("image_encoder.neck.convs.0", 7),
        ("sam_mask_decoder.conv_s1", 7),
        ("sam_mask_decoder", 7),
        ("sam_mask_decoder.conv_s10", None),
        ("image_encoder.trunk.patch_embed", -1),
        ("image_encoder", -1),
        ("", -1),
    ],
)
def test_a_site_touches_the_features_from_its_block_on(name: str, blocks: int | None) -> None:
    assert untouched_blocks([name], Nano()) == blocks
    assert untouched_blocks([name, "image_encoder.trunk.blocks.3.mlp"], Nano()) == (-1 if blocks == -1 else 3)


def test_first_blocks_are_remembered_bit_for_bit_and_their_gradients_with_them(runtime: Runtime) -> None:
    config = replace(DECODER, adapters=(LAST,))
    without = trained(config, replace(runtime, features_mib=0))
    assert not files(runtime)
    check_equal(trained(config, runtime), without)
    known = files(runtime)
    assert known
    check_equal(trained(config, runtime), without)
    check_equal(
        trained(replace(config, adapters=(replace(LAST, rank=3),)), runtime),
        trained(replace(config, adapters=(replace(LAST, rank=3),)), replace(runtime, features_mib=0)),
    )
    assert files(runtime) == known, "another rank shares them"


def test_other_blocks_have_files_of_their_own(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    trained(replace(DECODER, adapters=(LAST,)), runtime)
    known = set(files(runtime))
    other = replace(DECODER, adapters=(replace(LAST, blocks=LastBlocks(count=1)),))
    without = trained(other, replace(runtime, features_mib=0))
    check_equal(trained(other, runtime), without)
    assert known < set(files(runtime))


def test_a_pack_shares_the_first_blocks_that_a_lone_trial_filed(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(DECODER, adapters=(LAST,))
    curve, _, _ = trained(config, runtime)

    def refuse(self: Sam2Segmenter, images: torch.Tensor) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr(Sam2Segmenter, "embed", refuse)
    sessions = [start(replace(config, adapters=(replace(LAST, rank=rank),)), Replicate(), runtime) for rank in (2, 3)]
    for _ in range(2):
        packing.epoch(sessions)
    for entry, expected in zip(sessions[0].curve, curve, strict=True):
        assert entry["loss/total"] == pytest.approx(expected["loss/total"], rel=1e-4)


@pytest.mark.parametrize("adapter", [LoRA(), Full()])
def test_an_encoder_that_is_trained_from_its_first_block_on_is_never_looked_up(
    adapter: LoRA | Full, runtime: Runtime
) -> None:
    session = start(replace(DECODER, adapters=(adapter,)), Replicate(), runtime)
    epoch(session)
    assert not files(runtime)


def test_features_of_a_unet_are_never_looked_up(runtime: Runtime) -> None:
    epoch(start(replace(DECODER, backbone=UNet(encoder="resnet18"), adapters=(Full(),)), Replicate(), runtime))
    assert not files(runtime)


class Stages(torch.nn.Module):
    """A decoder of the trunk's maps."""

    reads_stages = True

    def forward(self, features: Features, prompts: Prompts) -> Prediction:
        return Prediction(features.stages[0][:, :1])


class WithStages:
    def place(self, on: Attachment) -> None:
        on.swap("decoder", Stages())


def test_a_decoder_of_other_maps_has_files_of_its_own(runtime: Runtime) -> None:
    segmenter = pristine(Nano(weights="random"), 64, runtime)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    plain = segmenter.encode(image)
    attachment = Attachment(segmenter, (WithStages(),))
    assert attachment.untouched is None
    first, again = segmenter.encode(image), segmenter.encode(image)
    assert len(files(runtime)) == 2
    assert [len(features.stages) for features in (plain, first, again)] == [0, 4, 4]
    assert same(again, first)
    assert torch.equal(segmenter(image).logits, first.stages[0][:, :1])
    attachment.detach()
    assert same(segmenter.encode(image), plain)


def remembering(weights: Literal["random", "shipped"], runtime: Runtime) -> Sam2Segmenter:
    segmenter = build(Nano(weights=weights), 64, runtime)
    segmenter.cache = FeatureCache(runtime)
    return segmenter


def test_another_backbone_never_hits(runtime: Runtime) -> None:
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    random, shipped = remembering("random", runtime), remembering("shipped", runtime)
    for segmenter in (random, shipped):
        with torch.no_grad():
            plain = build(segmenter.backbone, 64, runtime).encode(image)
        assert same(segmenter.encode(image), plain)
        assert same(segmenter.encode(image), plain)
    assert len(files(runtime)) == 2
    with torch.no_grad():  # a single weight of what finishes the features in front of the decoder
        random.sam.sam_mask_decoder.conv_s1.bias[0] += 1
        random.cache = None
        plain = random.encode(image)
    random.cache = FeatureCache(runtime)
    assert same(random.encode(image), plain)
    assert len(files(runtime)) == 3


def test_another_precision_never_hits(runtime: Runtime) -> None:
    segmenter = remembering("random", runtime)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    single = segmenter.encode(image)
    with torch.autocast("cpu", torch.bfloat16):
        half, again = segmenter.encode(image), segmenter.encode(image)
    assert same(again, half)
    assert not same(half, single)
    segmenter.double()
    assert segmenter.encode(image.double()).image.dtype == torch.float64


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_a_damaged_file_is_computed_again_with_a_word(damage: str, runtime: Runtime) -> None:
    segmenter = remembering("random", runtime)
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = segmenter.encode(image)
    (file,) = files(runtime)
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes({"cut": content[:-10], "flipped": content, "emptied": b""}[damage])
    with pytest.warns(UserWarning, match=r"kept features must be as they were written, but .*: computed again"):
        assert same(segmenter.encode(image), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(segmenter.encode(image), expected)


def used(store: Store) -> int:
    return sum(file.stat().st_size for file in store.root.glob("??/*.safetensors"))


def test_the_bound_holds_and_idle_features_make_room(tmp_path: Path) -> None:
    store = Store(tmp_path, 1)
    keys = [f"{number:02x}" + "0" * 62 for number in range(20)]
    for number, key in enumerate(keys):
        store.write(key, features(number, 24))  # 97 KiB each
    kept = [key for key in keys if store.read(key)]
    assert kept == keys[:10], "what is there stays while it is in use"
    assert used(store) <= 2**20
    long_ago = time.time() - 2 * IDLE
    for key in keys[2:5]:
        os.utime(store._path(key), (long_ago, long_ago))
    again = Store(tmp_path, 1)
    again.write(keys[19], features(19, 24))
    assert same(again.read(keys[19]), features(19, 24))
    assert used(again) <= 2**20
    assert sum(again.read(key) is None for key in keys[2:5]) == 1, "no more than needed"


def test_features_larger_than_the_bound_are_not_kept(tmp_path: Path) -> None:
    store = Store(tmp_path, 1)
    store.write("00" + "1" * 62, features(0.0, 100))
    assert store.read("00" + "1" * 62) is None


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = Store(tmp_path / "file" / "features", 1)
    with pytest.warns(UserWarning, match="features cannot be kept"):
        store.write("00" + "1" * 62, features(0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.write("00" + "1" * 62, features(0.0))


def test_features_that_others_keep_are_used_and_left_alone(tmp_path: Path, read_only: Callable[[Path], None]) -> None:
    store, known, new, broken = Store(tmp_path, 1), *(f"0{n}" + "1" * 62 for n in range(3))
    store.write(known, features(0.0))
    store.write(broken, features(2.0))
    store._path(broken).write_bytes(b"damaged")
    read_only(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same(store.read(known), features(0.0))
        assert store.read(new) is None
    with pytest.warns(UserWarning, match="must be as they were written"):
        assert store.read(broken) is None
    with pytest.warns(UserWarning, match="features cannot be kept.*Read-only"):
        store.write(new, features(1.0))
    assert same(store.read(known), features(0.0))


def test_features_that_cannot_be_read_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(path: Path, framework: str) -> None:
        raise PermissionError(13, "Permission denied")

    store, key = Store(tmp_path, 1), "00" + "1" * 62
    store.write(key, features(0.0))
    with monkeypatch.context() as patch:
        patch.setattr("sam2lora.models.feature_cache.safe_open", closed)
        with pytest.warns(UserWarning, match=r"cannot be read .*Permission denied"):
            assert store.read(key) is None
    assert same(store.read(key), features(0.0))


def test_a_full_disk_is_a_warning_and_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = "00" + "1" * 62, "00" + "2" * 62
    Store(tmp_path, 1).write(first, features(0.0))

    def full(levels: Levels, path: Path, metadata: dict[str, str]) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr("sam2lora.models.feature_cache.save_file", full)
        store = Store(tmp_path, 1)
        with pytest.warns(UserWarning, match=r"cannot be kept.*No space left"):
            store.write(second, features(1.0))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            store.write(second, features(1.0))
    assert [path.name for path in (tmp_path / "00").iterdir()] == [f"{first}.safetensors"]
    later = Store(tmp_path, 1)
    later.write(second, features(1.0))
    assert same(later.read(second), features(1.0))
    assert int((tmp_path / "bytes").read_text()) < 2 * 2**10 + used(later), "what was not kept is not counted"


def test_a_note_that_was_emptied_is_counted_again(tmp_path: Path) -> None:
    store = Store(tmp_path, 1)
    store.write("00" + "1" * 62, features(0.0))
    counted = used(store)
    (tmp_path / "bytes").write_text("")
    store.write("00" + "2" * 62, features(1.0))
    assert int((tmp_path / "bytes").read_text()) >= counted + used(store) / 2


def _fill(root: Path, begin: int) -> int:
    """Write and read 40 features, half of which another process writes, too; how many are not what they must be."""
    store = Store(root, 1)
    wrong = 0
    for number in range(begin, begin + 40):
        key = f"{number:02x}" + "0" * 62
        store.write(key, features(number, 16))
        found = store.read(key)
        wrong += found is not None and not same(found, features(number, 16))
    return wrong


def test_two_processes_share_one_folder(tmp_path: Path) -> None:
    with get_context("fork").Pool(2) as pool:
        assert pool.starmap(_fill, [(tmp_path, 0), (tmp_path, 20)], chunksize=1) == [0, 0]
    store = Store(tmp_path, 1)
    assert 0 < used(store) <= 2**20
    assert int((tmp_path / "bytes").read_text()) >= used(store), "nothing is counted twice or left out"
    assert not list(tmp_path.glob("??/*.draft"))
