"""Data sets by name, and what every one of them says of itself."""

from __future__ import annotations

from itertools import combinations
from typing import get_args

import pytest

import sam2lora.datasets
from sam2lora.choice import from_json, kinds, to_json
from sam2lora.datasets import DATASETS, DEMO_HOSPITALS, PRETRAINING_HOSPITALS, Dataset, DrishtiGS1, Synthetic, named
from sam2lora.errors import DataError


def test_every_set_is_found_by_its_name():
    for dataset in DATASETS:
        assert named(dataset.name) == dataset
    for hospital in (*DEMO_HOSPITALS, *PRETRAINING_HOSPITALS):
        assert named(hospital) == Synthetic(hospital=hospital)
    assert named("drishti_gs1_1024") == DrishtiGS1(copy="1024")


@pytest.mark.parametrize("text", ["CHASE_DB1", "chase-db1", " Chase_DB1 "])
def test_case_and_dashes_do_not_matter(text):
    assert named(text).name == "chase_db1"


@pytest.mark.parametrize(
    ("text", "hint"), [("drvie", "did you mean 'drive'"), ("STAR", "did you mean 'stare'"), ("?", "choose one of them")]
)
def test_an_unknown_name_lists_what_there_is(text, hint):
    with pytest.raises(DataError) as error:
        named(text)
    assert hint in str(error.value)
    assert "drive, stare, chase_db1, hrf, fives, drishti_gs1, idrid, drishti_gs1_1024, alder" in str(error.value)
    assert repr(text) in str(error.value)


def test_names_titles_and_pools_tell_sets_apart():
    sets = [*DATASETS, *(named(hospital) for hospital in DEMO_HOSPITALS)]
    for one, other in combinations(sets, 2):
        assert one.name != other.name
        assert one.title != other.title
        assert not one.overlaps & other.overlaps
    assert all(one.overlaps and one.licence and one.target in ("vessel", "disc") for one in sets)


def test_the_union_reads_every_set_back():
    assert set(kinds(Dataset)) == {dataset.kind for dataset in (*DATASETS, Synthetic(hospital="elm"))}
    for dataset in (*DATASETS, Synthetic(hospital="elm", target="disc")):
        assert from_json(Dataset, to_json(dataset)) == dataset
    assert len(get_args(Dataset)) == 2


def test_the_public_names_exist():
    assert all(hasattr(sam2lora.datasets, name) for name in sam2lora.datasets.__all__)
    assert len(set(sam2lora.datasets.__all__)) == len(sam2lora.datasets.__all__)
