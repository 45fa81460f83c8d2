"""Assignment and class score by the quality of the pose (`pose_score`)."""

from __future__ import annotations

import pytest
import torch
from engine_models import make_batch, tiny_model

from dpose_yolo.engine.criterion import PoseScoredAssigner, pose_criteria, use_pose_score

HEADS = [("Pose", False), ("Pose", True)]


@pytest.mark.parametrize(("head", "end2end"), HEADS)
def test_no_share_is_the_engine_to_the_last_digit(head, end2end):
    batch = make_batch()
    plain, ours = tiny_model(head, end2end).train(), tiny_model(head, end2end).train()
    plain.criterion, ours.criterion = plain.init_criterion(), ours.init_criterion()
    use_pose_score(ours.criterion, 0.0)
    assert torch.equal(plain.loss(batch)[0], ours.loss(batch)[0])
    scored = tiny_model(head, end2end).train()
    scored.criterion = scored.init_criterion()
    use_pose_score(scored.criterion, 1.0)
    assert not torch.equal(plain.loss(batch)[0], scored.loss(batch)[0])


def test_yolo26_keeps_its_own():
    model = tiny_model("Pose26", True).train()
    criterion = model.init_criterion()
    before = [part.assigner for part in pose_criteria(criterion)]
    use_pose_score(criterion, 0.5)
    assert [part.assigner for part in pose_criteria(criterion)] == before


def overlaps(share: float, offset: float) -> torch.Tensor:
    """Overlap of one prediction: half the box, all keypoints `offset` px off."""
    assigner = PoseScoredAssigner(torch.tensor([0.1, 0.1]), share, tiny_model().init_criterion().assigner)
    box = torch.tensor([[[0.0, 0.0, 100.0, 100.0]]])
    predicted = torch.tensor([[[0.0, 0.0, 100.0, 100.0]]])
    label = torch.tensor([[[[20.0, 20.0, 2.0], [50.0, 50.0, 2.0]]]])
    points = label[:, :, :, :2] + torch.tensor([offset, 0.0])
    index = (torch.tensor([0]), torch.tensor([0]), torch.tensor([0]))
    return assigner.pair_overlaps(index, box, predicted, points[:, 0][:, None], label)[0]


def test_overlap_is_the_mean_of_box_and_pose_by_hand():
    # OKS: exp(-d^2 / (2 * 0.53 * area * (2 sigma)^2)), d = 10, area = 100 * 100
    oks = torch.exp(torch.tensor(-100 / (2 * 0.53 * 10000 * 0.04)))
    assert overlaps(1.0, 10.0).item() == pytest.approx(oks.item(), rel=1e-4)
    assert overlaps(0.0, 10.0).item() == pytest.approx(1.0, rel=1e-4)
    assert overlaps(0.25, 10.0).item() == pytest.approx(0.75 + 0.25 * oks.item(), rel=1e-4)


def test_class_score_is_trained_towards_the_pose():
    """Of two cells with the same box and score the one with the right pose gets the higher target."""
    like = tiny_model().init_criterion().assigner
    like.topk = like.topk2 = 2
    sigmas = torch.full((2,), 0.1)
    box = torch.tensor([[[0.0, 0.0, 64.0, 64.0]]])
    label = torch.tensor([[[[20.0, 20.0, 2.0], [50.0, 50.0, 2.0]]]])
    anchors = torch.tensor([[24.0, 24.0], [40.0, 40.0]])
    points = torch.stack([label[0, 0, :, :2] + 15.0, label[0, 0, :, :2]])[None]
    poses = {"pd_kpts": points, "gt_kpts": label, "anc_strides": torch.tensor([16.0, 16.0])}
    for share, better in ((0.0, False), (0.5, True), (1.0, True)):
        _, _, scores, foreground, _ = PoseScoredAssigner(sigmas, share, like)(
            torch.full((1, 2, 1), 0.5),
            box.repeat(1, 2, 1),
            anchors,
            torch.zeros(1, 1, 1),
            box,
            torch.ones(1, 1, 1),
            **poses,
        )
        assert foreground.all()
        wrong, right = scores[0, :, 0].tolist()
        assert (right > 1.5 * wrong) if better else right == pytest.approx(wrong)
        assert right == pytest.approx(1.0, abs=1e-3)
