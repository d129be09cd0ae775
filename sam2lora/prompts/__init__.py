"""Prompts. A choice samples the points that SAM is given with each image, from the image's mask.

A prompt drawn from the mask is an ``oracle``: at test time it shows the model a part of the answer, and a score that
was reached with one must say so.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from sam2lora.prompts.no_prompt import NoPrompt
from sam2lora.prompts.points import Points

Prompt = Annotated[NoPrompt | Points, Field(discriminator="kind")]

__all__ = ["NoPrompt", "Points", "Prompt"]
