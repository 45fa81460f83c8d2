"""What each command takes, and the table of DPOSE settings. Free of torch: help has to be quick."""

from __future__ import annotations

from typing import Any

from dpose_yolo.errors import DPoseError
from dpose_yolo.recipe import section
from dpose_yolo.settings import defaults, refuse_unknown, specification

_NEW = "a .pt checkpoint, or a model YAML (dpose-125.yaml, dpose-250.yaml ship with the package)"
_MODEL = "a .pt checkpoint, or an exported model"
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
# In the help of `dpose finetune`: what is training's own, and what the run keeps for itself.
_INNER = (*specification(), "start")

TAKES: dict[str, list[tuple[str, str]]] = {
    "train": [
        ("data=", "data YAML (required)"),
        ("model=dpose-125.yaml", _NEW),
        ("cfg=", "preset (ultralytics, paper) or YAML of settings to start from"),
        ("clusters= balance= att= ...", "DPOSE settings, see `dpose settings`"),
        (
            "epochs= lr0= imgsz= device= ...",
            "any Ultralytics setting; those not given come from the recipe, see `dpose settings`",
        ),
        ("resume=", "last.pt of a run to go on with; True: go on with the run of this name, or start it"),
        _PROJECT,
    ],
    "finetune": [
        ("model=", "the .pt checkpoint to start from (required)"),
        ("data=", "data YAML of the new cabin (required)"),
        *((f"{s.name}={s.default}", s.help) for s in specification("finetune").values() if s.name not in _INNER),
        ("split=test", "part to measure on, before and after: test if the data has one, else val"),
        ("bootstrap=1000", "replicates behind the 95 % intervals, 0 for none"),
        ("balance= clusters= att= ...", "DPOSE settings of training, see `dpose settings`"),
        ("epochs= lr0= freeze= imgsz= device= resume= ...", "any setting of the engine's training"),
        ("cfg=", "YAML of settings to start from"),
        _PROJECT,
    ],
    "val": [
        ("model=", _MODEL + " (required)"),
        ("data=", "data YAML (required)"),
        ("split=val", "part to evaluate: val, test or train"),
        ("skip_bad=False", "True goes on without images and labels that cannot be used"),
        ("outside=False", "True takes images outside the data folder, where the YAML or its lists name any"),
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
        ("source=", "image, folder with all below it, video, camera number or URL (required)"),
        ("save=True", "write drawn images or video"),
        ("records=True", "write poses.csv and poses.json, with the time of each frame"),
        ("conf=0.25 roi=", "least confidence; where the driver's centre has to be, x1,y1,x2,y2 in shares"),
        ("driver_class=", "name or number of the driver's class: driver, or the only one, unless given"),
        ("smooth=False", "True, or min_cutoff,beta of the One Euro filter: steady points in a video"),
        (
            "bits=12 patience=30",
            "used bits of 16-bit pictures (found in each); seconds until a lost camera is given up",
        ),
        ("device=cpu", "cpu, or 0 for the first NVIDIA card"),
        (".onnx: threads=", "CPU threads of the network"),
        (".pt: imgsz= quantize= iou= max_det= augment=", "input size and other settings of Ultralytics' prediction"),
        _PROJECT,
    ],
    "export": [
        ("model=", "a .pt checkpoint (required)"),
        ("format=onnx", "onnx, openvino, ncnn, litert, torchscript, engine (TensorRT), ..."),
        ("imgsz= quantize= dynamic= opset= device= ...", "any setting of the engine's export"),
        ("data=", "data YAML of the comparison with PyTorch; that of the training unless given"),
        ("verify=True", "compare keypoints and AP with PyTorch on real images; a difference is an error"),
        ("split=val images=200", "part of the data, and images of it at most, that are compared"),
        ("outside=False", "True takes images outside the data folder, where the YAML or its lists name any"),
        ("single=False", "True ends the graph in one driver: box, score and keypoints, no suppression outside (onnx)"),
        (
            "single: roi= frame=640x480",
            "where the driver's centre has to be, x1,y1,x2,y2 in shares; size of the pictures",
        ),
        ("single: driver_class=", "name or number of the driver's class: driver, or the only one, unless given"),
        ("single: preprocess=False grey=False", "True takes letterboxed uint8 pictures; of one channel"),
        ("int8=False", "True quantises after training, pose head in floating point (onnx)"),
        ("int8: calibrate=balanced", "calibration images: balanced (evenly over the postures) or random"),
        ("int8: calibration_images=128", "number of them, from the training part"),
        ("int8: float_head=True symmetric=False", "False quantises the head too; True for TensorRT"),
        ("int8: calibration_cache=10.3.0", "also write a calibration cache for this version of TensorRT"),
        ("project= name=", "folder of the file; beside the checkpoint unless given"),
    ],
    "compare": [
        ("a.pt b.onnx peer.tflite ...", "the models; the others are held against the first (required)"),
        ("data=", "data YAML (required)"),
        ("split=val", "part to evaluate: val, test or train"),
        ("keypoints=all", "common counts only the keypoints that every model has"),
        ("box_factor=", "how much the labelled box is enlarged for peers that need one; each knows its own"),
        ("rounds=10", "turns of each model in the latency measurement, 0 for none"),
        ("mixture= names= oks_area= bootstrap= skip_bad= outside=", "as for `dpose val`"),
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
        (
            "models a.onnx b.tflite c.pt ...",
            "how fast models are, in turns: time, memory, size; the first is compared with",
        ),
        ("models: threads=1,2 imgsz=640", "numbers of CPU threads; input size of .pt files and of open inputs"),
        ("models: rounds=20 repeats=10", "turns of every model, and runs of a turn"),
        ("train", "what training steps cost, plain and with each part; all that follows is for it"),
        ("data=", "data YAML (required)"),
        ("model= imgsz= batch= device= ...", "any setting of the training"),
        ("arms=plain,balance,attention,both,all", "some of them; the first is what the others are compared with"),
        ("steps=40", "training steps of an arm's turn"),
        ("rounds=5", "turns of every arm"),
        ("threads=", "CPU threads of a process; all cores unless given"),
        _PROJECT,
    ],
    "prepare": [
        ("drive_act|dripe|coco|statefarm|video", "the source (required)"),
        ("src=", "its folder; a file for video and coco, too (required)"),
        ("dst=", "new folder of the set; the same command again goes on in it (required)"),
        ("frames=", "images at most, as many of each subject; drive_act 33600, else all"),
        (
            "choose=variety",
            "variety, even or random; all (pictures of coco, dripe, statefarm, unless frames= is given)",
        ),
        ("every=0.25", "seconds between two candidate frames of a video"),
        ("apart=3", "least difference of two images without labels, grey levels"),
        ("quality=95", "of the JPEG files of video frames; pictures are copied"),
        ("seed=0", "of draws and splits"),
        ("val=0.2 test=0", "video, statefarm, coco (val=0): shares of the images, by subject"),
        ("images=", "coco, dripe: folder of the images, relative to src="),
        ("category= subject=", "coco: name of the category; field of an image that names its subject, or folder"),
        ("empty=False", "coco, dripe: True keeps images without a person"),
        ("views=inner_mirror", "drive_act: cameras, e.g. inner_mirror,a_column_co_driver, or all"),
        ("split=paper", "drive_act: paper, 0, 1 or 2; dripe: 1"),
        ("labels=3d", "drive_act: 3d, or none for images only"),
        ("conf=0.2,0.5", "drive_act: confidence from which a keypoint is labelled, and from which it is visible"),
        ("margin=0.1", "drive_act: of the box around the keypoints, share of its sides"),
        ("tolerance=0.02", "drive_act: seconds between a pose and the frame it is put on"),
    ],
    "render": [
        ("coverage", "how near rendered labels come to those of data=; all that is not said for it renders a set"),
        ("assets", "fetch what the renderer shows, once; minimal=True only the body mesh, which is CC0"),
        ("dst=", "new folder of the set; the same command again goes on in it (required)"),
        *((f"{s.name}={s.default}", s.help) for s in specification("render").values() if s.name not in specification()),
        ("postures=all", "all, names of postures, or rare: those that data= lacks (its default with data=)"),
        ("size=640x480", "width and height of the images"),
        ("clusters= covariance= skip_bad= outside= ...", "DPOSE settings of the posture mixture and of reading data="),
        ("coverage: data=", "data YAML of real labels (required)"),
        (
            "coverage: rendered=",
            "data YAML of a rendered set; else labels of the set that the other settings would render, without images",
        ),
        ("coverage: split=train rendered_split=train", "parts that are compared"),
        ("coverage: oks_area=0.53", "OKS area as a share of the box area"),
        ("coverage: project=runs name=", "folder of coverage.csv and coverage.json"),
    ],
    "autolabel": [
        ("source=", "image, folder with all below it, video, or a data YAML (required)"),
        ("teacher=", "models that vote, a.pt,b.pt,movenet.onnx: one of them has to find persons itself (required)"),
        ("dst=", "folder of the new data set; the source's own folder writes beside its images (required)"),
        ("split=train", "part of the data YAML, or name of the new part: train, val or test"),
        ("driver=largest", "who is labelled: largest (person), region (largest centred in roi), all"),
        ("roi=", "x1,y1,x2,y2 in shares of the picture, for driver=region"),
        ("every=10", "of a video, each n-th frame"),
        ("flip=True", "each teacher looks at the mirrored image, too"),
        ("agree=0.5", "distance within which votes agree, in units of OKS: d / (2 sigma sqrt(area))"),
        ("fewest=3", "agreed keypoints without which a person is none"),
        ("least=0.3", "a vote of less confidence abstains"),
        ("sure=0.7 weak=0.5", "certainty from which a keypoint is flagged 2 (agreed), 1 (weak); 0 below"),
        ("overwrite=False", "True replaces labels that are there"),
        ("empty=False", "True writes empty labels (background) where no teacher sees anybody"),
        ("review=200", "least certain images in review.html, 0 for no page"),
        ("imgsz=", "input size, one or a list for the teachers; each one's own unless given"),
        ("conf=0.25 iou=0.5 device=", "least confidence of a person; overlap of one person's boxes; of the engine"),
    ],
    "check": [
        ("data=", "data YAML (required)"),
        ("strict=False", "True exits with status 1 if there is an error or a warning"),
        (
            "fix=False",
            "True writes a new data YAML and lists without what cannot be used; nothing is changed or deleted",
        ),
        ("drop=", "text file of images that the lists leave out, e.g. bad_images.txt of autolabel's review page"),
        ("names=", "CSV of subjects and posture names; index.csv beside the data unless given"),
        ("images=True", "show pictures of the findings in check.html; False writes text only"),
        ("seed=0", "of the posture mixture"),
        _PROJECT,
    ],
    "clusters": [
        ("data=", "data YAML (required)"),
        ("split=train", "part to show; the clusters are always those of the training part"),
        ("clusters= balance= covariance= ...", "DPOSE settings of the posture balance"),
        ("bic=False", "True draws BIC over numbers of clusters, or over those given: bic=4,8,16 (a fit each)"),
        ("compare=", "a second data YAML: shares of each posture in both, postures that only one of them has"),
        ("compare_split=train", "part of the second data set"),
        ("seed=0", "of the fit"),
        ("images=True", "show example images in atlas.html and atlas.png; False draws skeletons only"),
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
        ("model=dpose-125.yaml", _NEW),
        ("imgsz=640", "input size the GFLOPs are counted at"),
        ("channels=3", "1 for infrared"),
    ],
    "forget": [("model=", "a .pt checkpoint, changed in place (required)")],
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
    from rich.table import Table

    from dpose_yolo.report.plain import plain_console

    refuse_unknown(names, ())
    table = Table(box=None, pad_edge=False)
    for column in ("setting", "default", "takes", "what it does"):
        table.add_column(column, overflow="fold")
    for name, setting in specification().items():
        if not names or name in names:
            table.add_row(name, str(defaults()[name]), setting.allowed, setting.help)
    plain_console().print(table)
    if names:
        return
    table = Table(
        box=None, pad_edge=False, title="\nUltralytics settings: the recipe (recipe=dpose)", title_justify="left"
    )
    for column in ("setting", "from scratch", "from a checkpoint"):
        table.add_column(column, overflow="fold")
    scratch, pretrained = section("from_scratch"), section("pretrained")
    for name in pretrained:
        table.add_row(name, *(_recipe_value(part.get(name, "")) for part in (scratch, pretrained)))
    plain_console().print(table)
    print(
        "All others are Ultralytics' defaults. cfg=ultralytics uses its defaults for these too, cfg=paper the paper's."
    )


def _recipe_value(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    low, high = value["range"]
    return f"{value['scale']} / sqrt(images), {low} to {high}"


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
