"""Keypoint attention (paper 3.3) against finite differences, and its parts on cases worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dpose_yolo.attention import (
    attention_loss,
    attention_map,
    choose_keypoints,
    keypoint_cam,
    keypoint_heatmap,
    score_gradients,
)


class TwoPart(nn.Module):
    """A smooth two-part network: image to feature map, feature map to one score an image."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.backbone = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.SiLU())
        self.head = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.SiLU(), nn.Conv2d(4, 1, 1))
        self.double()
        for m in self.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.normal_(0, 0.3)
                m.running_var.uniform_(0.5, 2)
                m.momentum = 0.0  # a repeated pass must not drift

    def score(self, features: torch.Tensor) -> torch.Tensor:
        return self.head(features)[:, 0, 2, 3]


IMAGES = torch.randn(3, 2, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
HEAT = torch.rand(3, 6, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def loss_of(net: TwoPart, differentiable: bool, fixed: list[torch.Tensor] | None = None) -> torch.Tensor:
    """Attention loss of the fixed batch; `fixed` gradients replace those of the network."""
    features = net.backbone(IMAGES)
    gradients = fixed or score_gradients(net.score(features), [features], differentiable)
    attention = attention_map(keypoint_cam(features, gradients[0]), omega=10, sigma=0.5)
    return attention_loss(attention, HEAT, torch.ones(3, dtype=torch.float64)).mean()


def numeric_gradient(function, parameter: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    """Central differences of a scalar function of the parameter's current value."""
    grad = torch.zeros_like(parameter)
    flat, out = parameter.data.view(-1), grad.view(-1)
    for i in range(len(flat)):
        kept = flat[i].item()
        flat[i] = kept + eps
        high = function().item()
        flat[i] = kept - eps
        low = function().item()
        flat[i] = kept
        out[i] = (high - low) / (2 * eps)
    return grad


@pytest.mark.parametrize("training", [True, False], ids=["bn-train", "bn-eval"])
def test_map_gradient_equals_finite_differences(training):
    net = TwoPart().train(training)
    features = net.backbone(IMAGES).detach().requires_grad_()
    (analytic,) = score_gradients(net.score(features), [features])
    numeric = numeric_gradient(lambda: net.score(features).sum(), features)
    assert torch.allclose(analytic, numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("training", [True, False], ids=["bn-train", "bn-eval"])
@pytest.mark.parametrize("order", [1, 2])
def test_loss_gradient_equals_finite_differences(order, training):
    net = TwoPart().train(training)
    # First order holds the gradient maps of the current weights constant, and so must the finite differences.
    features = net.backbone(IMAGES)
    held = [g.detach() for g in score_gradients(net.score(features), [features])] if order == 1 else None
    weights = [net.backbone[0].weight, net.head[0].weight, net.head[3].weight]
    analytic = torch.autograd.grad(loss_of(net, order == 2), weights, allow_unused=True)
    for weight, found in zip(weights, analytic, strict=True):
        numeric = numeric_gradient(lambda: loss_of(net, True, held).detach(), weight)
        found = torch.zeros_like(weight) if found is None else found
        assert torch.allclose(found, numeric, rtol=1e-5, atol=1e-9)
    # The head comes after the map: only a differentiated gradient can reach it.
    head_norm = 0.0 if analytic[1] is None else analytic[1].norm().item()
    assert (head_norm > 1e-6) == (order == 2)


@pytest.mark.parametrize("order", [1, 2])
def test_backbone_is_reached_through_the_map_weights_only_in_second_order(order):
    net = TwoPart().eval()
    features = net.backbone(IMAGES)
    gradients = score_gradients(net.score(features), [features], differentiable=order == 2)
    # Detaching the features in the product leaves the gradient maps as the only way back.
    attention = attention_map(keypoint_cam(features.detach(), gradients[0]), omega=10, sigma=0.5)
    loss = attention_loss(attention, HEAT, torch.ones(3, dtype=torch.float64)).mean()
    if order == 1:
        assert not loss.requires_grad
    else:
        (grad,) = torch.autograd.grad(loss, [net.backbone[0].weight])
        assert grad.norm() > 1e-6


@pytest.mark.parametrize("order", [1, 2])
def test_attention_loss_falls_on_a_fixed_batch(order):
    net = TwoPart().train()
    heat = keypoint_heatmap(
        torch.tensor([[2.0, 2.0], [4.0, 3.0], [1.0, 4.0]], dtype=torch.float64),
        torch.full((3,), 1.0).double(),
        (6, 7),
        (1, 1),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    losses = []
    for _ in range(60):
        features = net.backbone(IMAGES)
        gradients = score_gradients(net.score(features), [features], differentiable=order == 2)
        attention = attention_map(keypoint_cam(features, gradients[0]), 10, 0.5)
        loss = attention_loss(attention, heat, torch.ones(3).double()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_batch_norm_couples_images_in_training_only():
    for training, coupled in ((True, True), (False, False)):
        net = TwoPart().train(training)
        features = net.backbone(IMAGES).detach().requires_grad_()
        mask = torch.tensor([1.0, 0, 0], dtype=torch.float64)
        (grad,) = score_gradients(net.score(features) * mask, [features])
        foreign = grad[1:].norm() / grad[0].norm()
        assert (foreign > 0.01) == coupled
        assert coupled or foreign == 0


def test_unused_map_gives_zero_gradient():
    a, b = torch.randn(2, 1, 2, 2, requires_grad=True), torch.randn(2, 3, 4, 4, requires_grad=True)
    gradients = score_gradients(a.sum((1, 2, 3)), [a, b])
    assert torch.equal(gradients[0], torch.ones_like(a)) and torch.equal(gradients[1], torch.zeros_like(b))


def test_cam_and_map_by_hand():
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]])  # (1, 2, 1, 2)
    gradients = torch.tensor([[[[1.0, -1.0]], [[0.5, 1.0]]]])
    cam = keypoint_cam(features, gradients)
    assert torch.equal(cam, torch.tensor([[[2.5, 0.0]]]))  # 1 + 1.5; -2 - 1 is cut by the ReLU
    attention = attention_map(cam, omega=10, sigma=0.5)
    expected = [1 / (1 + math.exp(-5)), 1 / (1 + math.exp(5))]
    assert attention.flatten().tolist() == pytest.approx(expected)


def test_map_is_normalised_per_image():
    cam = torch.rand(4, 5, 6)
    scaled = cam * torch.tensor([1.0, 1e-6, 1e6, 3.0])[:, None, None]
    assert torch.allclose(attention_map(cam, 10, 0.5), attention_map(scaled, 10, 0.5), atol=1e-5)
    alone = torch.cat([attention_map(c[None], 10, 0.5) for c in scaled])
    assert torch.allclose(alone, attention_map(scaled, 10, 0.5), rtol=1e-6)
    assert torch.isfinite(attention_map(torch.zeros(1, 2, 2), 10, 0.5)).all()


def test_heatmap_peaks_at_the_keypoint_and_scales_with_the_person():
    points = torch.tensor([[40.0, 24.0], [40.0, 24.0], [8.0, 8.0]])
    heat = keypoint_heatmap(points, torch.tensor([16.0, 32.0, 0.01]), (8, 10), (16, 16))
    assert heat[0, 1, 2] == 1  # centre of cell (1, 2) is (40, 24)
    assert heat[0, 1, 3].item() == pytest.approx(math.exp(-0.5))  # one radius away
    assert heat[1, 1, 4].item() == pytest.approx(math.exp(-0.5))
    assert heat[2, 0, 0] == 1 and heat[2, 0, 1].item() == pytest.approx(math.exp(-2))  # widened to half a cell


def test_loss_norms_and_weights():
    attention, heat = torch.zeros(2, 3, 4), torch.full((2, 3, 4), 0.5)
    weight = torch.tensor([1.0, 0.0])
    assert attention_loss(attention, heat, weight).tolist() == pytest.approx([0.25, 0])
    assert attention_loss(attention, heat, weight, "l2").tolist() == pytest.approx([0.5, 0])
    perfect = heat.clone().requires_grad_()
    attention_loss(perfect, heat, torch.ones(2), "l2").sum().backward()
    assert torch.isfinite(perfect.grad).all()
    with pytest.raises(ValueError, match="mse"):
        attention_loss(attention, heat, weight, "l1")


def make_targets(draw: torch.Tensor, visible: int = 2):
    """Three images: two persons, one person without visible keypoints, nobody."""
    keypoints = torch.zeros(3, 2, 4, 3)
    keypoints[0, 0, :, 2] = torch.tensor([2, 0, 1, 2])
    keypoints[0, 1, :, 2] = torch.tensor([0, 2, 0, 0])
    keypoints[0, :, :, :2] = torch.arange(16.0).view(2, 4, 2)
    keypoints[1, 0, :, 2] = torch.tensor([1, 0, 1, 0])
    boxes = torch.tensor([[[0, 0, 8, 2], [0, 0, 30, 30]], [[0, 0, 4, 4], [0, 0, 0, 0]], [[0, 0, 0, 0], [0, 0, 0, 0]]])
    assigned = torch.tensor([[0, 0, 1, -1], [0, -1, -1, -1], [-1, -1, -1, -1]])
    score = torch.tensor([[0.1, 0.7, 0.2, 0.9], [0.5, 0, 0, 0], [0, 0, 0, 0]])
    return choose_keypoints(keypoints, assigned, score, boxes.float(), draw, visible)


def test_choice_covers_visible_keypoints_of_assigned_persons_evenly():
    seen = []
    for u in torch.linspace(0, 0.999, 30):
        t = make_targets(torch.stack([u, u, u]))
        assert t.weight.tolist() == [1, 0, 0]
        seen.append((t.keypoint[0].item(), t.anchor[0].item(), tuple(t.points[0].tolist()), round(t.size[0].item(), 4)))
    assert {s: seen.count(s) for s in set(seen)} == {
        (0, 1, (0.0, 1.0), 4.0): 10,  # person 0: its best cell is 1, box 8x2
        (3, 1, (6.0, 7.0), 4.0): 10,
        (1, 2, (10.0, 11.0), 30.0): 10,  # person 1 has one visible keypoint; its cell is 2
    }


def test_choice_may_include_hidden_keypoints_when_asked():
    t = make_targets(torch.tensor([0.0, 0.6, 0.5]), visible=1)
    assert t.weight.tolist() == [1, 1, 0]
    assert t.keypoint[1] == 2


def test_scores_pick_the_cell_and_skip_empty_images():
    t = make_targets(torch.tensor([0.9, 0.1, 0.1]))
    output = torch.arange(3 * 4 * 3 * 4.0).view(3, 4, 3, 4)
    scores = t.scores(output)
    assert scores[0] == output[0, t.keypoint[0], 2, t.anchor[0]]
    assert scores[1:].tolist() == [0, 0]
    assert t.scores(output, logit=False)[0] == output[0, t.keypoint[0], 2, t.anchor[0]].sigmoid()


def test_a_batch_without_any_person():
    t = choose_keypoints(
        torch.zeros(2, 0, 4, 3), torch.full((2, 5), -1), torch.zeros(2, 5), torch.zeros(2, 0, 4), torch.zeros(2)
    )
    assert t.weight.tolist() == [0, 0]
    assert t.scores(torch.randn(2, 4, 3, 5)).tolist() == [0, 0]
