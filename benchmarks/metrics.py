"""``python -m benchmarks.metrics``: what the metrics of one image cost, beside the libraries that have them.

Two images, drawn by the procedural hospitals: *vessels*, a network of thin branches, and *disc*, one round shape. The
prediction is the truth with a ragged outline, shifted by a pixel. Every metric is computed by ``sam2lora.metrics``
and by the library that people take for it, and the two numbers must agree, or the command fails. Since no library knows
a field of view, both sides get the whole image; what `measure` takes within the field of view is timed besides.

Times are CPU milliseconds of the process, all its threads added up, so what one core needs; the least of several
rounds in which all sides take turns, so that what else the machine does falls on none of them alone.
"""

from __future__ import annotations

import argparse
import math
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_distance import compute_average_surface_distance
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.ndimage import binary_erosion
from scipy.special import expit
from skimage.morphology import skeletonize
from sklearn import metrics as scikit_learn
from sklearn.calibration import calibration_curve

from benchmarks.machine import machine, save
from sam2lora.datasets.painter import paint
from sam2lora.metrics import METRICS, Mask, Metric, measure
from sam2lora.metrics.contours import BOUNDARY_SHARE
from sam2lora.metrics.histogram import CALIBRATION_BINS

BORDER = -12.0
"""The logit outside the field of view: a camera's black border is predicted right and surely."""


@dataclass(frozen=True)
class Sample:
    """One image: ``logits``, ``mask`` and ``fov``, all (H, W); nothing is drawn or predicted outside ``fov``."""

    logits: NDArray[np.float32]
    mask: Mask
    fov: Mask


@dataclass(frozen=True)
class Peer:
    """Who else computes a metric, how, and by how much the two numbers may differ. Conversions are on its time."""

    library: str
    compute: Callable[[Sample], float]
    tolerance: float = 1e-9


@dataclass(frozen=True)
class Compared:
    """One metric of one image: CPU milliseconds and value of either side."""

    image: str
    metric: Metric
    milliseconds: float
    value: float
    library: str
    library_milliseconds: float
    library_value: float


def samples(size: int) -> dict[str, Sample]:
    """The two images, (size, size)."""
    painted = paint("alder", size, 0, 0)
    return {name: _sample(mask, painted.fov) for name, mask in (("vessels", painted.vessels), ("disc", painted.disc))}


def _sample(mask: Mask, fov: Mask) -> Sample:
    rng = np.random.default_rng(0)
    ragged = cv2.GaussianBlur(rng.normal(0, 1, mask.shape).astype(np.float32), (0, 0), 3) * 12
    inside, outside = (cv2.distanceTransform(each.view(np.uint8), cv2.DIST_L2, 5) for each in (mask, ~mask))
    logits = np.roll(inside - outside, 1, 1) + ragged
    # The photograph's edge is no contour to us and is one to the libraries: nothing lies on it.
    within = fov.copy()
    within[[0, -1]] = within[:, [0, -1]] = False
    return Sample(np.where(within, logits, BORDER).astype(np.float32), mask & within, fov)


def _of_masks(score: Callable[..., float], **options: object) -> Callable[[Sample], float]:
    return lambda sample: float(score(sample.mask.ravel(), sample.logits.ravel() > 0, **options))


def _auc(sample: Sample) -> float:
    return float(scikit_learn.roc_auc_score(sample.mask.ravel(), sample.logits.ravel()))


def _ece(sample: Sample) -> float:
    p = expit(sample.logits.astype(np.float64)).ravel()
    share, predicted = calibration_curve(sample.mask.ravel(), p, n_bins=CALIBRATION_BINS)
    pixels = np.histogram(p, CALIBRATION_BINS, (0, 1))[0]
    return float(pixels[pixels > 0] @ np.abs(share - predicted)) / p.size


def _tensors(sample: Sample) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(sample.logits > 0)[None, None].float(), torch.from_numpy(sample.mask)[None, None].float()


def _hd95(sample: Sample) -> float:
    guess, mask = _tensors(sample)
    return float(compute_hausdorff_distance(guess, mask, include_background=True, percentile=95))


def _assd(sample: Sample) -> float:
    guess, mask = _tensors(sample)
    return float(compute_average_surface_distance(guess, mask, include_background=True, symmetric=True))


def _boundary_iou(sample: Sample) -> float:
    width = max(1, round(BOUNDARY_SHARE * math.hypot(*sample.mask.shape)))
    square = np.ones((3, 3), bool)
    one, other = (
        each & ~binary_erosion(each, square, iterations=width) for each in (sample.logits > 0, sample.mask)
    )  # fmt: skip
    return float((one & other).sum() / (one | other).sum())


def _cldice(sample: Sample) -> float:
    guess = sample.logits > 0
    one, other = skeletonize(guess), skeletonize(sample.mask)
    precision, sensitivity = (one & sample.mask).sum() / one.sum(), (other & guess).sum() / other.sum()
    return float(2 * precision * sensitivity / (precision + sensitivity))


# AUC and calibration error are read off a histogram of half-precision logits, MONAI computes in float32.
PEERS: dict[Metric, Peer] = {
    "dice": Peer("scikit-learn", _of_masks(scikit_learn.f1_score)),
    "iou": Peer("scikit-learn", _of_masks(scikit_learn.jaccard_score)),
    "auc": Peer("scikit-learn", _auc, tolerance=1e-4),
    "sensitivity": Peer("scikit-learn", _of_masks(scikit_learn.recall_score)),
    "specificity": Peer("scikit-learn", _of_masks(scikit_learn.recall_score, pos_label=0)),
    "accuracy": Peer("scikit-learn", _of_masks(scikit_learn.accuracy_score)),
    "precision": Peer("scikit-learn", _of_masks(scikit_learn.precision_score)),
    "mcc": Peer("scikit-learn", _of_masks(scikit_learn.matthews_corrcoef)),
    "hd95": Peer("MONAI", _hd95, tolerance=1e-5),
    "assd": Peer("MONAI", _assd, tolerance=1e-5),
    "boundary_iou": Peer("SciPy", _boundary_iou),
    "cldice": Peer("scikit-image", _cldice),
    "ece": Peer("scikit-learn", _ece, tolerance=2e-4),
}


def compare(image: str, sample: Sample, rounds: int) -> list[Compared]:
    """Every metric of one image on both sides. Raises ``ValueError`` if two numbers differ by more than they may."""
    compared = []
    for metric, peer in PEERS.items():
        ours = partial(measure, sample.logits, sample.mask, None, (metric,))
        value, other = ours()[metric], peer.compute(sample)
        if not math.isclose(value, other, rel_tol=0, abs_tol=peer.tolerance):
            raise ValueError(
                f"{metric} of {image} must be {peer.library}'s within {peer.tolerance:g}, but is {value!r} and there "
                f"{other!r}: one of the two is wrong, or their conventions differ."
            )
        times = milliseconds([ours, partial(peer.compute, sample)], rounds)
        compared.append(Compared(image, metric, times[0], value, peer.library, times[1], other))
    return compared


def milliseconds(sides: list[Callable[[], object]], rounds: int) -> list[float]:
    """The least CPU time of each of the ``sides``, which take turns. None of them should run for the first time."""
    least = [math.inf] * len(sides)
    for _ in range(rounds):
        for k, side in enumerate(sides):
            begun = time.process_time()
            side()
            least[k] = min(least[k], 1000 * (time.process_time() - begun))
    return least


def libraries(sample: Sample) -> None:
    """The metrics of ``PEERS`` as a careful user gets them: one confusion matrix for the seven that need no more."""
    scikit_learn.confusion_matrix(sample.mask.ravel(), sample.logits.ravel() > 0)
    for metric in ("auc", "hd95", "assd", "boundary_iou", "cldice", "ece"):
        PEERS[metric].compute(sample)


def together(sample: Sample, rounds: int) -> dict[str, float]:
    """CPU milliseconds of all metrics of one image, by who computes them; our side in two ways."""
    sides: dict[str, Callable[[], object]] = {
        "sam2lora": partial(measure, sample.logits, sample.mask, None, tuple(PEERS)),
        "libraries": partial(libraries, sample),
        "sam2lora, in the field of view": partial(measure, sample.logits, sample.mask, sample.fov, METRICS),
    }
    return dict(zip(sides, milliseconds(list(sides.values()), rounds), strict=True))


def run(size: int, rounds: int) -> list[dict[str, Any]]:
    """Both images: every metric alone (``metrics``: see `Compared`) and all of them together (``all``)."""
    return [
        {"image": image, "all": together(sample, rounds), "metrics": list(map(asdict, compare(image, sample, rounds)))}
        for image, sample in samples(size).items()
    ]


def table(runs: Iterable[Mapping[str, Any]]) -> Table:
    """What ``run`` measured, to be read."""
    shown = Table("image", "metric", "CPU ms", "value", "library", "its ms", "its value")
    for each in runs:
        for row in each["metrics"]:
            ours = each["image"], row["metric"], f"{row['milliseconds']:.1f}", f"{row['value']:.5f}"
            theirs = row["library"], f"{row['library_milliseconds']:.1f}", f"{row['library_value']:.5f}"
            shown.add_row(*ours, *theirs)
        one, other, inside = (f"{spent:.1f}" for spent in each["all"].values())
        shown.add_row(each["image"], f"all {len(PEERS)}", one, "", "all", other, "")
        shown.add_row(each["image"], f"all {len(METRICS)}, FOV", inside, end_section=True)
    return shown


def main() -> None:
    """Measure, print and write."""
    first = (__doc__ or "").partition("\n")[0]
    command = argparse.ArgumentParser(prog="python -m benchmarks.metrics", description=first)
    command.add_argument("--size", type=int, default=1024, metavar="PIXELS", help="side of the images")
    command.add_argument("--rounds", type=int, default=5, metavar="N", help="how often each side is timed")
    command.add_argument("--out", type=Path, default=Path("benchmarks/results/metrics.json"), metavar="FILE")
    arguments = command.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning, module="monai")
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    described = machine()
    runs = run(arguments.size, arguments.rounds)
    Console().print(table(runs))
    result = {"machine": described, "size": arguments.size, "rounds": arguments.rounds, "runs": runs}
    save(result, arguments.out)


if __name__ == "__main__":
    main()
