"""Every declared search: its draws are valid settings, its parameters have stable types, its question is a sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from harness.errors import UnknownName
from harness.experiments import declarations
from harness.experiments.overrides import Overrides
from harness.experiments.question import search_question
from harness.experiments.search import Search
from harness.experiments.space import draws, fingerprint, typical_settings
from sam2lora.backbones import Sam2
from sam2lora.choice import from_json, to_json
from sam2lora.config import TrialConfig
from sam2lora.datasets import Synthetic, parse_dataset
from sam2lora.errors import DataError
from sam2lora.overrides import ProtocolOptions

NAMES = declarations.names("search_spaces")
ELM = ProtocolOptions(sources=(Synthetic(hospital="elm"),))


@pytest.mark.parametrize("name", NAMES)
def test_fifty_draws_are_settings_that_survive_their_json(name: str) -> None:
    search = declarations.search(name)
    for config, trial in draws(search.space)[:50]:
        assert from_json(TrialConfig, to_json(config)) == config
        assert trial.params


@pytest.mark.parametrize("name", NAMES)
def test_a_search_asks_a_question(name: str) -> None:
    assert declarations.question_of(name, "search_spaces").endswith("?")


def test_the_shipped_searches_are_there() -> None:
    assert {"loss_weights", "lora", "joint"} <= set(NAMES)


def test_an_unknown_name_lists_what_exists_and_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"Did you mean 'loss_weights'\?.*joint, .*lora, loss_weights"):
        declarations.search("loss_weight")
    with pytest.raises(UnknownName, match="There are: "):
        declarations.search("zzz")


@pytest.mark.parametrize("package", [False, True])
def test_ones_own_searches_stand_beside_the_shipped_ones_and_build_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: bool
) -> None:
    own = tmp_path / "search_spaces"
    own.mkdir()
    if package:
        (own / "__init__.py").touch()
    (own / "_ranges.py").write_text("TRIALS = 3\n")
    (own / "mine.py").write_text(
        '"""Is it mine?"""\nfrom dataclasses import replace\nfrom search_spaces._ranges import TRIALS\n'
        "from search_spaces.lora import SEARCH as SHIPPED\nSEARCH = replace(SHIPPED, trials=TRIALS)\n"
    )
    (own / "lora.py").write_text('"""Is this one asked instead of the shipped one?"""\n')
    monkeypatch.chdir(tmp_path)
    assert declarations.names("search_spaces") == sorted({*NAMES, "mine"})
    assert declarations.question_of("mine", "search_spaces") == "Is it mine?"
    assert declarations.question_of("lora", "search_spaces") == "Is this one asked instead of the shipped one?"
    (own / "lora.py").unlink()
    try:
        assert declarations.search("mine").trials == 3
    finally:
        for name in ("mine", "_ranges"):
            sys.modules.pop(f"search_spaces.{name}", None)


def test_a_fingerprint_sees_ranges_and_settings_and_nothing_else() -> None:
    from dataclasses import replace

    search = declarations.search("loss_weights")
    once = fingerprint(search.space)
    assert fingerprint(lambda trial: search.space(trial)) == once
    assert fingerprint(lambda trial: replace(search.space(trial), batch_size=3)) != once

    def wider(trial: object) -> TrialConfig:
        config = search.space(trial)  # type: ignore[arg-type]
        trial.suggest_float("more", 0, 1)  # type: ignore[attr-defined]
        return config

    assert fingerprint(wider) != once


def test_the_question_holds_what_changes_results_and_not_the_number_of_trials() -> None:
    from dataclasses import replace

    search = declarations.search("loss_weights")
    base = search_question("loss_weights", search, Overrides(), {"data": "1"})
    assert search_question("loss_weights", replace(search, trials=99), Overrides(), {"data": "1"}) == base
    changed = [
        search_question("loss_weights", search, Overrides(epochs=99), {"data": "1"}),
        search_question("loss_weights", search, Overrides(backbone=Sam2(size="tiny")), {"data": "1"}),
        search_question("loss_weights", search, Overrides(protocol=ELM), {"data": "1"}),
        search_question("loss_weights", search, Overrides(), {"data": "2"}),
    ]
    assert all(other != base for other in changed)


def test_sources_without_targets_mean_no_targets() -> None:
    search: Search = declarations.search("loss_weights")
    config = Overrides(protocol=ELM).apply(typical_settings(search.space))
    assert [source.name for source in config.protocol.sources] == ["elm"]
    assert config.protocol.targets == ()


def test_a_structure_is_that_of_every_data_set_and_part_of_the_question() -> None:
    search: Search = declarations.search("loss_weights")
    config = typical_settings(search.space)
    aimed = Overrides(protocol=ProtocolOptions(structure="disc")).apply(config).protocol
    assert {one.target for one in aimed.sources + aimed.targets} == {"disc"}
    assert [one.name for one in aimed.sources] == [one.name for one in config.protocol.sources]
    mixed = Overrides(
        protocol=ProtocolOptions(
            sources=(parse_dataset("drishti_gs1"),), targets=(parse_dataset("elm"),), structure="disc"
        )
    ).apply(config)
    assert [one.target for one in mixed.protocol.sources + mixed.protocol.targets] == ["disc", "disc"]
    questions = [
        search_question("loss_weights", search, Overrides(protocol=ProtocolOptions(structure=each)), {})
        for each in (None, "vessel", "disc")
    ]
    assert questions[0] == questions[1] != questions[2]
    with pytest.raises(DataError, match="'drive' holds vessel, and cup was asked for"):
        Overrides(protocol=ProtocolOptions(sources=(parse_dataset("drive"),), structure="cup")).apply(config)
