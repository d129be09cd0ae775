"""``python -m benchmarks.roofline``: what a training step would take on GPUs that are not at hand, and what limits it.

The project's training (`sam2lora.training.loop.lockstep`, alone or in a pack) runs on tensors without numbers
(`benchmarks.counting`), so that every operation is known with its arithmetic, its bytes and its launches. A device is
its data sheet. The model (Williams, Waterman and Patterson 2009, "Roofline") takes one operation after the other:

- the device is busy with it for the longest of its arithmetic at the peak rate of its precision, its bytes at the peak
  bandwidth, and the time that the smallest kernel takes;
- the host launches its kernels one by one, augmentation of the next batch included;
- a step takes what the slower of the two takes, or both where the host waits for the device in its midst.

So a predicted second is a bound from below: real kernels reach half to four fifths of a peak, small matrices less.
Rates are dense, and float32 is float32, without TensorFloat-32. *If launches were free*: the device alone, as in a CUDA
graph that holds the whole step.

The model is checked on this CPU. Its peaks are measured at start, and since one core is no data sheet, so is the share
of them that each kind of operations attains (`measured`).
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from itertools import pairwise, product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR

from benchmarks.counting import Operation, Tally, stand_in
from benchmarks.machine import machine, save
from sam2lora.adapters import Attachment, LoRA
from sam2lora.augments import Fundus
from sam2lora.backbones import Hiera, Nano, published
from sam2lora.config import Replicate, TrialConfig
from sam2lora.datasets import Native, Synthetic, to_native
from sam2lora.metrics import measure
from sam2lora.models.build import build, shapes
from sam2lora.models.segmenter import Batch, Segmenter
from sam2lora.protocols import Transfer
from sam2lora.runtime import Runtime
from sam2lora.training import loop, packing
from sam2lora.training.memory import training_need
from sam2lora.training.session import Cost, Session, groups_of

Limit = Literal["launches", "bandwidth", "arithmetic"]
LIMITS: tuple[Limit, ...] = ("launches", "bandwidth", "arithmetic")
Precision = Literal["float32", "bfloat16"]
Place = Literal["everywhere", "decoder"]
Kind = Literal["product", "convolution", "attention", "function", "reduction", "rearrangement", "drawing", "pass"]

_NAMES: dict[Kind, tuple[str, ...]] = {
    "product": ("mm", "addmm", "bmm", "baddbmm"),
    "convolution": ("convolution",),
    "attention": ("scaled_dot_product",),
    "function": ("gelu", "sigmoid", "exp", "log", "pow", "softplus", "binary_cross_entropy", "upsample"),
    "reduction": ("sum", "mean", "foreach_norm", "linalg", "native_layer_norm", "softmax", "max_pool2d"),
    "rearrangement": ("clone", "copy", "to_copy", "cat", "stack", "index", "constant_pad", "slice_", "select_"),
    "drawing": ("random",),
}


def kind(name: str) -> Kind:
    """What an operation does with its numbers. ``"pass"``: it passes over them once, as all that is not named."""
    return next((of for of, names in _NAMES.items() if name.lstrip("_").startswith(names)), "pass")


@dataclass(frozen=True)
class Device:
    """Peaks: floating-point operations and bytes in a second, and seconds of the smallest kernel and of its launch.

    ``tensor_float32``: of products in float32 whose factors may be rounded, which ours may not. ``half``: of products
    in bfloat16 with sums in float32; None where there are none. ``memory``: bytes. ``bus``: bytes in a second from the
    host. ``launch``: of the host's time, Python, autograd and the driver together. ``attained``: the share of its peak
    that a kind of operations comes to; 1 unless it is named.
    """

    name: str
    float32: float
    tensor_float32: float
    half: float | None
    bandwidth: float
    memory: float
    bus: float
    kernel: float = 2e-6
    launch: float = 10e-6
    attained: Mapping[Kind, float] = field(default_factory=dict)

    def has(self, precision: Precision) -> bool:
        """Whether a training step in ``precision`` runs at a rate of the data sheet."""
        return precision == "float32" or self.half is not None

    def rate(self, operation: Operation) -> float:
        """The peak of the units that do its arithmetic."""
        if operation.dtype == torch.bfloat16:
            if self.half is None:
                raise ValueError(f"bfloat16 needs units for it, but {self.name} has none: predict float32.")
            return self.half
        return self.float32


# Dense peaks of NVIDIA's data sheets and white papers; ``bus`` is one direction of PCIe x16. A kernel that does nothing
# occupies a GPU for about 2 us. A launch takes 5 us in C++ and the driver, and Python's modules and autograd as much:
# the smallest step of nano takes a core of ours 20 us for each operation, arithmetic included.
DEVICES = (
    # NVIDIA H100 data sheet, SXM: half of the rates with sparsity. PCIe 5.
    Device("H100", 67e12, 494.7e12, 989.4e12, 3.35e12, 80e9, 64e9),
    # NVIDIA H200 data sheet, SXM: an H100 with faster and larger memory.
    Device("H200", 67e12, 494.7e12, 989.4e12, 4.8e12, 141e9, 64e9),
    # NVIDIA A100 data sheet, SXM with 80 GB. PCIe 4.
    Device("A100", 19.5e12, 156e12, 312e12, 2.039e12, 80e9, 32e9),
    # NVIDIA Ada GPU architecture white paper, appendix A: rates with sums in float32. PCIe 4.
    Device("RTX 4090", 82.6e12, 82.6e12, 165.2e12, 1.008e12, 24e9, 32e9),
    # NVIDIA T4 data sheet. Turing has neither bfloat16 nor TensorFloat-32; its float16 (65e12) is no choice of ours.
    Device("T4", 8.1e12, 8.1e12, None, 0.32e12, 16e9, 16e9),
)


@dataclass(frozen=True)
class Predicted:
    """Seconds of a step: of the ``host``, which launches, and of the device, by what bounds each operation there.

    ``waits``: how often the host stands still within the step until the device is done.
    """

    host: float
    busy: Mapping[Limit, float]
    waits: int = 0

    @property
    def free(self) -> float:
        """Seconds if launches were free."""
        return sum(self.busy.values())

    @property
    def seconds(self) -> float:
        """What the slower of host and device takes; one after the other where the host waits."""
        return self.host + self.free if self.waits else max(self.host, self.free)

    @property
    def limit(self) -> Limit:
        """What to make faster: launches where the device waits for the host or for its smallest kernels."""
        return "launches" if self.host > self.free else max(LIMITS, key=lambda limit: self.busy[limit])


def predict(operations: Sequence[Operation], device: Device) -> Predicted:
    """The step of ``operations`` on ``device``."""
    busy = dict.fromkeys(LIMITS, 0.0)
    for operation in operations:
        limit, seconds = bound(operation, device)
        busy[limit] += seconds
    launches, waits = (sum(getattr(operation, what) for operation in operations) for what in ("launches", "waits"))
    return Predicted(device.launch * launches, busy, waits)


def bound(operation: Operation, device: Device) -> tuple[Limit, float]:
    """What bounds an operation on ``device``, and the seconds that it is busy with it."""
    share = device.attained.get(kind(operation.name), 1.0)
    seconds: dict[Limit, float] = {
        "launches": device.kernel * operation.launches,
        "bandwidth": operation.moved / (device.bandwidth * (1 if operation.flops else share)),
        "arithmetic": operation.flops / (device.rate(operation) * share) if operation.flops else 0.0,
    }
    return max(seconds.items(), key=lambda item: item[1])


def config(
    backbone: Hiera, size: int, precision: Precision, place: Place = "everywhere", batch: int = 2
) -> TrialConfig:
    """The default trial in batches of images of ``size`` pixels, with LoRA everywhere or in the mask decoder alone."""
    source = Synthetic(hospital="dogwood", images=6, size=size)
    return TrialConfig(
        protocol=Transfer(sources=(source,)),
        backbone=backbone,
        adapters=(LoRA(encoder="qkv" if place == "everywhere" else "none"),),
        image_size=size,
        batch_size=batch,
        precision=precision,
    )


def counted(config: TrialConfig, trials: int, *, cast: bool = False) -> list[Operation]:
    """The operations of one step of a pack of ``trials`` on a GPU, or of a lone trial (0). Needs neither.

    All see the same images. ``cast``: the frozen weights of Linear layers and convolutions are in bfloat16 to begin
    with, so that autocast does not cast them in every step.
    """
    segmenter = shapes(config.backbone, config.image_size)
    with stand_in(), Tally("cuda", answer=1) as tally:
        segmenter.to_empty(device="cuda").requires_grad_(False)
        entered = [_entered(config, segmenter) for _ in range(max(trials, 1))]
        if cast:
            _cast(segmenter)
        marks: list[int] = []
        _advance(entered, trials > 0, _batch(config), lambda: marks.append(len(tally.operations)), steps=1)
    begin, end = marks
    return tally.operations[begin:end]


def _entered(config: TrialConfig, segmenter: Segmenter, device: str = "cuda") -> Session:
    """A trial that is ready to train."""
    attachment = Attachment(segmenter, config.parts)
    optimizer = config.optimizer.build(groups_of(config, attachment))
    for parameter in attachment.parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # makes its state, which only the first step does
    return Session(
        config, Replicate(), Runtime(device=device), (), (), attachment, optimizer, LambdaLR(optimizer, lambda _: 1.0),
        tuple((0, image) for image in range(1000)), Cost(),
    )  # fmt: skip


def _cast(segmenter: nn.Module) -> None:
    for module in segmenter.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            for name, parameter in module.named_parameters(recurse=False):
                setattr(module, name, nn.Parameter(parameter.to(torch.bfloat16), requires_grad=False))


def _batch(config: TrialConfig, device: str = "cuda") -> Batch:
    n, side = config.batch_size, config.image_size
    images = torch.rand(n, 3, side, side, device=device)
    return Batch(images, torch.zeros(n, 1, side, side, device=device), None)


def _advance(sessions: Sequence[Session], packed: bool, batch: Batch, mark: Callable[[], object], steps: int) -> None:
    """Train for ``steps`` steps on one batch, which is there already; ``mark`` is called around each."""

    def batches(*_: Any) -> Iterator[Batch]:
        for _step in range(steps):
            mark()
            yield batch
        mark()

    with ExitStack() as stack:
        stack.enter_context(patch.object(loop, "batches", batches))
        stack.enter_context(patch.object(loop, "prefetch_on_stream", lambda items, device: items))
        stack.enter_context(patch.object(loop, "to_host", _to_host))
        if packed:
            packing.advance(sessions)
        else:
            sessions[0].segmenter.train()
            loop.lockstep(sessions, loop.SingleForward(sessions[0]))


def _to_host(tensor: Tensor) -> Callable[[], Tensor]:
    host = tensor.to("cpu", non_blocking=True)
    return lambda: host


@dataclass(frozen=True)
class Line:
    """A step of a pack of ``trials`` (0: alone) in ``place``: what it asks for, and what it is predicted to take.

    ``shared``, ``own``: MiB of the frozen weights and of each trial (`sam2lora.training.memory`).
    ``predicted``: by device.
    ``worth``: by device, the factor by which one thing more would make a step faster (`worth`).
    """

    backbone: str
    size: int
    precision: Precision
    place: Place
    trials: int
    launches: int
    waits: int
    flops: int
    moved: int
    shared: float
    own: float
    predicted: Mapping[str, Predicted]
    worth: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def fits(self, device: Device) -> bool:
        """Whether the trials have room in the memory of ``device``."""
        return (self.shared + max(self.trials, 1) * self.own) * 2**20 <= device.memory


def line(name: str, size: int, precision: Precision, place: Place, trials: int) -> Line:
    """The line of a backbone, counted and predicted on every device that has the precision."""
    asked = config(_backbone(name), size, precision, place)
    loader = asked.batch_size * augmented(asked)
    operations = counted(asked, trials) + loader
    cast = counted(asked, trials, cast=True) + loader if precision == "bfloat16" else operations
    need, devices = _need(asked), [device for device in DEVICES if device.has(precision)]
    return Line(
        name, size, precision, place, trials,
        launches=sum(operation.launches for operation in operations),
        waits=sum(operation.waits for operation in operations),
        flops=sum(operation.flops for operation in operations),
        moved=sum(operation.moved for operation in operations),
        shared=need.shared,
        own=need.own,
        predicted={device.name: predict(operations, device) for device in devices},
        worth={device.name: worth(operations, cast, device) for device in devices},
    )  # fmt: skip


_need = lru_cache(maxsize=1)(training_need)


def augmented(config: TrialConfig) -> list[Operation]:
    """The operations that augment one image, in a thread that shares the host's time with the step.

    Counted on the CPU: torchvision's tensors wrap none that are fake.
    """
    side = config.image_size
    image, mask = torch.zeros(3, side, side, dtype=torch.uint8), torch.zeros(side, side, dtype=torch.uint8)
    with Tally("cpu") as tally:
        config.augment(image, mask, 0)
    return [operation for operation in tally.operations if not operation.waits]  # drawn on the host, wherever it runs


def _backbone(name: str) -> Hiera:
    found = Nano() if name == "nano" else published(name)
    if found is None:
        raise ValueError(f"A backbone must be nano or a SAM 2, but got {name!r}: use tiny, small, base+ or large.")
    return found


_FUSED: tuple[Kind, ...] = ("function", "rearrangement", "drawing", "pass")


def worth(operations: Sequence[Operation], cast: Sequence[Operation], device: Device) -> dict[str, float]:
    """By what factor a step on ``device`` would be faster with one thing built, and all else as it is.

    ``"captured"``: no launches, as in a CUDA graph. ``"fused"``: none of the operations that a compiler can merge into
    their neighbours, so the most that it can do. ``"captured and fused"``: both. ``"cast"``: frozen weights are kept in
    bfloat16, which makes the step ``cast``. ``"tensor_float32"``: the factors of products in float32 are rounded to it.
    """
    now = predict(operations, device)
    fused = predict([operation for operation in operations if kind(operation.name) not in _FUSED], device)
    rounded = predict(operations, replace(device, float32=device.tensor_float32))
    return {
        "captured": now.seconds / now.free,
        "fused": now.seconds / fused.seconds,
        "captured and fused": now.seconds / fused.free,
        "cast": now.seconds / predict(cast, device).seconds,
        "tensor_float32": now.seconds / rounded.seconds,
    }


def transferred(line: Line, device: Device) -> float:
    """Seconds in which the two images and masks of a batch come from the host as bytes, while a step runs."""
    return 2 * (3 + 1) * line.size**2 / device.bus


def measured() -> Device:
    """One core of this CPU, from operations that take a few seconds together.

    Its peaks are those of a product of two large matrices, of copies to fresh memory (which the system must first give:
    a step writes to little else), and of operations on a single number, forwards and backwards. A kind of operations
    attains the share of them that its sample does.
    """
    torch.set_num_threads(1)
    large, map_, small = torch.rand(768, 768), torch.rand(2**21), torch.ones((), requires_grad=True)

    def chain() -> None:
        y = small
        for _ in range(100):
            y = y * small
        y.backward()  # type: ignore[no-untyped-call]

    rate = 2 * 768**3 / _seconds(lambda: large @ large)
    bandwidth = 8 * 2 * 4 * 2**21 / _seconds(lambda: [map_.clone() for _ in range(8)])
    one = _seconds(chain) / 400  # a product, and in its backward pass two and a sum
    peaks = Device("this CPU", rate, rate, None, bandwidth, memory=0.0, bus=0.0, kernel=one, launch=0.0)
    return replace(peaks, attained={of: _share(sample, peaks) for of, sample in _samples().items()})


def _share(sample: Callable[[], object], peaks: Device) -> float:
    with Tally("cpu") as tally:
        sample()
    return predict(tally.operations, peaks).free / _seconds(sample)


def _seconds(block: Callable[[], object]) -> float:
    """Processor seconds of ``block``: the median of nine runs, after one to warm up."""
    block()
    taken = []
    for _ in range(9):
        begun = time.process_time()
        block()
        taken.append(time.process_time() - begun)
    return statistics.median(taken)


def _samples() -> dict[Kind, Callable[[], object]]:
    """Operations of each kind in sizes that a step of 256 pixels has. Results are kept, as a step keeps them."""
    x = torch.rand(2 * 64 * 64, 96, requires_grad=True)
    frozen, first, second = torch.rand(384, 96), nn.Parameter(torch.rand(64, 96)), nn.Parameter(torch.rand(384, 64))
    pixels, patches = torch.rand(2, 3, 256, 256), nn.Conv2d(3, 16, 7, 2, 3).requires_grad_(False)
    maps, mix = torch.rand(2, 64, 64, 64, requires_grad=True), nn.Conv2d(64, 16, 1).requires_grad_(False)
    narrow = [torch.rand(512, 1, 64, 16, requires_grad=True) for _ in range(3)]
    wide = [torch.rand(128, 1, 64, 96, requires_grad=True) for _ in range(3)]
    plane, other = torch.rand(2, 128, 128, 64, requires_grad=True), torch.rand(2, 128, 128, 64)
    windows, words = torch.rand(2, 16, 8, 16, 8, 64).permute(0, 1, 3, 2, 4, 5), torch.empty(2**20, dtype=torch.int64)

    def back(*outputs: Tensor) -> object:
        return outputs, torch.autograd.grad(outputs, [x, maps, *narrow, *wide, plane], outputs, allow_unused=True)

    def adapted() -> Tensor:
        return functional.linear(x, frozen) + functional.linear(functional.linear(x, first), second)

    def attention(of: Sequence[Tensor]) -> Tensor:
        query, key, value = of
        return functional.scaled_dot_product_attention(query, key, value)

    return {
        "product": lambda: back(adapted(), adapted()),
        "convolution": lambda: (patches(pixels), back(mix(maps))),
        "attention": lambda: back(attention(narrow), attention(wide)),
        "function": lambda: back(functional.gelu(plane), functional.gelu(plane)),
        "reduction": lambda: back(functional.layer_norm(plane, (64,)), functional.layer_norm(plane, (64,))),
        "rearrangement": lambda: [windows.contiguous() for _ in range(8)],
        "drawing": lambda: words.random_(-(2**63), None),
        "pass": lambda: [other * other for _ in range(8)],
    }


@dataclass(frozen=True)
class Check:
    """Processor seconds of a step of this CPU, ``measured`` and ``predicted``."""

    backbone: str
    size: int
    place: Place
    trials: int
    measured: float
    predicted: float


def check(name: str, size: int, place: Place, trials: int, device: Device, steps: int = 5) -> Check:
    """A real step of the backbone, with random weights, beside what the model says of it."""
    asked = config(_backbone(name), size, "float32", place)
    segmenter = build(asked.backbone, size, Runtime())
    entered = [_entered(asked, segmenter, "cpu") for _ in range(max(trials, 1))]
    batch, marks, times = _batch(asked, "cpu"), list[int](), list[float]()
    with Tally("cpu") as tally:
        _advance(entered, trials > 0, batch, lambda: marks.append(len(tally.operations)), steps=1)
    _advance(entered, trials > 0, batch, lambda: times.append(time.process_time()), steps)
    seconds = statistics.median(later - earlier for earlier, later in pairwise(times[1:]))
    return Check(name, size, place, trials, seconds, predict(tally.operations[slice(*marks)], device).free)


def loaded(size: int) -> float:
    """Processor seconds of this CPU to augment an image of ``size`` pixels."""
    image, mask = torch.zeros(3, size, size, dtype=torch.uint8), torch.zeros(size, size, dtype=torch.uint8)
    return _seconds(lambda: Fundus()(image, mask, 0))


def evaluated(size: int, native: int) -> float:
    """Processor seconds of this CPU to validate an image of ``native`` pixels: its Dice, from logits of ``size``."""
    rng = np.random.default_rng(0)
    logits, truth = rng.standard_normal((size, size), np.float32), rng.random((native, native)) < 0.1
    everywhere = np.ones_like(truth)
    drawn = Native(truth, everywhere, (0, 0, native, native), (size, size))
    return _seconds(lambda: measure(to_native(logits, drawn), truth, everywhere, ["dice"]))


def table(lines: Sequence[Line], devices: Sequence[Device]) -> Table:
    """A row for each line: what it asks for, and on each device milliseconds, limit and gain over as many alone."""
    shown = Table("backbone", "pixels", "precision", "LoRA", "trials", "launches", "TFLOP", "GB", "MiB a trial",
                  *(device.name for device in devices))  # fmt: skip
    for line in lines:
        shown.add_row(
            line.backbone, str(line.size), line.precision, line.place, str(line.trials or "alone"),
            f"{line.launches:,}", f"{line.flops / 1e12:.2f}", f"{line.moved / 1e9:.1f}", f"{line.own:,.0f}",
            *(cell(line, device, lines) for device in devices),
        )  # fmt: skip
    return shown


def cell(line: Line, device: Device, lines: Sequence[Line]) -> str:
    """``"12.3 ms, launches, 4.5 x"``: a step, what limits it, and trial-steps a second over those of a lone trial."""
    if device.name not in line.predicted:
        return "no bfloat16"
    if not line.fits(device):
        return "no room"
    predicted = line.predicted[device.name]
    words = [f"{1000 * predicted.seconds:.1f} ms", predicted.limit]
    return ", ".join(words + ([f"{gain(line, device, lines):.1f} x"] if line.trials else []))


def gain(line: Line, device: Device, lines: Sequence[Line]) -> float:
    """Trial-steps a second of a pack over those of a lone trial, which must be among ``lines``; NaN if it is not."""
    same = replace(line, trials=0)
    alone = [other for other in lines if _what(other) == _what(same)]
    if not alone:
        return float("nan")
    return line.trials * alone[0].predicted[device.name].seconds / line.predicted[device.name].seconds


def _what(line: Line) -> tuple[object, ...]:
    return line.backbone, line.size, line.precision, line.place, line.trials


def checks(runs: Sequence[Check]) -> Table:
    """A row for each step that was measured on this CPU."""
    shown = Table("this CPU", "pixels", "LoRA", "trials", "predicted s", "measured s", "measured / predicted")
    for run in runs:
        shown.add_row(
            run.backbone, str(run.size), run.place, str(run.trials or "alone"), f"{run.predicted:.2f}",
            f"{run.measured:.2f}", f"{run.measured / run.predicted:.2f}",
        )  # fmt: skip
    return shown


CHECKED: tuple[tuple[str, int, Place, int], ...] = (
    ("nano", 256, "everywhere", 0), ("nano", 256, "everywhere", 2), ("nano", 256, "everywhere", 4),
    ("nano", 256, "decoder", 0), ("nano", 256, "decoder", 2), ("nano", 256, "decoder", 4),
    ("nano", 512, "everywhere", 0), ("tiny", 256, "everywhere", 0), ("tiny", 256, "decoder", 0),
)  # fmt: skip


SIZES = (256, 512, 1024)
MODELS = tuple(f"{name}:{size}" for name, size in product(("nano", "tiny", "small", "base+", "large"), SIZES))


def _model(text: str) -> tuple[str, int]:
    name, _, pixels = text.partition(":")
    if not pixels.isdigit():
        raise argparse.ArgumentTypeError(f"a model must be NAME:PIXELS, but is {text!r}: write {MODELS[0]}, say")
    return name, int(pixels)


def main() -> None:
    """Count, predict, measure this CPU, print and write."""
    first = (__doc__ or "").partition("\n")[0]
    command = argparse.ArgumentParser(prog="python -m benchmarks.roofline", description=first)
    names = [device.name for device in DEVICES]
    command.add_argument("--devices", nargs="+", default=names, choices=names, metavar="NAME", help=", ".join(names))
    command.add_argument(
        "--models", nargs="+", type=_model, default=[*map(_model, MODELS)], metavar="NAME:PIXELS", help=" ".join(MODELS)
    )
    command.add_argument("--precisions", nargs="+", default=("float32", "bfloat16"), choices=("float32", "bfloat16"))
    command.add_argument("--places", nargs="+", default=("everywhere",), choices=("everywhere", "decoder"))
    command.add_argument("--trials", type=int, nargs="+", default=(0, 8), metavar="N", help="of a pack; 0: alone")
    command.add_argument("--no-check", action="store_true", help="predict, and measure nothing on this CPU")
    command.add_argument("--out", type=Path, default=Path("benchmarks/results/roofline.json"), metavar="FILE")
    given = command.parse_args()
    devices = [device for device in DEVICES if device.name in given.devices]
    rest = [*product(given.precisions, given.places, given.trials)]
    cases = [(*model, *how) for model in given.models for how in rest]
    described, lines = machine(), list[Line]()
    with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        counting = pool.map(line, *zip(*cases, strict=True), chunksize=len(given.trials))
        lines += track(counting, "steps counted", len(cases))
    result: dict[str, Any] = {
        "machine": described,
        "devices": [asdict(device) for device in DEVICES],
        "lines": [written(one, devices) for one in lines],
    }
    console = Console(width=220)
    console.print(table(lines, devices))
    if not given.no_check:
        cpu = measured()
        runs = [check(*case, cpu) for case in track(CHECKED, "steps measured")]
        console.print(checks(runs))
        result |= {
            "cpu": asdict(cpu),
            "checks": [asdict(run) for run in runs],
            "augmentation": {size: loaded(size) for size in (256, 512, 1024)},
            "validation": {native: evaluated(1024, native) for native in (1024, 2048)},
        }
    save(result, given.out)


def written(line: Line, devices: Sequence[Device]) -> dict[str, Any]:
    """A line for the file: predictions in milliseconds."""
    predicted = {
        device.name: {
            "ms": round(1000 * found.seconds, 3),
            "device_ms": round(1000 * found.free, 3),
            "transfer_ms": round(1000 * transferred(line, device), 3),
            "limit": found.limit,
            "fits": line.fits(device),
            "worth": {what: round(factor, 2) for what, factor in line.worth[device.name].items()},
        }
        for device in devices
        if (found := line.predicted.get(device.name))
    }
    what = {key: value for key, value in vars(line).items() if key != "worth"}
    return {**what, "shared": round(line.shared), "own": round(line.own), "predicted": predicted}


def documented(result: Mapping[str, Any]) -> list[str]:
    """The rows of the tables in ``docs/performance.md``: predictions, what is worth building, and the check."""
    predicted = {tuple(one[key] for key in _WHAT): one for one in result["lines"]}
    packs = [one for one in result["lines"] if one["trials"]]
    lines = [(predicted[tuple({**one, "trials": 0}[key] for key in _WHAT)], one) for one in packs]
    names = [device["name"] for device in result["devices"]]
    return [
        *(f"| {_label(one)} | {' | '.join(_pair(alone, one, name) for name in names)} |" for alone, one in lines),
        *(
            f"| {_label(one)} | {one['trials'] or 'alone'} | {_factors(one, names[0])} |"
            for one in result["lines"]
            if (one["backbone"], one["size"]) in (("tiny", 512), ("large", 1024))
        ),
        *(f"| {_checked(one)} |" for one in result["checks"]),
    ]


_WHAT = ("backbone", "size", "precision", "place", "trials")


def _label(one: Mapping[str, Any]) -> str:
    return f"{one['backbone']} | {one['size']} | {one['precision']}"


def _pair(alone: Mapping[str, Any], packed: Mapping[str, Any], name: str) -> str:
    if name not in alone["predicted"]:
        return ""
    one, many = alone["predicted"][name], packed["predicted"][name]
    if not many["fits"]:
        return f"{one['ms']:.0f} {one['limit']}; no room" if one["fits"] else "no room"
    gain = packed["trials"] * one["ms"] / many["ms"]
    return f"{one['ms']:.0f} {one['limit']}; {many['ms']:.0f} {many['limit']}, **{gain:.1f}**"


def _factors(one: Mapping[str, Any], name: str) -> str:
    return " | ".join(f"{factor:.2f}" for factor in one["predicted"][name]["worth"].values())


def _checked(one: Mapping[str, Any]) -> str:
    words = [one["backbone"], one["size"], one["place"], one["trials"] or "alone"]
    seconds = [one["predicted"], one["measured"], one["measured"] / one["predicted"]]
    return " | ".join([*map(str, words), *(f"{value:.2f}" for value in seconds)])


if __name__ == "__main__":
    main()
