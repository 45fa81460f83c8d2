"""Attention by readout: targets and loss by hand, geometry of the maps, gradients, and nothing left on the model."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from engine_models import dpose, make_batch, tiny_model
from ultralytics.nn.tasks import load_checkpoint

from dpose_yolo import DPoseError, DPoseTrainer
from dpose_yolo.attention import readout_layer, readout_loss, readout_target
from dpose_yolo.engine.criterion import DPoseCriterion
from dpose_yolo.engine.graph import readout_layers
from dpose_yolo.engine.readout import READOUT, ReadoutTerm, add_readout, remove_readout

SETTINGS = {"att": 2.0, "att_map": "readout", "att_start": 0.0, "att_interval": 1}


def with_readout(seed: int = 0, **settings):
    model = tiny_model(seed=seed).train()
    chosen = dpose(**{**SETTINGS, **settings})
    add_readout(model, chosen)
    model.criterion = DPoseCriterion(model.init_criterion(), ReadoutTerm(model, chosen), chosen["att"])
    return model


# Targets


def test_target_is_the_gaussian_of_the_paper_with_sum_one():
    keypoints = torch.tensor([[[[22.0, 10.0, 2.0]]]])  # cell (x 5, y 2) of stride 4: centre 22, 10
    target = readout_target(keypoints, torch.tensor([[80.0]]), 0.1, (8, 10), (4.0, 4.0))
    assert target.shape == (1, 1, 8, 10) and target.sum().item() == pytest.approx(1)
    assert divmod(int(target.argmax()), 10) == (2, 5)
    # Eq. 7: one cell to the right is 4 px away, the standard deviation is 0.1 * 80 px
    assert (target[0, 0, 2, 6] / target[0, 0, 2, 5]).item() == pytest.approx(math.exp(-(4**2) / (2 * 8**2)))
    assert (target[0, 0, 4, 5] / target[0, 0, 2, 5]).item() == pytest.approx(math.exp(-(8**2) / (2 * 8**2)))


def test_narrow_gaussians_are_widened_to_half_a_cell():
    keypoints = torch.tensor([[[[24.0, 12.0, 2.0]]]])  # on a corner of four cells
    target = readout_target(keypoints, torch.tensor([[1.0]]), 0.01, (8, 10), (4.0, 4.0))
    assert target[0, 0, 2:4, 5:7] == pytest.approx(torch.full((2, 2), 0.25).numpy(), abs=0.02)


def test_target_counts_labelled_points_of_all_persons_inside_the_picture():
    points = torch.zeros(1, 3, 5, 3)
    points[0, 0, 0] = torch.tensor([6.0, 6.0, 2.0])  # one person
    points[0, 0, 1] = torch.tensor([6.0, 6.0, 2.0])  # two persons
    points[0, 1, 1] = torch.tensor([26.0, 22.0, 1.0])  # a hidden point counts
    points[0, 0, 2] = torch.tensor([6.0, 6.0, 0.0])  # unlabelled
    points[0, 0, 3] = torch.tensor([-3.0, 6.0, 2.0])  # outside
    points[0, 0, 4] = torch.tensor([40.0, 6.0, 2.0])  # outside: the picture is 40 wide
    target = readout_target(points, torch.full((1, 3), 4.0), 0.1, (8, 10), (4.0, 4.0))
    assert target.sum((2, 3))[0].tolist() == pytest.approx([1, 1, 0, 0, 0])
    assert target[0, 1, 1, 1].item() == pytest.approx(target[0, 1, 5, 6].item())
    assert target[0, 1, 1, 1].item() == pytest.approx(target[0, 0, 1, 1].item() / 2, rel=1e-3)


# Loss


def test_loss_of_even_and_of_perfect_maps_by_hand():
    target = torch.zeros(2, 3, 4, 5)
    target[0, 0, 1, 2] = 1.0
    target[0, 1] = 1 / 20
    even = readout_loss(torch.full((2, 3, 4, 5), 7.0), target)
    # keypoint 0: log 20, as a share of log 20; keypoint 1: none; keypoint 2 and image 1 do not count
    assert even.tolist() == pytest.approx([0.5, 0.0])
    perfect = readout_loss(target.clamp(min=1e-30).log(), target)
    assert perfect.tolist() == pytest.approx([0.0, 0.0], abs=1e-6)


def test_loss_gradient_against_finite_differences():
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 4, 5, generator=g, dtype=torch.float64)
    target = torch.rand(2, 3, 4, 5, generator=g, dtype=torch.float64)
    target[1, 2] = 0
    target = target / target.sum((2, 3), keepdim=True).clamp(min=1e-9)
    value = readout_loss(maps, target).sum()
    direction = torch.randn(maps.shape, generator=g, dtype=torch.float64)
    moved = maps.clone().requires_grad_()
    readout_loss(moved, target).sum().backward()
    step = 1e-5
    ahead, behind = (readout_loss(maps + s * step * direction, target).sum() for s in (1, -1))
    assert ((ahead - behind) / (2 * step)).item() == pytest.approx((moved.grad * direction).sum().item(), rel=1e-7)
    assert value > 0 and torch.all(moved.grad[1, 2] == 0)


def test_maps_are_finer_than_the_layer_and_aligned_with_it():
    layer = readout_layer(channels=2, keypoints=3, upscale=4)
    assert layer(torch.zeros(1, 2, 5, 6)).shape == (1, 3, 20, 24)
    feature = torch.zeros(1, 2, 5, 6)
    feature[0, 0, 2, 3] = 1.0
    maps = layer(feature) - layer(torch.zeros_like(feature))
    seen = maps.abs().sum((0, 1)).nonzero()
    assert seen.min(0).values.tolist() == [8, 12] and seen.max(0).values.tolist() == [11, 15]


# On an engine model


def test_engine_terms_are_untouched_and_the_layers_before_the_map_learn():
    batch = make_batch()
    plain = tiny_model().train()
    ours = with_readout()
    loss, _ = plain.loss(batch)
    found, items = ours.loss(batch)
    assert torch.equal(found[:-1], loss)
    assert found[-1].item() == pytest.approx(2 * items["att_loss"].item() * 3 / 2)  # weight in, batch of 3
    found[-1].backward()
    learns = {n.split(".")[1] for n, p in ours.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {str(i) for i in range(7)} <= learns and "9" in learns  # the backbone, the neck up to layer 9
    assert "10" not in learns  # the head is the engine's alone
    assert {n for n, p in ours.named_parameters() if n.startswith(READOUT) and p.grad.abs().sum() > 0}


def test_maps_learn_where_the_keypoints_are():
    torch.manual_seed(0)
    model, batch = with_readout(), make_batch()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        term = model.loss(batch)[0][-1] / len(batch["img"])
        optimizer.zero_grad()
        term.backward()
        optimizer.step()
        losses.append(term.item())
    assert losses[-1] < 0.5 * losses[0]


def test_validation_equals_training_in_evaluation_mode():
    model, batch = with_readout(), make_batch()
    model.eval()
    term = model.criterion.term
    with torch.no_grad():
        image_only = term.validation(batch, None)
    assert torch.isfinite(image_only) and image_only > 0
    model.train()
    for m in model.modules():
        if isinstance(m, torch.nn.BatchNorm2d):
            m.eval()
    live = model.loss(batch)[1]["att_loss"] / 2
    assert image_only.item() == pytest.approx(live.item(), rel=1e-4)


def test_layers_by_setting():
    model = tiny_model()
    assert readout_layers(model, "auto") == {9: (24, 16)}
    assert readout_layers(model, [6, 2]) == {2: (16, 8), 6: (32, 32)}
    with pytest.raises(DPoseError, match=r"att_layers=10 is not a layer with a map .*9 \(stride 16\)"):
        readout_layers(model, [10])


def test_images_without_persons_cost_nothing():
    batch = make_batch(2, (0, 0))
    loss, items = with_readout().loss(batch)
    assert items["att_loss"].item() == 0
    loss.sum().backward()


def test_prediction_and_export_do_not_see_it():
    plain, ours = tiny_model(), tiny_model()
    add_readout(ours, dpose(**SETTINGS))
    image = make_batch()["img"]
    assert torch.equal(plain.eval()(image)[0], ours.eval()(image)[0])
    assert remove_readout(ours) and not remove_readout(ours)
    assert list(plain.state_dict()) == list(ours.state_dict())


def test_a_started_readout_is_gone_on_with():
    first, second = tiny_model(), tiny_model()
    add_readout(first, dpose(**SETTINGS))
    add_readout(second, dpose(**SETTINGS), weights=copy.deepcopy(first))
    for a, b in zip(getattr(first, READOUT).parameters(), getattr(second, READOUT).parameters(), strict=True):
        assert torch.equal(a, b)
    other = tiny_model()
    add_readout(other, dpose(**SETTINGS, att_layers=[4, 6]), weights=first)  # of other layers: a new one
    assert list(getattr(other, READOUT)) == ["4", "6"]


def test_a_run_keeps_it_while_it_can_go_on_and_leaves_none(base):
    class Broken(DPoseTrainer):
        def run_callbacks(self, event):
            super().run_callbacks(event)
            if event == "on_model_save" and self.epoch == 0:
                raise KeyboardInterrupt

    broken = Broken({**base, **SETTINGS}, name="readout", clusters=4)
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    saved = torch.load(broken.last, weights_only=False)["ema"]
    assert all(type(m).__module__.startswith(("torch.", "ultralytics.")) for m in saved.modules())
    assert hasattr(saved, READOUT)
    kept = getattr(broken.model, READOUT).state_dict()  # a resumed run goes on with the live weights, not their average
    resumed = DPoseTrainer(resume=str(broken.last))
    started = {}

    def remember(trainer):
        started.update({k: v.clone() for k, v in getattr(trainer.model, READOUT).state_dict().items()})

    resumed.add_callback("on_train_start", remember)
    resumed.train()
    assert started.keys() == kept.keys() and all(torch.equal(started[k], kept[k]) for k in kept)
    for file in (resumed.last, resumed.best):
        model, _ = load_checkpoint(file)
        assert list(model.state_dict()) == list(tiny_like(base).state_dict())
    assert not list(resumed.last.parent.glob("*.part"))


def tiny_like(base):
    from ultralytics.nn.tasks import PoseModel

    return PoseModel(base["model"], ch=3, nc=1, verbose=False)


def test_frozen_up_to_the_map_is_refused(base):
    with pytest.raises(DPoseError, match=r"freeze=10 freezes all layers up to 9"):
        DPoseTrainer({**base, **SETTINGS}, name="frozen", freeze=10, clusters=4).train()
