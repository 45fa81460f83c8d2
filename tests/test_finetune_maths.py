"""The parts of fine-tuning that know no engine: batches with replay, carried postures, distillation, length, advice."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch

from dpose_yolo import DPoseError
from dpose_yolo.finetune.rules import recipe, replay_share
from dpose_yolo.finetune.verdict import verdict
from dpose_yolo.losses.keep import feature_loss, keep_loss
from dpose_yolo.metrics.bootstrap import Difference
from dpose_yolo.posture.carried import carry, joined, pack, posture_change, unpack
from dpose_yolo.posture.mixture import PostureMixture
from dpose_yolo.posture.replay import ReplaySampler, old_in_batch
from dpose_yolo.posture.sampler import PostureSampler
from dpose_yolo.posture.weights import expected_counts

NAMES = ("a", "b", "c", "d")


def poses(cluster: int, count: int, seed: int = 0) -> np.ndarray:
    """Features (count, 8) around one of several places far apart."""
    rng = np.random.default_rng([seed, cluster])
    centre = np.random.default_rng(cluster).uniform(-1, 1, 8)
    return (centre + rng.normal(0, 0.03, (count, 8))).astype(np.float32)


def known(clusters=(0, 1, 2), count=200, covariance="full"):
    features = np.concatenate([poses(c, count) for c in clusters])
    mixture = PostureMixture(len(clusters), covariance_type=covariance).fit(features)
    mixture.keypoint_names_ = NAMES
    held_out = np.concatenate([poses(c, 60, seed=1) for c in clusters])
    return carry(mixture, features, held_out, "box"), mixture


# Replay


@pytest.mark.parametrize(
    ("batch", "share", "old"), [(16, 0.5, 8), (16, 0.3, 5), (16, 0.01, 1), (16, 0.95, 15), (2, 0.9, 1)]
)
def test_old_images_in_a_batch(batch, share, old):
    assert old_in_batch(batch, share) == old


def test_no_room_for_both():
    with pytest.raises(DPoseError, match="batch=1 has no room"):
        old_in_batch(1, 0.5)


def samplers(world=1, rank=0, batches=6, new=5, old=3):
    """Parts of 20 new and 50 old images, the old ones in two clusters, the second four times as rare."""
    a = PostureSampler(expected_counts(np.ones(20), batches * new * world), np.zeros(20, int), 0, rank, world)
    group = (np.arange(50) >= 40).astype(int)
    even = np.where(group == 0, 0.5 / 40, 0.5 / 10)
    b = PostureSampler(expected_counts(even, batches * old * world), group, 0, rank, world)
    return ReplaySampler(a, b, new, old, 20)


def test_every_batch_has_the_same_number_of_old_images_and_postures_are_even():
    sampler = samplers()
    for epoch in range(3):
        drawn = np.array(list(sampler)).reshape(6, 8)
        assert ((drawn >= 20).sum(1) == 3).all()
        assert (np.bincount(drawn[drawn < 20], minlength=20) >= 1).all()  # 30 draws of 20 images: none is left out
        assert (drawn[drawn >= 20] >= 60).sum() == 9, epoch  # half of 18 draws are of the rare fifth
    assert len(sampler) == 48


def test_ranks_share_an_epoch():
    parts = [np.array(list(samplers(2, rank))) for rank in (0, 1)]
    for part in parts:
        assert ((part.reshape(6, 8) >= 20).sum(1) == 3).all()
    both = np.concatenate(parts)
    assert (both >= 60).sum() == 18 and (np.bincount(both[both < 20], minlength=20) == 3).all()


def test_seeking_repeats_an_epoch_of_both_parts():
    sampler = samplers()
    first, second = list(sampler), list(sampler)
    assert first != second
    sampler.seek(0)
    assert list(sampler) == first
    sampler.set_epoch(0)  # the trainer never makes an epoch repeat
    assert list(sampler) == second


def test_parts_that_do_not_fill_batches():
    a, b = PostureSampler(np.ones(20), np.zeros(20, int), 0), PostureSampler(np.ones(9), np.zeros(9, int), 0)
    with pytest.raises(DPoseError, match="20 new and 9 old draws do not fill batches of 5 and 3"):
        ReplaySampler(a, b, 5, 3, 20)


# Carried postures


@pytest.mark.parametrize("covariance", ["full", "tied", "diag", "spherical"])
def test_postures_survive_the_round_trip(covariance):
    carried, mixture = known(covariance=covariance)
    again = unpack(pickle.loads(pickle.dumps(pack(carried))))
    probe = np.concatenate([poses(c, 30, seed=2) for c in range(4)])
    probe[::3, 2:4] = np.nan
    assert (again.mixture.assign(probe) == mixture.assign(probe)).all()
    assert again.mixture.score_samples(probe) == pytest.approx(mixture.score_samples(probe), rel=1e-3, abs=1e-2)
    assert again.mixture.keypoint_names_ == NAMES and again.scale == "box"
    assert again.counts.tolist() == [200, 200, 200] and again.floor == carried.floor


def test_postures_are_small():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(2000, 34)).astype(np.float32)
    mixture = PostureMixture(32, max_iter=2, n_init=1, imputation_rounds=0).fit(features)
    content = pack(carry(mixture, features, features, "box"))
    assert sum(v.nbytes for v in content.values() if isinstance(v, np.ndarray)) < 85_000


@pytest.mark.parametrize("change", [{"version": 9}, {"means": np.zeros((2, 3))}, {"weights": None}])
def test_broken_postures_get_one_line(change):
    with pytest.raises(DPoseError, match="postures in the checkpoint cannot be read"):
        unpack({**pack(known()[0]), **change})


def test_lacking_and_new_postures_are_found():
    carried, mixture = known(clusters=(0, 1, 2))
    numbers = [int(mixture.assign(poses(c, 1))[0]) for c in range(3)]
    features = np.concatenate([poses(0, 20, seed=3), poses(2, 20, seed=3), poses(7, 6, seed=3)])
    own = np.repeat([0, 1, 2], [20, 20, 6])
    change = posture_change(carried, features, own)
    assert change.lacking == [numbers[1]] and change.new == [2]
    assert change.foreign[40:].all() and change.foreign[:40].mean() < 0.1
    assert change.sentence("new cabin") == f"new cabin lacks posture {numbers[1]}; has a new one"


def test_few_images_lack_nothing_and_the_same_cabin_is_the_same():
    carried, _ = known(clusters=(0, 1, 2))
    few = posture_change(carried, poses(0, 5, seed=3), np.zeros(5, int))
    assert few.lacking == [] and few.new == []
    same = np.concatenate([poses(c, 40, seed=4) for c in range(3)])
    change = posture_change(carried, same, np.repeat([0, 1, 2], 40))
    assert change.share < 0.06 and change.new == [] and change.lacking == []
    assert change.sentence("x") == "x has the postures of the old data"


def test_another_camera_is_said():
    carried, _ = known(clusters=(0, 1, 2))
    change = posture_change(carried, poses(8, 30), np.zeros(30, int))
    assert change.share == 1 and change.sentence("x").startswith("x: 100% of its poses are unlike the old ones")


def test_joined_postures_know_both():
    (old, _), (new, _) = known(clusters=(0, 1)), known(clusters=(7,), count=50)
    both = joined(old, new)
    assert both.counts.tolist() == [200, 200, 50] and both.mixture.weights_.sum() == pytest.approx(1)
    change = posture_change(both, np.concatenate([poses(c, 20, seed=5) for c in (0, 1, 7)]), np.zeros(60, int))
    assert change.share < 0.1
    assert joined(known(covariance="diag")[0], new) is new  # of another form


# Distillation


def outputs(seed: int, batch=2, cells=12, keypoints=5):
    g = torch.Generator().manual_seed(seed)
    return {
        "scores": torch.randn(batch, 1, cells, generator=g),
        "kpts": torch.randn(batch, keypoints * 3, cells, generator=g),
    }


def test_keeping_is_zero_at_the_start_and_pulls_back():
    teacher = outputs(0)
    assert keep_loss(teacher, teacher, (5, 3)).item() == pytest.approx(0, abs=1e-7)
    student = {k: v.clone().requires_grad_() for k, v in outputs(1).items()}
    optimizer = torch.optim.Adam(list(student.values()), 0.1)
    first = keep_loss(student, teacher, (5, 3)).item()
    for _ in range(300):
        optimizer.zero_grad()
        loss = keep_loss(student, teacher, (5, 3))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.02 * first
    assert (student["kpts"] - teacher["kpts"]).abs().mean() < 0.05


def test_cells_count_by_the_teachers_score():
    teacher = outputs(0)
    teacher["scores"] = torch.full((2, 1, 12), -20.0)
    teacher["scores"][..., 3] = 5.0
    student = {k: v.clone() for k, v in teacher.items()}
    student["kpts"][..., 7] += 10  # where the teacher sees nobody
    assert keep_loss(student, teacher, (5, 3)).item() < 1e-6
    student["kpts"][..., 3] += 10
    assert keep_loss(student, teacher, (5, 3)).item() == pytest.approx(10, rel=1e-3)


def test_features_are_relative():
    teacher = [torch.randn(2, 4, 5, 5), 100 * torch.randn(2, 8, 3, 3)]
    assert feature_loss([1.1 * t for t in teacher], teacher).item() == pytest.approx(0.01, rel=1e-4)


# Length


def test_length_grows_with_the_fourth_root_is_longer_where_old_images_hold_much_and_epochs_have_sixty_batches():
    def steps(images, start_ap=None, **given):
        found = recipe(images, given, start_ap)
        old = old_in_batch(16, replay_share(given)) if "replay" in given else 0
        return found["epochs"] * max(60, math.ceil(images / (min(16, images) - old)))

    for images in (20, 50, 200, 1000):
        for given in ({}, {"replay": "old.yaml"}, {"replay": "old.yaml", "replay_share": 0.25}):
            aim = max(1100 * images**0.25, 4800) if given else 630 * images**0.25
            assert aim <= steps(images, **given) < aim + max(60, math.ceil(images / 5)) + 1
            if given:  # a start that knows the new pictures has little to learn anew
                assert steps(images, 0.01, **given) == steps(images, **given)
                assert 630 * images**0.25 <= steps(images, 0.1, **given) < 630 * images**0.25 + 60 + images / 5
    assert steps(50, replay="old.yaml") == steps(50, 0.09, replay="old.yaml") == 4800
    assert steps(50, 0.5, replay="old.yaml") == 1680
    assert steps(50, replay="old.yaml", replay_share=0) == steps(50) == 1680  # none replayed
    assert replay_share({}) == 0.6875 and replay_share({"replay_share": 0.25}) == 0.25
    assert old_in_batch(16, 0.6875) == 11
    assert recipe(50, {})["clusters"] == 5 and recipe(5, {})["clusters"] == 1 and recipe(1000, {})["clusters"] == 16


def test_the_users_settings_go_before_the_rules():
    found = recipe(50, {"epochs": 3, "lr0": 1.0, "batch": 4, "clusters": 2})
    assert not {"epochs", "lr0", "batch", "clusters"} & set(found)
    assert found["nbs"] == 4 and found["warmup_epochs"] == pytest.approx(0.3)
    assert "att" not in recipe(50, {"replay": "old.yaml", "att": 3.0})


@pytest.mark.parametrize(
    ("settings", "start_ap", "optimizer", "rate", "momentum"),
    [
        ({}, 0.5, "MuSGD", 0.004, 0.9),
        ({}, 0.1, "MuSGD", 0.004, 0.9),
        ({}, 0.09, "MuSGD", 0.02, 0.9),  # nothing to spoil
        ({}, None, "MuSGD", 0.004, 0.9),
        ({"replay": "old.yaml"}, 0.5, "MuSGD", 0.02, 0.9),
        ({"replay": "old.yaml", "replay_share": 0}, 0.5, "MuSGD", 0.004, 0.9),
        ({"replay": "old.yaml", "optimizer": "AdamW"}, None, None, 0.002, None),
        ({"optimizer": "AdamW"}, 0.01, None, 0.002, None),
        ({"optimizer": "musgd"}, 0.01, None, 0.02, 0.9),  # however the user spells it
        ({"replay": "old.yaml", "lr0": 0.1, "momentum": 0.8}, None, "MuSGD", None, None),
    ],
)
def test_it_is_muon_and_gentle_with_what_is_known_and_not_replayed(settings, start_ap, optimizer, rate, momentum):
    found = recipe(50, settings, start_ap)
    nothing = start_ap is not None and start_ap < 0.1 and not settings.get("replay")
    assert found.get("start_share") == (0.0 if nothing else None)  # nothing to average with
    assert "start_share" not in recipe(50, {**settings, "start_share": 0.3}, start_ap)
    assert (found.get("optimizer"), found.get("lr0"), found.get("momentum")) == (optimizer, rate, momentum)


@pytest.mark.parametrize(
    ("settings", "norms"),
    [
        ({}, "frozen"),
        ({"replay": "old.yaml"}, "trained"),
        ({"replay": "old.yaml", "replay_share": 0.5}, "trained"),
        ({"replay": "old.yaml", "replay_share": 0.375}, "frozen"),
        ({"replay": "old.yaml", "replay_share": 0}, "frozen"),
        ({"replay": "old.yaml", "norms": "frozen"}, None),
    ],
)
def test_batch_norms_are_trained_where_most_images_are_old(settings, norms):
    assert recipe(50, settings).get("norms") == norms


def test_attention_and_mosaics_are_on_unless_they_are_given():
    for given in ({}, {"replay": "old.yaml"}):
        found = recipe(50, given)
        assert (found["att"], found["new_mosaic"]) == ("auto", 0.5)
        found = recipe(50, {**given, "att": 0.0, "mosaic": 0.3})
        assert not {"att", "mosaic", "new_mosaic"} & set(found)
    none = recipe(8, {"replay": "old.yaml", "replay_share": 0})  # named, but none of it in the batch
    assert none == recipe(8, {})


def test_the_last_tenth_is_without_mosaics():
    assert recipe(50, {"replay": "old.yaml"})["close_mosaic"] == round(
        recipe(50, {"replay": "old.yaml"})["epochs"] / 10
    )
    assert recipe(50, {"epochs": 40})["close_mosaic"] == 4 and recipe(50, {"epochs": 3})["close_mosaic"] == 0
    assert "close_mosaic" not in recipe(50, {"close_mosaic": 7})


# Advice


@pytest.mark.parametrize(
    ("new", "old", "ship", "words"),
    [
        ((0.2, 0.1, 0.3), (0.0, -0.01, 0.01), "yes", "Ship it: the new data gains"),
        ((0.2, 0.1, 0.3), (-0.01, -0.02, 0.0), "yes", "Ship it"),
        ((0.2, 0.1, 0.3), (-0.01, -0.03, 0.01), "unsure", "measure on more images"),
        ((0.2, 0.1, 0.3), (-0.1, -0.12, -0.08), "no", "not ship it for both"),
        ((0.2, 0.1, 0.3), None, "yes", "for the new cabin only"),
        ((0.0, -0.1, 0.1), (0.0, -0.01, 0.01), "unsure", "not certain"),
        ((-0.2, -0.3, -0.1), None, "no", "gains nothing"),
        ((0.2, math.nan, math.nan), None, "unsure", "not certain"),
        ((0.2, 0.1, 0.3), (0.0, math.nan, math.nan), "unsure", "not certain"),
    ],
)
def test_advice(new, old, ship, words):
    found = verdict(Difference(*new), old and Difference(*old), 0.02)
    assert found.ship == ship and words in found.sentence and "\n" not in found.sentence
