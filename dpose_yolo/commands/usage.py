"""What each command takes, and the table of DPOSE settings. Free of torch: help has to be quick."""

from __future__ import annotations

from dpose_yolo.errors import DPoseError
from dpose_yolo.settings import defaults, refuse_unknown, specification

_MODEL = "a .pt checkpoint, an exported model, or a model YAML (dpose-125.yaml, dpose-250.yaml ship with the package)"
_PROJECT = ("project=runs name=", "folder of the results")

TAKES: dict[str, list[tuple[str, str]]] = {
    "train": [
        ("data=", "data YAML (required)"),
        ("model=dpose-125.yaml", _MODEL),
        ("cfg=", "preset (paper) or YAML of settings to start from"),
        ("clusters= balance= att= ...", "DPOSE settings, see `dpose settings`"),
        ("epochs= batch= imgsz= device= resume= ...", "any setting of the engine's training"),
        _PROJECT,
    ],
    "val": [
        ("model=", _MODEL + " (required)"),
        ("data=", "data YAML (required)"),
        ("split=val", "part to evaluate: val, test or train"),
        ("skip_bad=False", "True goes on without images and labels that cannot be used"),
        ("imgsz= batch= device= ...", "any setting of the engine's validation"),
        _PROJECT,
    ],
    "predict": [
        ("model=", _MODEL + " (required)"),
        ("source=", "image, folder, video or camera number (required)"),
        ("save=True", "write drawn images or video"),
        ("conf= imgsz= device= save_txt= ...", "any setting of the engine's prediction"),
        _PROJECT,
    ],
    "export": [
        ("model=", "a .pt checkpoint (required)"),
        ("format=onnx", "onnx, engine (TensorRT), openvino, torchscript, ncnn, ..."),
        ("imgsz= quantize= dynamic= opset= ...", "any setting of the engine's export"),
    ],
    "clusters": [
        ("data=", "data YAML (required)"),
        ("split=train", "part to show; the clusters are always those of the training part"),
        ("clusters= balance= covariance= ...", "DPOSE settings of the posture balance"),
        ("seed=0", "of the fit"),
        ("images=True", "show an example image of each posture in the atlas; False draws skeletons only"),
        _PROJECT,
    ],
    "cam": [
        ("model=", "a .pt checkpoint (required)"),
        ("source=", "image or folder of images (required)"),
        ("keypoints=left_wrist,right_wrist", "names or numbers of keypoints, or all"),
        ("att_layers=auto", "backbone layers to look at"),
        ("att_target=logit", "logit or confidence"),
        ("imgsz=640", "input size"),
        ("limit=16", "images of a folder at most"),
        _PROJECT,
    ],
    "info": [
        ("model=dpose-125.yaml", _MODEL),
        ("imgsz=640", "input size the GFLOPs are counted at"),
        ("channels=3", "1 for infrared"),
    ],
    "settings": [("[name ...]", "only these settings")],
}


def page(command: str) -> str:
    """Help page of one command."""
    rows = TAKES[command]
    width = max(len(name) for name, _ in rows) + 2
    return "\n".join([f"usage: dpose {command} name=value ...", "", *(f"  {n:<{width}}{text}" for n, text in rows)])


def print_settings(names: list[str]) -> None:
    """Print the DPOSE settings, all or the named ones, as a table.

    Raises:
        DPoseError: for a name that is no DPOSE setting.
    """
    from rich.console import Console
    from rich.table import Table

    refuse_unknown(names, ())
    table = Table(box=None, pad_edge=False)
    for column in ("setting", "default", "takes", "what it does"):
        table.add_column(column, overflow="fold")
    for name, setting in specification().items():
        if not names or name in names:
            table.add_row(name, str(defaults()[name]), setting.allowed, setting.help)
    Console().print(table)


def require(settings: dict, name: str, command: str) -> object:
    """Value of a setting a command cannot do without.

    Raises:
        DPoseError: when it is missing.
    """
    if settings.get(name) in (None, ""):
        text = dict((n.split("=")[0], t) for n, t in TAKES[command])[name]
        raise DPoseError(f"dpose {command} needs {name}=: {text.removesuffix(' (required)')}")
    return settings[name]


def whole(settings: dict, name: str, default: int) -> int:
    """A positive whole number among the settings of a command.

    Raises:
        DPoseError: when it is something else.
    """
    value = settings.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise DPoseError(f"{name}={value} must be a whole number from 1")
    return value
