"""A data set must not name files outside its folder: the rule, the lists, links, and what trains in spite of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml
from stick_figures import build_dataset
from ultralytics import YOLO

from dpose_yolo.cli import COMMANDS, run
from dpose_yolo.dataset.card import read_card
from dpose_yolo.dataset.contained import refuse_outside
from dpose_yolo.dataset.files import part_images
from dpose_yolo.dataset.paths import inside
from dpose_yolo.engine.labels import load_labels
from dpose_yolo.engine.trainer import DPoseTrainer
from dpose_yolo.errors import DPoseError
from dpose_yolo.evaluation.data import load_part
from dpose_yolo.export.calibration import calibration_images


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    build_dataset(folder, train=8, val=4, test=4)
    return folder


@pytest.fixture
def card(built: Path, tmp_path: Path) -> Path:
    """The data YAML of `tmp/set`; `tmp/elsewhere` has the same images, as has `tmp/set/imagesx`."""
    for name in ("set", "elsewhere"):
        shutil.copytree(built, tmp_path / name)
    shutil.copytree(built / "images" / "train", tmp_path / "set" / "imagesx")
    return tmp_path / "set" / "data.yaml"


def change(card: Path, **entries: object) -> Path:
    card.write_text(yaml.safe_dump({**yaml.safe_load(card.read_text()), **entries}))
    return card


def write_list(card: Path, *lines: str) -> Path:
    (card.parent / "train.txt").write_text("\n".join(lines) + "\n")
    return change(card, train="train.txt")


OUTSIDE = {
    "up": lambda card: change(card, train="../elsewhere/images/train"),
    "absolute": lambda card: change(card, train=str(card.parents[1] / "elsewhere/images/train")),
    "second of a list": lambda card: change(card, train=["images/train", "../elsewhere/images/train"]),
    "another part": lambda card: change(card, test="../elsewhere/images/test"),
    "neighbour of one beginning": lambda card: change(
        card, path=str(card.parent / "images"), train="../imagesx", val="val", test="val"
    ),
    "list, absolute": lambda card: write_list(card, str(card.parents[1] / "elsewhere/images/train/train_0000.png")),
    "list, up": lambda card: write_list(
        card, "./images/train/train_0001.png", "./../elsewhere/images/train/train_0000.png"
    ),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_what_leaves_the_folder_is_refused_in_one_line(card: Path, case: str) -> None:
    OUTSIDE[case](card)
    with pytest.raises(DPoseError, match=r"outside the data folder .* or set outside=True") as error:
        load_labels(card)
    assert "\n" not in str(error.value)
    with pytest.raises(DPoseError, match="outside the data folder"):
        read_card(card) if "list, " not in case else list(part_images(read_card(card), "train"))


@pytest.mark.parametrize("case", ["absolute", "list, up"])
def test_outside_takes_them(card: Path, case: str) -> None:
    OUTSIDE[case](card)
    labels, _, _ = load_labels(card, outside=True)
    assert len(labels) == (8 if case == "absolute" else 2)
    part = load_part(card, "train", outside=True)
    assert len(part.training()[0]) == len(labels)  # the part remembers that it was allowed


def test_what_stays_inside_is_taken(card: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(load_labels(card)[0]) == 8
    whole = card.parent
    apart = change(tmp_path / shutil.copy(card, tmp_path / "apart.yaml"), path=str(whole))  # a YAML far from its data
    assert len(load_labels(apart)[0]) == 8
    assert len(load_labels(change(apart, train=str(whole / "images" / "train")))[0]) == 8
    both = ["set/images/train", "elsewhere/images/train"]
    above = change(apart, path=str(tmp_path), train=both, val="set/images/val", test="set/images/test")
    assert len(load_labels(above)[0]) == 16  # two data sets below one folder
    monkeypatch.chdir(tmp_path)
    assert len(load_labels(change(card, path="set"))[0]) == 8  # relative to the working directory, as the engine has it
    lines = [
        "./images/train/train_0000.png",
        "set/images/train/train_0001.png",
        str(whole / "images/train/train_0002.png"),
    ]
    assert len(load_labels(write_list(card, *lines))[0]) == 3


def test_lists_written_by_other_hands(card: Path) -> None:
    """Doubled slashes and dots are the same files; a blank at the end would leave images out without a word."""
    images = f"{card.parent}//images/./train/train_000"
    assert len(load_labels(write_list(card, f"{images}0.png", f"{images}1.png"))[0]) == 2
    with pytest.raises(DPoseError, match=r"line 1 of .*train\.txt ends in a blank, with which no image is found"):
        load_labels(write_list(card, "./images/train/train_0000.png ", "./images/train/train_0001.png"))


def test_exports_that_start_with_dots_mean_the_folder_itself(card: Path, tmp_path: Path) -> None:
    change(card, train="../images/train", val="../images/val", test="../images/test")
    assert len(load_labels(card)[0]) == 8


def test_links_of_the_user_are_followed(card: Path, tmp_path: Path) -> None:
    shutil.rmtree(card.parent / "images")
    shutil.rmtree(card.parent / "labels")
    for kind in ("images", "labels"):
        (card.parent / kind).symlink_to(tmp_path / "elsewhere" / kind, target_is_directory=True)
    assert len(load_labels(card)[0]) == 8
    (tmp_path / "link").symlink_to(card.parent, target_is_directory=True)
    assert len(load_labels(tmp_path / "link" / "data.yaml")[0]) == 8


def test_dots_behind_a_link_do_not_lead_out(card: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "deep").mkdir()
    (card.parent / "deep").symlink_to(tmp_path / "elsewhere" / "deep", target_is_directory=True)
    entry = "deep/../images/train"  # as text set/images/train; the system arrives in elsewhere/images/train
    assert os.path.abspath(card.parent / entry) == str(card.parent / "images" / "train")
    with pytest.raises(DPoseError, match="outside the data folder"):
        inside(card.parent, entry, "train")
    with pytest.raises(DPoseError, match="outside the data folder"):
        load_labels(change(card, train=entry))
    assert inside(card.parent, "labels/../images/train", "train") == str(card.parent / "images" / "train")


def test_a_linked_list_is_read_where_the_engine_reads_it(card: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "list.txt"
    target.write_text("./images/train/train_0000.png\n")
    (card.parent / "train.txt").symlink_to(target)
    change(card, train="train.txt")
    with pytest.raises(DPoseError, match=r"line 1 of .* outside the data folder"):
        load_labels(card)
    labels, _, _ = load_labels(card, outside=True)
    assert labels[0]["im_file"] == str(tmp_path / "elsewhere" / "images" / "train" / "train_0000.png")


def test_full_paths_below_a_linked_data_folder(card: Path, tmp_path: Path) -> None:
    write_list(card, str(card.parent / "images/train/train_0003.png"))
    (tmp_path / "link").symlink_to(card.parent, target_is_directory=True)
    linked = tmp_path / "link" / "data.yaml"
    refuse_outside(linked, linked.parent)
    assert len(load_labels(linked)[0]) == 1


def test_training_and_clusters_refuse_and_leave_nothing(card: Path, base: dict) -> None:
    change(card, train="../elsewhere/images/train")
    settings = {**base, "data": str(card), "att": 0}
    with pytest.raises(DPoseError, match=r"train of .*data.yaml names .* or set outside=True"):
        DPoseTrainer(settings)
    assert DPoseTrainer(settings, outside=True).data["train"].endswith("elsewhere/images/train")
    project = card.parents[1] / "out"
    with pytest.raises(DPoseError, match="outside the data folder"):
        run(["clusters", f"data={card}", "clusters=2", f"project={project}"])
    assert not project.exists()
    assert run(["clusters", f"data={card}", "clusters=2", "outside=True", f"project={project}"]) == 0


SMALL = ["imgsz=64", "device=cpu"]
STUDY = [*SMALL, "epochs=1", "clusters=2", "seeds=1", "model=tiny.yaml"]
# Each setting of each command that names a data YAML; the words before it are the rest of a command that runs.
READERS = [
    ["train", *SMALL, "epochs=1", "clusters=2", "model=tiny.yaml", "data="],
    ["train", *SMALL, "epochs=1", "clusters=2", "model=tiny.yaml", "data=inside/data.yaml", "render="],
    ["finetune", *SMALL, "epochs=1", "model=tiny.pt", "data="],
    ["finetune", *SMALL, "epochs=1", "model=tiny.pt", "data=inside/data.yaml", "replay="],
    ["val", *SMALL, "model=tiny.pt", "data="],
    ["export", "imgsz=64", "model=tiny.pt", "int8=True", "data="],
    ["compare", "tiny.pt", *SMALL, "data="],
    ["ablate", *STUDY, "data="],
    ["sweep", "balance=0,1", *STUDY, "data="],
    ["bench", "train", *SMALL, "model=tiny.yaml", "data="],
    ["autolabel", "imgsz=64", "teacher=tiny.pt", "dst=labelled", "source="],
    ["check", "data="],
    ["clusters", "clusters=2", "data="],
    ["clusters", "clusters=2", "data=inside/data.yaml", "compare="],
    ["render", "coverage", "rendered=inside/data.yaml", "data="],
    ["render", "coverage", "data=inside/data.yaml", "rendered="],
    ["render", "dst=rendered", "images=1", "data="],
]
# Commands that take no data YAML: they read the files that the user names, and no others.
NO_YAML = {"predict", "cam", "info", "forget", "prepare", "settings"}


def test_every_command_stays_in_the_folder(
    card: Path, base: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each setting that names a data YAML refuses a list with a path to another folder, and writes nothing."""
    assert {words[0] for words in READERS} | NO_YAML == set(COMMANDS)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(card.parent, "inside")
    YOLO("tiny.yaml", task="pose").save("tiny.pt")
    write_list(card, str(tmp_path / "elsewhere/images/train/train_0000.png"))
    before = set(tmp_path.rglob("*"))
    for *words, setting in READERS:
        with pytest.raises(DPoseError, match="outside the data folder") as error:
            run([*words, f"{setting}set/data.yaml"])
        assert "\n" not in str(error.value), (words, setting)
    after = {f.relative_to(tmp_path) for f in set(tmp_path.rglob("*")) - before if f.is_file()}
    assert not {f for f in after if f.suffix not in (".cache", ".npz")}, after


def test_export_refuses_and_takes_them(card: Path, base: dict) -> None:
    change(card, train="../elsewhere/images/train", val="../elsewhere/images/val")
    with pytest.raises(DPoseError, match="outside the data folder"):
        calibration_images(card, 4, "random")
    assert all("elsewhere" in file for file in calibration_images(card, 4, "random", outside=True)[0])
    model = card.parents[1] / "tiny.pt"
    YOLO(base["model"]).save(model)
    out = card.parents[1] / "out"
    words = ["export", f"model={model}", f"data={card}", "format=torchscript", "imgsz=64", f"project={out}", "name=ts"]
    with pytest.raises(DPoseError, match="outside the data folder"):
        run(words)
    assert not (out / "ts").exists()
    assert run([*words, "outside=True"]) == 0
    assert (out / "ts" / "tiny.torchscript").is_file()


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e"])
def test_lists_are_split_only_at_newlines(card: Path, separator: str) -> None:
    """The engine splits at other separators, too, and would train on what this rule has not seen."""
    secret = card.parents[1] / "elsewhere/images/train/train_0000.png"
    write_list(card, "./images/train/train_0000.png", f"./images/x{separator}{secret}")
    with pytest.raises(DPoseError, match=r"line 2 of .*train.txt holds a line separator that is no newline"):
        load_labels(card)
    with pytest.raises(DPoseError, match=r"line 2 of .*train.txt holds a line separator that is no newline"):
        list(part_images(read_card(card), "train"))


def test_new_lists_cannot_hold_names_that_end_a_line(card: Path) -> None:
    folder = card.parent / "images" / "train"
    for name in ("a\nb.png", "a\\b.png"):
        odd = folder / name
        shutil.copy(folder / "train_0000.png", odd)
        with pytest.raises(DPoseError, match=r"cannot stand in a list.*rename the file"):
            run(["check", f"data={card}", "fix=True", f"project={card.parents[1] / 'runs'}", "images=False"])
        odd.unlink()
        assert not list(card.parent.glob("*_checked*"))


def test_a_check_removes_what_a_killed_one_left(card: Path) -> None:
    import subprocess

    gone = subprocess.Popen(["true"])
    gone.wait()
    runs = card.parents[1] / "runs"
    (runs / "check").mkdir(parents=True)
    left = [runs / "check" / f".check.{gone.pid}.tmp.csv", card.parent / f".data_checked_train.{gone.pid}.tmp.txt"]
    others = [card.parent / f".data_checked_val.{os.getppid()}.tmp.txt", card.parent / ".thesis.1.tmp"]
    for file in (*left, *others):
        file.write_text("")
    run(["check", f"data={card}", "fix=True", f"project={runs}", "exist_ok=True", "images=False"])
    assert not any(file.exists() for file in left) and all(file.exists() for file in others)
