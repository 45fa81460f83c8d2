"""Two processes on one machine (gloo): the criterion's gradient is that of one process with all images."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from engine_models import dpose, make_batch, tiny_model
from torch import nn

from dpose_yolo.engine.attention import AttentionTerm
from dpose_yolo.engine.criterion import DPoseCriterion

ONLY_ATTENTION = {"box": 0.0, "cls": 0.0, "dfl": 0.0, "pose": 0.0, "kobj": 0.0}


def make_model(order: int, **hyp) -> nn.Module:
    model = tiny_model(seed=5, **hyp).train()
    for m in model.modules():  # batch statistics are each process's own: plain layers make the comparison exact
        if isinstance(m, nn.BatchNorm2d):
            m.eval()
    model.criterion = DPoseCriterion(model.init_criterion(), AttentionTerm(model, dpose(att_order=order)), 4.0)
    return model


def select(batch: dict, order: list[int]) -> dict:
    """The images of a batch with one person each, in another order."""
    index = torch.tensor(order)
    out = {k: v[index] for k, v in batch.items() if k != "im_file" and k != "batch_idx"}
    return {**out, "im_file": [batch["im_file"][i] for i in order], "batch_idx": torch.arange(len(order)).float()}


def worker(rank: int, port: int, order: int, hyp: dict, shares: list[list[int]], out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    model = nn.parallel.DistributedDataParallel(make_model(order, **hyp), find_unused_parameters=True)
    batch = make_batch(4, (1, 1, 1, 1), seed=2)
    loss, _ = model(select(batch, shares[rank]))
    (loss.sum() * 2).backward()  # as the engine does: times the number of processes
    if rank == 0:
        torch.save({n: p.grad for n, p in model.module.named_parameters()}, out)
    # Both are done and nothing of the communication is left when the group ends: its threads would abort the process.
    dist.barrier()
    del model, loss
    dist.destroy_process_group()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# The engine divides by each process's own sum of targets: its terms are only equal where both see alike images.
CASES = [
    pytest.param(ONLY_ATTENTION, [[0, 1], [2, 3]], id="attention-different-images"),
    pytest.param({}, [[0, 1], [1, 0]], id="whole-criterion-alike-images"),
]


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize(("hyp", "shares"), CASES)
def test_two_processes_equal_one(order, hyp, shares):
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "grads.pt")
        mp.spawn(worker, (free_port(), order, hyp, shares, out), nprocs=2)
        found = torch.load(out)
    model = make_model(order, **hyp)
    loss, items = model.loss(select(make_batch(4, (1, 1, 1, 1), seed=2), shares[0] + shares[1]))
    loss.sum().backward()
    assert items["att_loss"] > 0.01
    compared = 0
    for name, parameter in model.named_parameters():
        wanted = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        got = torch.zeros_like(parameter) if found[name] is None else found[name]
        assert torch.allclose(got, wanted, rtol=1e-3, atol=1e-5 * max(1.0, wanted.abs().max().item())), name
        compared += bool(wanted.abs().sum() > 0)
    assert compared > 10
