"""A threshold chosen on the validation images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sam2lora.choice import choice
from sam2lora.errors import DataError

_STEPS = 1000


@choice
class ChosenOnValidation:
    """The probability among 0.001, 0.002, ..., 0.999 with the highest Dice on the validation images of the sources.

    The Dice is the objective's own: the mean over the images of a source, then over sources with equal weight. Of
    equally good ones the nearest to 0.5 is taken, then the lower, so that masks which are all empty, or all found at
    0.5, leave it there. The validation images have steered the search as well, which a threshold may fit a little too
    closely; test images and targets take no part in it.
    """

    kind: Literal["chosen_on_validation"] = "chosen_on_validation"

    @property
    def candidates(self) -> NDArray[np.float64]:
        """All 999 of them."""
        return np.arange(1, _STEPS) / _STEPS

    def conflicts(self, config: Any) -> Iterator[str]:
        """Sources must give the validation images."""
        if not config.protocol.sources:
            yield (
                f"it is chosen on the validation images of sources, but {config.protocol.kind!r} has none: name a "
                f"source, or use Fixed()."
            )

    def find(self, sources: Sequence[Sequence[NDArray[np.float64]]]) -> float:
        """The best candidate by the Dice (999,) of every image. One without a pixel has none (NaN) and is left out.

        Raises ``DataError`` if a source has no image with a Dice, or if there is no source.
        """
        score = _mean([_mean(images) for images in sources])
        best = np.flatnonzero(score == score.max()) + 1
        return float(best[np.argmin(np.abs(2 * best - _STEPS))] / _STEPS)


def _mean(curves: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    defined = [curve for curve in curves if not np.isnan(curve).any()]
    if not defined:
        raise DataError(
            f"A threshold is chosen on validation images with a field of view, but a source has none among "
            f"{len(curves)}: add validation images, or use a fixed threshold."
        )
    return np.asarray(np.mean(defined, axis=0))
