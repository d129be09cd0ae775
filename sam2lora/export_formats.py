"""A trained adapter in the forms that other tools read: peft's files, and a checkpoint of the official ``sam2``."""

from __future__ import annotations

import json
from pathlib import Path

import safetensors.torch
import torch
from sam2.modeling.sam2_base import SAM2Base

from sam2lora.adapters.peft import peft_form
from sam2lora.backbones import Backbone, Nano, architecture
from sam2lora.errors import AdapterError
from sam2lora.files import write_atomically
from sam2lora.models.build import build, shapes
from sam2lora.runtime import Runtime
from sam2lora.settings import write_settings
from sam2lora.trained import TrainedAdapter, merged


def write_peft(adapter: TrainedAdapter, folder: Path) -> list[Path]:
    """Write the adapter as peft's ``adapter_config.json`` and ``adapter_model.safetensors``, with a README.

    Raises ``AdapterError`` for adapters that are not one LoRA.
    """
    form = peft_form(adapter.config.adapters, adapter.config.backbone, adapter.tensors)
    if form is None:
        raise AdapterError(
            f"peft's format holds the low-rank updates of one LoRA, but what was trained is "
            f"{adapter.config.adaptation}: export --format sam2, if that can be merged."
        )
    files = [folder / name for name in ("adapter_model.safetensors", "adapter_config.json", "README.md")]
    write_atomically(files[0], lambda path: safetensors.torch.save_file(form.tensors, path, metadata={"format": "pt"}))
    _write(files[1], json.dumps(form.config, indent=2, sort_keys=True) + "\n")
    _write(files[2], _peft_readme(adapter, form.dropout))
    return files


def write_sam2(adapter: TrainedAdapter, runtime: Runtime, folder: Path) -> list[Path]:
    """Write the whole model with the adapter merged into its weights, ``{"model": state dict}``, with a README.

    Of a SAM 2 the file is what the official ``build_sam2`` loads; for nano, which no official configuration
    describes, a configuration is written beside it. Of a U-Net it is the state dict of its network. Raises
    ``CheckpointError`` unless the weights under the adapter are those that it was trained on, and ``AdapterError`` for
    an adapter that no weights can hold.
    """
    parts = adapter.config.named_parts
    if apart := [name for name, part in parts.items() if not getattr(part, "mergeable", False)]:
        raise AdapterError(
            f"A checkpoint holds the weights of the backbone alone, but {', '.join(apart)} adds modules that cannot be "
            f"merged into them: keep the trained adapter, which python -m sam2lora.predict reads."
        )
    backbone = adapter.config.backbone
    weights = merged(adapter, runtime).body.state_dict()
    state = {name: weights[name].detach().clone() for name in shapes(backbone).body.state_dict()}
    files = {"README.md": _sam2_readme(adapter)}
    if backbone.official_config is None and not backbone.trained_whole:
        files["nano.yaml"] = _NANO_YAML.format(image_size=adapter.config.image_size)
    checkpoint = folder / ("unet.pt" if backbone.trained_whole else "sam2.pt")
    write_atomically(checkpoint, lambda path: torch.save({"model": state}, path))
    for name, text in files.items():
        _write(folder / name, text)
    return [checkpoint, *(folder / name for name in files)]


def _write(file: Path, text: str) -> None:
    write_atomically(file, lambda path: path.write_text(text))


def nano_sam2(image_size: int) -> SAM2Base:
    """Nano's modules for square images of ``image_size`` pixels, for the configuration that is written beside them.

    The official constructors alone cannot say it: ``Hiera`` takes no stride for its first convolution.
    """
    return build(Nano(weights="random"), image_size, Runtime()).sam


_NANO_YAML = """# @package _global_
# Nano, for sam2.build_sam.build_sam2. The first convolution has stride 2, which sam2's own Hiera takes no argument for,
# so the modules come from sam2lora, which has to be installed.
model:
  _target_: sam2lora.export_formats.nano_sam2
  image_size: {image_size}
"""


def _weights(backbone: Backbone) -> str:
    if backbone.weights_sha256 is None:
        return "drawn from sam2lora's fixed seed, not pretrained"
    if backbone.weights_sha256 == Nano().weights_sha256:
        return "the ones that sam2lora ships"
    return f"the file of sha256 {backbone.weights_sha256}"


def _frame(adapter: TrainedAdapter) -> str:
    side = adapter.config.image_size
    return f"""## What the model expects

- RGB photographs, cropped to the field of view, resized so that the longer side is {side} pixels, padded bottom and
  right with black to {side} x {side}. The official predictor squashes what is not square: pad before.
- The mask is channel 0 of the three of `multimask_output=True`, on the image's features with `no_mem_embed` added, as
  `SAM2ImagePredictor` does. A pixel is predicted above the probability {adapter.threshold:g}.
- Prompt in training: {adapter.config.train_prompt.kind}; in testing: {adapter.config.test_prompt.kind}.
"""


def _settings(adapter: TrainedAdapter) -> str:
    return f"""## Settings it was trained with (seed {adapter.replicate.seed}, fold {adapter.replicate.fold})

```json
{write_settings(adapter.config)}```
"""


def _peft_readme(adapter: TrainedAdapter, dropout: str) -> str:
    side, backbone = adapter.config.image_size, adapter.config.backbone
    return f"""# LoRA adapter of {backbone.title}

```python
from peft import PeftModel

model = PeftModel.from_pretrained(sam, FOLDER)  # sam: a sam2 SAM2Base with the frozen weights, built for {side} pixels
```

The frozen weights: {_weights(backbone)}. {dropout}

{_frame(adapter)}
{_settings(adapter)}"""


def _sam2_readme(adapter: TrainedAdapter) -> str:
    backbone = adapter.config.backbone
    if backbone.trained_whole:
        return f"""# {backbone.title}, trained whole

`unet.pt` holds `{{"model": state dict}}` of segmentation-models-pytorch's network with the encoder and the decoder that
the settings of its backbone name, one class, input normalised as for ImageNet.

{_settings(adapter)}"""
    strides = [scale * architecture(backbone).patch_stride for scale in (1, 2, 4)]
    return f"""# {backbone.title} with the trained adapter merged into its weights

```python
{_loading(adapter)}
side = {adapter.config.image_size}
predictor = SAM2ImagePredictor(sam)
predictor._bb_feat_sizes = [(side // s, side // s) for s in {strides}]  # sam2 assumes 1024 pixels
```

The weights under the adapter: {_weights(backbone)}.

{_frame(adapter)}
{_settings(adapter)}"""


def _loading(adapter: TrainedAdapter) -> str:
    backbone, side = adapter.config.backbone, adapter.config.image_size
    lines = ["from sam2.build_sam import build_sam2", "from sam2.sam2_image_predictor import SAM2ImagePredictor", ""]
    if backbone.official_config is not None:
        options = f'device="cpu", hydra_overrides_extra=["++model.image_size={side}"]'
        return "\n".join([*lines, f'sam = build_sam2("{backbone.official_config}", "sam2.pt", {options})'])
    lines[:0] = ["from hydra import initialize_config_dir", "from hydra.core.global_hydra import GlobalHydra"]
    body = '    sam = build_sam2("nano.yaml", "sam2.pt", device="cpu", apply_postprocessing=False)'
    lines.append("GlobalHydra.instance().clear()  # sam2 points it at its own folder when it is imported")
    return "\n".join([*lines, "with initialize_config_dir(ABSOLUTE_FOLDER, version_base=None):", body])
