"""Prompts. A choice draws, from the mask of one image, the marks that SAM is given with it.

Every mark becomes a point, as in the official predictor: a box is two points, its corners. A choice says whether it
``gives_points``, and whether they are an ``oracle``, drawn from the ground truth: at test time that shows the model a
part of the answer, and a score that was reached with one must say so.

A mask that cannot give a mark leaves padding in its place. SAM embeds padding by a learned token of its own, and adds
one such token to any points that it gets; so an image with nothing but padding is not one without a prompt: its decoder
sees tokens that say "no point", where without a prompt it sees none.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sam2lora.prompts.box import Box
from sam2lora.prompts.marks import Marks, as_tensors
from sam2lora.prompts.no_prompt import NoPrompt
from sam2lora.prompts.noisy_box import NoisyBox
from sam2lora.prompts.points import Points
from sam2lora.prompts.points_and_box import PointsAndBox
from sam2lora.prompts.regions import Region

Prompt = Annotated[NoPrompt | Points | Box | PointsAndBox | NoisyBox, Field(discriminator="kind")]

PAPER_MODES: dict[str, Prompt] = {
    "none": NoPrompt(),
    "1 point": Points(positive=1, region="density"),
    "2 points": Points(positive=2, region="density"),
    "5 points": Points(positive=5, region="density"),
    "5 points + negative": Points(positive=5, negative=1, region="density"),
    "box": Box(),
    "points + box": PointsAndBox(points=Points(positive=5, negative=1, region="density")),
}
"""The seven prompts that SAM2LoRA is tested with, in its order. Its published code draws no negative point, so its
fourth is its third again; here it is drawn. All but "none" are drawn from the ground truth."""

__all__ = [
    "PAPER_MODES",
    "Box",
    "Marks",
    "NoPrompt",
    "NoisyBox",
    "Points",
    "PointsAndBox",
    "Prompt",
    "Region",
    "as_tensors",
]
