"""The light models: budgets by the engine's counter, shapes, other inputs, what their comments promise."""

import logging
import re
from pathlib import Path

import pytest
import torch
import yaml
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import PoseModel, guess_model_scale, yaml_model_load
from ultralytics.utils import LOGGER
from ultralytics.utils.torch_utils import get_flops

MODELS = Path(__file__).resolve().parents[1] / "dpose_yolo" / "cfg" / "models"
# Paper, table 3: parameters (M) and GFLOPs of the two models by input size.
BUDGETS = {"dpose-125": (0.63, {640: 2.23, 480: 1.26}), "dpose-250": (2.47, {640: 8.24})}


def path(name: str) -> str:
    return str(MODELS / f"{name}.yaml")


def build(name: str, **options) -> PoseModel:
    return PoseModel(path(name), verbose=False, **options)


def cells(model: PoseModel, size: int) -> int:
    """Anchor cells of a square input."""
    return sum((size // int(stride)) ** 2 for stride in model.stride)


@pytest.fixture(params=BUDGETS)
def name(request) -> str:
    return request.param


def test_budget(name):
    model = build(name, ch=3, nc=1)
    assert list(model.model[-1].kpt_shape) == [17, 3] and model.model[-1].nc == 1
    megas, gigas = BUDGETS[name]
    _, parameters, _, flops = model.info(imgsz=640)
    assert parameters / 1e6 <= megas
    for size, most in gigas.items():
        counted = get_flops(model, size)
        # The counter extrapolates from small images and gives 0 when it fails.
        assert 0 < counted <= most
        assert counted == pytest.approx(flops * (size / 640) ** 2, rel=1e-3)
    # A budget is there to be used: a design that shrinks by accident is noticed.
    assert parameters / 1e6 > 0.75 * megas


def test_output_shape(name):
    model = build(name).eval()
    for size in (64, 192):
        with torch.no_grad():
            out = model(torch.rand(2, 3, size, size))[0]
        assert out.shape == (2, 4 + 1 + 17 * 3, cells(model, size))


def test_one_channel(name):
    grey, colour = build(name, ch=1).eval(), build(name, ch=3)
    first = grey.model[0].conv.weight
    assert first.shape[1] == 1
    # Only the first convolution differs.
    count = [sum(p.numel() for p in m.parameters()) for m in (grey, colour)]
    assert count[1] - count[0] == 2 * first.numel()
    with torch.no_grad():
        assert grey(torch.rand(1, 1, 64, 64))[0].shape[1] == 56


@pytest.mark.parametrize("shape", [(14, 3), (17, 2), (21, 3)])
def test_other_keypoints(name, shape):
    model = build(name, data_kpt_shape=shape).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 3, 64, 64))[0].shape[1] == 5 + shape[0] * shape[1]


def test_no_scale_is_guessed(name):
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    LOGGER.addHandler(handler)
    try:
        build(name)
    finally:
        LOGGER.removeHandler(handler)
    assert guess_model_scale(path(name)) == ""
    assert not [line for line in lines if "scale" in line]
    content = yaml_model_load(path(name))
    assert content["yaml_file"] == path(name) and content["nc"] == 1 and "scales" not in content


def test_channels_are_taken_as_written(name):
    # The engine rounds channels up to a multiple of 8: another figure would not be what the YAML says.
    content = yaml.safe_load(Path(path(name)).read_text())
    rows = content["backbone"] + content["head"]
    written = [row[3][0] for row in rows if isinstance(row[3][0], int) and row[2] != "Concat"]
    assert len(written) > 8 and all(value % 8 == 0 for value in written)


def test_stock_modules_only(name):
    # best.pt has to load where this package is not installed.
    homes = {type(module).__module__.split(".")[0] for module in build(name).modules()}
    assert homes == {"ultralytics", "torch"}


def test_comments_give_layer_and_stride(name):
    model, size, seen = build(name).eval(), 128, {}
    hooks = [
        layer.register_forward_hook(lambda layer, _, out: seen.__setitem__(layer.i, size // out.shape[-1]))
        for layer in model.model[:-1]
    ]
    with torch.no_grad():
        model(torch.rand(1, 3, size, size))
    for hook in hooks:
        hook.remove()
    rows = re.findall(r"^  - \[.*\] # (\d+) \(P\d/(\d+)\)", Path(path(name)).read_text(), re.MULTILINE)
    assert {int(index): int(stride) for index, stride in rows} == seen
    # The backbone ends at its deepest map: attention may read any layer up to this one.
    last = len(model.yaml["backbone"]) - 1
    assert seen[last] == max(seen.values()) and type(model.model[last]).__name__ == "SPPF"


def test_every_parameter_learns(name):
    torch.manual_seed(0)
    model = build(name).train()
    model.args = get_cfg()
    keypoints = torch.rand(2, 17, 3) * 0.5 + 0.25
    keypoints[..., 2] = 2
    batch = {
        "img": torch.rand(2, 3, 128, 128),
        "batch_idx": torch.arange(2.0),
        "cls": torch.zeros(2, 1),
        "bboxes": torch.tensor([[0.5, 0.5, 0.6, 0.8]]).repeat(2, 1),
        "keypoints": keypoints,
    }
    loss = model(batch)[0].sum()
    loss.backward()
    assert torch.isfinite(loss)
    idle = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert idle == []


@pytest.mark.parametrize("name", ["dpose-125", "dpose-250"])
def test_readme_tells_the_counted_size(name: str, root: Path) -> None:
    (row,) = [line for line in (root / "README.md").read_text().splitlines() if line.startswith(f"| `{name}` |")]
    params, at_640, at_480 = (float(cell.strip().removesuffix(" M")) for cell in row.split("|")[2:5])
    model = build(name)
    assert params == round(sum(p.numel() for p in model.parameters()) / 1e6, 3)
    assert (at_640, at_480) == (round(get_flops(model, 640), 2), round(get_flops(model, 480), 2))
