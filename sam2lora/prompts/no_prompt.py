"""No prompt."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from sam2lora.choice import choice


@choice
class NoPrompt:
    """No prompt at all: the model finds the structure by itself, as it must in a clinic."""

    oracle: ClassVar[bool] = False
    gives_points: ClassVar[bool] = False
    kind: Literal["no_prompt"] = "no_prompt"

    def sample(self, mask: NDArray[np.bool_], rng: np.random.Generator) -> None:
        """Nothing, for any mask (S, S); draws nothing from ``rng``."""
