"""Of the golden record what is the same on every machine and takes no time: help texts. The rest is a command's."""

from __future__ import annotations

import gc
import re
import runpy
import sys
from collections.abc import Iterator

import pytest

from tests.golden.record import COMMANDS, RECORD, ROOT, WIDTH, differences, read


@pytest.fixture(autouse=True)
def _collecting_garbage() -> Iterator[None]:
    """Afterwards, too: a command that ends within seconds turns it off for its process, which is the tests' here."""
    yield
    gc.unfreeze()
    gc.enable()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_is_as_recorded(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", WIDTH)
    monkeypatch.setattr(sys, "argv", [command, "--help"])
    monkeypatch.delitem(sys.modules, command, raising=False)
    with pytest.raises(SystemExit, match="0"):
        runpy.run_module(command, run_name="__main__")
    recorded = (RECORD / "help" / f"{command}.txt").read_text(encoding="utf-8")
    assert capsys.readouterr().out == recorded, "If it was meant: python -m tests.golden write help"


def test_every_command_has_a_recorded_help() -> None:
    guarded = (
        path.relative_to(ROOT).with_suffix("")
        for package in ("harness", "sam2lora")
        for path in (ROOT / package).rglob("*.py")
        if re.search(r'^if __name__ == "__main__":', path.read_text(encoding="utf-8"), re.MULTILINE)
    )
    commands = {".".join(path.parts).removesuffix(".__main__") for path in guarded}
    assert commands - {"sam2lora.datasets.layouts"} == set(COMMANDS)  # that one prints a page and has no options
    assert set(read(RECORD / "help")) == {f"{command}.txt" for command in COMMANDS}


def test_a_text_that_was_changed_taken_away_or_added_is_a_difference() -> None:
    recorded = {"same": "a\nb\n", "changed": "a\nb\n", "away": "a\n"}
    made = {"same": "a\nb\n", "changed": "a\nc\n", "added": "a\n"}
    lines = [line for line in differences("help", recorded, made) if not line.startswith("@@")]
    assert lines == [
        *("--- recorded help/added\n", "+++ now help/added\n", "+a\n"),
        *("--- recorded help/away\n", "+++ now help/away\n", "-a\n"),
        *("--- recorded help/changed\n", "+++ now help/changed\n", "-b\n", "+c\n"),
    ]
    assert not list(differences("help", recorded, recorded))
