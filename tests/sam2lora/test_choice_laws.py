"""What ``@choice`` promises of every value, and how a family lists its choices."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, field, replace
from typing import Annotated, Any, Literal, Union

import pytest
from annotated_types import Gt
from pydantic import Field, TypeAdapter, ValidationError

from sam2lora.choice import (
    LEFT_OUT,
    Added,
    added_fields,
    choice,
    describe,
    digest,
    dotted,
    from_json,
    json_differences,
    kinds,
    to_json,
    to_plain,
)


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


@choice
class GrownApple:
    """`Apple` of a later release: equal to it in JSON while its added fields have their defaults."""

    kind: Literal["apple"] = "apple"
    weight: Annotated[float, Gt(0)] = 1.0
    colour: Annotated[str, Added("0.2.0")] = "green"
    twin: Annotated[Apple, Added("0.3.0")] = field(default_factory=Apple)


GrownFruit = Annotated[GrownApple | Pear, Field(discriminator="kind")]


@choice
class Basket:
    """Holds choices in every way: alone, in a union, in a tuple, in a tuple of tuples, or not at all."""

    alone: GrownApple = field(default_factory=GrownApple)
    fruit: GrownFruit = field(default_factory=Pear)
    row: tuple[GrownFruit, ...] = ()
    rows: tuple[tuple[GrownFruit, ...], ...] = ()
    spare: GrownApple | None = None


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


def test_an_added_field_at_its_default_changes_no_text_and_no_digest() -> None:
    assert to_json(GrownApple(weight=2.0)) == to_json(Apple(weight=2.0))
    assert digest(GrownApple(), 3) == digest(Apple(), 3)
    assert digest(GrownApple(twin=Apple(weight=1.0))) == digest(Apple())
    assert (
        len({digest(GrownApple()), digest(GrownApple(colour="red")), digest(GrownApple(twin=Apple(weight=2.0)))}) == 3
    )
    assert to_json(GrownApple(colour="red")) == '{"colour":"red","kind":"apple","weight":1.0}'


def test_an_added_field_is_left_out_wherever_its_choice_lies() -> None:
    apple, red = GrownApple(), GrownApple(colour="red")
    plain, coloured = to_json(apple), to_json(red)
    basket = Basket(fruit=apple, row=(apple, Pear(), red), rows=((), (red, apple)), spare=apple)
    text = to_json(basket)
    assert f'"fruit":{plain},' in text
    assert f'"row":[{plain},{to_json(Pear())},{coloured}],' in text
    assert f'"rows":[[],[{coloured},{plain}]],' in text
    assert f'"spare":{plain}}}' in text
    assert from_json(Basket, text) == basket
    assert from_json(Basket, to_json(Basket())) == Basket()
    assert digest(basket) != digest(replace(basket, spare=red))


def test_a_text_from_before_a_field_was_added_is_read_with_its_default() -> None:
    assert from_json(GrownApple, to_json(Apple(weight=3.0))) == GrownApple(weight=3.0)
    assert TypeAdapter(GrownFruit).validate_json(to_json(Apple())) == GrownApple()


def test_the_complete_form_has_every_field() -> None:
    assert to_plain(Basket(spare=GrownApple()))["spare"] == {
        "kind": "apple",
        "weight": 1.0,
        "colour": "green",
        "twin": {"kind": "apple", "weight": 1.0},
    }


def test_added_fields_are_known_with_release_and_default() -> None:
    assert added_fields(GrownApple) == {"colour": ("0.2.0", "green"), "twin": ("0.3.0", Apple())}
    assert added_fields(Apple) == {}


def test_a_difference_names_path_and_values_also_where_a_form_leaves_a_field_out() -> None:
    before = Basket(row=(GrownApple(), Pear()))
    after = replace(before, alone=GrownApple(weight=2.0), row=(GrownApple(colour="red"), Pear()), spare=GrownApple())
    forms = [json.loads(to_json(value)) for value in (before, after)]
    assert {path: values for path, *values in json_differences(*forms)} == {
        "alone.weight": [1.0, 2.0],
        "row.0.colour": [LEFT_OUT, "red"],
        "spare": [None, {"kind": "apple", "weight": 1.0}],
    }
    assert list(json_differences(forms[0], forms[0])) == []
    other_kind = [json.loads(to_json(Basket(fruit=fruit))) for fruit in (GrownApple(), Pear())]
    assert [path for path, *_ in json_differences(*other_kind)] == ["fruit"]


def test_an_error_is_described_by_path_rule_and_value() -> None:
    with pytest.raises(ValidationError) as caught:
        from_json(Basket, '{"row":[{"kind":"apple","weight":0.0}]}')
    assert describe(caught.value) == "  row.0.apple.weight: Input should be greater than 0 (it is 0.0)"


def test_values_by_dotted_names_split_objects_and_lists_of_objects() -> None:
    plain = {"adapter": {"rank": 4, "targets": []}, "terms": [{"weight": 1.0}], "sizes": [1, 2], "left_out": {}}
    assert dotted(plain) == {
        "adapter.rank": 4,
        "adapter.targets": [],
        "terms.0.weight": 1.0,
        "sizes": [1, 2],
        "left_out": {},
    }
    assert dotted(plain, lists=False) == {**dotted({**plain, "terms": []}), "terms": [{"weight": 1.0}]}
