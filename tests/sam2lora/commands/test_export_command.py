"""``python -m sam2lora.export``: what other tools load computes what we compute."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import safetensors.torch
import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.singleton import Singleton
from sam2.build_sam import build_sam2
from sam2.modeling.sam2_base import SAM2Base
from sam2.sam2_image_predictor import SAM2ImagePredictor

from sam2lora import export
from sam2lora.adapters import Adapter, Attachment, Full, LoRA, count
from sam2lora.backbones import Backbone, Nano, Sam2, UNet
from sam2lora.choice import to_json
from sam2lora.config import Replicate, TrialConfig
from sam2lora.models.build import build
from sam2lora.models.sam2 import Sam2Segmenter
from sam2lora.models.segmenter import Segmenter
from sam2lora.models.weights import files_by_digest, sha256
from sam2lora.runtime import Runtime
from sam2lora.trained import attached, find

SIZE = 64
SMALL = LoRA(rank=3, alpha=5.0)


def saved(
    folder: Path, tiny: TrialConfig, backbone: Backbone, adapters: tuple[Adapter, ...], runtime: Runtime
) -> Segmenter:
    """Write an adapter with random values as training writes it; the segmenter that has it."""
    config = replace(tiny, backbone=backbone, adapters=adapters, image_size=SIZE)
    segmenter = build(backbone, SIZE, runtime)
    attachment = Attachment(segmenter, adapters)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in segmenter.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    metadata = {"config": to_json(config), "replicate": to_json(Replicate())}
    safetensors.torch.save_file(attachment.state(), folder / "adapter.safetensors", metadata=metadata)
    return segmenter.eval()


def images(count: int = 1) -> torch.Tensor:
    """Random images (count, 3, S, S), each exact in 8 bits."""
    return torch.randint(0, 256, (count, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(2)) / 255


def predicted(sam: SAM2Base, image: torch.Tensor, stride: int) -> torch.Tensor:
    """Mask channel 0 (1, s, s) of the official predictor for one image (3, S, S), which it clamps to +-32."""
    predictor = SAM2ImagePredictor(sam)
    predictor._bb_feat_sizes = [(SIZE // s, SIZE // s) for s in (stride, 2 * stride, 4 * stride)]
    predictor.set_image((image * 255).round().byte().permute(1, 2, 0).numpy())
    return torch.from_numpy(predictor.predict(multimask_output=True, return_logits=True)[2][:1])


@pytest.mark.parametrize(
    "adapter",
    [
        SMALL,
        replace(SMALL, encoder="qv"),
        replace(SMALL, encoder="qv", decoder="none", scale="rank_stabilised"),
        replace(SMALL, encoder="all", decoder="all", scale="rank_stabilised"),
        replace(SMALL, encoder="none", dropout_site="input"),
        replace(SMALL, decoder="none", alpha=0.0),
    ],
    ids=lambda adapter: f"{adapter.encoder}-{adapter.decoder}-{adapter.scale}",
)
def test_peft_loads_the_adapter_onto_a_new_model(adapter: LoRA, home: Path, tiny: TrialConfig) -> None:
    ours = saved(home, tiny, Nano(weights="random"), (adapter,), Runtime())
    assert export.main(["--adapter", "adapter.safetensors", "--out", "out", "--format", "peft"]) == 0
    theirs = build(Nano(weights="random"), SIZE, Runtime())
    before = theirs(images()).logits
    wrapped = peft.PeftModel.from_pretrained(theirs.sam, str(home / "out" / "peft"))
    logits = Sam2Segmenter(wrapped.base_model.model, Nano(weights="random")).eval()(images()).logits
    assert (logits - ours(images()).logits).abs().max() <= 1e-5
    assert adapter.alpha == 0 or (logits - before).abs().max() > 1e-3
    config = json.loads((home / "out" / "peft" / "adapter_config.json").read_text())
    assert config["lora_dropout"] == (adapter.dropout if adapter.dropout_site == "input" else 0.0)
    loaded = sum(parameter.numel() for name, parameter in wrapped.named_parameters() if "lora_" in name)
    assert loaded >= count((adapter,), Nano(weights="random"))


@pytest.fixture
def hydra_is_free() -> Iterator[None]:
    """Hydra without the folder that sam2 points it at, for a while."""
    state = Singleton.get_state()
    GlobalHydra.instance().clear()
    yield
    Singleton.set_state(state)


@pytest.mark.usefixtures("hydra_is_free")
def test_the_official_package_loads_nano_by_the_configuration_beside_it(trained: Path, home: Path) -> None:
    ours = attached(find(str(trained)), Runtime())
    assert export.main(["--adapter", str(trained), "--out", "out", "--format", "sam2"]) == 0
    folder = home / "out" / "sam2"
    with initialize_config_dir(str(folder), version_base=None):
        sam = build_sam2("nano.yaml", str(folder / "sam2.pt"), device="cpu", apply_postprocessing=False)
    for image in images(2):
        assert (predicted(sam, image, 2) - ours(image[None]).logits[0].clamp(-32, 32)).abs().max() <= 1e-4
    assert "initialize_config_dir" in (folder / "README.md").read_text()


@pytest.mark.parametrize("adapter", [SMALL, Full()], ids=["lora", "full"])
def test_the_official_package_loads_a_published_size(adapter: Adapter, home: Path, tiny: TrialConfig) -> None:
    random = build(Sam2(size="tiny"), SIZE, Runtime()).sam.state_dict()
    torch.save({"model": {name: tensor + 0.001 for name, tensor in random.items()}}, home / "base.pt")
    base = home / "base.pt"
    runtime = Runtime(weights=files_by_digest([base]))
    ours = saved(home, tiny, Sam2(size="tiny", checkpoint=sha256(base)), (adapter,), runtime)
    options = ["--adapter", "adapter.safetensors", "--out", "out", "--format", "sam2"]
    assert export.main(options) == 2, "the weights under the adapter are not given"
    assert export.main([*options, "--checkpoint", "base.pt"]) == 0
    config, overrides = "configs/sam2.1/sam2.1_hiera_t.yaml", [f"++model.image_size={SIZE}"]
    readme = (home / "out" / "sam2" / "README.md").read_text()
    assert config in readme
    assert overrides[0] in readme
    merged = str(home / "out" / "sam2" / "sam2.pt")
    sam = build_sam2(config, merged, device="cpu", hydra_overrides_extra=overrides)
    (image,) = images()
    with torch.no_grad():
        assert (predicted(sam, image, 4) - ours(image[None]).logits[0].clamp(-32, 32)).abs().max() <= 1e-4


def test_other_weights_than_those_trained_on_are_refused(
    home: Path, tiny: TrialConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    random = build(Sam2(size="tiny"), SIZE, Runtime()).sam.state_dict()
    torch.save({"model": random}, home / "base.pt")
    base = home / "base.pt"
    saved(home, tiny, Sam2(size="tiny", checkpoint=sha256(base)), (SMALL,), Runtime(weights=files_by_digest([base])))
    torch.save({"model": {name: tensor + 1 for name, tensor in random.items()}}, home / "other.pt")
    options = ["--adapter", "adapter.safetensors", "--out", "out", "--format", "sam2"]
    assert export.main([*options, "--checkpoint", "other.pt"]) == 2
    assert sha256(base) in capsys.readouterr().err
    assert not (home / "out").exists()


def test_a_unet_leaves_the_state_of_its_network(home: Path, tiny: TrialConfig) -> None:
    ours = saved(home, tiny, UNet(), (Full(),), Runtime())
    assert export.main(["--adapter", "adapter.safetensors", "--out", "out", "--format", "sam2"]) == 0
    state = torch.load(home / "out" / "sam2" / "unet.pt", weights_only=True)["model"]
    theirs = build(UNet(), SIZE, Runtime())
    theirs.network.load_state_dict(state)
    assert torch.equal(theirs(images()).logits, ours(images()).logits)


@pytest.mark.parametrize("adapters", [(Full(),), ()], ids=["full", "frozen"])
def test_peft_has_no_form_for_what_is_no_lora(
    adapters: tuple[Adapter, ...], home: Path, tiny: TrialConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    saved(home, tiny, Nano(weights="random"), adapters, Runtime())
    assert export.main(["--adapter", "adapter.safetensors", "--out", "out", "--format", "peft"]) == 2
    assert "peft's format holds the low-rank updates of one LoRA" in capsys.readouterr().err
    assert not (home / "out").exists()
    assert export.main(["--adapter", "adapter.safetensors", "--out", "out", "--format", "sam2"]) == 0


def test_an_export_is_replaced_only_when_asked(trained: Path, home: Path) -> None:
    options = ["--adapter", str(trained), "--out", "out"]
    assert export.main(options) == 0
    assert {path.name for path in (home / "out").iterdir()} == {"peft", "sam2"}
    assert export.main(options) == 2
    assert export.main([*options, "--overwrite"]) == 0


def test_the_module_is_the_command_and_has_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["export", "--help"])
    monkeypatch.delitem(sys.modules, "sam2lora.export")
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module("sam2lora.export", run_name="__main__")
    shown = capsys.readouterr().out
    assert all(option in shown for option in ("--adapter", "--format", "--out", "--checkpoint"))
