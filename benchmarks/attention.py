"""What the attention term costs and how batch norm couples the images of a batch.

    python benchmarks/attention.py cost model=dpose-125.yaml imgsz=256 batch=16 rounds=10
    python benchmarks/attention.py coupling model=dpose-125.yaml imgsz=256 weights=best.pt data=data/cabin_mini.yaml

`cost` times whole training steps (forward, loss, backward) of the plain criterion and of each variant of the term, one
after another in every round, and prints medians. `coupling` takes the score of one image and measures how much of its
gradient falls on the features of the other images, and how far an image's map changes with its neighbours. Without
`weights` the model is new; without `data` the images are noise.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from ultralytics.nn.tasks import PoseModel, load_checkpoint
from ultralytics.utils import DEFAULT_CFG_DICT

from dpose_yolo.attention import attention_map, keypoint_cam, score_gradients
from dpose_yolo.cli import parse_arguments
from dpose_yolo.engine.attention import AttentionTerm
from dpose_yolo.engine.criterion import DPoseCriterion
from dpose_yolo.engine.graph import batch_norm, head_output, needed_outputs, run_layers
from dpose_yolo.engine.readout import ReadoutTerm, add_readout
from dpose_yolo.settings import model_file, resolve

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {"att": 0.0},
    "readout (the default)": {},
    "order 1, batch norms of the batch": {"att_order": 1, "att_bn": "batch", "att_interval": 1},
    "order 1, frozen batch norms": {"att_order": 1, "att_bn": "frozen", "att_interval": 1},
    "order 2, batch norms of the batch": {"att_order": 2, "att_bn": "batch", "att_interval": 1},
    "order 2, frozen batch norms": {"att_order": 2, "att_bn": "frozen", "att_interval": 1},
    "order 1, frozen batch norms, every 2nd step": {"att_order": 1, "att_bn": "frozen", "att_interval": 2},
}


def new_model(s: dict[str, Any]) -> PoseModel:
    """The model to measure, with the engine's default hyperparameters."""
    torch.manual_seed(0)
    if "weights" in s:
        model = load_checkpoint(s["weights"])[0].float()
        for p in model.parameters():
            p.requires_grad_()
    else:
        name = str(s.get("model", "dpose-125.yaml"))
        model = PoseModel(str(model_file(name) or name), ch=3, nc=1, verbose=False)
    model.args = SimpleNamespace(**DEFAULT_CFG_DICT)
    return model.train()


def drawn_batch(size: int, count: int) -> dict[str, Any]:
    """Noise images with one labelled person each."""
    g = torch.Generator().manual_seed(0)
    centre = 0.5 + 0.1 * (torch.rand(count, 2, generator=g) - 0.5)
    points = centre[:, None] + 0.5 * (torch.rand(count, 17, 2, generator=g) - 0.5)
    return {
        "img": torch.rand(count, 3, size, size, generator=g),
        "batch_idx": torch.arange(count).float(),
        "cls": torch.zeros(count, 1),
        "bboxes": torch.cat([centre, torch.full((count, 2), 0.6)], 1),
        "keypoints": torch.cat([points, torch.full((count, 17, 1), 2.0)], -1),
        "im_file": [f"{i}.jpg" for i in range(count)],
    }


def cost(s: dict[str, Any]) -> None:
    """Print the median step time of every variant."""
    batch = drawn_batch(int(s.get("imgsz", 256)), int(s.get("batch", 16)))
    models = {}
    for name, settings in VARIANTS.items():
        model = new_model(s)
        dpose = resolve({"att_start": 0.0, "att_map": "gradcam" if settings else "readout", **settings})
        if dpose["att"]:
            term: AttentionTerm | ReadoutTerm
            if dpose["att_map"] == "readout":
                add_readout(model, dpose)
                term = ReadoutTerm(model, dpose)
            else:
                term = AttentionTerm(model, dpose)
            model.criterion = DPoseCriterion(model.init_criterion(), term, 1.0, dpose["att_interval"])
        models[name] = model
    times: dict[str, list[float]] = {name: [] for name in models}
    for round_ in range(int(s.get("rounds", 10)) + 1):
        for name, model in models.items():
            steps = []
            for _ in range(2):  # two steps, so that the interval's cheap and dear step are both in
                start = time.perf_counter()
                model.loss(batch)[0].sum().backward()
                steps.append(time.perf_counter() - start)
                model.zero_grad(set_to_none=True)
            if round_:  # the first round warms up
                times[name].append(1000 * sum(steps) / 2)
    base = statistics.median(times["plain"])
    print("| step | ms, median | ratio to plain |\n|---|---|---|")
    for name, values in times.items():
        median = statistics.median(values)
        print(f"| {name} | {median:.0f} | {median / base:.2f} |")


def coupling(s: dict[str, Any]) -> None:
    """Print how far batch norm lets images see each other."""
    size, count = int(s.get("imgsz", 256)), int(s.get("batch", 16))
    model = new_model(s)
    images = sample_images(Path(str(s["data"])), size, count) if "data" in s else drawn_batch(size, count)["img"]
    layer = AttentionTerm(model, resolve({}), live=False).layers[0]
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 0.0
    print(
        "| batch norm | gradient on other images, share of own norm | map changed by other neighbours |\n|---|---|---|"
    )
    for name, frozen in (("of the batch", False), ("frozen", True)):
        share = []
        maps = []
        for neighbours in (slice(0, count // 2), slice(count // 2, count)):
            chosen = torch.cat([images[:1], images[1:][neighbours][: count // 2 - 1]])
            with torch.no_grad(), batch_norm(model.model[: layer + 1], True):
                early = run_layers(model, {}, 0, layer + 1, chosen)
            tapped = {i: early[i].detach().requires_grad_() for i in needed_outputs(model, layer)}
            with batch_norm(model.model[layer + 1 :], frozen):
                outputs = run_layers(model, dict(tapped), layer + 1, len(model.model) - 1)
                logits = head_output(model, outputs)["kpts"][:, :, 2].mean(2)  # (B, K)
            for k in range(0, logits.shape[1], 4):
                (grad,) = score_gradients(logits[:1, k], [outputs[layer]])
                norms = grad.flatten(1).norm(dim=1)
                share.append((norms[1:].pow(2).sum().sqrt() / norms[0]).item())
                maps.append(attention_map(keypoint_cam(outputs[layer], grad), 10, 0.5)[0].detach())
        half = len(maps) // 2
        change = [(a - b).abs().mean().item() for a, b in zip(maps[:half], maps[half:], strict=True)]
        print(f"| {name} | {statistics.mean(share):.3f} | {statistics.mean(change):.4f} |")


def sample_images(data: Path, size: int, count: int) -> torch.Tensor:
    """The first images of the test part of a data card, letterboxed: (B, 3, size, size) in 0..1."""
    import cv2
    import yaml
    from ultralytics.data.augment import LetterBox

    folder = data.parent / yaml.safe_load(data.read_text())["test"]
    files = sorted(f for f in folder.iterdir() if f.suffix in (".jpg", ".png"))[:count]
    boxed = [LetterBox((size, size), auto=False)(image=cv2.imread(str(f)))[..., ::-1] for f in files]
    return torch.stack([torch.from_numpy(b.transpose(2, 0, 1).copy()) for b in boxed]).float() / 255


if __name__ == "__main__":
    commands = {"cost": cost, "coupling": coupling}
    if len(sys.argv) < 2 or sys.argv[1] not in commands:
        sys.exit(__doc__)
    torch.set_num_threads(int(parse_arguments(sys.argv[2:]).pop("threads", 2)))
    commands[sys.argv[1]](parse_arguments(sys.argv[2:]))
