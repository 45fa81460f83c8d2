"""The criterion around the engine's (paper 3.4): every head, both orders, and nothing left behind on the model."""

from __future__ import annotations

import copy

import pytest
import torch
from engine_models import dpose, make_batch, tiny_model
from torch import nn

from dpose_yolo.engine.attention import AttentionTerm, uniform_draws
from dpose_yolo.engine.criterion import DPoseCriterion, pose_criteria, use_diou
from dpose_yolo.engine.graph import FeatureTap, attention_layers, backbone_strides
from dpose_yolo.errors import DPoseError

HEADS = [("Pose", False), ("Pose", True), ("Pose26", False), ("Pose26", True)]


def attach(model, weight=1.0, interval=1, first_step=0, live=True, **settings) -> DPoseCriterion:
    term = AttentionTerm(model, dpose(**settings), seed=0, live=live)
    model.criterion = DPoseCriterion(model.init_criterion(), term, weight, interval, first_step)
    return model.criterion


def gradients(model) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(("head", "end2end"), HEADS)
def test_engine_terms_are_untouched_and_attention_comes_last(head, end2end):
    batch = make_batch()
    plain, ours = tiny_model(head, end2end).train(), tiny_model(head, end2end).train()
    attach(ours, weight=3.0)
    loss, items = plain.loss(batch)
    found, named = ours.loss(batch)
    assert torch.equal(found[:-1], loss)
    assert list(named) == [*items, "att_loss"]
    assert all(torch.equal(named[k], v) for k, v in items.items())
    assert found[-1].item() == pytest.approx(3 * named["att_loss"].item())  # times the batch of 3 images
    assert named["att_loss"] > 0 and not named["att_loss"].requires_grad


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("bn", ["frozen", "batch"])
def test_attention_reaches_the_layers_it_should(order, bn):
    model = tiny_model().train()
    attach(model, att_order=order, att_bn=bn)
    loss, _ = model.loss(make_batch())
    loss[-1].backward()
    found = {int(n.split(".")[1]) for n, g in gradients(model).items() if g.abs().sum() > 0}
    assert {0, 1, 2, 3, 4} <= found  # the backbone up to the map at layer 4
    after = {5, 6, 9, 10}  # layers between the map and the keypoint, and the head
    assert (found & after == after) if order == 2 else not found & after


@pytest.mark.parametrize("order", [1, 2])
def test_replay_with_batch_statistics_equals_the_training_graph(order):
    """The replay is the mixed-precision path; with the same batch norm it must give the same loss and gradient."""
    batch = make_batch()
    losses, grads = [], []
    for replay in (False, True):
        model = tiny_model().train()
        criterion = attach(model, att_order=order, att_bn="batch")
        if replay:
            term = criterion.term
            term.training = lambda raw, b, a, step, t=term: t._replay(
                t.tap.take(), t.choose(b, a, step), b, frozen=False
            )
        loss, _ = model.loss(batch)
        loss[-1].backward()
        losses.append(loss[-1].item())
        grads.append(gradients(model))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    for name, grad in grads[0].items():
        assert torch.allclose(grad, grads[1][name], rtol=1e-3, atol=1e-7), name


@pytest.mark.parametrize("bn", ["frozen", "batch"])
def test_replay_leaves_no_trace_on_the_model(bn):
    batch = make_batch()
    plain, ours = tiny_model().train(), tiny_model().train()
    criterion = attach(ours, att_order=2, att_bn=bn)
    term = criterion.term
    term.training = lambda raw, b, a, step: term._replay(term.tap.take(), term.choose(b, a, step), b, bn == "frozen")
    plain.loss(batch)
    ours.loss(batch)
    for (name, a), b in zip(plain.state_dict().items(), ours.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert all(m.training for m in ours.modules())
    assert criterion.term.tap.take() == {}  # no feature maps are kept after the step


def test_frozen_batch_norm_keeps_images_apart():
    """An image's attention loss does not depend on its neighbours when batch norms are frozen, and does otherwise."""
    changes = {}
    for bn in ("frozen", "batch"):
        model = tiny_model(seed=1).train()
        for m in model.modules():  # the maps themselves must not be coupled by the backbone here
            if isinstance(m, nn.BatchNorm2d):
                m.momentum = 0.0
        for layer in model.model[:5]:
            for m in layer.modules():
                if isinstance(m, nn.BatchNorm2d):
                    m.eval()
        per_image = []
        for other in (1, 2):
            batch = make_batch(2, (1, 1), seed=0)
            batch["img"][1] = make_batch(2, (1, 1), seed=other + 7)["img"][1] * other
            term = AttentionTerm(model, dpose(att_bn=bn), seed=0)
            criterion = DPoseCriterion(model.init_criterion(), term, 1.0)
            preds = model.forward(batch["img"])
            criterion.base(preds, batch)
            assignment = criterion.recorder.take()
            keep = copy.copy(batch)
            keep["keypoints"] = batch["keypoints"].clone()
            keep["keypoints"][1, :, 2] = 0  # only image 0 counts
            assignment.foreground[0] = False
            assignment.foreground[0, 5], assignment.person[0, 5], assignment.score[0, 5] = True, 0, 1.0
            per_image.append(term.training(preds["kpts"], keep, assignment, step=0).item())
            term.tap.close()
        changes[bn] = abs(per_image[0] - per_image[1]) / per_image[0]
    assert changes["frozen"] < 1e-5
    assert changes["batch"] > 1e-3


@pytest.mark.parametrize("end2end", [False, True])
def test_images_without_persons_or_visible_keypoints(end2end):
    model = tiny_model(end2end=end2end).train()
    attach(model, att_order=2)
    empty = make_batch(2, (0, 0))
    loss, items = model.loss(empty)
    assert items["att_loss"] == 0 and torch.isfinite(loss).all()
    hidden = make_batch(2, (1, 1))
    hidden["keypoints"][..., 2] = 0
    loss, items = model.loss(hidden)
    assert items["att_loss"] == 0
    loss.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


def test_interval_applies_every_nth_step_with_n_times_the_weight():
    batch = make_batch()
    every, third = tiny_model().eval(), tiny_model().eval()  # eval: the passes do not change the model
    for model in (every, third):
        model.model[-1].training = True
    values = {}
    for name, model, interval in (("every", every, 1), ("third", third, 3)):
        criterion = attach(model, interval=interval, first_step=2)
        criterion.term.training = lambda raw, b, a, step: raw.new_tensor(1.0 + step)
        values[name] = [criterion(model(batch["img"]), batch)[1]["att_loss"].item() for _ in range(9)]
    assert values["every"] == [0, 0, 3, 4, 5, 6, 7, 8, 9]
    assert values["third"] == [0, 0, 0, 12, 0, 0, 21, 0, 0]


def test_validation_without_gradients_reports_the_term():
    model = tiny_model().eval()
    attach(model, live=False)
    batch = make_batch()
    with torch.inference_mode():
        inside = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in batch.items()}
        preds = model(inside["img"])
        loss, items = model.loss(inside, preds)
        again = model.loss(inside, preds)[1]
    assert 0 < items["att_loss"] < 1
    assert items["att_loss"] == again["att_loss"]  # the keypoints are the same each time
    assert loss.shape == (len(items),)
    assert all(p.grad is None for p in model.parameters())


def test_validation_term_equals_the_training_term_with_frozen_norms():
    model = tiny_model().eval()
    batch = make_batch()
    criterion = attach(model)
    with torch.no_grad():
        expected = model.loss(batch)[1]["att_loss"]
    model.model[-1].training = True  # raw outputs, batch norms still in evaluation
    for i, layer in enumerate(model.model[:-1]):
        if i in (2, 3, 4):
            layer.training = True  # taps listen to modules in training
    found = criterion(model(batch["img"]), batch)[1]["att_loss"]
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)


def test_accumulated_steps_equal_one_step_of_both_batches():
    """Gradient accumulation adds up: the term is a sum over images, as the engine's batch factor makes it."""
    first, second = make_batch(2, (1, 1), seed=1), make_batch(2, (1, 1), seed=2)
    both = {
        k: torch.cat([first[k], second[k]]) if isinstance(first[k], torch.Tensor) else first[k] + second[k]
        for k in first
    }
    both["batch_idx"] = torch.tensor([0.0, 1, 2, 3])
    grads = []
    for batches in ((first, second), (both,)):
        model = tiny_model().train()
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.eval()
        criterion = attach(model, att_order=2)
        for b in batches:
            criterion.step = 0
            model.loss(b)[0][-1].backward()
        grads.append(gradients(model))
    for name in grads[0]:
        assert torch.allclose(grads[0][name], grads[1][name], rtol=1e-3, atol=1e-7), name


@pytest.mark.parametrize("end2end", [False, True])
def test_diou_replaces_only_the_box_term(end2end):
    batch = make_batch()
    plain, ours = tiny_model(end2end=end2end).train(), tiny_model(end2end=end2end).train()
    ours.criterion = ours.init_criterion()
    use_diou(ours.criterion)
    _, items = plain.loss(batch)
    _, named = ours.loss(batch)
    assert all(torch.equal(named[k], items[k]) for k in items if k != "box_loss")
    assert 0 < named["box_loss"] < items["box_loss"] * 1.2 and named["box_loss"] != items["box_loss"]


def test_diou_value_by_hand():
    """Two boxes of 2x2 shifted by (1, 0): IoU 1/3, centres 1 apart, enclosing diagonal squared 13."""
    model = tiny_model()
    criterion = model.init_criterion()
    use_diou(criterion)
    box = pose_criteria(criterion)[0].bbox_loss
    pred, target = torch.tensor([[[1.0, 0, 3, 2]]]), torch.tensor([[[0.0, 0, 2, 2]]])
    anchor, stride = torch.tensor([[1.5, 1.5]]), torch.tensor([[1.0]])
    value, _ = box(
        torch.ones(1, 1, 4),
        pred,
        anchor,
        target,
        torch.ones(1, 1, 1),
        torch.tensor(1.0),
        torch.ones(1, 1, dtype=torch.bool),
        torch.tensor([4.0, 4.0]),
        stride,
    )
    assert value.item() == pytest.approx(1 - (1 / 3 - 1 / 13), abs=1e-5)


def test_layers_of_the_backbone():
    model = tiny_model()
    assert backbone_strides(model) == {0: 2, 1: 4, 2: 8, 3: 16, 4: 16, 5: 32, 6: 32}
    assert attention_layers(model, "auto") == [4]
    assert attention_layers(model, [6, 2]) == [2, 6]
    with pytest.raises(DPoseError, match=r"att_layers=9 is not a backbone layer.*4 \(stride 16\)"):
        attention_layers(model, [9])


def test_several_layers_average():
    batch = make_batch()
    model = tiny_model().train()
    values = []
    for layers in ([4], [6], [4, 6]):
        model.criterion = None
        criterion = attach(model, att_layers=layers)
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.eval()
        values.append(model.loss(batch)[1]["att_loss"].item())
        criterion.term.tap.close()
    assert values[2] == pytest.approx((values[0] + values[1]) / 2, rel=1e-4)


def test_tap_ignores_evaluation_and_forgets():
    model = tiny_model().train()
    tap = FeatureTap(model, [4])
    model.eval()(torch.rand(1, 3, 64, 64))
    assert tap.take() == {}
    model.train()(torch.rand(1, 3, 64, 64))
    assert tap.take()[4].shape == (1, 24, 4, 4) and tap.take() == {}
    tap.close()
    model(torch.rand(1, 3, 64, 64))
    assert tap.take() == {}


def test_keypoint_draws_are_uniform_and_reproducible():
    files = [f"/a/{i}.jpg" for i in range(20000)]
    u = uniform_draws(files, seed=3, step=5)
    assert u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 0.5) < 0.01 and abs(u.var() - 1 / 12) < 0.002
    assert (u == uniform_draws([f"/moved/{i}.jpg" for i in range(20000)], 3, 5)).all()
    for other in (uniform_draws(files, 3, 6), uniform_draws(files, 4, 5)):
        assert abs(torch.corrcoef(torch.tensor([u.tolist(), other.tolist()]))[0, 1]) < 0.03


def test_keypoints_without_confidence_are_refused():
    model = tiny_model()
    model.model[-1].kpt_shape = [17, 2]
    with pytest.raises(DPoseError, match="att=0"):
        attention_layers(model, "auto")


@pytest.mark.parametrize("bn", ["frozen", "batch"])
def test_mixed_precision_takes_the_inner_gradient_in_full_precision(bn):
    batch = make_batch()
    values = {}
    for mixed in (False, True):
        model = tiny_model().train()
        criterion = attach(model, att_order=2, att_bn=bn)
        dtypes = []
        keep = criterion.term._loss
        criterion.term._loss = lambda maps, k, t, b, keep=keep, d=dtypes: (
            d.extend([maps[0].dtype, k.dtype]) or keep(maps, k, t, b)
        )
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            loss, items = model.loss(batch)
        loss.sum().backward()
        assert set(dtypes) == {torch.float32}
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        values[mixed] = items["att_loss"].item()
    assert values[True] == pytest.approx(values[False], rel=0.15)  # bfloat16 has three digits


def test_one_channel_model():
    from engine_models import tiny_yaml
    from ultralytics.nn.tasks import PoseModel

    model = PoseModel(tiny_yaml(), ch=1, nc=1, verbose=False)
    model.args = tiny_model().args
    attach(model.train())
    batch = make_batch()
    batch["img"] = batch["img"].mean(1, keepdim=True)
    loss, items = model.loss(batch)
    loss.sum().backward()
    assert items["att_loss"] > 0


@pytest.mark.parametrize("order", [1, 2])
def test_several_keypoints_are_the_mean_of_single_ones(order):
    """Three keypoints in a step: three different ones of each image, and loss and gradient are the mean of theirs."""
    batch = make_batch()
    batch["keypoints"][..., 2] = 2
    model = tiny_model().train()
    criterion = attach(model, att_keypoints=3, att_order=order, att_bn="batch")
    term, drawn = criterion.term, []
    choose = term.choose
    term.choose = lambda *a: drawn.append(choose(*a)) or drawn[-1]
    loss, _ = model.loss(batch)
    loss[-1].backward()
    total, together = loss[-1].item(), gradients(model)
    persons = torch.stack([t.points for t in drawn[0]], 1)
    for image, weight in zip(persons, drawn[0][0].weight, strict=True):
        assert weight == 0 or len({tuple(p.tolist()) for p in image}) == 3
    single, alone = [], []
    for target in drawn[0]:
        model = tiny_model().train()
        term = attach(model, att_order=order, att_bn="batch").term
        term.choose = lambda *_, t=target: [t]
        loss, _ = model.loss(batch)
        loss[-1].backward()
        alone.append(loss[-1].item())
        single.append(gradients(model))
    assert total == pytest.approx(sum(alone) / 3, rel=1e-5) and len(set(alone)) == 3
    for name, grad in together.items():
        expected = sum(g[name] for g in single if name in g) / 3
        assert torch.allclose(grad, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max())), name
