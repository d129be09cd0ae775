"""One summary over the studies of a protocol."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from harness.searched.several import COLUMNS, markdown, write

FULL = {"study": "s/held_out=drive", "trial": 3, "validation": 0.7, "dataset": "drive", "role": "target"}
FULL |= {"metric": "dice", "mean": 0.6, "low": 0.5, "high": 0.7, "n": 20, "clusters": 20, "oracle": False}
FULL |= {"settings": '{"lr": "0.003", "rank": "8"}'}


def frame(*rows: dict[str, object]) -> pd.DataFrame:
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS))


def test_every_study_has_a_line_whatever_came_of_it(tmp_path: Path) -> None:
    unscored = {"study": "s/held_out=hrf", "trial": 1, "validation": 0.5, "oracle": False}
    told = frame(FULL, {"study": "s/held_out=stare"}, unscored)
    text, data = write(told, markdown(told), tmp_path / "s")
    lines = [line for line in text.read_text().splitlines() if line.startswith("| held_out")]
    assert ["0.600 [0.500, 0.700]" in lines[0], "none completed" in lines[1], "not scored" in lines[2]] == [True] * 3
    assert "0.600 [0.500, 0.700] | 20 images, 20 patients |" in lines[0]
    assert "| held_out=drive | 0.003 | 8 |" in lines, "what the model chose"
    assert list(pd.read_csv(data)["study"]) == ["s/held_out=drive", "s/held_out=stare", "s/held_out=hrf"]


def test_prompts_from_the_truth_are_told() -> None:
    for oracle in (False, True):
        told = " ".join(markdown(frame({**FULL, "oracle": oracle}, {"study": "none"})))
        assert ("taken from the ground truth" in told) is oracle
        assert ("| 3 † |" in told) is oracle
        assert ("†" in told) is oracle


def test_images_without_a_score_are_told() -> None:
    for undefined in (0, 2):
        told = " ".join(markdown(frame({**FULL, "undefined": undefined})))
        assert ("0.600 [0.500, 0.700], 2 of 22 images undefined" in told) == bool(undefined)
        assert ("undefined" in told) == bool(undefined)


def test_no_study_of_a_protocol_may_have_completed() -> None:
    assert any("none completed" in line for line in markdown(frame({"study": "s/held_out=drive"})))
