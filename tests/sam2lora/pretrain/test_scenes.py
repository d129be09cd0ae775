"""The procedural scenes."""

import cv2
import numpy as np
import pytest

from sam2lora.pretrain.scenes import Scene, plain_scene, scene


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    """Forty scenes of 96 pixels."""
    return [scene(96, np.random.default_rng([3, index])) for index in range(40)]


def test_a_scene_is_a_function_of_its_seed(scenes: list[Scene]) -> None:
    again = scene(96, np.random.default_rng([3, 7]))
    assert np.array_equal(again.image, scenes[7].image)
    assert np.array_equal(again.curves, scenes[7].curves)
    assert not np.array_equal(again.image, scenes[8].image)


def test_scenes_have_the_stated_types(scenes: list[Scene]) -> None:
    for each in scenes:
        assert each.image.shape == (96, 96, 3)
        assert each.image.dtype == np.uint8
        for mask in (each.curves, *each.structures):
            assert mask.shape == (96, 96)
            assert mask.dtype == np.bool_
        assert all(mask.any() for mask in each.structures)


def test_most_scenes_show_curves_that_cover_little_and_are_thin(scenes: list[Scene]) -> None:
    covers = [float(each.curves.mean()) for each in scenes]
    assert sum(cover > 0.005 for cover in covers) > 30
    assert 0.02 < np.mean(covers) < 0.25
    depths = [cv2.distanceTransform(each.curves.astype(np.uint8), cv2.DIST_L2, 5).max() for each in scenes]
    assert np.median(depths) < 0.04 * 96


def test_curves_are_darker_than_their_ground(scenes: list[Scene]) -> None:
    """Compared with the pixels within five of them, in green."""
    darker = []
    for each in scenes:
        around = cv2.dilate(each.curves.astype(np.uint8), np.ones((5, 5))).astype(bool) & ~each.curves
        if each.curves.any():
            green = each.image[..., 1].astype(float)
            darker.append(green[each.curves].mean() < green[around].mean())
    assert np.mean(darker) > 0.9


def test_some_scenes_offer_other_structures(scenes: list[Scene]) -> None:
    offers = [len(each.structures) for each in scenes]
    assert min(offers) == 0
    assert max(offers) > 2


def test_shapes_do_not_overlap_and_plain_scenes_have_no_curves() -> None:
    for index in range(20):
        rng = np.random.default_rng([4, index])
        for each in (scene(96, rng, shapes=(2, 6)), plain_scene(96, rng)):
            assert sum(mask.astype(int) for mask in each.structures).max() <= 1
        assert not each.curves.any()
        assert 1 <= len(each.structures) <= 4
