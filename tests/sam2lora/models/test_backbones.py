"""The shapes of the backbones are the published ones."""

from typing import Any, get_args

import pytest
import sam2  # noqa: F401  (registers the package's configurations with hydra)
import torch
from hydra import compose
from hydra.utils import instantiate
from pydantic import ValidationError
from sam2.modeling.sam.transformer import RoPEAttention
from torch.overrides import TorchFunctionMode

from sam2lora.backbones import Backbone, Hiera, LinearShape, Nano, Sam2, Size, Version, architecture, linears
from sam2lora.choice import from_json, to_json
from sam2lora.models.build import build, parameters, shapes
from sam2lora.models.sam2 import _Placement, weightless
from sam2lora.runtime import Runtime

SIZES: tuple[Size, ...] = get_args(Size)
VERSIONS: tuple[Version, ...] = get_args(Version)
BACKBONES: list[Backbone] = [Nano(), *(Sam2(size=size) for size in SIZES)]


@pytest.mark.parametrize(
    ("size", "total", "trunk"),
    [
        ("tiny", 38.9e6, 26_849_472),
        ("small", 46.0e6, 33_947_328),
        ("base+", 80.8e6, 68_675_712),
        ("large", 224.4e6, 212_149_296),
    ],
)
def test_published_parameter_counts(size: Size, total: float, trunk: int) -> None:
    backbone = Sam2(size=size)
    sam = weightless(backbone)

    assert parameters(backbone) == pytest.approx(total, abs=0.1e6)
    assert sum(parameter.numel() for parameter in sam.image_encoder.trunk.parameters()) == trunk
    assert sum(parameter.numel() for parameter in sam.sam_mask_decoder.parameters()) == 4_215_109


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("size", SIZES)
def test_names_and_shapes_are_those_of_the_official_configuration(size: Size, version: Version) -> None:
    letter = {"tiny": "t", "small": "s", "base+": "b+", "large": "l"}[size]
    folder, stem = ("sam2.1", "sam2.1_hiera") if version == "2.1" else ("sam2", "sam2_hiera")
    configuration = compose(config_name=f"configs/{folder}/{stem}_{letter}.yaml")
    with torch.device("meta"), _Placement():
        official = instantiate(configuration.model, _recursive_=True, _convert_="all")

    ours = weightless(Sam2(size=size, version=version))

    assert _shapes(ours) == _shapes(official)
    assert _settings(ours) == _settings(official)


def _shapes(module: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def _settings(module: torch.nn.Module) -> dict[str, object]:
    """What the modules hold beside tensors: windows, strides, heads, flags. The image size is our caller's."""
    plain = (bool, int, float, str, tuple, list)
    by_size = {"image_size", "sam_image_embedding_size", "image_embedding_size", "input_image_size", "mask_input_size"}
    return {
        f"{name}.{field}": tuple(value) if isinstance(value, list) else value
        for name, part in module.named_modules()
        if "position_encoding" not in name
        for field, value in vars(part).items()
        if isinstance(value, plain) and field not in by_size
    }


@pytest.mark.parametrize("backbone", BACKBONES)
def test_listed_linears_exist_with_these_shapes_and_none_is_left_out(backbone: Backbone) -> None:
    sam = weightless(backbone)
    listed = {linear.name: (linear.inputs, linear.outputs) for linear in linears(architecture(backbone))}
    unused = ("iou_prediction_head", "pred_obj_score_head", *(f"hypernetworks_mlps.{i}" for i in (0, 2, 3)))

    found = {
        name: (module.in_features, module.out_features)
        for name, module in sam.named_modules()
        if isinstance(module, torch.nn.Linear)
        and name.startswith(("image_encoder.", "sam_mask_decoder."))
        and not any(part in name for part in unused)
    }

    assert listed == found


def test_block_of_a_linear_is_the_one_in_its_name() -> None:
    for linear in linears(architecture(Sam2(size="tiny"))):
        assert linear.block == _block_in(linear)


def _block_in(linear: LinearShape) -> int | None:
    parts = linear.name.split(".")
    return int(parts[3]) if parts[0] == "image_encoder" else None


def test_nano_is_small() -> None:
    assert 1.0e6 < parameters(Nano()) < 1.6e6


@pytest.mark.parametrize("backbone", [*BACKBONES, Sam2(size="tiny", version="2.0", checkpoint="0" * 64)])
def test_json_gives_the_backbone_back(backbone: Backbone) -> None:
    assert from_json(type(backbone), to_json(backbone)) == backbone


@pytest.mark.parametrize("checkpoint", ["", "0" * 63, "G" * 64, "weights.pt"])
def test_checkpoint_must_be_a_digest(checkpoint: str) -> None:
    with pytest.raises(ValidationError):
        Sam2(checkpoint=checkpoint)


class _Sent(TorchFunctionMode):
    """Notes what is asked to lie on a GPU, and lets it lie where it is."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        given = [value for value in (*args, *(kwargs or {}).values()) if isinstance(value, str | torch.device)]
        # naming a device opens none
        asked = [f"{func} {v}" for v in given if str(v).startswith("cuda") and func is not torch.device]
        self.calls += asked
        return args[0] if asked and func is torch.Tensor.to else func(*args, **(kwargs or {}))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_where_there_is_a_gpu_every_backbone_is_counted_and_runs_weightless(
    backbone: Hiera, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    side = architecture(backbone).multiple

    assert parameters.__wrapped__(backbone) == parameters(backbone)
    logits = shapes(backbone, side)(torch.zeros(1, 3, side, side, device="meta")).logits

    assert logits.device.type == "meta"
    assert logits.shape == (1, 1, *2 * [side // architecture(backbone).patch_stride])


def test_what_is_built_on_the_cpu_opens_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with _Sent() as sent:
        segmenter = build(Nano(weights="random"), 64, Runtime())

    assert sent.calls == []
    tables = [part.freqs_cis for part in segmenter.modules() if isinstance(part, RoPEAttention)]
    assert tables
    assert {tensor.device.type for tensor in (*tables, *segmenter.parameters(), *segmenter.buffers())} == {"cpu"}


def test_a_table_of_rotary_attention_follows_its_input() -> None:
    """It is no buffer, so that moving a model leaves it: SAM 2 moves it when the attention runs."""
    attention = next(part for part in weightless(Nano()).modules() if isinstance(part, RoPEAttention))
    attention.freqs_cis = attention.compute_cis(end_x=64, end_y=64)
    x = torch.zeros(1, 64 * 64, attention.embedding_dim, device="meta")
    assert attention(x, x, x).device.type == "meta"
    assert attention.freqs_cis.device.type == "meta"
