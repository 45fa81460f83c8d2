"""What a step of an optimizer takes on the CPU, all in turns, without the rest of a training step (docs/benchmarks.md).

    python benchmarks/optimizers.py model=dpose-125.yaml

`MuSGD` is the engine's; `single` the same in single precision, as `dpose finetune` has it on the CPU; `AdamW` in one
call for all tensors. Settings: threads=1 steps=5 (of a turn) rounds=5.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch
from ultralytics.optim import MuSGD

from dpose_yolo.cli import parse_arguments
from dpose_yolo.engine.models import engine_model
from dpose_yolo.engine.optimizers import quick_on_cpu
from dpose_yolo.errors import DPoseError


def optimizers(model: torch.nn.Module) -> dict[str, torch.optim.Optimizer]:
    """Optimizers by name, at a rate that leaves the weights where they are."""
    wide = [p for p in model.parameters() if p.ndim in {2, 4}]
    rest = [p for p in model.parameters() if p.ndim not in {2, 4}]
    common = {"lr": 1e-12, "momentum": 0.9, "nesterov": True}
    groups = [{"params": wide, **common, "use_muon": True}, {"params": rest, **common, "use_muon": False}]
    found: dict[str, torch.optim.Optimizer] = {
        "AdamW": torch.optim.AdamW(model.parameters(), lr=1e-12),
        "MuSGD": MuSGD([dict(g) for g in groups], muon=0.2, sgd=1.0),
        "single": MuSGD([dict(g) for g in groups], muon=0.2, sgd=1.0),
    }
    for name in ("AdamW", "single"):
        quick_on_cpu(found[name])
    return found


def main(words: list[str]) -> None:
    """Time them, and print the median of the rounds."""
    given = parse_arguments(words)
    unknown = set(given) - {"model", "threads", "steps", "rounds"}
    if unknown:
        raise DPoseError(f"{', '.join(sorted(unknown))}: settings are model, threads, steps and rounds")
    torch.set_num_threads(int(given.get("threads", 1)))
    model = engine_model(given.get("model", "dpose-125.yaml")).model
    for parameter in model.parameters():
        parameter.requires_grad = True
        parameter.grad = torch.randn_like(parameter)
    steps = int(given.get("steps", 5))
    taken: dict[str, list[float]] = {}
    compared = optimizers(model)
    for round_ in range(int(given.get("rounds", 5)) + 1):  # the first is not counted
        for name, optimizer in compared.items():
            begun = time.perf_counter()
            for _ in range(steps):
                optimizer.step()
            if round_:
                taken.setdefault(name, []).append((time.perf_counter() - begun) / steps * 1000)
    for name, times in taken.items():
        print(f"{name:8} {statistics.median(times):7.1f} ms a step ({min(times):.1f} to {max(times):.1f})")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except DPoseError as error:
        sys.exit(f"error: {error}")
