"""`dpose compare`: models of several kinds on one data part, in one table."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from engine_models import tiny_yaml
from test_peers import movenet_file
from ultralytics import YOLO

from dpose_yolo.cli import run
from dpose_yolo.engine.models import engine_model
from dpose_yolo.errors import DPoseError
from dpose_yolo.evaluation.data import load_part
from dpose_yolo.evaluation.postures import PostureGroups
from dpose_yolo.metrics import Detections, bootstrap_weights, interval
from dpose_yolo.peers import compare as comparing
from dpose_yolo.peers.compare import compare, short_titles
from dpose_yolo.peers.contestants import Contestant, EngineContestant, PeerContestant, load_contestant
from dpose_yolo.peers.cost import Cost
from dpose_yolo.peers.latency import interleaved, largest_persons, one_thread
from dpose_yolo.report.comparison import (
    comparison_figure,
    conventions,
    difference_rows,
    flat_table,
    markdown,
    model_rows,
    screen_rows,
)


class Marksman(Contestant):
    """Answers with the labels, but misses by `offset` person sizes on some images."""

    kind = "test"

    def __init__(self, path: Path, offset: float = 0.0, missed: slice = slice(0), names: list[str] | None = None):
        self.path, self.offset, self.missed, self.names = path, offset, missed, names
        path.write_bytes(b"x" * 1000)

    def detect(self, part, chosen):
        truth = part.truth
        keypoints = truth.keypoints.copy()
        wrong = np.isin(truth.image, np.arange(len(truth.files))[self.missed])
        keypoints[wrong, :, :2] += self.offset * truth.box_areas()[wrong, None, None] ** 0.5
        keypoints[..., 2] = 0.9
        keypoints[:, np.asarray(chosen) < 0] = 0
        score = np.linspace(0.9, 0.5, len(truth.image))
        return Detections(truth.image, score, truth.boxes, keypoints)

    def input_size(self):
        return 64, 64

    def cost(self):
        return Cost(1_234_567, None)

    def runner(self):
        return lambda image, box: None


@pytest.fixture
def part(mini_dataset):
    return load_part(mini_dataset(), "test")


@pytest.fixture
def halves(part, monkeypatch) -> PostureGroups:
    """The first half of the images is the head, the rest the tail."""
    count = len(part.truth.files)
    groups = PostureGroups((np.arange(count) >= count // 2).astype(int), np.array([100, 3]), "two made-up clusters")
    monkeypatch.setattr(comparing, "cluster_groups", lambda *args, **kwargs: groups)
    return groups


def test_figures_and_differences_are_those_of_the_models(part, halves, tmp_path):
    """One model is right everywhere, the other one only on the head: every figure can be told beforehand."""
    count = len(part.truth.files)
    models = [
        Marksman(tmp_path / "half.onnx", 5.0, slice(count // 2, count)),
        Marksman(tmp_path / "right.onnx"),
    ]
    result = compare(models, part, rounds=0, bootstrap=200).result
    half, right = result["models"]
    assert [right[k] for k in ("AP", "AP50", "AP75", "AR", "tail_AP", "head_AP")] == [pytest.approx(1)] * 6
    assert (half["head_AP"], half["tail_AP"]) == (pytest.approx(1), 0)
    # the right ones come first by score: precision 1 up to recall 1/2, which is 51 of the 101 recalls
    assert half["AP"] == pytest.approx(51 / 101) and half["AR"] == pytest.approx(0.5)
    assert half["difference"] == {"AP": None, "tail_AP": None}
    difference = right["difference"]
    assert difference["tail_AP"] == {"mean": pytest.approx(1), "low": pytest.approx(1), "high": pytest.approx(1)}
    assert difference["AP"]["mean"] == pytest.approx(50 / 101)
    weights = bootstrap_weights(count, part.subjects, 200, 0)
    missed = weights[:, count // 2 :].sum(1) / weights.sum(1)
    assert np.allclose((difference["AP"]["low"], difference["AP"]["high"]), interval(missed), atol=0.011)
    assert half["parameters"] == 1_234_567 and half["gflops"] is None and half["megabytes"] == 0.001
    assert half["latency_ms"] is None and result["latency"] is None
    assert result["mixture"] == "two made-up clusters" and result["keypoints"] == part.truth.names


def test_a_model_name_with_dollar_signs_is_drawn(part, halves, tmp_path):
    result = compare([Marksman(tmp_path / "$\\odd$.onnx")], part, rounds=0, bootstrap=0).result
    comparison_figure(result).savefig(tmp_path / "c.png")


def test_table_says_what_it_shows(part, halves, tmp_path):
    models = [Marksman(tmp_path / "a.pt", 0.02, slice(None)), Marksman(tmp_path / "b.pt")]
    models[1].factor = 1.1
    result = compare(models, part, rounds=2, bootstrap=50).result
    heads, rows = model_rows(result)
    assert heads == ["model", "box prior", "input", "params M", "MB", "AP", "AP50", "AP75", "AR", "tail AP", "ms"]
    assert rows[1][:5] == ["b.pt", "x 1.1", "64x64", "1.23", "0.0"] and rows[1][5] == "1.000"
    heads, rows = screen_rows(result)
    assert heads == ["model", "input", "M", "AP", "AP50", "AP75", "AR", "tail", "ms"]
    assert [row[1] for row in rows] == ["64", "64 box"]
    heads, rows = difference_rows(result)
    gain = result["models"][1]["difference"]["AP"]
    assert heads == ["less a.pt", "AP", "tail AP"]
    assert rows == [["b.pt", f"{gain['mean']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})", rows[0][2]]]
    text = markdown(result)
    assert sum(line.startswith("| ") for line in text.splitlines()) == 7 and "| b.pt | x 1.1 | 64x64 |" in text
    told = " ".join(conventions(result))
    assert "OKS area: 0.53" in told and "box prior" in told and "one thread" in told and "two made-up clusters" in told
    table = flat_table(result)
    assert table["AP_difference"].tolist()[1] == gain["mean"] and table["AP_difference_low"].tolist()[1] == gain["low"]
    (axes,) = comparison_figure(result).axes
    assert axes.get_xlabel().startswith("ms") and {t.get_text() for t in axes.texts} == {"a.pt", "b.pt"}


def test_keypoints_that_a_model_lacks(part, halves, tmp_path):
    names = part.truth.names
    models = [Marksman(tmp_path / "a.pt"), Marksman(tmp_path / "b.pt", names=names[5:])]
    with pytest.raises(DPoseError, match=f"b.pt has no {', '.join(names[:5])}: set keypoints=common to .* the 12"):
        compare(models, part, rounds=0)
    result = compare(models, part, keypoints="common", rounds=0, bootstrap=0).result
    assert result["keypoints"] == names[5:] and result["left_out"] == names[:5]
    assert [m["AP"] for m in result["models"]] == [pytest.approx(1)] * 2
    models.append(Marksman(tmp_path / "c.pt", names=["tail", "fin"]))
    with pytest.raises(DPoseError, match=r"c.pt has none of the data's keypoints"):
        compare(models, part, keypoints="common", rounds=0)


def test_titles_tell_files_apart():
    paths = [Path(p) for p in ("/r/plain/weights/best.pt", "/r/both/weights/best.pt", "/x/net.onnx")]
    assert short_titles(paths) == ["plain/best.pt", "both/best.pt", "net.onnx"]
    assert short_titles([Path("/w/weights/peer.onnx")]) == ["peer.onnx"]
    assert short_titles([Path("/a/k/net.onnx"), Path("/b/k/net.onnx")]) == ["a/k/net.onnx", "b/k/net.onnx"]
    assert short_titles([Path("/net.onnx"), Path("/b/net.onnx")]) == ["net.onnx", "b/net.onnx"]
    with pytest.raises(DPoseError, match="is given twice"):
        short_titles([Path("/a/x.pt"), Path("/a/../a/x.pt")])


def test_models_take_turns_and_only_their_own_time_counts():
    """A clock that every run moves by the model's own number."""
    now, order = [0.0], []

    def model(m: int):
        def go(image, box):
            order.append(m)
            now[0] += m + box[0] / 10

        return go

    samples = [(np.zeros((2, 2, 3)), np.array([b])) for b in (1.0, 2.0)]
    seconds = interleaved([model(1), model(2), model(3)], samples, 3, lambda: None, lambda: now[0])
    assert np.allclose(seconds, [[m + 0.1, m + 0.2] * 3 for m in (1, 2, 3)])
    turn = [m for m in (1, 2, 3, 2, 3, 1, 3, 1, 2) for _ in range(3)]  # one to warm up, two that count
    assert order[9:] == turn and order[:9] == [m for m in (1, 2, 3) for _ in range(3)]


def test_one_thread_holds_for_what_the_engine_loads(tmp_path):
    path = movenet_file(tmp_path / "m.onnx")
    before, original = torch.get_num_threads(), onnxruntime.InferenceSession
    with one_thread():
        session = onnxruntime.InferenceSession(str(path), None, providers=["CPUExecutionProvider"])
        assert session.get_session_options().intra_op_num_threads == 1
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before and onnxruntime.InferenceSession is original


def test_latency_pictures_are_spread_and_show_the_largest_person(part):
    truth = part.truth
    shown = largest_persons(truth.image, truth.boxes, truth.files, 3)
    last = np.flatnonzero(truth.image == len(truth.files) - 1)
    largest = last[truth.box_areas()[last].argmax()]
    assert len(shown) == 3 and np.array_equal(shown[-1][1], truth.boxes[largest])
    assert len(largest_persons(truth.image, truth.boxes, truth.files, 1000)) == len(set(truth.image))


WRONG = [
    (["data=x.yaml"], "dpose compare needs models"),
    (["a.pt"], "dpose compare needs data="),
    (["a.pt", "data=x.yaml", "keypoint=common"], "takes no setting 'keypoint': did you mean keypoints?"),
    (["a.pt", "data=x.yaml", "keypoints=some"], "keypoints takes all or common"),
    (["a.pt", "data=x.yaml", "rounds=-1"], "rounds=-1 must be a whole number from 1"),
    (["a.pt", "data=x.yaml", "box_factor=0.5"], "box_factor=0.5 is not allowed"),
    (["a.pt", "data=x.yaml", "oks_area=0"], "oks_area=0 is not allowed"),
    (["missing.pt", "data=x.yaml"], "no model file missing.pt"),
    (["dpose-125.yaml", "data=x.yaml"], "dpose-125.yaml is a model without weights"),
]


@pytest.mark.parametrize(("words", "line"), WRONG, ids=[" ".join(w) for w, _ in WRONG])
def test_wrong_words_get_one_line(words, line):
    with pytest.raises(DPoseError) as error:
        run(["compare", *words])
    assert line in str(error.value) and "\n" not in str(error.value)


def test_command_on_a_checkpoint_its_export_and_a_peer(tmp_path, mini_dataset, capsys):
    """The export has the checkpoint's figures; a peer that always gives one point scores what that is worth."""
    data = mini_dataset()
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny_yaml()))
    torch.manual_seed(0)
    model = YOLO(str(path), task="pose")
    model.save(str(tmp_path / "tiny.pt"))
    exported = engine_model(tmp_path / "tiny.pt").export(format="onnx", imgsz=96)
    assert isinstance(load_contestant(exported, {}), EngineContestant)
    peer = movenet_file(tmp_path / "peer.onnx")
    assert isinstance(load_contestant(peer, {}), PeerContestant)
    words = [str(tmp_path / "tiny.pt"), str(exported), str(peer), f"data={data}", "split=test", "imgsz=96"]
    settings = ["rounds=1", "bootstrap=20", f"project={tmp_path / 'runs'}", "device=cpu"]
    assert run(["compare", *words, *settings]) == 0
    folder = tmp_path / "runs" / "compare"
    result = json.loads((folder / "comparison.json").read_text())
    own, export, other = result["models"]
    assert own["AP"] == pytest.approx(export["AP"], abs=1e-3)
    assert own["parameters"] > export["parameters"] > 0.9 * own["parameters"]  # batch norm is folded in
    assert own["gflops"] == pytest.approx(export["gflops"], rel=0.1)
    assert [m["box_prior"] for m in result["models"]] == [None, None, 1.1]
    assert [m["input"] for m in result["models"]] == ["96x96", "96x96", "32x32"]
    assert all(m["latency_ms"] > 0 for m in result["models"])
    assert other["AR"] < 0.2 and other["kind"] == "MoveNet"
    table = list(csv.DictReader((folder / "comparison.csv").open()))
    assert [row["model"] for row in table] == ["tiny.pt", "tiny.onnx", "peer.onnx"]
    assert "| tiny.onnx |" in (folder / "comparison.md").read_text()
    assert (folder / "comparison.png").stat().st_size > 10_000
    assert "box prior" in capsys.readouterr().out


@pytest.mark.slow
def test_real_peers_on_rendered_drivers(root, shared_data, tmp_path):
    """The peers' AP on the sample set, as far as other versions of the runtimes may move it."""
    pytest.importorskip("ai_edge_litert")
    weights = shared_data.parent / "weights"
    files = [str(weights / f) for f in ("yolo11n-pose.pt", "movenet_lightning.onnx", "blazepose_full.tflite")]
    if not all(Path(f).is_file() for f in files):
        pytest.skip(f"no weights in {weights}")
    data = f"data={root / 'data' / 'cabin_mini.yaml'}"
    assert run(["compare", *files, data, "split=test", "rounds=1", f"project={tmp_path}", "imgsz=320"]) == 0
    result = json.loads((tmp_path / "compare" / "comparison.json").read_text())
    yolo, movenet, blazepose = (m["AP"] for m in result["models"])
    assert movenet > 0.2 and blazepose > 0.1 and yolo > 0.1
