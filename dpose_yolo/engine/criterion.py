"""The engine's pose criterion, with the paper's box term and attention term around it (paper 3.4, Eq. 9-13)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from ultralytics.utils.loss import BboxLoss, KeypointLoss
from ultralytics.utils.metrics import bbox_iou
from ultralytics.utils.tal import PoseTaskAlignedAssigner, TaskAlignedAssigner, make_anchors

from dpose_yolo.engine.attention import Assignment, AttentionTerm
from dpose_yolo.engine.readout import ReadoutTerm
from dpose_yolo.losses import far_keypoint_loss


class DIoUBoxLoss(BboxLoss):
    """The engine's box loss with DIoU (Eq. 9) in place of CIoU; the distance part stays the engine's."""

    def forward(
        self,
        pred_dist: torch.Tensor,
        pred_bboxes: torch.Tensor,
        anchor_points: torch.Tensor,
        target_bboxes: torch.Tensor,
        target_scores: torch.Tensor,
        target_scores_sum: torch.Tensor,
        fg_mask: torch.Tensor,
        imgsz: torch.Tensor,
        stride: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the DIoU and the distance loss; arguments are the engine's."""
        _, distance = super().forward(
            pred_dist,
            pred_bboxes,
            anchor_points,
            target_bboxes,
            target_scores,
            target_scores_sum,
            fg_mask,
            imgsz,
            stride,
        )
        weight = target_scores[fg_mask].sum(-1, keepdim=True)
        iou = bbox_iou(pred_bboxes[fg_mask], target_bboxes[fg_mask], xywh=False, DIoU=True)
        return ((1.0 - iou) * weight).sum() / target_scores_sum, distance  # Eq. 9


def pose_criteria(criterion: Any) -> list[Any]:
    """The pose criteria inside an engine criterion: both branches of an end-to-end one, or the one itself."""
    return [criterion.one2many, criterion.one2one] if hasattr(criterion, "one2many") else [criterion]


def use_diou(criterion: Any) -> None:
    """Replace the box loss of an engine criterion by DIoU, in place."""
    for part in pose_criteria(criterion):
        part.bbox_loss = DIoUBoxLoss(part.reg_max).to(part.device)


class FarKeypointLoss(KeypointLoss):
    """The engine's OKS loss plus a weighted term that still pulls far from the label."""

    def __init__(self, sigmas: torch.Tensor, weight: float):
        """`weight` is the setting `kpt_far`."""
        super().__init__(sigmas)
        self.weight = weight

    def forward(
        self, pred_kpts: torch.Tensor, gt_kpts: torch.Tensor, kpt_mask: torch.Tensor, area: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss; arguments are the engine's."""
        near = super().forward(pred_kpts, gt_kpts, kpt_mask, area)
        return near + self.weight * far_keypoint_loss(pred_kpts, gt_kpts, kpt_mask, area, self.sigmas)


def use_far_loss(criterion: Any, weight: float) -> None:
    """Add the far term to the keypoint loss of an engine criterion, in place."""
    for part in pose_criteria(criterion):
        part.keypoint_loss = FarKeypointLoss(part.keypoint_loss.sigmas, weight).to(part.device)


class PoseScoredAssigner(PoseTaskAlignedAssigner):
    """The engine's assigner with a part of the keypoints' OKS in place of the box IoU, at every scale.

    Prediction cells are chosen by it, and the class score is trained towards it: the score then ranks detections by how
    good their pose is. The engine does the same, with OKS alone, for YOLO26.
    """

    level_range = (0.0, float("inf"))  # the IoU part knows scales

    def __init__(self, sigmas: torch.Tensor, share: float, like: Any):
        """`share` is the setting `pose_score`, `like` the assigner to replace."""
        names = ("topk", "topk2", "num_classes", "alpha", "beta", "stride")
        super().__init__(sigmas, **{k: getattr(like, k) for k in names})
        self.share = share

    def pair_overlaps(self, indices: Any, gt_bboxes: Any, pd_bboxes: Any, pd_kpts: Any, gt_kpts: Any) -> torch.Tensor:
        """Overlap of each candidate pair; arguments are the engine's."""
        iou = TaskAlignedAssigner.pair_overlaps(self, indices, gt_bboxes, pd_bboxes)
        oks = super().pair_overlaps(indices, gt_bboxes, pd_bboxes, pd_kpts, gt_kpts)
        return iou.lerp(oks, self.share)


class PoseScored:
    """Stands where the engine's criterion assigns, and hands the poses to the assigner."""

    def __init__(self, criterion: Any):
        """Keep the criterion."""
        self.criterion = criterion

    def __call__(self, preds: dict[str, torch.Tensor], batch: dict[str, Any]) -> tuple:
        """Assign with poses; arguments and result are the engine's."""
        c = self.criterion
        anchors, strides = make_anchors(preds["feats"], c.stride, 0.5)
        raw = preds["kpts"].detach().permute(0, 2, 1).contiguous()
        size = torch.tensor(preds["feats"][0].shape[2:], device=raw.device, dtype=raw.dtype) * c.stride[0]
        points = c.kpts_decode(anchors, raw.view(raw.shape[0], -1, *c.kpt_shape))[..., :2] * strides[:, None]
        labels = c._batch_keypoints(batch, raw.shape[0], size)
        poses = {"pd_kpts": points, "gt_kpts": labels, "anc_strides": strides.view(-1)}
        return type(c).get_assigned_targets_and_loss(c, preds, batch, **poses)


def use_pose_score(criterion: Any, share: float) -> None:
    """Let the poses decide on assignment and class score by `share`, in place; YOLO26's criterion does so already."""
    for part in pose_criteria(criterion):
        if isinstance(part.assigner, PoseTaskAlignedAssigner):
            continue
        part.assigner = PoseScoredAssigner(part.keypoint_loss.sigmas, share, part.assigner)
        part.get_assigned_targets_and_loss = PoseScored(part)


class AssignmentRecorder:
    """Keeps what the engine's assigner decided last, so that the criterion is composed with and not copied."""

    def __init__(self, assigner: nn.Module):
        """Hook the assigner."""
        self.last: Assignment | None = None
        self._handle = assigner.register_forward_hook(self._record)

    def _record(self, module: nn.Module, inputs: tuple, output: tuple) -> None:
        _, _, scores, foreground, person = output
        self.last = Assignment(foreground.bool(), person.long(), scores.sum(-1))

    def take(self) -> Assignment | None:
        """The last assignment; the recorder lets go of it."""
        last, self.last = self.last, None
        return last

    def close(self) -> None:
        """Remove the hook."""
        self._handle.remove()


class DPoseCriterion:
    """Engine criterion plus the attention term (Eq. 13).

    Called like the engine's: `criterion(preds, batch)` returns the loss vector times the batch size and a dict of
    detached items, with `att_loss` as the last of both.

    Args:
        base: the engine's criterion of the head in use (v8, 11: `v8PoseLoss`; 26: `E2ELoss` of `PoseLoss26`).
        term: the attention term.
        weight: lambda_1 of Eq. 13, `att`.
        interval: apply the term on every n-th step, weighted n times.
        first_step: step at which the term starts.

    Attributes:
        step: of the run, counted up by training calls; the trainer sets it at the start of every epoch.
        validate: compute the term in validation too (otherwise it is reported as 0 there).
    """

    def __init__(
        self,
        base: Any,
        term: AttentionTerm | ReadoutTerm,
        weight: float,
        interval: int = 1,
        first_step: int = 0,
    ):
        """See the class."""
        self.base = base
        self.term = term
        self.weight = weight
        self.interval = interval
        self.first_step = first_step
        self.validate = True
        self.step = 0
        # The one-to-one branch of an end-to-end head is cut off from the backbone; the one-to-many branch is not.
        self.recorder = AssignmentRecorder(pose_criteria(base)[0].assigner)

    def __call__(self, preds: Any, batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Loss vector times batch size, and the items."""
        loss, items = self.base(preds, batch)
        assignment = self.recorder.take()
        attention = loss.new_zeros(())
        if torch.is_grad_enabled():
            step, self.step = self.step, self.step + 1
            if assignment is not None and step >= self.first_step and step % self.interval == 0:
                raw = preds.get("one2many", preds)["kpts"]
                attention = self.interval * self.term.training(raw, batch, assignment, step)
            elif self.term.tap is not None:
                self.term.tap.take()
        elif self.validate and assignment is not None:
            attention = self.term.validation(batch, assignment).to(loss.dtype)
        attention = self.weight * attention
        batch_size = batch["img"].shape[0]
        return torch.cat([loss, attention[None] * batch_size]), {**items, "att_loss": attention.detach()}

    def forget(self) -> None:
        """Let go of everything held from the last pass."""
        self.recorder.take()
        if self.term.tap is not None:
            self.term.tap.take()

    def close(self) -> None:
        """Take the hooks off the model and the engine's criterion."""
        self.forget()
        self.recorder.close()
        if self.term.tap is not None:
            self.term.tap.close()

    def update(self) -> None:
        """Pass on the engine's call at the end of an epoch (end-to-end criteria shift their weights there)."""
        if hasattr(self.base, "update"):
            self.base.update()
