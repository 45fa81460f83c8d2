"""The far keypoint loss: values by hand, gradients against finite differences, its pull where the OKS loss has none."""

from __future__ import annotations

import math

import pytest
import torch
from engine_models import make_batch, tiny_model
from ultralytics.utils.loss import KeypointLoss

from dpose_yolo.engine.criterion import FarKeypointLoss, use_far_loss
from dpose_yolo.losses import far_keypoint_loss

SIGMAS = torch.tensor([0.05, 0.1, 0.025])


def case(persons: int = 4, seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    predicted = torch.rand(persons, 3, 3, generator=generator, dtype=torch.float64) * 40
    label = torch.rand(persons, 3, 3, generator=generator, dtype=torch.float64) * 40
    mask = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 1], [0, 0, 0]], dtype=torch.float64)[:persons]
    area = torch.rand(persons, 1, generator=generator, dtype=torch.float64) * 500 + 300
    return predicted, label, mask, area


def test_value_by_hand():
    predicted = torch.tensor([[[3.0, 4.0, 1.0], [0.0, 0.0, 1.0], [9.0, 9.0, 1.0]]])
    label = torch.tensor([[[0.0, 0.0, 2.0], [0.0, 0.0, 2.0], [0.0, 0.0, 0.0]]])
    mask, area = torch.tensor([[True, True, False]]), torch.tensor([[100.0]])
    e = 25 / (2 * 100 * (2 * 0.05) ** 2)  # 12.5; the second point is exact, the third unlabelled
    expected = (3 / 2) * (math.sqrt(1 + e) - 1) / 3
    assert far_keypoint_loss(predicted, label, mask, area, SIGMAS).item() == pytest.approx(expected, rel=1e-6)


def test_gradient_against_finite_differences():
    predicted, label, mask, area = case()
    predicted.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p: far_keypoint_loss(p, label, mask, area, SIGMAS.double()), predicted, eps=1e-6, atol=1e-8
    )
    far_keypoint_loss(predicted, label, mask, area, SIGMAS.double()).backward()
    assert torch.all(predicted.grad[mask == 0] == 0) and torch.all(predicted.grad[..., 2] == 0)


def test_pulls_where_the_oks_loss_is_flat():
    far = torch.tensor([[[20.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]], requires_grad=True)
    label, mask, area = torch.zeros(1, 3, 3), torch.ones(1, 3), torch.full((1, 1), 100.0)
    (oks,) = torch.autograd.grad(KeypointLoss(SIGMAS)(far, label, mask, area), far)
    (ours,) = torch.autograd.grad(far_keypoint_loss(far, label, mask, area, SIGMAS), far)
    assert abs(oks[0, 0, 0]) < 1e-12  # e = 200: exp(-200)
    # The force far away is constant: the derivative of d / sqrt(2 area (2 sigma)^2), averaged over the 3 keypoints.
    assert ours[0, 0, 0].item() == pytest.approx(1 / math.sqrt(2 * 100 * 0.01) / 3, rel=0.01)


def test_is_added_to_the_engines_loss():
    predicted, label, mask, area = (t.float() for t in case())
    near = KeypointLoss(SIGMAS)(predicted, label, mask, area)
    far = far_keypoint_loss(predicted, label, mask, area, SIGMAS)
    both = FarKeypointLoss(SIGMAS, 0.25)(predicted, label, mask, area)
    assert far > 0 and both.item() == pytest.approx((near + 0.25 * far).item(), rel=1e-6)


def test_small_errors_keep_their_digits_in_half_precision():
    predicted = torch.tensor([[[0.01, 0.0, 1.0]]])
    label, mask, area = torch.zeros(1, 1, 3), torch.ones(1, 1), torch.full((1, 1), 100.0)
    exact = far_keypoint_loss(predicted.double(), label.double(), mask, area.double(), torch.tensor([0.5]).double())
    half = far_keypoint_loss(predicted.half(), label.half(), mask, area, torch.tensor([0.5]))
    assert half.item() == pytest.approx(exact.item(), rel=0.01)


@pytest.mark.parametrize(("head", "end2end"), [("Pose", False), ("Pose", True), ("Pose26", False), ("Pose26", True)])
def test_changes_only_the_keypoint_term_of_every_head(head, end2end):
    batch = make_batch()
    plain, ours = tiny_model(head, end2end).train(), tiny_model(head, end2end).train()
    ours.criterion = ours.init_criterion()
    use_far_loss(ours.criterion, 0.5)
    _, items = plain.loss(batch)
    _, named = ours.loss(batch)
    assert all(torch.equal(named[k], items[k]) for k in items if k != "pose_loss")
    assert named["pose_loss"] > items["pose_loss"]
    use_far_loss(ours.criterion, 1.0)  # set again, as after a recovery: in place of the first, not on top of it
    _, again = ours.loss(batch)
    assert (again["pose_loss"] - items["pose_loss"]).item() == pytest.approx(
        2 * (named["pose_loss"] - items["pose_loss"]).item(), rel=1e-3
    )
