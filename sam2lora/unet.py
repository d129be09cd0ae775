"""The U-Net arm: the same interface as SAM 2's segmenter, so that everything around it runs unchanged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sam2lora.backbones import UNet
from sam2lora.errors import CheckpointError

if TYPE_CHECKING:
    from sam2lora.model import Points

MULTIPLE = 32
"""Image sides must be multiples of this: five halvings."""
SMALLEST = 2 * MULTIPLE
"""The smallest image side: BatchNorm in training needs more than one value where the map is coarsest."""
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
# What comes after the last map that the decoder reads, in torchvision's and EfficientNet-PyTorch's names.
_CLASSIFIER = ("fc.", "classifier.", "_fc.", "_conv_head.", "_bn1.")


class UNetSegmenter(nn.Module):
    """A U-Net with one mask at full resolution. Training mode lets its BatchNorm follow the batches, as is usual."""

    mean: Tensor
    std: Tensor
    mask_stride = 1

    def __init__(self, network: nn.Module, backbone: UNet, image_size: int) -> None:
        super().__init__()
        # Channels last is what convolutions on a CPU, and in half precision on a GPU, want: several times faster.
        self.network = network.to(memory_format=torch.channels_last)
        self.backbone = backbone
        self.image_size = image_size
        self.register_buffer("mean", torch.tensor(_IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(_IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor, points: Points | None = None) -> Tensor:
        """Logits (N, 1, S, S) for RGB ``images`` (N, 3, S, S) in [0, 1]. Points raise ``ValueError``."""
        if points is not None:
            raise ValueError("A U-Net takes no prompt, but points were given: use NoPrompt(), or a SAM 2.")
        side = self.image_size
        if images.ndim != 4 or images.shape[1:] != (3, side, side):
            raise ValueError(
                f"Images must be (N, 3, {side}, {side}), but got {tuple(images.shape)}: "
                f"resize them, or build the segmenter for their size."
            )
        normal = (images - self.mean) / self.std
        return self.network(normal.contiguous(memory_format=torch.channels_last))  # type: ignore[no-any-return]

    def image_path(self) -> dict[str, nn.Parameter]:
        """Every parameter by its name in ``network``: all of them make the mask."""
        return dict(self.network.named_parameters())

    def statistics(self) -> dict[str, Tensor]:
        """The buffers that training changes, by name: BatchNorm's running means and variances and their counts."""
        return dict(self.network.named_buffers())


def network(backbone: UNet) -> nn.Module:
    """The modules of ``backbone``, with weights that torch's global generator draws."""
    # Brings timm, which takes a second to import; every other backbone does without it.
    import segmentation_models_pytorch as smp

    kind = smp.Unet if backbone.decoder == "unet" else smp.UnetPlusPlus
    built: nn.Module = kind(backbone.encoder, encoder_weights=None, in_channels=3, classes=1)
    for unread in ("_conv_head", "_bn1"):  # EfficientNet keeps two layers of its classifier, which nothing runs
        if hasattr(built.encoder, unread):
            delattr(built.encoder, unread)
    return built


def load_encoder(built: nn.Module, state: Mapping[str, Tensor], backbone: UNet) -> None:
    """Copy ``state`` into the encoder; the classifier's tensors are left out.

    Raises ``CheckpointError`` unless all other names and shapes agree. BatchNorm's count of batches may be missing,
    as in torchvision's older files: it is read by nothing.
    """
    encoder = built.get_submodule("encoder")
    own = dict(nn.Module.state_dict(encoder))
    given = {name: tensor for name, tensor in state.items() if not name.startswith(_CLASSIFIER)}
    missing = sorted(name for name in own.keys() - given.keys() if not name.endswith("num_batches_tracked"))
    unexpected = sorted(given.keys() - own.keys())
    shapes = sorted(name for name in own.keys() & given.keys() if own[name].shape != given[name].shape)
    if missing or unexpected or shapes:
        raise CheckpointError(
            f"Encoder weights must have the names and shapes of {backbone.encoder}, but {len(missing)} are missing "
            f"{missing[:3]}, {len(unexpected)} unexpected {unexpected[:3]} and {len(shapes)} of another shape "
            f"{shapes[:3]}: give the file of this encoder, or name the encoder of this file."
        )
    with torch.no_grad():
        for name, tensor in given.items():
            own[name].copy_(tensor)
