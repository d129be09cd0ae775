"""Data sets by name, and what every one of them says of itself."""

from __future__ import annotations

from itertools import combinations
from typing import get_args

import pytest

import sam2lora.datasets
from sam2lora.choice import from_json, kinds, to_json
from sam2lora.datasets import (
    DATASETS,
    DEMO_HOSPITALS,
    PRETRAINING_HOSPITALS,
    ChaseDB1,
    Dataset,
    DrishtiGS1,
    Folder,
    Incomplete,
    Synthetic,
    parse_dataset,
    with_target,
)
from sam2lora.datasets.naming import Named, parse
from sam2lora.errors import DataError

# pairs of sets that show the same patients
SHARED = {("drive", "rite"), ("refuge1", "refuge2"), ("rim_one_r3", "rim_one_dl")}


def test_every_set_is_found_by_its_name():
    for dataset in DATASETS:
        assert parse_dataset(dataset.name) == dataset
    for hospital in (*DEMO_HOSPITALS, *PRETRAINING_HOSPITALS):
        assert parse_dataset(hospital) == Synthetic(hospital=hospital)
    assert parse_dataset("drishti_gs1_1024") == DrishtiGS1(copy="1024")


@pytest.mark.parametrize("text", ["CHASE_DB1", "chase-db1", " Chase_DB1 "])
def test_case_and_dashes_do_not_matter(text):
    assert parse_dataset(text).name == "chase_db1"


@pytest.mark.parametrize(
    ("text", "dataset"),
    [
        ("chase-db1:split=last_8", ChaseDB1(split="last_8")),
        ("drishti_gs1:copy=1024:target=cup", DrishtiGS1(copy="1024", target="cup")),
        ("drishti_gs1_1024:target = rim", DrishtiGS1(copy="1024", target="rim")),
        ("Alder:target=disc:images=8:seed=3", Synthetic(hospital="alder", target="disc", images=8, seed=3)),
    ],
)
def test_fields_are_set_by_name(text, dataset):
    assert parse_dataset(text) == dataset


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("drive:anotator=second", "drive has the fields annotator, .* sets 'anotator': did you mean 'annotator'"),
        ("drive:kind=stare", "sets 'kind'"),
        ("alder:hospital=elm", "alder has the fields images, .* sets 'hospital'"),
        ("drishti_gs1_1024:copy=owners", "sets 'copy'"),
        ("hrf:target=cup", "hrf has the fields unreadable, missing, .* sets 'target'"),
        ("drive:annotator=secnd", "must be one of first, second, union, intersection, .*: did you mean 'second'"),
        ("idrid:target=cup", "target of idrid must be one of disc, but 'idrid:target=cup' says 'cup'"),
        ("alder:size=12", "size of alder must be another value .*greater than or equal to 64.* says '12'"),
        ("alder:size=wide", "size of alder must be another value .*valid integer"),
        ("alder:images=7", "multiple of 2"),
        ("drive:second", "must be FIELD=VALUE, but 'drive:second' has 'second'"),
        ("drive:", "must be FIELD=VALUE"),
        ("drive:annotator=first:annotator=second", "must be set once, .* sets annotator again"),
    ],
)
def test_wrong_fields_and_values_name_the_right_ones(text, message):
    with pytest.raises(DataError, match=message) as error:
        parse_dataset(text)
    assert repr(text) in str(error.value)


def test_what_is_missing_or_inconsistent_is_said():
    with pytest.raises(DataError, match=r"'synthetic' is not \(hospital: .*\): write NAME:FIELD=VALUE"):
        parse("synthetic", {"synthetic": Named(Synthetic)})


@pytest.mark.parametrize(
    ("text", "hint"),
    [("drvie", "did you mean 'drive'?"), ("STAR", "did you mean 'stare'?"), ("?", "choose one of these")],
)
def test_an_unknown_name_lists_what_there_is(text, hint):
    with pytest.raises(DataError) as error:
        parse_dataset(text)
    first, published, procedural, own = str(error.value).splitlines()
    assert first.startswith(f"There is no data set {text!r}: {hint}")
    names = [*(dataset.name for dataset in DATASETS), "drishti_gs1_1024"]
    assert sorted(published.removeprefix("  published: ").split(", ")) == sorted(names)
    assert procedural.removeprefix("  procedural: ").split(", ")[: len(DEMO_HOSPITALS)] == list(DEMO_HOSPITALS)
    assert own == "  your own, as folder:path=PATH: folder"


def test_a_set_is_aimed_at_the_structures_that_it_holds():
    assert with_target(DrishtiGS1(annotator="union"), "cup") == DrishtiGS1(annotator="union", target="cup")
    assert with_target(Synthetic(hospital="elm"), "disc") == Synthetic(hospital="elm", target="disc")
    assert with_target(ChaseDB1(), "vessel") == ChaseDB1()
    for dataset, target, holds in ((ChaseDB1(), "disc", "vessel"), (DrishtiGS1(), "vessel", "disc and cup and rim")):
        with pytest.raises(DataError, match=f"'{dataset.name}' holds {holds}, and {target} was asked for: leave"):
            with_target(dataset, target)


def test_names_titles_and_pools_tell_sets_apart():
    sets = [*DATASETS, *(parse_dataset(hospital) for hospital in DEMO_HOSPITALS)]
    for one, other in combinations(sets, 2):
        assert one.name != other.name
        assert one.title != other.title
        assert bool(one.overlaps & other.overlaps) == ((one.name, other.name) in SHARED)
    assert all(one.overlaps and one.licence and one.target in ("vessel", "disc") for one in sets)


def test_the_union_reads_every_set_back():
    needy = (Synthetic(hospital="elm"), Folder(path="clinic"), Incomplete(dataset=DATASETS[0], missing="skip"))
    assert set(kinds(Dataset)) == {dataset.kind for dataset in (*DATASETS, *needy)}
    for dataset in (*DATASETS, Synthetic(hospital="elm", target="disc")):
        assert from_json(Dataset, to_json(dataset)) == dataset
    assert len(get_args(Dataset)) == 2


def test_the_public_names_exist():
    assert all(hasattr(sam2lora.datasets, name) for name in sam2lora.datasets.__all__)
    assert len(set(sam2lora.datasets.__all__)) == len(sam2lora.datasets.__all__)
