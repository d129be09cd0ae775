"""``docs/datasets.md`` says of every set where its files lie, in the words of the set."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

from sam2lora.datasets import DATASETS, Dataset
from sam2lora.datasets.layouts import markdown

DOCS = Path(__file__).parents[3] / "docs" / "datasets.md"


def expanded(path: str) -> list[str]:
    """The paths that ``a{b,c}`` stands for; a number in a name stands for any."""
    before, opening, rest = path.partition("{")
    inner, closing, after = rest.partition("}")
    if not (opening and closing):
        return [re.sub(r"drishtiGS_\d+", "drishtiGS_*", path)]
    return [one for part in inner.split(",") for one in expanded(f"{before}{part}{after}")]


def test_the_documentation_is_what_the_sets_say() -> None:
    assert DOCS.read_text() == markdown(), "write it again: python -m sam2lora.datasets.layouts > docs/datasets.md"
    assert re.findall(r"^## .*`(\w+)`$", markdown(), re.MULTILINE) == [one.kind for one in DATASETS]


def test_every_folder_of_a_set_is_in_its_section(dataset: Dataset, tree) -> None:
    """Of the tiny set that the tests of layouts read."""
    root = tree(dataset.name)
    sections = {part.partition("\n")[0]: part for part in markdown().split("\n## ")}
    (section,) = (text for title, text in sections.items() if title.endswith(f"`{dataset.kind}`"))
    used = {place for entry in dataset.find(root).entries for file in entry.files for place in file.parents}
    names = {place.name for place in used if place.is_relative_to(root) and place != root}
    said = {part for span in re.findall(r"`(.+?)`", section) for path in expanded(span) for part in path.split("/")}
    assert [name for name in sorted(names) if not any(fnmatch(name, part) for part in said)] == []
