"""The segmenter: SAM 2's image path from pixels to one mask, or a U-Net, and the weights it starts from.

SAM 2 is built from the constructors of the official package, so weights, names and arithmetic are its own; two parts
of its decoder are laid out anew for a CPU (`sam2lora.decoder`).
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeGuard, get_args, overload

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from sam2.modeling.backbones import hieradet
from sam2.modeling.backbones.image_encoder import FpnNeck, ImageEncoder
from sam2.modeling.backbones.utils import PatchEmbed
from sam2.modeling.memory_attention import MemoryAttention, MemoryAttentionLayer
from sam2.modeling.memory_encoder import CXBlock, Fuser, MaskDownSampler, MemoryEncoder
from sam2.modeling.position_encoding import PositionEmbeddingSine
from sam2.modeling.sam.transformer import RoPEAttention
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sam2lora.backbones import Architecture, Backbone, Hiera, Nano, Sam2, Sha256, Size, UNet, Version, architecture
from sam2lora.checkpoints import located
from sam2lora.decoder import hasten
from sam2lora.errors import CheckpointError
from sam2lora.runtime import Runtime
from sam2lora.unet import MULTIPLE, SMALLEST, UNetSegmenter, load_encoder, network

Points = tuple[Tensor, Tensor]
"""Point prompts: coordinates (N, P, 2), x then y in pixels of the model frame, and labels (N, P): 1 on the object,
0 beside it, -1 padding."""

# cuDNN would multiply float32 with ten bits, as cuBLAS would in NVIDIA's containers, which set
# TORCH_ALLOW_TF32_CUBLAS_OVERRIDE; a trial in a pack would no longer be the trial alone to 1e-4.
torch.backends.cudnn.allow_tf32 = False
torch.backends.cuda.matmul.allow_tf32 = False

SHIPPED = Path(__file__).parent / "weights" / "nano.safetensors"
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_RANDOM_WEIGHTS_SEED = 0
_TRUNK = "image_encoder.trunk."
_IMAGE_PATH = ("image_encoder.", "sam_prompt_encoder.", "sam_mask_decoder.", "no_mem_embed")
# Makes outputs that are never read: other masks, the score of an object's presence; or reads what is never given.
_UNREAD = (
    "sam_prompt_encoder.mask_downscaling.",
    "sam_mask_decoder.pred_obj_score_head.",
    *(f"sam_mask_decoder.output_hypernetworks_mlps.{channel}." for channel in (0, 2, 3)),
)


class Features(NamedTuple):
    """What the decoder reads: ``image`` (N, D, h, h) and two finer maps (N, D/8, 4h, 4h) and (N, D/4, 2h, 2h)."""

    image: Tensor
    fine: Tensor
    middle: Tensor

    def take(self, places: Sequence[int], size: int) -> Features:
        """The batches of ``size`` images at ``places``, which may name one several times, in a row."""
        return Features(*(_taken(level, places, size) for level in self))


class Stage(NamedTuple):
    """A place within the trunk: ``x`` (N, h, w, C) in front of ``block``, and what the stages before it gave."""

    x: Tensor
    block: int
    outputs: tuple[Tensor, ...]

    def take(self, places: Sequence[int], size: int) -> Stage:
        """The batches of ``size`` images at ``places``, which may name one several times, in a row."""
        x, *outputs = (_taken(level, places, size) for level in (self.x, *self.outputs))
        return Stage(x, self.block, tuple(outputs))


def _taken(images: Tensor, places: Sequence[int], size: int) -> Tensor:
    batches = torch.split(images, size)
    return torch.cat([batches[place] for place in places])


class Sam2Segmenter(nn.Module):
    """SAM 2's image path with one mask: what ``SAM2ImagePredictor`` computes, batched and differentiable.

    The mask is channel 0 of the three of ``multimask_output=True``, as in SAM2LoRA (Mandal et al. 2025,
    arXiv 2510.10288). ``sam`` is the official ``SAM2Base``; its modules for video are kept and never run.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, sam: SAM2Base, backbone: Hiera) -> None:
        super().__init__()
        self.sam = sam
        self.backbone = backbone
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(3, 1, 1), persistent=False)

    @property
    def image_size(self) -> int:
        """Side S of the images in pixels."""
        return int(self.sam.image_size)

    @property
    def mask_stride(self) -> int:
        """Pixels per step of the logits: 4, or 2 for nano."""
        return architecture(self.backbone).patch_stride

    def forward(self, images: Tensor, points: Points | None = None) -> Tensor:
        """Logits (N, 1, S / mask_stride, S / mask_stride) for RGB ``images`` (N, 3, S, S) in [0, 1]."""
        return self.decode(self.encode(images), points)

    def forward_with_iou(self, images: Tensor, points: Points | None = None) -> tuple[Tensor, Tensor]:
        """The logits of ``forward`` and, from the same pass, SAM 2's own guess (N, 1) in [0, 1] of their mask's IoU."""
        return self.decode_with_iou(self.encode(images), points)

    def image_path(self) -> dict[str, nn.Parameter]:
        """The parameters that can change a mask of ours or its quality score, by their names in ``sam``.

        Video modules cannot. Those of the prompts and of the quality head get a gradient only where prompts or the
        score take part.
        """
        return {
            name: parameter
            for name, parameter in self.sam.named_parameters()
            if name.startswith(_IMAGE_PATH) and not name.startswith(_UNREAD)
        }

    def statistics(self) -> dict[str, Tensor]:
        """The buffers that training changes: none, SAM 2 normalises every position by itself."""
        return {}

    def encode(self, images: Tensor) -> Features:
        """The features of RGB ``images`` (N, 3, S, S) in [0, 1]; the prompt plays no part in them."""
        return self.neck(self.run_blocks(self.embed(images)))

    @property
    def blocks(self) -> int:
        """How many transformer blocks the trunk has."""
        return len(self.sam.image_encoder.trunk.blocks)

    def embed(self, images: Tensor) -> Stage:
        """RGB ``images`` (N, 3, S, S) in [0, 1] as patches with their positions, in front of the first block."""
        side = self.image_size
        if images.ndim != 4 or images.shape[1:] != (3, side, side):
            raise ValueError(
                f"Images must be (N, 3, {side}, {side}), but got {tuple(images.shape)}: "
                f"resize them, or build the segmenter for their size."
            )
        trunk = self.sam.image_encoder.trunk
        x = trunk.patch_embed((images - self.mean) / self.std)
        return Stage(x + trunk._get_pos_embed(x.shape[1:3]), 0, ())

    def front(self, images: Tensor, until: int) -> Stage:
        """RGB ``images`` in front of block ``until``, without a gradient: nothing before it may be trained."""
        with torch.no_grad():
            return self.run_blocks(self.embed(images), until)

    def run_blocks(self, stage: Stage, until: int | None = None) -> Stage:
        """``stage`` moved on to the front of block ``until``, or behind the last one."""
        trunk = self.sam.image_encoder.trunk
        x, outputs = stage.x, list(stage.outputs)
        until = self.blocks if until is None else until
        for index in range(stage.block, until):
            x = trunk.blocks[index](x)
            if index in trunk.stage_ends:
                outputs.append(x.permute(0, 3, 1, 2))
        return Stage(x, until, tuple(outputs))

    def neck(self, stage: Stage) -> Features:
        """The features out of a ``stage`` behind the last block."""
        encoder, decoder = self.sam.image_encoder, self.sam.sam_mask_decoder
        levels, _ = encoder.neck(list(stage.outputs))
        fine, middle, image = levels[: -encoder.scalp]
        # The predictor tells the decoder that there is no memory; without this the masks are not SAM 2's.
        return Features(image + self.sam.no_mem_embed.view(1, -1, 1, 1), decoder.conv_s0(fine), decoder.conv_s1(middle))

    def decode(self, features: Features, points: Points | None = None) -> Tensor:
        """Logits (N, 1, S / mask_stride, S / mask_stride) for the features of N images, with or without points."""
        return self.decode_with_iou(features, points)[0]

    def decode_with_iou(self, features: Features, points: Points | None = None) -> tuple[Tensor, Tensor]:
        """The logits of ``decode`` and SAM 2's own guess (N, 1) in [0, 1] of their mask's IoU."""
        count = features.image.shape[0]
        prompts = self.sam.sam_prompt_encoder
        sparse, dense = prompts(points=points, boxes=None, masks=None)
        masks, quality, *_ = self.sam.sam_mask_decoder(
            image_embeddings=features.image,
            image_pe=prompts.get_dense_pe(),
            sparse_prompt_embeddings=sparse.expand(count, -1, -1),  # no points: one empty prompt for all
            dense_prompt_embeddings=dense.expand(count, -1, -1, -1),
            multimask_output=True,
            repeat_image=False,
            high_res_features=[features.fine, features.middle],
        )
        return masks[:, :1], quality[:, :1]


Segmenter = Sam2Segmenter | UNetSegmenter
"""What is trained, evaluated and predicted with: ``backbone``, ``image_size``, ``mask_stride`` and the forward pass."""


@overload
def build(backbone: Hiera, image_size: int, runtime: Runtime) -> Sam2Segmenter: ...
@overload
def build(backbone: Backbone, image_size: int, runtime: Runtime) -> Segmenter: ...
def build(backbone: Backbone, image_size: int, runtime: Runtime) -> Segmenter:
    """The segmenter of ``backbone`` for square images of ``image_size`` pixels, on the CPU.

    In eval mode, all parameters frozen, weights loaded; the global random state is left as it was. Raises
    ``ValueError`` for a size that does not fit the strides and ``CheckpointError`` for weights that do not belong.
    """
    _check_image_size(backbone, image_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_RANDOM_WEIGHTS_SEED)
        segmenter = _unloaded(backbone, image_size)
    if (state := _weights(backbone, runtime)) is not None:
        match segmenter:
            case Sam2Segmenter():
                _load(segmenter.sam, state, segmenter.backbone)
            case UNetSegmenter():
                load_encoder(segmenter.network, state, segmenter.backbone)
    return segmenter.requires_grad_(False).eval()


def _unloaded(backbone: Backbone, image_size: int) -> Segmenter:
    if isinstance(backbone, UNet):
        return UNetSegmenter(network(backbone), backbone, image_size)
    return Sam2Segmenter(_sam2(architecture(backbone), image_size), backbone)


def shapes(backbone: Backbone, image_size: int | None = None) -> Segmenter:
    """The segmenter with its shapes alone, on the meta device: needs neither weights nor memory."""
    with torch.device("meta"):
        if isinstance(backbone, UNet):
            return UNetSegmenter(network(backbone), backbone, image_size or SMALLEST)
        return Sam2Segmenter(weightless(backbone, image_size), backbone)


@cache
def parameters(backbone: Backbone) -> int:
    """How many parameters the whole model has, video modules included. Needs neither weights nor memory."""
    return sum(parameter.numel() for parameter in shapes(backbone).parameters())


def weightless(backbone: Hiera, image_size: int | None = None) -> SAM2Base:
    """SAM 2's modules with their shapes alone, on the meta device. No parameter's shape depends on the image size."""
    shape = architecture(backbone)
    with torch.device("meta"):
        return _sam2(shape, image_size or shape.backbone_stride)


def _check_image_size(backbone: Backbone, image_size: int) -> None:
    multiple, smallest = _image_sizes(backbone)
    if image_size < smallest or image_size % multiple:
        below, above = image_size // multiple * multiple, -(-image_size // multiple) * multiple
        nearest = " or ".join(str(size) for size in (below, above) if size >= smallest)
        raise ValueError(
            f"image_size must be a multiple of {multiple} from {smallest} on for this backbone, but got "
            f"{image_size}: use {nearest or smallest}."
        )


def _image_sizes(backbone: Backbone) -> tuple[int, int]:
    """What a side must be a multiple of, and the smallest side."""
    if isinstance(backbone, UNet):
        return MULTIPLE, SMALLEST
    multiple = architecture(backbone).multiple
    return multiple, max(multiple, 32)  # `TrialConfig` takes none below


class _NoPositions(nn.Module):
    """Stands in for the neck's sine positions: only attention to memory reads them, and images have none.

    The official module fills a map of the size of each feature level in every step.
    """

    def forward(self, features: Tensor) -> Tensor:
        return features.new_zeros(()).expand_as(features)


def _sam2(shape: Architecture, image_size: int) -> SAM2Base:
    """SAM 2 as the official YAML files configure it, for any ``shape``."""
    later = shape.version == "2.1"
    with _Placement():
        sam = SAM2Base(
            image_encoder=_image_encoder(shape),
            memory_attention=_memory_attention(shape),
            memory_encoder=_memory_encoder(shape),
            num_maskmem=7,
            image_size=image_size,
            backbone_stride=shape.backbone_stride,
            sigmoid_scale_for_mem_enc=20.0,
            sigmoid_bias_for_mem_enc=-10.0,
            use_mask_input_as_output_without_sam=True,
            directly_add_no_mem_embed=True,
            no_obj_embed_spatial=later,
            use_high_res_features_in_sam=True,
            multimask_output_in_sam=True,
            iou_prediction_use_sigmoid=True,
            use_obj_ptrs_in_encoder=True,
            add_tpos_enc_to_obj_ptrs=later,
            proj_tpos_enc_in_obj_ptrs=later,
            use_signed_tpos_enc_to_obj_ptrs=later,
            only_obj_ptrs_in_the_past_for_eval=True,
            pred_obj_scores=True,
            pred_obj_scores_mlp=True,
            fixed_no_obj_ptr=True,
            multimask_output_for_tracking=True,
            use_multimask_token_for_obj_ptr=True,
            multimask_min_pt_num=0,
            multimask_max_pt_num=1,
            use_mlp_for_obj_ptr_proj=True,
        )
    hasten(sam.sam_mask_decoder)
    return sam


def _image_encoder(shape: Architecture) -> ImageEncoder:
    trunk = hieradet.Hiera(
        embed_dim=shape.embed_dim,
        num_heads=shape.heads,
        stages=shape.stages,
        global_att_blocks=shape.global_blocks,
        window_pos_embed_bkg_spatial_size=(shape.background, shape.background),
        window_spec=shape.windows,
    )
    stride = (shape.patch_stride, shape.patch_stride)
    trunk.patch_embed = PatchEmbed(stride=stride, embed_dim=shape.embed_dim)
    neck = FpnNeck(
        position_encoding=_NoPositions(),
        d_model=shape.width,
        backbone_channel_list=list(reversed(shape.dims)),
        fpn_top_down_levels=[2, 3],
        fpn_interp_model="nearest",
    )
    return ImageEncoder(trunk=trunk, neck=neck, scalp=1)


def _memory_attention(shape: Architecture) -> MemoryAttention:
    layer = MemoryAttentionLayer(
        activation="relu",
        d_model=shape.width,
        dim_feedforward=shape.memory_mlp,
        dropout=0.1,
        pos_enc_at_attn=False,
        self_attention=_rotary(shape),
        pos_enc_at_cross_attn_keys=True,
        pos_enc_at_cross_attn_queries=False,
        cross_attention=_rotary(shape, rope_k_repeat=True, kv_in_dim=shape.memory_width),
    )
    return MemoryAttention(d_model=shape.width, pos_enc_at_input=True, layer=layer, num_layers=shape.memory_layers)


def _rotary(shape: Architecture, **options: Any) -> RoPEAttention:
    return RoPEAttention(
        embedding_dim=shape.width, num_heads=1, downsample_rate=1, dropout=0.1, feat_sizes=(64, 64), **options
    )


def _memory_encoder(shape: Architecture) -> MemoryEncoder:
    downsampler = MaskDownSampler(
        embed_dim=shape.width, kernel_size=3, stride=2, padding=1, total_stride=shape.backbone_stride
    )
    return MemoryEncoder(
        in_dim=shape.width,
        out_dim=shape.memory_width,
        mask_downsampler=downsampler,
        fuser=Fuser(CXBlock(dim=shape.width), num_layers=2),
        position_encoding=PositionEmbeddingSine(shape.memory_width, warmup_cache=False),
    )


def _weights(backbone: Backbone, runtime: Runtime) -> Mapping[str, Tensor] | None:
    match backbone:
        case Sam2(checkpoint=checkpoint):
            path = _named_file(checkpoint, runtime.checkpoint)
            return None if path is None else read_checkpoint(path)
        case UNet(checkpoint=checkpoint):
            path = _named_file(checkpoint, runtime.checkpoint)
            return None if path is None else read_encoder(path)
        case Nano(weights=weights):
            if runtime.checkpoint is not None:
                raise CheckpointError(
                    f"Nano brings its own weights, but Runtime.checkpoint is {runtime.checkpoint}: "
                    f"leave it out, or use Sam2."
                )
            return None if weights == "random" else {name: t.float() for name, t in load_file(SHIPPED).items()}


def _named_file(checkpoint: Sha256 | None, path: Path | None) -> Path | None:
    """``path``, or else a downloaded file, if its sha256 is ``checkpoint``; None if neither is given.

    Raises ``CheckpointError`` otherwise.
    """
    if path is None and checkpoint is None:
        return None
    path = path or located(checkpoint or "")
    if path is None:
        raise CheckpointError(
            f"A backbone with checkpoint={checkpoint} needs the file of that sha256, but no file was given: "
            f"set Runtime.checkpoint to it, or checkpoint=None for random weights. Meta's own files are found once "
            f"python -m sam2lora.checkpoints NAME has downloaded them."
        )
    found = sha256(path)
    if found != checkpoint:
        raise CheckpointError(
            f"The weights must be those that the backbone names, checkpoint={checkpoint}, "
            f"but {path} has sha256 {found}: give the right file, or name this one in the backbone."
        )
    return path


def sha256(path: Path) -> str:
    """The sha256 of a weights file in hexadecimal digits, as a backbone's ``checkpoint`` wants it."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"A checkpoint must be a readable file, but {path} is not ({error}).") from error


def read_checkpoint(path: Path) -> Mapping[str, Tensor]:
    """The state dict of a checkpoint in the official format ``{"model": state dict}``. Runs no code of the file."""
    content = _tensors(path)
    state = content.get("model") if isinstance(content, dict) else None
    if not _is_state(state):
        raise CheckpointError(
            f"A checkpoint must hold {{'model': state dict}}, as the official SAM 2 files do, but {path} holds "
            f"{_what(content)}: wrap the state dict, or give the official file."
        )
    return state


def read_encoder(path: Path) -> Mapping[str, Tensor]:
    """The state dict of an encoder's file, bare as torchvision and timm write it. Runs no code of the file."""
    state = _tensors(path)
    if not _is_state(state):
        raise CheckpointError(
            f"An encoder's weights must be a bare state dict, as torchvision's files are, but {path} holds "
            f"{_what(state)}: save the state dict alone."
        )
    return state


def _tensors(path: Path) -> object:
    """What a file of tensors holds: a safetensors file by its suffix, otherwise one of ``torch.save``."""
    unreadable = (OSError, EOFError, RuntimeError, ValueError, TypeError, LookupError, AttributeError)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (*unreadable, pickle.UnpicklingError, SafetensorError) as error:
        raise CheckpointError(
            f"A checkpoint must be a file of tensors written by torch.save, but {path} is not "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}): download it again."
        ) from error


def _is_state(content: object) -> TypeGuard[Mapping[str, Tensor]]:
    return isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values())


def _what(content: object) -> str:
    return f"a dict with the keys {list(content)[:5]}" if isinstance(content, dict) else type(content).__name__


def recognise(state: Mapping[str, Tensor]) -> Sam2 | None:
    """The published backbone whose trunk and version ``state`` has; None if it is none of them.

    The trunk tells the size, and an embedding that only 2.1 has tells the version.
    """
    version: Version = "2.1" if "no_obj_embed_spatial" in state else "2.0"
    trunk = {name: tensor.shape for name, tensor in state.items() if name.startswith(_TRUNK)}
    candidates = (Sam2(size=size, version=version) for size in get_args(Size))
    return next((candidate for candidate in candidates if _trunk_shapes(candidate) == trunk), None)


@cache
def _trunk_shapes(backbone: Hiera) -> dict[str, torch.Size]:
    state = weightless(backbone).state_dict()
    return {name: tensor.shape for name, tensor in state.items() if name.startswith(_TRUNK)}


class _Placement(TorchFunctionMode):
    """Where the tensors lie that SAM 2's constructors put somewhere by themselves.

    ``linspace`` stays off the meta device: Hiera reads its drop rates as numbers while it is built. What they send to
    "cuda" on a machine with a GPU, the tables of rotary attention, stays where everything else is built: the meta
    device has nothing to send, and a trial may run elsewhere. The attention itself takes its table to its input.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.Tensor.to and args[1:] == ("cuda",):
            return args[0]
        options = kwargs or {}
        return func(*args, **({**options, "device": "cpu"} if func is torch.linspace else options))


def _load(sam: SAM2Base, state: Mapping[str, Tensor], backbone: Hiera) -> None:
    """Copy ``state`` into ``sam``. Raises ``CheckpointError`` unless names and shapes agree exactly."""
    own = sam.state_dict()
    problems = [
        _first_few("missing", sorted(own.keys() - state.keys())),
        _first_few("unexpected", sorted(state.keys() - own.keys())),
        _first_few("of another shape", sorted(_mismatches(own, state))),
    ]
    if any(problems):
        raise CheckpointError(
            f"Weights must have the names and shapes of the backbone, {_label(backbone)}, but "
            f"{'; '.join(filter(None, problems))}. {_remedy(state, backbone)}"
        )
    sam.load_state_dict(dict(state))


def _remedy(state: Mapping[str, Tensor], backbone: Hiera) -> str:
    similar = recognise(state)
    if similar is None:
        return "They look like no published SAM 2: give the official file."
    if isinstance(backbone, Sam2) and (similar.size, similar.version) == (backbone.size, backbone.version):
        return "They look like a changed file of this backbone: give the official one."
    return f"They look like {_label(similar)}: name it in the backbone, or give another file."


def _mismatches(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    both = own.keys() & state.keys()
    return [
        f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in both
        if own[name].shape != state[name].shape
    ]


def _first_few(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = ", ..." if len(names) > 3 else ""
    return f"{len(names)} {what} ({', '.join(names[:3])}{more})"


def _label(backbone: Hiera) -> str:
    return f"SAM {backbone.version} {backbone.size}" if isinstance(backbone, Sam2) else Nano.kind
