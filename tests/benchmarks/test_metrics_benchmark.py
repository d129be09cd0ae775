"""The benchmark of the metrics compares both sides of every metric, and ends where two numbers differ."""

from __future__ import annotations

import json

import pytest

from benchmarks import metrics as benchmark
from sam2lora.metrics import METRICS


@pytest.mark.filterwarnings("ignore::FutureWarning")  # MONAI warns of itself
def test_every_metric_is_compared_and_shown() -> None:
    runs = json.loads(json.dumps(benchmark.run(96, 1)))
    assert [run["image"] for run in runs] == ["vessels", "disc"]
    for run in runs:
        assert {row["metric"] for row in run["metrics"]} == {name for name in METRICS if not name.endswith("_full")}
        assert all(row["milliseconds"] >= 0 and row["library_milliseconds"] >= 0 for row in run["metrics"])
        assert run["all"].keys() == {"sam2lora", "libraries", "sam2lora, in the field of view"}
    shown = benchmark.table(runs)
    assert shown.row_count == 2 * (len(METRICS) - 2 + 2)
    assert {"boundary_iou", "all 13", "all 15, FOV"} <= set(shown.columns[1].cells)


def test_two_numbers_that_differ_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sample = benchmark.samples(96)["disc"]
    monkeypatch.setattr(benchmark, "PEERS", {"iou": benchmark.Peer("another", benchmark.PEERS["dice"].compute)})
    with pytest.raises(ValueError, match=r"iou of disc must be another's within 1e-09, but is .* their conventions"):
        benchmark.compare("disc", sample, 1)
