"""The `dpose` command as a user types it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from engine_models import tiny_yaml

from dpose_yolo import __version__, cli
from dpose_yolo.cli import COMMANDS, parse_arguments, run
from dpose_yolo.commands.common import output_folder
from dpose_yolo.commands.usage import TAKES
from dpose_yolo.errors import DPoseError
from dpose_yolo.settings import ATTENTION, AUTO, defaults, load_cfg, resolve, specification


def dpose(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "dpose_yolo", *arguments], capture_output=True, text=True, cwd=cwd)


def test_help_needs_no_torch():
    code = (
        "import sys; from dpose_yolo.cli import run\n"
        "for words in ([], ['train', 'help'], ['settings'], ['version']): assert run(words) == 0\n"
        "heavy = {'torch', 'ultralytics', 'sklearn', 'cv2', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "dpose train data=" in done.stdout and __version__ in done.stdout


def test_every_command_is_described(capsys):
    assert set(TAKES) == set(COMMANDS)
    for command in COMMANDS:
        assert run([command, "help"]) == 0
        assert f"usage: dpose {command}" in capsys.readouterr().out


def test_names_and_paths_stay_as_typed():
    words = ["source=2024_01_05", "teacher=007", "name=1e3", "start=12:30", "project=drive #2"]
    typed = {"source": "2024_01_05", "teacher": "007", "name": "1e3", "start": "12:30", "project": "drive #2"}
    assert parse_arguments(words) == typed


def test_values_are_read_as_yolo_reads_them():
    words = ["a=1", "b=0.5", "c=1e-4", "d=True", "e=none", "f=[4,6]", "g=left,right", "--h-i=None", "j=0,1", "k=x=y"]
    assert parse_arguments(words) == {
        "a": 1,
        "b": 0.5,
        "c": 1e-4,
        "d": True,
        "e": "none",
        "f": [4, 6],
        "g": "left,right",
        "h_i": None,
        "j": "0,1",
        "k": "x=y",
    }


WRONG = [
    (["trian"], "unknown command 'trian': did you mean train?"),
    (["train", "data"], "cannot read 'data'"),
    (["train", "data="], "data= has no value"),
    (["train", "att=1", "att=2"], "att is given twice"),
    (["train", "data=x.yaml", "cluster=16"], "unknown setting 'cluster': did you mean clusters?"),
    (["train", "data=missing.yaml"], "no data file missing.yaml"),
    (["train", "resume=True", "name=not-there-yet"], "no data given"),
    (
        ["train", "cfg=nothing"],
        "no settings file nothing: give the path of a YAML file, or a preset (dpose, paper, ultralytics)",
    ),
    (["val", "data=x.yaml"], "dpose val needs model="),
    (["val", "model=x.pt", "data=x.yaml", "balance=1"], "balance is a setting of training"),
    (["predict", "model=dpose-125.yaml", "source=missing.jpg"], "no image, folder or video missing.jpg"),
    (["export", "model=dpose-125.yaml"], "is not a .pt checkpoint"),
    (["info", "model=missing.yaml"], "no model file missing.yaml"),
    (["info", "channels=abc"], "channels=abc must be a whole number from 1"),
    (["train", "resume=missing.pt"], "no checkpoint missing.pt to resume from"),
    (["info", "imgsz=33"], "imgsz=33 must be a multiple of 32"),
    (["clusters", "data=x.yaml", "epochs=3"], "dpose clusters takes no setting 'epochs'"),
    (["cam", "model=missing.pt", "source=."], "no model file missing.pt"),
    (["settings", "ballance"], "did you mean balance"),
]


@pytest.mark.parametrize(("words", "line"), WRONG, ids=[" ".join(w) for w, _ in WRONG])
def test_wrong_words_get_one_line(words, line):
    with pytest.raises(DPoseError) as error:
        run(words)
    assert line in str(error.value) and "\n" not in str(error.value)


def test_errors_exit_with_status_one_and_write_nothing(tmp_path):
    done = dpose("train", "data=missing.yaml", "project=out", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("dpose: error: no data file missing.yaml")
    assert list(tmp_path.iterdir()) == []


def test_info_is_one_json_line():
    done = dpose("info", "model=dpose-125.yaml", "imgsz=480")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    info = json.loads(line)
    assert info["params"] <= 630_000 and info["gflops"] <= 1.26 and info["keypoints"] == 17


def test_every_setting_has_a_valid_default_a_range_and_help():
    auto = {name: value for name, value in AUTO.items() if defaults()[name] == "auto"}
    assert resolve(defaults()) == {**defaults(), **auto, "att": ATTENTION["readout"]}
    for name, setting in specification().items():
        assert setting.help and "\n" not in setting.help, name
        assert setting.words or setting.limits or setting.type in ("flag", "layers", "path"), name
        with pytest.raises(DPoseError, match=name):
            setting.check(0.5j if setting.type == "path" else "certainly not")
    from ultralytics.utils import DEFAULT_CFG_DICT

    assert not set(specification()) & set(DEFAULT_CFG_DICT)


def test_the_weight_of_attention_is_that_of_its_maps():
    assert [resolve({"att_map": m})["att"] for m in ("readout", "gradcam")] == [
        ATTENTION["readout"],
        ATTENTION["gradcam"],
    ]
    assert resolve({"att_map": "gradcam", "att": 3})["att"] == 3 and resolve({"att": 0})["att"] == 0


def test_paper_preset_is_the_papers():
    paper = load_cfg("paper")
    assert (paper["epochs"], paper["lr0"], paper["lr_drop"], paper["optimizer"]) == (350, 1e-4, 250, "Adam")
    assert [paper[k] for k in ("att", "box", "cls", "pose", "kobj")] == [5, 1, 1, 1, 1]
    recipe = resolve({k: v for k, v in paper.items() if k in specification()})
    assert (recipe["att_map"], recipe["balance"], recipe["clusters"], recipe["refits"]) == ("gradcam", 1, 16, 0)
    assert recipe["kpt_far"] == recipe["pose_score"] == 0


@pytest.mark.parametrize(
    ("given", "far"), [({}, 1), ({"att": 0}, 1), ({"balance": 0}, 1), ({"balance": 0, "att": 0}, 0)]
)
def test_keypoint_losses_are_off_by_themselves_where_both_parts_are(given, far):
    assert resolve(given)["kpt_far"] == far and (resolve(given)["pose_score"] > 0) == bool(far)
    assert resolve({**given, "kpt_far": 0.25})["kpt_far"] == 0.25


def test_commands_on_a_tiny_set(tmp_path, mini_dataset, capsys):
    """Train, validate, explain, export and predict with what training left."""
    data = mini_dataset()
    model = tmp_path / "tiny.yaml"
    model.write_text(yaml.safe_dump(tiny_yaml()))
    project = f"project={tmp_path / 'runs'}"
    common = ["imgsz=64", "device=cpu", project]
    train = ["train", f"data={data}", f"model={model}", "epochs=1", "batch=8", "clusters=4", "plots=False", *common]
    assert run([*train, "name=train"]) == 0
    best = tmp_path / "runs" / "train" / "weights" / "best.pt"
    assert run(["val", f"model={best}", f"data={data}", "split=test", *common]) == 0
    metrics = json.loads((tmp_path / "runs" / "val" / "metrics.json").read_text())
    assert metrics["split"] == "test" and 0 <= metrics["AP"] <= 1
    assert run(["clusters", f"data={data}", "clusters=4", project]) == 0
    assert "evenness of the clusters (1 is even) 0." in capsys.readouterr().out
    folder = tmp_path / "runs" / "clusters"
    table = list(csv.DictReader((folder / "clusters.csv").open()))
    assert len(table) == 4 and sum(int(r["poses"]) for r in table) == 24
    assert (folder / "atlas.png").stat().st_size > 10_000
    image = data.parent / "images" / "test" / "test_0000.png"
    assert run(["cam", f"model={best}", f"source={image}", "keypoints=left_wrist,0", "imgsz=64", project]) == 0
    assert (tmp_path / "runs" / "cam" / "test_0000.png").stat().st_size > 5_000
    with pytest.raises(DPoseError, match="no keypoint 'left_wrst': did you mean left_wrist"):
        run(["cam", f"model={best}", f"source={image}", "keypoints=left_wrst", project])
    assert run(["export", f"model={best}", "imgsz=64"]) == 0
    for weights in (best, best.with_suffix(".onnx")):
        assert run(["predict", f"model={weights}", f"source={image.parent}", "verbose=False", *common]) == 0
        assert "8 frames" in capsys.readouterr().out


@pytest.mark.parametrize("package", ["ultralytics", "torch.nn", "onnx"])
def test_what_a_light_install_lacks_is_one_line(package, monkeypatch, capsys):
    def missing(_words):
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr(cli, "run", missing)
    monkeypatch.setattr("sys.argv", ["dpose", "val", "model=best.onnx"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    line = capsys.readouterr().err
    assert ended.value.code == 1 and line.count("\n") == 1
    assert f"dpose val needs {package}, which is not installed here: run it on a machine with the full install" in line


@pytest.mark.parametrize(
    "word",
    ["patience=.nan", "time=.nan", "degrees=.inf", "box=-1", "lr0=.nan", "att_radius=.inf", "patience=-1", "dis=-.inf"],
)
def test_numbers_that_are_none_or_below_zero_are_refused(word, mini_dataset, model_yaml):
    with pytest.raises(DPoseError, match=f"{word.partition('=')[0]}=.* is not allowed"):
        run(["train", f"data={mini_dataset(train=1, val=1, test=0)}", f"model={model_yaml}", "device=cpu", word])


def test_words_of_other_tools_get_what_was_meant(mini_dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["help", "train"]) == 0 and "usage: dpose train" in capsys.readouterr().out
    assert run(["check", str(mini_dataset())]) == 0
    assert run(["info", "dpose-125.yaml"]) == 0
    with pytest.raises(DPoseError, match="no command 'track' here: dpose predict finds the driver in each frame"):
        run(["track", "model=best.pt"])
    with pytest.raises(DPoseError, match="unknown command 'nothing'"):
        run(["help", "nothing"])


def test_a_user_whom_the_system_does_not_know(tmp_path):
    code = """
import pwd
def unknown(uid):
    raise KeyError(uid)
pwd.getpwuid = unknown
from dpose_yolo.cli import run
assert run(["info"]) == 0
"""
    kept = {k: v for k, v in os.environ.items() if k not in ("HOME", "YOLO_CONFIG_DIR")}
    places = {name: str(tmp_path) for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "MPLCONFIGDIR")}
    done = subprocess.run([sys.executable, "-c", code], env={**kept, **places}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_closed_pipe_stops_no_work(mini_dataset, model_yaml, tmp_path):
    """The exit status is the work's, whether somebody reads its output or not."""
    data, project = mini_dataset(), f"project={tmp_path / 'runs'}"
    train = [
        "train",
        f"data={data}",
        f"model={model_yaml}",
        "epochs=1",
        "imgsz=64",
        "device=cpu",
        "plots=False",
        "clusters=2",
    ]
    commands = [([*train, project], "train/weights/last.pt"), (["check", f"data={data}", project], "check/check.html")]
    running = []
    for words, _ in commands:
        reader, writer = os.pipe()
        os.close(reader)
        code = "from dpose_yolo.cli import main; main()"
        running.append(subprocess.Popen([sys.executable, "-c", code, *words], stdout=writer, stderr=writer))
        os.close(writer)
    for process, (_, file) in zip(running, commands, strict=True):
        assert process.wait(300) == 0 and (tmp_path / "runs" / file).is_file()


def test_error_lines_hold_no_escapes_and_no_bytes_that_are_not_text(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["dpose", "info", "model=\x1b[2Ja\nb\udcff.pt"])
    with pytest.raises(SystemExit):
        cli.main()
    line = capsys.readouterr().err
    assert line.startswith("dpose: error: no model file \\x1b[2Ja\\nb\\udcff.pt: ") and line.count("\n") == 1


def test_commands_of_the_same_moment_get_a_folder_each(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda _: output_folder({"project": tmp_path / "out"}, "val"), range(48)))
    assert sorted(f.name for f in found) == sorted(["val", *(f"val-{n}" for n in range(2, 49))])
    shared = {"project": tmp_path / "out", "name": "val", "exist_ok": True}
    assert output_folder(shared, "val") == tmp_path / "out" / "val"
    (tmp_path / "out" / "file").write_text("no folder")
    with pytest.raises(DPoseError, match=r"no folder can be made at .*file \(File exists\): set project="):
        output_folder({**shared, "name": "file"}, "val")
    assert output_folder({**shared, "name": "file", "exist_ok": False}, "val").name == "file-2"
    with pytest.raises(DPoseError, match=r"no folder can be made at .*val \(Not a directory\): set project="):
        output_folder({"project": tmp_path / "out" / "file"}, "val")


@pytest.mark.parametrize(("device", "workers", "kept"), [("cpu", 0, False), ("cpu", 4, True), ("0", 0, True)])
def test_record_of_a_cpu_run_does_not_say_how_a_gpu_is_fed(tmp_path, device, workers, kept):
    path = tmp_path / "args.yaml"
    path.write_text(yaml.safe_dump({"save_dir": "runs/train", "device": device, "workers": workers, "lr0": 0.003}))
    assert load_cfg(path) == {"device": device, "lr0": 0.003} | ({"workers": workers} if kept else {})
    path.write_text(yaml.safe_dump({"device": device, "workers": workers}))  # no record: what the user says
    assert load_cfg(path) == {"device": device, "workers": workers}
