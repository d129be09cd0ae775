"""What ``@choice`` promises of every value, and how a family lists its choices."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Annotated, Any, Literal, Union

import pytest
from annotated_types import Gt
from pydantic import Field, ValidationError

from sam2lora.choice import choice, digest, from_json, kinds, to_json


@choice
class Apple:
    kind: Literal["apple"] = "apple"
    weight: Annotated[float, Gt(0)] = 1.0


@choice
class Pear:
    kind: Literal["pear"] = "pear"
    stalk: bool = False
    inside: Apple = Apple()
    rings: tuple[int, ...] = ()


DISCRIMINATED = Field(discriminator="kind")


@pytest.mark.parametrize(
    ("family", "names"),
    [
        (Annotated[Apple | Pear, DISCRIMINATED], ["apple", "pear"]),
        (Annotated[Pear | Apple, DISCRIMINATED, "more"], ["pear", "apple"]),
        (Annotated[Union[Apple, Pear], DISCRIMINATED], ["apple", "pear"]),  # noqa: UP007 - the older spelling
        (Annotated[Apple, Field()], ["apple"]),
        (Annotated[Pear, DISCRIMINATED], ["pear"]),
        (Apple | Pear, ["apple", "pear"]),
        (Apple, ["apple"]),
    ],
)
def test_a_family_lists_its_choices_by_kind(family: Any, names: list[str]) -> None:
    found = kinds(family)
    assert list(found) == names
    assert all(found[name] is {"apple": Apple, "pear": Pear}[name] for name in names)


@pytest.mark.parametrize("family", [int, Apple | None, Annotated[str, "text"]])
def test_what_is_no_family_is_not_mistaken_for_one(family: Any) -> None:
    with pytest.raises(AttributeError):
        kinds(family)


def test_json_is_canonical() -> None:
    assert to_json(Pear(stalk=True)) == '{"inside":{"kind":"apple","weight":1.0},"kind":"pear","rings":[],"stalk":true}'
    assert to_json(Apple(weight=2)) == to_json(Apple(weight=2.0))


def test_json_is_read_back_and_nothing_else_is() -> None:
    value = Pear(inside=Apple(weight=0.1), rings=(3, 1))
    assert from_json(Pear, to_json(value)) == value
    for text in ('{"kind":"apple"}', '{"kind":"pear","stalk":1}', '{"kind":"pear","leaf":true}', "{}x"):
        with pytest.raises(ValidationError):
            from_json(Pear, text)


def test_a_digest_names_values_and_their_order() -> None:
    assert digest(Apple(), 3) == digest(Apple(weight=1.0), 3)
    assert digest(Apple()) == "d70e9f501184989b"  # sha256sum of the JSON; a digest that moves orphans finished trials
    different = {digest(Apple()), digest(Pear()), digest(Apple(), 3), digest(3, Apple()), digest(Apple(weight=1.5))}
    assert len(different) == 5


@pytest.mark.parametrize("wrong", [{"weight": "1"}, {"weight": True}, {"weight": 0.0}, {"weight": float("nan")}])
def test_values_are_checked_where_they_are_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Apple(**wrong)
    with pytest.raises(ValidationError):
        replace(Apple(), **wrong)


def test_a_choice_is_frozen_and_hashable() -> None:
    apple = Apple()
    with pytest.raises(FrozenInstanceError):
        apple.weight = 2.0  # type: ignore[misc]
    assert {apple: 1}[Apple()] == 1


def test_fields_have_names_and_no_positions() -> None:
    with pytest.raises(ValidationError):
        Apple("apple", 2.0)  # type: ignore[misc]
