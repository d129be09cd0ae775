from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.counting import Operation, Tally, stand_in
from benchmarks.roofline import (
    DEVICES,
    Device,
    Line,
    Predicted,
    augmented,
    cell,
    config,
    counted,
    documented,
    gain,
    kind,
    predict,
)
from sam2lora.backbones import Nano, architecture
from sam2lora.models.build import shapes

H100, *_, T4 = DEVICES
PLAIN = Device(
    "plain", float32=1e3, tensor_float32=1e4, half=1e5, bandwidth=100, memory=2**30, bus=1, kernel=1, launch=2
)


def product(**what: int) -> Operation:
    return Operation("mm", torch.float32, **what)


@pytest.mark.parametrize(
    ("operation", "limit", "seconds"),
    [
        (product(flops=10**6, read=100, launches=1), "arithmetic", 1000.0),
        (product(flops=10**3, read=900, written=100, launches=1), "bandwidth", 10.0),
        (product(flops=10, read=10, launches=3), "launches", 6.0),
        (Operation("convolution", torch.float32, flops=10**6, launches=1), "arithmetic", 1000.0),
        (Operation("mm", torch.bfloat16, flops=10**6, launches=1), "arithmetic", 10.0),
    ],
)
def test_what_an_operation_has_too_much_of_limits_the_step(operation: Operation, limit: str, seconds: float) -> None:
    predicted = predict([operation], PLAIN)
    assert (predicted.limit, predicted.seconds) == (limit, pytest.approx(seconds))


def test_host_and_device_work_at_once_unless_one_waits_for_the_other() -> None:
    step = [product(read=500, launches=1), product(flops=3000, launches=1)]
    assert predict(step, PLAIN).free == pytest.approx(5 + 3)
    assert predict(step, PLAIN).seconds == pytest.approx(8)
    waited = predict([*step, product(launches=1, waits=1)], PLAIN)
    assert waited.seconds == pytest.approx(5 + 3 + 1 + 3 * 2)


def test_a_device_that_is_twice_as_fast_at_everything_needs_half_the_time() -> None:
    step = [product(flops=flops, read=read, launches=1) for flops in (1, 10**5) for read in (1, 10**4)]
    faster = replace(
        PLAIN,
        **{peak: 2 * getattr(PLAIN, peak) for peak in ("float32", "tensor_float32", "half", "bandwidth")},
        **{least: getattr(PLAIN, least) / 2 for least in ("kernel", "launch")},
    )
    assert predict(step, faster).seconds == pytest.approx(predict(step, PLAIN).seconds / 2)


def test_the_share_of_a_peak_that_a_kind_attains_counts_for_that_kind_alone() -> None:
    half = replace(PLAIN, attained={"product": 0.5})
    assert predict([product(flops=10**6)], half).seconds == pytest.approx(2000)
    assert predict([Operation("gelu", torch.float32, read=10**6)], half).seconds == pytest.approx(10**4)


def test_kinds_are_known_by_name() -> None:
    names = ("addmm", "_scaled_dot_product_flash_attention_for_cpu_backward", "gelu_backward", "native_layer_norm",
             "_to_copy", "random_", "mul", "convolution_backward", "_softmax")  # fmt: skip
    assert [kind(name) for name in names] == [
        "product", "attention", "function", "reduction", "rearrangement", "drawing", "pass", "convolution", "reduction",
    ]  # fmt: skip


def test_a_turing_has_no_bfloat16() -> None:
    assert not T4.has("bfloat16")
    assert H100.has("bfloat16")
    with pytest.raises(ValueError, match="bfloat16 needs units for it, but T4 has none"):
        predict([Operation("mm", torch.bfloat16, flops=1)], T4)


def totals(operations: list[Operation]) -> tuple[int, int, int]:
    return (
        sum(operation.flops for operation in operations),
        sum(operation.moved for operation in operations),
        sum(operation.launches for operation in operations),
    )


def test_arithmetic_and_bytes_grow_linearly_with_the_batch_and_launches_not_at_all() -> None:
    two, three, four = (totals(counted(config(Nano(), 64, "float32", "decoder", batch), 0)) for batch in (2, 3, 4))
    assert four[0] - three[0] == three[0] - two[0]
    assert 2 * two[0] - four[0] == 2 * 8 * 8 * 2 * 32, "the map of positions is one for all images"
    assert four[1] - three[1] == three[1] - two[1], "the rest is weights and their updates"
    assert two[2] == four[2]


def test_a_pack_that_sees_the_same_images_computes_what_it_shares_once() -> None:
    one, two, four = (counted(config(Nano(), 64, "bfloat16", "decoder"), trials) for trials in (1, 2, 4))
    flops = [totals(operations)[0] for operations in (one, two, four)]
    own = flops[1] - flops[0]
    assert flops[2] == flops[0] + 3 * own
    assert flops[0] > 2 * own, "the encoder is most of it, and stays one"
    assert sum(operation.waits for operation in four) == 0


def test_augmentation_is_launched_and_waits_for_nothing() -> None:
    operations = augmented(config(Nano(), 64, "bfloat16"))
    assert sum(operation.launches for operation in operations) > 10
    assert not any(operation.waits for operation in operations), "what it draws, it draws on the host"


def test_the_arithmetic_of_a_forward_pass_is_that_of_its_layers() -> None:
    size, width = 64, architecture(Nano()).width
    segmenter = shapes(Nano(), size).eval()
    by_hand: Counter[str] = Counter()

    def linear(module: nn.Linear, _: object, y: Tensor) -> None:
        by_hand["product"] += 2 * y.numel() * module.in_features

    def convolution(module: nn.Conv2d, _: object, y: Tensor) -> None:
        by_hand["convolution"] += 2 * y.numel() * module.in_channels * module.kernel_size[0] * module.kernel_size[1]

    def transposed(module: nn.ConvTranspose2d, x: tuple[Tensor], _: object) -> None:
        by_hand["convolution"] += 2 * x[0].numel() * module.out_channels * module.stride[0] ** 2

    for module in segmenter.modules():
        match module:
            case nn.Linear():
                module.register_forward_hook(linear)
            case nn.ConvTranspose2d():
                module.register_forward_hook(transposed)
            case nn.Conv2d():
                module.register_forward_hook(convolution)
    with stand_in(), torch.no_grad(), Tally("cuda") as tally:
        segmenter.to_empty(device="cuda")
        logits = segmenter(torch.empty(2, 3, size, size, device="cuda")).logits
    positions = (size // 8) ** 2
    by_hand["product"] += 2 * positions * 2 * (width // 2)  # coordinates as Fourier features
    by_hand["product"] += 2 * 2 * 4 * (width // 8) * logits[0].numel()  # hyper-networks times pixels
    counts: Counter[str] = Counter()
    for operation in tally.operations:
        counts[kind(operation.name)] += operation.flops
    assert {name: counts[name] for name in ("product", "convolution")} == dict(by_hand)


def line(trials: int, milliseconds: float, own: float = 100.0) -> Line:
    predicted = {"H100": Predicted(milliseconds / 1000, {"launches": 0.0, "bandwidth": 0.001, "arithmetic": 0.0})}
    return Line("nano", 256, "bfloat16", "everywhere", trials, 1, 0, 1, 1, 50.0, own, predicted)


def test_a_cell_says_how_long_why_and_what_a_pack_gains() -> None:
    alone, eight = line(0, 10.0), line(8, 20.0)
    assert cell(alone, H100, [alone, eight]) == "10.0 ms, launches"
    assert cell(eight, H100, [alone, eight]) == "20.0 ms, launches, 4.0 x"
    assert gain(eight, H100, [eight]) != gain(eight, H100, [eight]), "not a number: nothing to compare with"
    assert cell(eight, T4, [alone, eight]) == "no bfloat16"
    assert cell(line(8, 20.0, own=10_000.0), H100, []) == "no room"


def test_the_documents_show_what_was_predicted_and_measured() -> None:
    root = Path(__file__).parents[2]
    result = json.loads((root / "benchmarks" / "results" / "roofline.json").read_text())
    text = (root / "docs" / "performance.md").read_text()
    rows = documented(result)
    assert len(rows) > len(result["checks"]) > 0
    assert [row for row in rows if row not in text] == []
