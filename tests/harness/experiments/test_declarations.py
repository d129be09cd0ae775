"""A mistake in one's own file is told with its own line, never with a traceback into the harness."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import ablate, search
from harness.errors import BadDeclaration
from harness.experiments import declarations
from harness.experiments.space import draws

HEAD = """from dataclasses import replace
from harness.experiments.search import Search
from sam2lora.adapters import LoRA
from sam2lora.defaults import BASE

"""
TAIL = "\nSEARCH = Search(space, trials=3)\n"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of a search of one's own, still to be written."""
    (tmp_path / "search_spaces").mkdir()
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "search_spaces" / "mine.py"
    for name in ("mine", "_broken"):
        sys.modules.pop(f"search_spaces.{name}", None)


def told(own: Path, text: str) -> str:
    own.write_text(text)
    with pytest.raises(BadDeclaration) as refusal:
        draws(declarations.search("mine").space)
    return str(refusal.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def space(trial:\n    pass\n", "mine.py cannot be read: line 6: '(' was never closed. Fix it"),
        ("import nowhere\n", "but line 6 raises one:\n  import nowhere\n  ModuleNotFoundError: No module named"),
        (
            "def space(trial):\n    return replace(BASE, adapters=(LoRA(rank=trial.sugest_int('rank', 1, 4)),))\n"
            + TAIL,
            "line 7 raises one:\n  return replace(BASE, adapters=(LoRA(rank=trial.sugest_int('rank', 1, 4)),))\n"
            "  AttributeError: 'Trial' object has no attribute 'sugest_int'. Did you mean 'suggest_int'?\nFix it",
        ),
        (
            "def space(trial):\n    BASE\n" + TAIL,
            "space() of search_spaces/mine.py must return a TrialConfig, but returned None: end it with return replace",
        ),
        (
            "ADAPTER = LoRA(rank=0)\n",
            "line 6 raises one:\n  ADAPTER = LoRA(rank=0)\n  rank: Input should be greater than 0 (it is 0)\nFix it",
        ),
        (
            "def space(trial):\n    return BASE\n\nSEARCH = Search(space, trials=0)\n",
            "SEARCH = Search(space, trials=0)\n  A search needs one trial or more, but trials is 0: raise it.",
        ),
        ("def space():\n    return BASE\n" + TAIL, "but it raises one:\n  TypeError: space() takes 0 positional"),
        ("", "must set SEARCH to a Search, but sets it to None: end it with SEARCH = Search(space, trials=30)."),
    ],
)
def test_a_mistake_is_told_with_its_line(own: Path, body: str, said: str) -> None:
    text = told(own, HEAD + body)
    assert text.startswith(("search_spaces/mine.py ", "space() of search_spaces/mine.py "))
    assert said in text
    assert "pydantic" not in text


def test_a_mistake_in_a_file_that_it_imports_is_told_with_that_file(own: Path) -> None:
    (own.parent / "_broken.py").write_text("RANKS = [1, 2\n")
    text = told(own, "from search_spaces._broken import RANKS\n")
    assert text.startswith(f"search_spaces/mine.py cannot be read: {own.parent / '_broken.py'}, line 1: ")
    (own.parent / "_broken.py").write_text("RANKS = 1 / 0\n")
    text = told(own, "from search_spaces._broken import RANKS\n")
    assert f"{own.parent / '_broken.py'}, line 1 raises one:\n  RANKS = 1 / 0\n  ZeroDivisionError: " in text


def test_the_commands_end_with_that_message(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own.write_text(HEAD + "def space(trial):\n    trial.sugest_int('rank', 1, 4)\n" + TAIL)
    assert search.main(["mine"]) == 2
    assert capsys.readouterr().err.startswith("error: search_spaces/mine.py must run without an error, but line 7 ")
    (own.parent.parent / "ablations").mkdir()
    (own.parent.parent / "ablations" / "arms.py").write_text("from harness.experiments.ablation import Ablatoin\n")
    assert ablate.main(["arms"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ablations/arms.py must run without an error, but line 1 raises one:")
    assert "ImportError: cannot import name 'Ablatoin'" in said
