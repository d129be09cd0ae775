"""Settings of the command line that replace those of a declaration."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sam2lora.backbones import Backbone
from sam2lora.config import TrialConfig
from sam2lora.overrides import ProtocolOptions, with_backbone


@dataclass(frozen=True)
class Overrides:
    """The settings that the command line replaces; None keeps the declared value."""

    protocol: ProtocolOptions = field(default_factory=ProtocolOptions)
    backbone: Backbone | None = None
    epochs: int | None = None
    image_size: int | None = None

    def apply(self, config: TrialConfig) -> TrialConfig:
        """``config`` with the overrides in place. Raises as ``ProtocolOptions.apply`` does.

        ``TrialConfig`` refuses what a U-Net in place of a SAM 2 cannot do, such as prompts.
        """
        config = replace(config, protocol=self.protocol.apply(config.protocol))
        if self.backbone is not None:
            config = with_backbone(config, self.backbone)
        if self.epochs is not None:
            config = replace(config, epochs=self.epochs)
        if self.image_size is not None:
            config = replace(config, image_size=self.image_size)
        return config
