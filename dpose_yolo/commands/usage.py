"""What each command takes, and the table of DPOSE settings. Free of torch: help has to be quick."""

from __future__ import annotations

from dpose_yolo.errors import DPoseError
from dpose_yolo.settings import defaults, refuse_unknown, specification

_MODEL = "a .pt checkpoint, an exported model, or a model YAML (dpose-125.yaml, dpose-250.yaml ship with the package)"
_PROJECT = ("project=runs name=", "folder of the results")
_STUDY = [
    ("seeds=3", "number of seeds from 0, or a list: seeds=[3,4,5]"),
    ("model= epochs= imgsz= att= cfg= ...", "any setting of training, the same for all arms"),
    ("split=test", "part to evaluate; test if the data has one, else val"),
    ("weights=last", "checkpoint to evaluate: last or best"),
    ("reference=", "arm that the others are compared with; the first unless given"),
    ("parallel=1", "trainings at a time; on the CPU they share its cores"),
    ("devices=0,1", "one training at a time on each of these devices"),
    ("names= oks_area=0.53 bootstrap=1000", "settings of the evaluation, see `dpose val help`"),
    ("attention=False cam_limit=200", "True measures attention quality too"),
    ("report=False", "True only makes tables and plots again, from what is finished"),
    ("project=runs name=", "folder of the study; the same command again goes on in it"),
]

TAKES: dict[str, list[tuple[str, str]]] = {
    "train": [
        ("data=", "data YAML (required)"),
        ("model=dpose-125.yaml", _MODEL),
        ("cfg=", "preset (paper) or YAML of settings to start from"),
        ("clusters= balance= att= ...", "DPOSE settings, see `dpose settings`"),
        ("epochs= batch= imgsz= device= ...", "any setting of the engine's training"),
        ("resume=", "last.pt of a run to go on with; True: go on with the run of this name, or start it"),
        _PROJECT,
    ],
    "val": [
        ("model=", _MODEL + " (required)"),
        ("data=", "data YAML (required)"),
        ("split=val", "part to evaluate: val, test or train"),
        ("skip_bad=False", "True goes on without images and labels that cannot be used"),
        ("names=", "CSV of posture or action names and subjects; index.csv beside the data unless given"),
        ("mixture=auto", "posture clusters: auto (the run's, else train), train (the training part's), a postures.npz"),
        ("clusters= covariance= ...", "DPOSE settings of the posture mixture, for mixture=train"),
        ("oks_area=0.53", "OKS area as a share of the box area"),
        ("bootstrap=1000", "replicates behind the 95 % intervals, 0 for none"),
        ("attention=True", "measure how well the attention maps lie on their keypoints (.pt only)"),
        ("cam_limit=100", "images whose attention maps are measured at most"),
        (
            "att_layers=auto att_radius=0.1",
            "backbone layers of the maps; disc around a keypoint, share of the person size",
        ),
        ("plots=True", "draw keypoints.png, postures.png and worst.jpg; all draws the engine's plots too"),
        ("imgsz= batch= device= ...", "any setting of the engine's validation"),
        _PROJECT,
    ],
    "predict": [
        ("model=", _MODEL + " (required)"),
        ("source=", "image, folder, video or camera number (required)"),
        ("save=True", "write drawn images or video"),
        (".onnx: records=True", "write poses.csv and poses.json, with the time of each frame"),
        (".onnx: conf=0.25 roi=", "least confidence; where the driver's centre has to be, x1,y1,x2,y2 in shares"),
        (".onnx: smooth=False", "True, or min_cutoff,beta of the One Euro filter: steady points in a video"),
        (".onnx: bits=16 patience=30", "used bits of 16-bit pictures; seconds until a lost camera is given up"),
        (".onnx: device=cpu threads=", "CPU threads of the network"),
        (".pt: conf= imgsz= device= save_txt= ...", "any setting of the engine's prediction"),
        _PROJECT,
    ],
    "export": [
        ("model=", "a .pt checkpoint (required)"),
        ("format=onnx", "onnx, engine (TensorRT), openvino, torchscript, ncnn, ..."),
        ("imgsz= quantize= dynamic= opset= ...", "any setting of the engine's export"),
    ],
    "compare": [
        ("a.pt b.onnx peer.tflite ...", "the models; the others are held against the first (required)"),
        ("data=", "data YAML (required)"),
        ("split=val", "part to evaluate: val, test or train"),
        ("keypoints=all", "common counts only the keypoints that every model has"),
        ("box_factor=", "how much the labelled box is enlarged for peers that need one; each knows its own"),
        ("rounds=10", "turns of each model in the latency measurement, 0 for none"),
        ("mixture= names= oks_area= bootstrap= skip_bad=", "as for `dpose val`"),
        ("imgsz= batch= device= ...", "settings of the engine's validation"),
        _PROJECT,
    ],
    "ablate": [
        ("data=", "data YAML (required)"),
        ("arms=baseline,balance,attention,both,losses,all", "all of them, or some; the first is the reference"),
        *_STUDY,
    ],
    "sweep": [
        ("data=", "data YAML (required)"),
        (
            "clusters=8,16,auto balance=0,1 ...",
            "any training setting with several values; several settings make a grid",
        ),
        ("att_layers=[[4,6],[6]]", "values that are lists stand in a list"),
        ("baseline=False", "True adds an arm that is the engine alone, and compares with it"),
        *_STUDY,
    ],
    "bench": [
        ("train", "what to measure: training steps, plain and with each part (required)"),
        ("data=", "data YAML (required)"),
        ("model= imgsz= batch= device= ...", "any setting of the training"),
        ("arms=plain,balance,attention,both,all", "some of them; the first is what the others are compared with"),
        ("steps=40", "training steps of an arm's turn"),
        ("rounds=5", "turns of every arm"),
        ("threads=", "CPU threads of a process; all cores unless given"),
        _PROJECT,
    ],
    "check": [
        ("data=", "data YAML (required)"),
        ("strict=False", "True exits with status 1 if there is an error or a warning"),
        (
            "fix=False",
            "True writes a new data YAML and lists without what cannot be used; nothing is changed or deleted",
        ),
        ("names=", "CSV of subjects and posture names; index.csv beside the data unless given"),
        ("images=True", "show pictures of the findings in check.html; False writes text only"),
        ("seed=0", "of the posture mixture"),
        _PROJECT,
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


def flag(settings: dict, name: str, default: bool) -> bool:
    """True or False among the settings of a command.

    Raises:
        DPoseError: when it is something else.
    """
    value = settings.get(name, default)
    if not isinstance(value, bool):
        raise DPoseError(f"{name}={value} is not allowed: {name} takes True or False")
    return value
