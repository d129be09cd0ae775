"""Groups: the parameters of an optimizer by name, with a learning rate of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Group:
    """Parameters that train alike: ``parameters`` by their names in the segmenter, at ``lr_scale`` times the rate."""

    name: str
    parameters: Mapping[str, nn.Parameter]
    lr_scale: float = 1.0


def param_groups(groups: Sequence[Group], lr: float) -> list[dict[str, Any]]:
    """``groups`` as ``torch.optim`` takes them; it keeps their ``lr_scale``."""
    return [
        {"params": list(group.parameters.values()), "lr": lr * group.lr_scale, "lr_scale": group.lr_scale}
        for group in groups
    ]
