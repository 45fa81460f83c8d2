"""Optimizers made quick on the CPU: the same steps as the engine's, in single precision."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from ultralytics.optim import MuSGD, muon

from dpose_yolo.engine.optimizers import SingleMuSGD, orthogonalized, quick_on_cpu

SHAPES = [(16, 27), (80, 80), (96, 9), (4, 20), (1, 80), (3, 40, 180), (2, 51, 51)]


@pytest.mark.parametrize("shape", SHAPES)
def test_orthogonalizing_leaves_the_directions_and_evens_the_sizes(shape):
    """U S V' becomes U f(S) V', as the engine's polynomial has it in double precision."""
    torch.manual_seed(0)
    given = torch.randn(shape)
    u, s, v = torch.linalg.svd(given.double(), full_matrices=False)
    size = s / (s.square().sum(-1, keepdim=True).sqrt() + 1e-7)
    for _ in range(5):
        size = 3.4445 * size - 4.7750 * size**3 + 2.0315 * size**5
    aim = u @ torch.diag_embed(size) @ v
    found = orthogonalized(given)
    assert found.dtype == torch.float32 and found.shape == given.shape
    assert (found - aim).abs().max() < 1e-4
    assert torch.linalg.svdvals(found).max() < 1.3  # and the engine's is the same but for its half precision
    assert (found - muon.zeropower_via_newtonschulz5(given).float()).abs().max() < 0.1


def conv_net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.SiLU(), nn.Conv2d(16, 8, 3, groups=8))


def musgd(net):
    wide = [p for p in net.parameters() if p.ndim == 4]
    rest = [p for p in net.parameters() if p.ndim != 4]
    common = {"lr": 0.02, "momentum": 0.9, "nesterov": True}
    groups = [
        {"params": wide, **common, "weight_decay": 5e-4, "use_muon": True},
        {"params": rest, **common, "use_muon": False},
    ]
    return MuSGD(groups, muon=0.2, sgd=1.0)


def step(net, optimizer, images):
    optimizer.zero_grad()
    net(images).square().mean().backward()
    optimizer.step()


def test_steps_are_the_engines_but_for_its_half_precision():
    ours, engines = conv_net(), conv_net()
    start = copy.deepcopy(ours.state_dict())
    mine, theirs = musgd(ours), musgd(engines)
    quick_on_cpu(mine)
    assert type(mine) is SingleMuSGD and type(theirs) is MuSGD
    images = torch.randn(4, 3, 12, 12)
    for _ in range(3):
        step(ours, mine, images)
        step(engines, theirs, images)
    for name, weight in ours.named_parameters():
        moved = (engines.state_dict()[name] - start[name]).abs().max()
        assert moved > 0 and (weight - engines.state_dict()[name]).abs().max() < 0.05 * moved, name
    assert not torch.equal(ours[0].weight, engines[0].weight)  # so that it did run in another precision


def test_the_engines_own_optimizer_is_as_it_was_after_a_step_and_after_one_that_failed():
    engine = muon.zeropower_via_newtonschulz5
    net = conv_net()
    optimizer = musgd(net)
    quick_on_cpu(optimizer)
    step(net, optimizer, torch.randn(2, 3, 12, 12))
    assert muon.zeropower_via_newtonschulz5 is engine

    def fails():
        raise ValueError("no loss")

    with pytest.raises(ValueError, match="no loss"):
        optimizer.step(fails)
    assert muon.zeropower_via_newtonschulz5 is engine


def test_hooks_of_a_step_are_called_once_also_after_a_state_was_loaded():
    net = conv_net()
    optimizer = musgd(net)
    quick_on_cpu(optimizer)
    step(net, optimizer, torch.randn(2, 3, 12, 12))
    calls = []
    optimizer.register_step_post_hook(lambda *_: calls.append(1))
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(net, optimizer, torch.randn(2, 3, 12, 12))
    assert len(calls) == 1


def test_a_state_goes_on_to_the_bit():
    torch.manual_seed(2)
    batches = torch.randn(6, 2, 3, 12, 12)
    whole, broken = conv_net(), conv_net()
    one, first = musgd(whole), musgd(broken)
    quick_on_cpu(one)
    quick_on_cpu(first)
    for images in batches:
        step(whole, one, images)
    for images in batches[:3]:
        step(broken, first, images)
    again = musgd(broken)
    quick_on_cpu(again)
    again.load_state_dict(copy.deepcopy(first.state_dict()))
    for images in batches[3:]:
        step(broken, again, images)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), broken.parameters(), strict=True))


def test_adam_goes_in_one_call_and_others_are_left_alone():
    net = conv_net()
    adam, sgd = torch.optim.AdamW(net.parameters()), torch.optim.SGD(net.parameters(), lr=0.1)
    quick_on_cpu(adam)
    quick_on_cpu(sgd)
    assert all(g["fused"] for g in adam.param_groups) and not any(g.get("fused") for g in sgd.param_groups)
    assert type(sgd) is torch.optim.SGD
