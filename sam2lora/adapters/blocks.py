"""Which Hiera blocks an adapter touches. Blocks count from 0, stages from 1."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Gt, MinLen
from pydantic import AfterValidator, Field

from sam2lora.backbones import Architecture
from sam2lora.choice import choice


@choice
class AllBlocks:
    """Every block, as in SAM2LoRA."""

    kind: Literal["all"] = "all"

    def of(self, shape: Architecture) -> frozenset[int]:
        """The indices of all blocks."""
        return frozenset(range(sum(shape.stages)))


@choice
class GlobalBlocks:
    """The few blocks that attend to the whole map; the others see windows only."""

    kind: Literal["global"] = "global"

    def of(self, shape: Architecture) -> frozenset[int]:
        """The indices of the blocks with global attention."""
        return frozenset(shape.global_blocks)


def _ascending(stages: tuple[int, ...]) -> tuple[int, ...]:
    if list(stages) != sorted(set(stages)):
        raise ValueError(f"stages must ascend without repetition, so that one set has one name, but got {stages}")
    return stages


@choice
class Stages:
    """The blocks of some stages: 1 is the finest map, 4 the coarsest."""

    kind: Literal["stages"] = "stages"
    stages: Annotated[tuple[Literal[1, 2, 3, 4], ...], MinLen(1), AfterValidator(_ascending)]

    def of(self, shape: Architecture) -> frozenset[int]:
        """The indices of the blocks of these stages."""
        return frozenset(block for block, stage in enumerate(shape.stage_of) if stage in self.stages)


@choice
class LastBlocks:
    """The last ``count`` blocks; the forward pass in front of them is not recorded. Fewer blocks: ``ValueError``."""

    kind: Literal["last"] = "last"
    count: Annotated[int, Gt(0)]

    def of(self, shape: Architecture) -> frozenset[int]:
        """The indices of the last ``count`` blocks."""
        depth = sum(shape.stages)
        if self.count > depth:
            raise ValueError(f"LastBlocks.count must be at most the {depth} blocks of the trunk, but got {self.count}")
        return frozenset(range(depth - self.count, depth))


Blocks = Annotated[AllBlocks | GlobalBlocks | Stages | LastBlocks, Field(discriminator="kind")]
