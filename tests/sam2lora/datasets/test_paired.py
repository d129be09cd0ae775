"""Image, mask and field of view must be of one picture: what is refused, what is cut off, and by which command."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sam2lora.datasets import DATASETS, Folder, cached
from sam2lora.datasets.__main__ import main
from sam2lora.datasets.checks import Field
from sam2lora.datasets.pairs import Entry
from sam2lora.datasets.reading import paired, read_pair
from sam2lora.errors import DataError


def shifted(field, across):
    moved = np.zeros_like(field)
    moved[:, across:] = field[:, : field.shape[1] - across]
    return moved


def wrong_fields(drawing):
    lit = drawing.lit()
    rows, columns = np.mgrid[: drawing.height, : drawing.width]
    return {
        "inverted": ~lit,
        "shifted": shifted(lit, 12),
        "foreign": (rows - 20) ** 2 + (columns - 20) ** 2 < 15**2,
        "full": np.ones_like(lit),
        "empty": np.zeros_like(lit),
        "the mask": drawing.truth(),
    }


WRONG = ["inverted", "shifted", "foreign", "full", "empty", "the mask"]


def shipping(root, drawing, field):
    """A folder of two pairs with fields of view, the second of which is ``field``."""
    for name, fov in (("a", drawing.lit()), ("b", field)):
        drawing.save(drawing.photograph(), root / "own" / "images" / f"{name}.png")
        drawing.save(drawing.grey(drawing.truth()), root / "own" / "masks" / f"{name}.png")
        drawing.save(drawing.grey(fov), root / "own" / "fov" / f"{name}.png")
    return root


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("held", ["line", "disc", "nothing"])
def test_a_field_of_view_of_another_picture_is_refused(how, held, tmp_path, drawing):
    """Whether the structure lies within it or not, and where there is none."""
    mask = {"line": drawing.truth(), "disc": drawing.truth("disc"), "nothing": np.zeros_like(drawing.lit())}[held]
    files = {
        "image": drawing.save(drawing.photograph(), tmp_path / "eye.png"),
        "mask": drawing.save(drawing.grey(mask), tmp_path / "mask.png"),
        "fov": drawing.save(drawing.grey(wrong_fields(drawing)[how]), tmp_path / "fov.png"),
    }
    entry = Entry("eye", "eye", files["image"], (files["mask"],), files["fov"])
    with pytest.raises(DataError, match=r"fov\.png: a field of view must be the lit disc of its picture") as error:
        read_pair(entry, empty="keep", view="photograph")
    assert "check its polarity" in str(error.value)
    assert "remove all fields of view: they are computed then" in str(error.value)
    if how == "inverted" and held == "line":
        assert "the IoU is 0.000 and it holds 0.0% of the mask" in str(error.value)


def test_a_field_of_view_is_not_asked_to_be_perfect(drawing):
    """Owners' fields of view are a little wider or narrower than the lit disc, and some are a little off."""
    image, mask = np.asarray(drawing.photograph()), drawing.truth("disc")
    rows, columns = np.mgrid[: drawing.height, : drawing.width]
    for radius, off in ((26, 0), (28, 0), (27, 2)):
        fov = (rows - 30) ** 2 + (columns - 36 - off) ** 2 < radius**2
        np.testing.assert_array_equal(paired(image, mask, "mask.png", Field("fov.png", fov)).fov, fov)


@pytest.mark.parametrize(
    "dataset", [one for one in DATASETS if one.name in ("drive", "hrf", "les_av", "iostar", "dr_hagis")]
)
def test_every_set_that_ships_fields_of_view(dataset, tree):
    entry = dataset.find(tree(dataset.name)).entries[0]
    dataset.read(entry)
    Image.open(entry.fov).convert("RGB").convert("L").point(lambda value: 255 - value).save(entry.fov)
    with pytest.raises(DataError, match="a field of view must be the lit disc of its picture") as error:
        dataset.read(entry)
    assert str(entry.fov) in str(error.value)


def test_every_command_refuses_in_the_same_words(tmp_path, drawing, capsys):
    root = shipping(tmp_path, drawing, ~drawing.lit())
    with pytest.raises(DataError) as error:
        cached(Folder(path="own"), root, 32, tmp_path / "cache")
    (said,) = [line for line in str(error.value).splitlines() if "b.png" in line]
    assert main([str(root), "--set", "folder:path=own"]) == 1
    assert said.removeprefix("  - ") in capsys.readouterr().out


def test_what_lies_beside_the_field_of_view_is_cut_off(tmp_path, drawing):
    """In the frame of the model, where loss and prompts look, and at native size, where metrics look."""
    mask = drawing.truth()
    mask[2:4, 2] = True
    image = np.asarray(drawing.photograph())
    assert not paired(image, mask, "mask.png").mask[2:4, 2].any()
    root = shipping(tmp_path, drawing, drawing.lit())
    drawing.save(drawing.grey(mask), root / "own" / "masks" / "b.png")
    opened = cached(Folder(path="own"), root, 64, tmp_path / "cache")
    np.testing.assert_array_equal(opened.masks[0], opened.masks[1])
    np.testing.assert_array_equal(opened.native(1).mask, drawing.truth() & drawing.lit())


def test_a_mask_beside_the_field_of_view_is_refused(drawing):
    image, mask = np.asarray(drawing.photograph()), np.zeros_like(drawing.lit())
    mask[:5, :40] = True
    with pytest.raises(DataError, match=r"mask\.png: a mask must lie in the field of view of its image, 95% of it"):
        paired(image, mask, "mask.png")
    mask[30:34, 20:50] = True
    with pytest.raises(DataError, match=r"which was computed, holds 40\.9% of it: .* with the field of view in fov"):
        paired(image, mask, "mask.png", view="photograph")


def test_a_picture_without_a_border_has_no_lit_disc_to_compare_with(drawing):
    image = np.full((drawing.height, drawing.width, 3), 120, np.uint8)
    assert paired(image, drawing.truth(), "mask.png", Field("fov.png", drawing.lit())).mask.any()
    with pytest.raises(DataError, match=r"fov\.png: a field of view must hold its mask, 95% of it or more, but it"):
        paired(image, drawing.truth(), "mask.png", Field("fov.png", ~drawing.lit()))
    with pytest.raises(DataError, match="a field of view must be light, but it is all dark"):
        paired(image, ~drawing.lit(), "mask.png", Field("fov.png", np.zeros_like(drawing.lit())), "keep")
