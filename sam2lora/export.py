"""A trained adapter in the forms that other tools read: peft's files, and a checkpoint of the official ``sam2``.

``python -m sam2lora.export`` writes them, and lives in ``sam2lora.commands.export``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from sam2lora.adapters import LoRA
from sam2lora.backbones import Backbone, LinearShape, Nano, Sam2, UNet
from sam2lora.errors import AdapterError
from sam2lora.model import Sam2Segmenter, build, weightless
from sam2lora.runtime import Runtime
from sam2lora.settings import write_settings
from sam2lora.train import write_atomically
from sam2lora.tuned import Tuned, merged

_LETTERS = {"tiny": "t", "small": "s", "base+": "b+", "large": "l"}


def write_peft(tuned: Tuned, folder: Path) -> list[Path]:
    """Write the adapter as peft's ``adapter_config.json`` and ``adapter_model.safetensors``, with a README.

    An update of queries and values alone, which peft cannot say, becomes one of their rank together whose B is zero
    elsewhere: exactly the same update. Raises ``AdapterError`` for an adapter that is no LoRA.
    """
    adapter = tuned.config.adapter
    if not isinstance(adapter, LoRA):
        raise AdapterError(
            f"peft's format holds low-rank updates, but the adapter is {adapter.kind!r} and has none: "
            f"export --format sam2."
        )
    tensors = {
        f"base_model.model.{target.name}.lora_{matrix}.weight": tensor
        for target in adapter.targets(tuned.config.backbone)
        for matrix, tensor in _whole(adapter, target, tuned.tensors).items()
    }
    config = json.dumps(_peft_config(adapter, tuned.config.backbone), indent=2, sort_keys=True) + "\n"
    files = [folder / name for name in ("adapter_model.safetensors", "adapter_config.json", "README.md")]
    write_atomically(files[0], lambda path: safetensors.torch.save_file(tensors, path, metadata={"format": "pt"}))
    _write(files[1], config)
    _write(files[2], _peft_readme(tuned, adapter))
    return files


def _whole(adapter: LoRA, target: LinearShape, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A (n rank, inputs) and B (outputs, n rank) of one layer: its n updates of some rows each as one of all rows."""
    rows = adapter.rows(target)
    first = [tensors[f"{target.name}.lora.{part}.A"] for part in rows]
    second = torch.zeros(target.outputs, len(rows) * adapter.rank)
    for place, (part, span) in enumerate(rows.items()):
        second[span, place * adapter.rank : (place + 1) * adapter.rank] = tensors[f"{target.name}.lora.{part}.B"]
    return {"A": torch.cat(first), "B": second}


def _peft_config(adapter: LoRA, backbone: Backbone) -> dict[str, Any]:
    targets = adapter.targets(backbone)
    parts = {target.name: len(adapter.rows(target)) for target in targets if len(adapter.rows(target)) > 1}
    stabilised = adapter.scale == "rank_stabilised"
    # peft divides alpha by the rank, or by its root: alpha grows with the rank so that the quotient stays ours.
    grown = {name: adapter.alpha * (math.sqrt(count) if stabilised else count) for name, count in parts.items()}
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": _label(backbone),
        "target_modules": [target.name for target in targets],
        "r": adapter.rank,
        "lora_alpha": adapter.alpha,
        "rank_pattern": {name: count * adapter.rank for name, count in parts.items()},
        "alpha_pattern": grown,
        "use_rslora": stabilised,
        "lora_dropout": adapter.dropout if adapter.dropout_site == "input" else 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def write_sam2(tuned: Tuned, runtime: Runtime, folder: Path) -> list[Path]:
    """Write the whole model with the adapter merged into its weights, ``{"model": state dict}``, with a README.

    Of a SAM 2 the file is what the official ``build_sam2`` loads; for nano, which no official configuration
    describes, a configuration is written beside it. Of a U-Net it is the state dict of its network. Raises
    ``CheckpointError`` unless the weights under the adapter are those that it was trained on.
    """
    segmenter, backbone = merged(tuned, runtime), tuned.config.backbone
    files = {"README.md": _sam2_readme(tuned)}
    if isinstance(segmenter, Sam2Segmenter):
        own = segmenter.sam.state_dict()
        state = {name: own[name].detach().clone() for name in weightless(segmenter.backbone).state_dict()}
    else:
        state = {name: tensor.detach().clone() for name, tensor in segmenter.network.state_dict().items()}
    if isinstance(backbone, Nano):
        files["nano.yaml"] = _NANO_YAML.format(image_size=tuned.config.image_size)
    checkpoint = folder / f"{_stem(backbone)}.pt"
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
  _target_: sam2lora.export.nano_sam2
  image_size: {image_size}
"""


def _stem(backbone: Backbone) -> str:
    return "unet" if isinstance(backbone, UNet) else "sam2"


def _label(backbone: Backbone) -> str:
    match backbone:
        case Sam2(size=size, version=version):
            infix = "" if version == "2.0" else "." + version.partition(".")[2]
            return f"facebook/sam2{infix}-hiera-{size.replace('+', '-plus')}"
        case Nano():
            return "sam2lora nano"
        case UNet(encoder=encoder):
            return f"U-Net with {encoder}"


def _weights(backbone: Backbone) -> str:
    match backbone:
        case Nano(weights="shipped"):
            return "the ones that sam2lora ships"
        case Sam2(checkpoint=str(digest)) | UNet(checkpoint=str(digest)):
            return f"the file of sha256 {digest}"
        case _:
            return "drawn from sam2lora's fixed seed, not pretrained"


def _frame(tuned: Tuned) -> str:
    side = tuned.config.image_size
    return f"""## What the model expects

- RGB photographs, cropped to the field of view, resized so that the longer side is {side} pixels, padded bottom and
  right with black to {side} x {side}. The official predictor squashes what is not square: pad before.
- The mask is channel 0 of the three of `multimask_output=True`, on the image's features with `no_mem_embed` added, as
  `SAM2ImagePredictor` does. A pixel is predicted above the probability {tuned.threshold:g}.
- Prompt in training: {tuned.config.train_prompt.kind}; in testing: {tuned.config.test_prompt.kind}.
"""


def _settings(tuned: Tuned) -> str:
    return f"""## Settings it was trained with (seed {tuned.replicate.seed}, fold {tuned.replicate.fold})

```json
{write_settings(tuned.config)}```
"""


def _peft_readme(tuned: Tuned, adapter: LoRA) -> str:
    side, backbone = tuned.config.image_size, tuned.config.backbone
    if adapter.dropout_site == "input":
        dropout = "Dropout acts on the input of an update, in peft as in training."
    else:
        dropout = (
            f"In training, dropout of {adapter.dropout:g} acted on the output of an update; peft drops its input. So "
            f"lora_dropout is 0 here, which changes nothing in prediction; training on with peft is another regime."
        )
    return f"""# LoRA adapter of {_label(backbone)}

```python
from peft import PeftModel

model = PeftModel.from_pretrained(sam, FOLDER)  # sam: a sam2 SAM2Base with the frozen weights, built for {side} pixels
```

The frozen weights: {_weights(backbone)}. {dropout}

{_frame(tuned)}
{_settings(tuned)}"""


def _sam2_readme(tuned: Tuned) -> str:
    backbone = tuned.config.backbone
    if isinstance(backbone, UNet):
        body = f"""`unet.pt` holds `{{"model": state dict}}` of segmentation-models-pytorch's network with the encoder
`{backbone.encoder}` and the decoder `{backbone.decoder}`, one class, input normalised as for ImageNet.
"""
        return f"# {_label(backbone)}, trained whole\n\n{body}\n{_settings(tuned)}"
    return f"""# {_label(backbone)} with the trained adapter merged into its weights

```python
{_loading(tuned)}
side = {tuned.config.image_size}
predictor = SAM2ImagePredictor(sam)
predictor._bb_feat_sizes = [(side // s, side // s) for s in {_strides(backbone)}]  # sam2 assumes 1024 pixels
```

The weights under the adapter: {_weights(backbone)}.

{_frame(tuned)}
{_settings(tuned)}"""


def _loading(tuned: Tuned) -> str:
    backbone, side = tuned.config.backbone, tuned.config.image_size
    lines = ["from sam2.build_sam import build_sam2", "from sam2.sam2_image_predictor import SAM2ImagePredictor", ""]
    if isinstance(backbone, Sam2):
        infix = "sam2" if backbone.version == "2.0" else f"sam{backbone.version}"
        config = f"configs/{infix}/{infix}_hiera_{_LETTERS[backbone.size]}.yaml"
        options = f'device="cpu", hydra_overrides_extra=["++model.image_size={side}"]'
        return "\n".join([*lines, f'sam = build_sam2("{config}", "sam2.pt", {options})'])
    lines[:0] = ["from hydra import initialize_config_dir", "from hydra.core.global_hydra import GlobalHydra"]
    body = '    sam = build_sam2("nano.yaml", "sam2.pt", device="cpu", apply_postprocessing=False)'
    lines.append("GlobalHydra.instance().clear()  # sam2 points it at its own folder when it is imported")
    return "\n".join([*lines, "with initialize_config_dir(ABSOLUTE_FOLDER, version_base=None):", body])


def _strides(backbone: Nano | Sam2) -> list[int]:
    return [2, 4, 8] if isinstance(backbone, Nano) else [4, 8, 16]


if __name__ == "__main__":
    from sam2lora.commands.export import main

    raise SystemExit(main())
