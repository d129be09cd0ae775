"""The search that people write today, for ``benchmarks.makespan``: one function around peft, MONAI and scikit-learn.

Nothing of sam2lora is imported in a trial: the model is a pickled module of the official package, images are arrays.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Settings:
    """One configuration. ``targets``: names of the adapted Linear layers within SAM 2."""

    targets: tuple[str, ...]
    rank: int
    alpha: float
    dropout: float
    lr: float


@dataclass(frozen=True)
class Task:
    """What every trial of a run has in common.

    ``model``: a pickled ``SAM2Base``. ``train``: an ``.npz`` file with ``images`` (N, S, S, 3) uint8 and ``masks``
    (N, S, S). ``val``, and ``tests`` by the name of the set: folders with one ``.npz`` file for each image.
    ``threads``: of a trial, on the host. ``bfloat16``: whether its forward passes are autocast.
    """

    model: Path
    train: Path
    val: Path
    tests: dict[str, Path]
    epochs: int
    batch: int
    device: str = "cpu"
    threads: int = 1
    bfloat16: bool = False


def search(
    settings: list[Settings], task: Task, at_once: int, folder: Path, cpus: float = 1.0, gpus: float = 0.0
) -> list[dict[str, float]]:
    """Ray Tune with OptunaSearch and MLflow's callback, ``at_once`` trials at a time: the last report of each.

    Each trial has ``cpus`` cores and ``gpus`` of a GPU.
    """
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    numbers: list[dict[str, Any]] = [{"number": number} for number in range(len(settings))]
    tracking = MLflowLoggerCallback(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", experiment_name="glue")

    def trial(config: dict[str, Any]) -> None:
        train(settings[config["number"]], task)

    tuner = tune.Tuner(
        tune.with_resources(trial, {"cpu": cpus, "gpu": gpus}),
        param_space={"number": tune.choice(range(len(settings)))},
        tune_config=tune.TuneConfig(
            metric="score", mode="max", num_samples=len(settings), max_concurrent_trials=at_once,
            search_alg=OptunaSearch(points_to_evaluate=numbers),
        ),
        run_config=tune.RunConfig(storage_path=str(folder / "ray"), verbose=0, callbacks=[tracking]),
    )  # fmt: skip
    ended = {result.config["number"]: result.metrics for result in tuner.fit() if result.config and not result.error}
    if missing := set(range(len(settings))) - ended.keys():
        raise ValueError(f"Every trial of the glue must end, but {sorted(missing)} did not: see {folder / 'ray'}.")
    return [ended[number] for number in range(len(settings))]


def train(settings: Settings, task: Task) -> None:
    """One trial: load, train, validate after every epoch, test after the last one."""
    import numpy as np
    import torch
    from monai.losses.dice import DiceCELoss
    from peft import LoraConfig, inject_adapter_in_model
    from ray import tune
    from torch.nn.functional import interpolate
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    torch.set_num_threads(task.threads)
    torch.manual_seed(0)
    sam = torch.load(task.model, weights_only=False)
    options: dict[str, Any] = {"r": settings.rank, "lora_alpha": settings.alpha, "lora_dropout": settings.dropout}
    lora = LoraConfig(**options, target_modules=list(settings.targets))
    inject_adapter_in_model(lora, sam)
    sam.to(task.device)
    parameters = [parameter for parameter in sam.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr)
    loss = DiceCELoss(sigmoid=True, smooth_nr=1.0, smooth_dr=1.0, lambda_dice=0.5, lambda_ce=0.5)
    augment = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()])
    with np.load(task.train) as file:
        images, masks = torch.from_numpy(file["images"]).permute(0, 3, 1, 2), torch.from_numpy(file["masks"])
    steps = -(-len(images) // task.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task.epochs * steps)
    for epoch in range(1, task.epochs + 1):
        sam.train()
        order = torch.randperm(len(images)).tolist()
        for begin in range(0, len(order), task.batch):
            batch = order[begin : begin + task.batch]
            pairs = [augment(tv_tensors.Image(images[i]), tv_tensors.Mask(masks[i][None])) for i in batch]
            x = torch.stack([image.as_subclass(torch.Tensor) for image, _ in pairs]).to(task.device).float() / 255
            y = torch.stack([mask.as_subclass(torch.Tensor) for _, mask in pairs]).to(task.device).float()
            logits = interpolate(
                _logits(sam, x, task.bfloat16), size=y.shape[-2:], mode="bilinear", align_corners=False
            )
            optimizer.zero_grad()
            loss(logits, y).backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
        score = evaluate(sam, task.val, full=False, bfloat16=task.bfloat16)["dice"]
        report = {"score": score, "epoch": epoch}
        if epoch == task.epochs:
            for name, folder in task.tests.items():
                found = evaluate(sam, folder, full=True, bfloat16=task.bfloat16)
                report |= {f"{name}/{metric}": value for metric, value in found.items()}
            report["peak_mib"] = _peak_mib(task.device)
        tune.report(report)


def _peak_mib(device: str) -> float:
    """Of the process on a CPU, of the device's allocator on a GPU."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _logits(sam: Any, images: Any, bfloat16: bool) -> Any:
    import torch

    with torch.autocast(images.device.type, torch.bfloat16, enabled=bfloat16):
        return forward(sam, images).float()


def forward(sam: Any, images: Any) -> Any:
    """Logits (N, 1, h, h) of the official model for ``images`` (N, 3, S, S) in [0, 1], without a prompt."""
    mean, std = (images.new_tensor(values).view(3, 1, 1) for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    found = sam.forward_image((images - mean) / std)
    fine, middle, image = found["backbone_fpn"][-3:]
    sparse, dense = sam.sam_prompt_encoder(points=None, boxes=None, masks=None)
    masks, *_ = sam.sam_mask_decoder(
        image_embeddings=image + sam.no_mem_embed.view(1, -1, 1, 1),
        image_pe=sam.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=sparse.expand(len(images), -1, -1),
        dense_prompt_embeddings=dense.expand(len(images), -1, -1, -1),
        multimask_output=True,
        repeat_image=False,
        high_res_features=[fine, middle],
    )
    return masks[:, :1]


def evaluate(sam: Any, folder: Path, *, full: bool, bfloat16: bool = False) -> dict[str, float]:
    """Means over the images of ``folder`` at native size inside the field of view: Dice and, if ``full``, five more."""
    import cv2
    import numpy as np
    import torch
    from sklearn.metrics import roc_auc_score
    from torch.nn.functional import interpolate

    sam.eval()
    device = next(sam.parameters()).device
    rows = []
    files = sorted(folder.iterdir())
    for begin in range(0, len(files), 4):
        loaded = [dict(np.load(file)) for file in files[begin : begin + 4]]
        x = (
            torch.stack([torch.from_numpy(item["image"]) for item in loaded]).to(device).permute(0, 3, 1, 2).float()
            / 255
        )
        with torch.no_grad():
            logits = interpolate(_logits(sam, x, bfloat16), size=x.shape[-2:], mode="bilinear", align_corners=False)
        for item, frame in zip(loaded, logits[:, 0].cpu().numpy(), strict=True):
            (top, left, bottom, right), (height, width) = item["box"], item["content"]
            native = np.full(item["mask"].shape, -20.0, np.float32)
            native[top:bottom, left:right] = cv2.resize(frame[:height, :width], (int(right - left), int(bottom - top)))
            truth, score = item["mask"][item["fov"]], native[item["fov"]]
            tp, fp, fn = ((score > 0) & truth).sum(), ((score > 0) & ~truth).sum(), ((score <= 0) & truth).sum()
            row = {"dice": 2 * tp / (2 * tp + fp + fn)}
            if full:
                tn = truth.size - tp - fp - fn
                row |= {"iou": tp / (tp + fp + fn), "sensitivity": tp / (tp + fn), "specificity": tn / (tn + fp)}
                row |= {"accuracy": (tp + tn) / truth.size, "auc": roc_auc_score(truth, score)}
            rows.append(row)
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
