"""The procedural hospitals: the same each time, unlike one another, and vessels that are truly vessels."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
from pydantic import ValidationError
from scipy import ndimage

from sam2lora.datasets import DEMO_HOSPITALS, PRETRAINING_HOSPITALS, Hospital, Synthetic
from sam2lora.datasets.hospitals import HOSPITALS
from sam2lora.datasets.painter import paint
from sam2lora.datasets.vasculature import Anatomy, grow

NAMES = get_args(Hospital)


@pytest.fixture(scope="module")
def painted():
    """Four images of every hospital."""
    return {name: [paint(name, 256, 0, index) for index in range(4)] for name in NAMES}


def test_demo_and_pretraining_are_apart():
    assert len(DEMO_HOSPITALS) >= 6
    assert len(PRETRAINING_HOSPITALS) >= 4
    assert not set(DEMO_HOSPITALS) & set(PRETRAINING_HOSPITALS)
    assert {*DEMO_HOSPITALS, *PRETRAINING_HOSPITALS} == set(NAMES) == set(HOSPITALS)


@pytest.mark.parametrize("hospital", NAMES)
def test_an_image_depends_on_hospital_seed_and_index_alone(hospital):
    dataset = Synthetic(hospital=hospital, images=6, size=96)
    entries = dataset.find(Path()).entries
    np.random.seed(1)
    forwards = [dataset.read(entry) for entry in entries]
    np.random.seed(2)
    backwards = [replace(dataset, images=4).read(entry) for entry in entries[3::-1]][::-1]
    for one, other in zip(forwards, backwards, strict=False):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.mask, other.mask)
        np.testing.assert_array_equal(one.fov, other.fov)
    texts = {pair.image.tobytes() for pair in forwards}
    texts |= {replace(dataset, seed=1).read(entry).image.tobytes() for entry in entries}
    assert len(texts) == 12


@pytest.mark.parametrize("hospital", NAMES)
def test_truth_lies_in_the_field_of_view_and_is_dark_or_light(hospital, painted):
    for eye in painted[hospital]:
        assert not (eye.vessels & ~eye.fov).any()
        assert not (eye.disc & ~eye.fov).any()
        assert 0.04 < eye.vessels.sum() / eye.fov.sum() < 0.22
        assert 0.002 < eye.disc.sum() / eye.fov.sum() < 0.04
        assert 0.6 < eye.fov.mean() < 0.95
        around = ndimage.binary_dilation(eye.vessels, iterations=4) & eye.fov & ~eye.disc
        green = eye.image[..., 1].astype(float)
        assert green[eye.vessels & around].mean() < 0.93 * green[around & ~eye.vessels].mean()
        ring = ndimage.binary_dilation(eye.disc, iterations=6) & eye.fov & ~eye.disc & ~eye.vessels
        assert green[eye.disc & ~eye.vessels].mean() > 1.06 * green[ring].mean()


@pytest.mark.parametrize("hospital", [name for name in NAMES if HOSPITALS[name].reflex < 0.5])
def test_thin_vessels_have_less_contrast_than_thick_ones(hospital):
    """Contrast: how much darker a vessel is than the retina near by. A bright ridge would hide it in thick ones."""
    thin, thick = [], []
    for index in range(3):
        eye = paint(hospital, 384, 0, index)
        retina = eye.fov & ~ndimage.binary_dilation(eye.disc, iterations=8)
        ground = (retina & ~ndimage.binary_dilation(eye.vessels)).astype(np.float32)
        green = eye.image[..., 1].astype(np.float32)
        near = cv2.blur(green * ground, (31, 31)) / np.maximum(cv2.blur(ground, (31, 31)), 0.05)
        loss = 1 - green / np.maximum(near, 1)
        core = ndimage.binary_opening(eye.vessels, np.ones((4, 4)))
        inside = ndimage.binary_erosion(eye.fov, iterations=10) & retina
        thick.append(loss[core & inside])
        thin.append(loss[eye.vessels & ~ndimage.binary_dilation(core, iterations=3) & inside])
    assert np.concatenate(thin).mean() < 0.75 * np.concatenate(thick).mean()


def test_the_vessels_are_a_tree():
    """Nearly all vessel pixels hang together by way of the disc: branches are not strewn about."""
    for hospital in DEMO_HOSPITALS:
        eye = paint(hospital, 384, 0, 0)
        labels, count = ndimage.label(eye.vessels | eye.disc, np.ones((3, 3)))
        sizes = np.bincount(labels.ravel())[1:]
        assert count >= 1
        assert sizes.max() > 0.6 * sizes.sum()
        assert labels[eye.disc].max() == 1 + sizes.argmax()


@pytest.mark.parametrize("hospital", NAMES)
def test_branches_taper_and_are_thinner_than_their_trunks(hospital):
    look = HOSPITALS[hospital]
    branches = grow(look, Anatomy((-0.68, 0.0), (0.0, 0.05), 0.12), np.random.default_rng(0))
    assert len(branches) > 30
    assert {branch.artery for branch in branches} == {True, False}
    for branch in branches:
        assert len(branch.points) == len(branch.calibres)
        assert (np.diff(branch.calibres) < 0).all()
    first = [branch.calibres[0] for branch in branches]
    assert first == sorted(first)
    assert 0.7 * look.calibre < first[-1] < 1.3 * look.calibre
    assert np.median(first) < 0.5 * look.calibre


def test_hospitals_share_no_eye():
    """Alder, birch and dogwood place the disc by the same rule: only their own random numbers tell the eyes apart."""
    eyes = [paint(name, 192, 0, index).disc for name in ("alder", "birch", "dogwood") for index in (0, 2, 4)]
    assert len({disc.tobytes() for disc in eyes}) == len(eyes)


def test_the_two_eyes_of_a_patient_are_mirrored(painted):
    for name in ("alder", "birch", "dogwood"):
        left, right = (np.argwhere(eye.disc)[:, 1].mean() for eye in painted[name][:2])
        assert left < 128 < right


def test_hospitals_differ_visibly(painted):
    """Between any two hospitals the mean colour, or else calibre or grain, is apart by more than within one."""
    looks = {}
    for name, eyes in painted.items():
        colour = np.array([eye.image[eye.fov].mean(axis=0) for eye in eyes]).mean(axis=0)
        calibre = np.mean([2 * ndimage.distance_transform_edt(eye.vessels)[eye.vessels].max() for eye in eyes])
        grain = np.mean([np.abs(ndimage.laplace(eye.image[..., 1].astype(float)))[eye.fov].mean() for eye in eyes])
        looks[name] = np.array([*colour / 12, calibre / 1.5, grain / 3])
    assert min(np.abs(looks[a] - looks[b]).max() for a, b in combinations(NAMES, 2)) > 1


@pytest.mark.parametrize("size", [64, 200, 512])
def test_the_same_eye_at_another_size(size):
    large, small = paint("alder", 512, 0, 0), paint("alder", size, 0, 0)
    assert small.image.shape == (size, size, 3)
    assert small.disc.mean() == pytest.approx(large.disc.mean(), rel=0.08)
    assert small.fov.mean() == pytest.approx(large.fov.mean(), rel=0.03)


def test_the_choice():
    dataset = Synthetic(hospital="elm")
    assert (dataset.name, dataset.target, dataset.title) == ("elm", "vessel", "Elm")
    disc = Synthetic(hospital="elm", target="disc")
    assert (disc.name, disc.target) == ("elm", "disc")
    assert dataset.overlaps & disc.overlaps
    entry = disc.find(Path()).entries[0]
    assert disc.read(entry).mask.sum() < dataset.read(entry).mask.sum()
    assert all(file.suffix == ".py" for file in entry.files)


@pytest.mark.parametrize("hospital", DEMO_HOSPITALS)
def test_the_disc_is_rim_and_cup(hospital):
    disc, cup, rim = (Synthetic(hospital=hospital, target=target, images=4) for target in ("disc", "cup", "rim"))
    for entry in disc.find(Path()).entries:
        whole, inner, ring = (dataset.read(entry).mask for dataset in (disc, cup, rim))
        assert np.array_equal(whole, inner | ring)
        assert not (inner & ring).any()
        assert 0.3 < (inner.sum() / whole.sum()) ** 0.5 < 0.65  # the cup-to-disc ratio of healthy and glaucomatous eyes


@pytest.mark.parametrize(
    "wrong", [{"hospital": "oak"}, {"images": 5}, {"images": 2}, {"size": 63}, {"seed": -1}, {"target": "lens"}]
)
def test_impossible_values_are_refused(wrong):
    with pytest.raises(ValidationError):
        Synthetic(**({"hospital": "elm"} | wrong))
