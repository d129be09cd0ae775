"""SAM 2's image path from pixels to one mask.

SAM 2 is built from the constructors of the official package, so weights, names and arithmetic are its own; two parts
of its decoder are laid out anew for a CPU (`sam2lora.models.cpu_decoder`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, cast

import torch
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

from sam2lora.backbones import Architecture, Hiera, architecture
from sam2lora.models.cpu_decoder import use_cpu_kernels
from sam2lora.models.segmenter import Features, Normalised, Points, Prediction, Prompts, Segmenter, Stage

_IMAGE_PATH = ("image_encoder.", "sam_prompt_encoder.", "sam_mask_decoder.", "no_mem_embed")
# Makes outputs that are never read: other masks, the score of an object's presence; or reads what is never given.
_UNREAD = (
    "sam_prompt_encoder.mask_downscaling.",
    "sam_mask_decoder.pred_obj_score_head.",
    *(f"sam_mask_decoder.output_hypernetworks_mlps.{channel}." for channel in (0, 2, 3)),
)


class Sam2Segmenter(Segmenter):
    """SAM 2's image path with one mask: what ``SAM2ImagePredictor`` computes, batched and differentiable.

    The mask is channel 0 of the three of ``multimask_output=True``, as in SAM2LoRA (Mandal et al. 2025,
    arXiv 2510.10288). ``sam`` is the official ``SAM2Base``; its modules for video are kept and never run.
    """

    backbone: Hiera
    takes_prompts = True

    def __init__(self, sam: SAM2Base, backbone: Hiera) -> None:
        super().__init__(backbone, int(sam.image_size), architecture(backbone).patch_stride)
        self.sam = sam
        sam.encoder, sam.prompter, sam.decoder = ImageEncoding(self), PromptEncoding(sam), MaskDecoding(sam)
        self.normalised = Normalised(self.image_size)

    @property
    def body(self) -> SAM2Base:
        """`sam`."""
        return self.sam

    def image_path(self) -> dict[str, nn.Parameter]:
        """The parameters that can change a mask of ours or its guess of the IoU, by their names in ``sam``.

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
        """The features of RGB ``images`` (N, 3, S, S) in [0, 1]; the prompt plays no part in them.

        With a `cache`, what lies in front of all that is attached is looked up, and has no gradient.
        """
        if self.cache is None or (self.untouched is not None and self.untouched <= 0):
            return self.encoder(images)  # type: ignore[no-any-return]
        if self.untouched is not None:
            return self.neck(self.run_blocks(self.front(images, self.untouched)))
        levels = self.cache.recall(images, self._features, self._described(None), partial(self._weights, None))
        image, fine, middle, *stages = levels
        return Features(image, (fine, middle), tuple(stages))

    def _features(self, images: Tensor) -> Sequence[Tensor]:
        return cast(Features, self.encoder(images)).levels

    def _described(self, blocks: int | None) -> str:
        """What the cache keeps: the state of the trunk in front of block ``blocks``, or the features (None)."""
        return f"{blocks} {self.sam.no_mem_embed.dtype}{' with stages' if self._reads_stages else ''}"

    def _weights(self, blocks: int | None) -> Iterator[tuple[str, Tensor]]:
        """The tensors in front of block ``blocks`` of the trunk, or of the decoder (None), by name."""
        if blocks is None:
            yield "no_mem_embed", self.sam.no_mem_embed
        whole = ("image_encoder", "sam_mask_decoder.conv_s0", "sam_mask_decoder.conv_s1")
        for part in whole if blocks is None else ("image_encoder.trunk",):
            module = self.sam.get_submodule(part)
            for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                if blocks is None or not name.startswith("blocks.") or int(name.split(".")[1]) < blocks:
                    yield f"{part}.{name}", tensor

    @property
    def untouched(self) -> int | None:
        """How many blocks of the trunk lie in front of all that is attached: `untouched_blocks`."""
        attachment = getattr(self.sam, "attachment", None)
        return None if attachment is None else cast("int | None", attachment.untouched)

    @property
    def _reads_stages(self) -> bool:
        return bool(getattr(self.decoder, "reads_stages", False))

    @property
    def blocks(self) -> int:
        """How many transformer blocks the trunk has."""
        return len(self.sam.image_encoder.trunk.blocks)

    def embed(self, images: Tensor) -> Stage:
        """RGB ``images`` (N, 3, S, S) in [0, 1] as patches with their positions, in front of the first block."""
        trunk = self.sam.image_encoder.trunk
        x = trunk.patch_embed(self.normalised(images))
        return Stage(x + trunk._get_pos_embed(x.shape[1:3]), 0, ())

    def front(self, images: Tensor, until: int) -> Stage:
        """RGB ``images`` in front of block ``until``, without a gradient: nothing before it may be trained."""

        def compute(images: Tensor) -> Sequence[Tensor]:
            stage = self.run_blocks(self.embed(images), until)
            return (stage.x, *stage.outputs)

        if self.cache is None or until == 0:
            with torch.no_grad():
                x, *outputs = compute(images)
        else:
            x, *outputs = self.cache.recall(images, compute, self._described(until), partial(self._weights, until))
        return Stage(x, until, tuple(outputs))

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

    def encode_shared(self, images: Tensor, places: Sequence[int], size: int) -> Features:
        """As any segmenter's, with the blocks that are `untouched` run once for each distinct image."""
        if self.untouched is None:
            return self.encode(images).take(places, size)
        if self.untouched < 0:
            return super().encode_shared(images, places, size)
        return self.neck(self.run_blocks(self.front(images, self.untouched).take(places, size)))

    def neck(self, stage: Stage) -> Features:
        """The features out of a ``stage`` behind the last block."""
        encoder, decoder = self.sam.image_encoder, self.sam.sam_mask_decoder
        levels, _ = encoder.neck(list(stage.outputs))
        fine, middle, image = levels[: -encoder.scalp]
        # The predictor tells the decoder that there is no memory; without this the masks are not SAM 2's.
        image = image + self.sam.no_mem_embed.view(1, -1, 1, 1)
        stages = stage.outputs if self._reads_stages else ()
        return Features(image, (decoder.conv_s0(fine), decoder.conv_s1(middle)), stages)

    def decode(self, features: Features, points: Points | None = None) -> Prediction:
        """The prediction for the features of N images, with or without points."""
        return self.decoder(features, self.prompter(points, features))  # type: ignore[no-any-return]

    @property
    def encoder(self) -> nn.Module:
        """From images to `Features`: `ImageEncoding`, or what was put in its place."""
        return cast(nn.Module, self.sam.encoder)

    @property
    def prompter(self) -> nn.Module:
        """From points, or None, and `Features` to `Prompts`: `PromptEncoding`, or what was put in its place."""
        return cast(nn.Module, self.sam.prompter)

    @property
    def decoder(self) -> nn.Module:
        """From `Features` and `Prompts` to a `Prediction`: `MaskDecoding`, or what was put in its place."""
        return cast(nn.Module, self.sam.decoder)


class ImageEncoding(nn.Module):
    """SAM 2's own way from images to features: patches, trunk and neck. It has no module itself."""

    segmenter: Sam2Segmenter

    def __init__(self, segmenter: Sam2Segmenter) -> None:
        super().__init__()
        self.__dict__["segmenter"] = segmenter

    def forward(self, images: Tensor) -> Features:
        """The features of RGB ``images`` (N, 3, S, S) in [0, 1]."""
        return self.segmenter.neck(self.segmenter.run_blocks(self.segmenter.embed(images)))


class _Part(nn.Module):
    """A part of the image path that runs modules of ``sam`` and has none itself: every weight has one name."""

    sam: SAM2Base

    def __init__(self, sam: SAM2Base) -> None:
        super().__init__()
        self.__dict__["sam"] = sam


class PromptEncoding(_Part):
    """SAM 2's own way from points to prompts."""

    def forward(self, points: Points | None, features: Features) -> Prompts:
        """Prompts for N images; without points, no tokens."""
        count = features.image.shape[0]
        sparse, dense = self.sam.sam_prompt_encoder(points=points, boxes=None, masks=None)
        return Prompts(sparse.expand(count, -1, -1), dense.expand(count, -1, -1, -1))


class MaskDecoding(_Part):
    """SAM 2's own way from features and prompts to a mask, with a guess of its IoU."""

    def forward(self, features: Features, prompts: Prompts) -> Prediction:
        """The prediction for N images."""
        masks, iou, *_ = self.sam.sam_mask_decoder(
            image_embeddings=features.image,
            image_pe=self.sam.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=prompts.sparse,
            dense_prompt_embeddings=prompts.dense,
            multimask_output=True,
            repeat_image=False,
            high_res_features=list(features.finer),
        )
        return Prediction(masks[:, :1], iou[:, :1])


def weightless(backbone: Hiera, image_size: int | None = None) -> SAM2Base:
    """SAM 2's modules with their shapes alone, on the meta device. No parameter's shape depends on the image size."""
    shape = architecture(backbone)
    with torch.device("meta"):
        return sam2_modules(shape, image_size or shape.backbone_stride)


class _NoPositions(nn.Module):
    """Stands in for the neck's sine positions: only attention to memory reads them, and images have none.

    The official module fills a map of the size of each feature level in every step.
    """

    def forward(self, features: Tensor) -> Tensor:
        return features.new_zeros(()).expand_as(features)


def sam2_modules(shape: Architecture, image_size: int) -> SAM2Base:
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
    use_cpu_kernels(sam.sam_mask_decoder)
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
