"""The U-Net, which SAM 2 is compared with."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sam2lora.backbones import UNet
from sam2lora.errors import CheckpointError
from sam2lora.models.segmenter import Features, Normalised, Points, Prediction, Segmenter
from sam2lora.models.weights import compare

# What comes after the last map that the decoder reads, in torchvision's and EfficientNet-PyTorch's names.
_CLASSIFIER = ("fc.", "classifier.", "_fc.", "_conv_head.", "_bn1.")


class UNetSegmenter(Segmenter):
    """A U-Net with one mask at full resolution. Training mode lets its BatchNorm follow the batches, as is usual."""

    backbone: UNet
    takes_prompts = False

    def __init__(self, network: nn.Module, backbone: UNet, image_size: int) -> None:
        super().__init__(backbone, image_size, mask_stride=1)
        # Channels last is what convolutions on a CPU, and in half precision on a GPU, want: several times faster.
        self.network = network.to(memory_format=torch.channels_last)
        self.normalised = Normalised(image_size)

    def encode(self, images: Tensor) -> Features:
        """The encoder's maps of RGB ``images`` (N, 3, S, S) in [0, 1]; the finest is the image itself."""
        encoder = self.network.get_submodule("encoder")
        *finer, image = encoder(self.normalised(images).contiguous(memory_format=torch.channels_last))
        return Features(image, tuple(finer))

    def decode(self, features: Features, points: Points | None = None) -> Prediction:
        """The prediction for the features of N images. Points raise ``ValueError``."""
        if points is not None:
            raise ValueError("A U-Net takes no prompt, but points were given: use NoPrompt(), or a SAM 2.")
        decoder, head = self.network.get_submodule("decoder"), self.network.get_submodule("segmentation_head")
        return Prediction(head(decoder([*features.finer, features.image])))

    @property
    def body(self) -> nn.Module:
        """`network`."""
        return self.network

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
    counts = {name for name in own.keys() - given.keys() if name.endswith("num_batches_tracked")}
    if mismatches := compare({name: tensor for name, tensor in own.items() if name not in counts}, given):
        raise CheckpointError(
            f"Encoder weights must have the names and shapes of {backbone.encoder}, but {mismatches}: "
            f"give the file of this encoder, or name the encoder of this file."
        )
    with torch.no_grad():
        for name, tensor in given.items():
            own[name].copy_(tensor)
