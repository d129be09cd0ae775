"""A U-Net: the reference that SAM 2 has to beat."""

from __future__ import annotations

from typing import ClassVar, Literal

from sam2lora.backbones.sam2 import Sha256
from sam2lora.choice import choice

Encoder = Literal["resnet18", "resnet34", "resnet50", "mobilenet_v2", "efficientnet-b0"]


@choice
class UNet:
    """A U-Net (Ronneberger et al. 2015, arXiv 1505.04597) of segmentation-models-pytorch, trained whole.

    It takes no prompt and no LoRA: the adapter is ``Full``. ``encoder``: the network that reads the image, five
    halvings deep. ``decoder``: ``"unet++"`` nests the skip connections (Zhou et al. 2018, arXiv 1807.10165).

    ``checkpoint``: sha256 of the encoder's weights file, which ``Runtime.weights`` locates: a state dict with the
    names of torchvision (resnet*, mobilenet_v2) or of EfficientNet-PyTorch (efficientnet-b0), its classifier
    included or not. None draws encoder and decoder from a fixed seed; the decoder is drawn from it always.
    """

    takes_prompts: ClassVar[bool] = False
    guesses_iou: ClassVar[bool] = False
    trained_whole: ClassVar[bool] = True
    why_alone: ClassVar[str | None] = "the BatchNorm of a U-Net would mix the images of several trials"
    hub_id: ClassVar[str | None] = None
    official_config: ClassVar[str | None] = None
    kind: Literal["unet"] = "unet"
    encoder: Encoder = "resnet18"
    decoder: Literal["unet", "unet++"] = "unet"
    checkpoint: Sha256 | None = None

    @property
    def title(self) -> str:
        """``"U-Net with resnet18"``."""
        return f"U-Net with {self.encoder}"

    @property
    def weights_sha256(self) -> str | None:
        """`checkpoint`."""
        return self.checkpoint
