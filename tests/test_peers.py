"""Adapters of other projects' models: crop, reading of outputs, recognition, cost."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from dpose_yolo.errors import DPoseError
from dpose_yolo.keypoints import COCO_NAMES
from dpose_yolo.peers.base import Peer
from dpose_yolo.peers.blazepose import NAMES as BLAZE_NAMES
from dpose_yolo.peers.blazepose import BlazePose, sharpened
from dpose_yolo.peers.contestants import peer_detections
from dpose_yolo.peers.cost import file_cost
from dpose_yolo.peers.crop import Crop
from dpose_yolo.peers.movenet import MoveNet
from dpose_yolo.peers.names import common_keypoints, match_keypoints
from dpose_yolo.peers.openpose import NAMES as OPENPOSE_NAMES
from dpose_yolo.peers.openpose import LightweightOpenPose, peak
from dpose_yolo.peers.recognise import adapter_of, load_peer

# What MoveNet Lightning and BlazePose full said of data/cabin_mini/images/test/test_00006.jpg: y, x, confidence of the
# first 13 keypoints; x, y and visibility (before the logistic function) of the landmarks.
MOVENET = [
    (0.232, 0.665, 0.330), (0.202, 0.704, 0.415), (0.208, 0.642, 0.361), (0.204, 0.748, 0.373), (0.201, 0.610, 0.442),
    (0.363, 0.788, 0.526), (0.318, 0.533, 0.550), (0.510, 0.728, 0.275), (0.456, 0.407, 0.597), (0.332, 0.693, 0.389),
    (0.542, 0.215, 0.324), (0.705, 0.651, 0.390), (0.682, 0.510, 0.430),
]  # fmt: skip
BLAZEPOSE = {
    "nose": (150.9, 71.6, 7.27), "right_shoulder": (141.5, 93.9, 10.59), "right_elbow": (118.3, 120.6, 0.86),
    "right_wrist": (92.5, 128.4, 0.54), "left_ankle": (118.0, 144.3, -0.45),
}  # fmt: skip
IMAGE = "data/cabin_mini/images/test/test_00006.jpg"


class Recorded:
    """A network that always says the same."""

    def __init__(self, shape: tuple, **outputs: np.ndarray):
        self.input_shape, self.input_type, self.metadata = shape, np.dtype(np.float32), {}
        self.outputs = outputs
        self.output_shapes = {name: value.shape for name, value in outputs.items()}
        self.seen: np.ndarray | None = None

    def __call__(self, image: np.ndarray) -> dict[str, np.ndarray]:
        self.seen = image
        return self.outputs


@pytest.fixture
def driver(root: Path) -> SimpleNamespace:
    """A rendered driver of the sample set: picture, box and keypoints in pixels."""
    image = cv2.imread(str(root / IMAGE))
    height, width = image.shape[:2]
    text = (root / IMAGE.replace("images", "labels").replace(".jpg", ".txt")).read_text()
    row = np.array(text.split(), float)
    centre, extent = row[1:3] * [width, height], row[3:5] * [width, height]
    box = np.concatenate([centre - extent / 2, centre + extent / 2])
    points = row[5:].reshape(17, 3) * [width, height, 1]
    return SimpleNamespace(image=image, box=box, points=points, size=np.sqrt(extent.prod()))


@pytest.mark.parametrize("scale", [0.2, 0.7, 2.5])
@pytest.mark.parametrize("size", [(64, 64), (96, 48)])
def test_crop_shows_what_its_coordinates_say(scale, size):
    """A disc drawn in the image lies in the crop where `forward` puts it, at every zoom and for either shape."""
    image = np.zeros((400, 400, 3), np.uint8)
    centre = np.array([200.0, 180.0])
    half = np.array([20.0, 10.0]) / scale
    y, x = np.mgrid[:400, :400] + 0.5
    dot = np.hypot(x - centre[0] - half[0] / 2, y - centre[1] + 0.4 * half[1]) < 4 / scale
    image[dot] = 255
    dot = np.array([x[dot].mean(), y[dot].mean()])
    crop = Crop.around(np.concatenate([centre - half, centre + half]), 1.25, size)
    cut = crop.cut(image)
    assert cut.shape == (size[1], size[0], 3)
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    mass = cut[..., 0] / cut[..., 0].sum(dtype=float)
    seen = np.array([(x * mass).sum(), (y * mass).sum()])
    assert np.abs(seen - crop.forward(dot)).max() < 0.15
    assert np.allclose(crop.back(crop.forward(dot)), dot)
    assert np.allclose(crop.forward(centre), np.divide(size, 2))


def test_crop_holds_the_enlarged_box_and_is_black_outside():
    crop = Crop.around(np.array([0.0, 10.0, 20.0, 50.0]), 1.5, (120, 120))
    assert crop.scale == 120 / 60  # the longer side, enlarged
    assert np.allclose(crop.back([[0, 0], [120, 120]]), [[-20, 0], [40, 60]])
    cut = crop.cut(np.full((100, 100, 3), 200, np.uint8))
    assert cut[:, :39].max() == 0 and cut[1:, 41:].min() == 200


def test_movenet_reads_the_recorded_output(driver):
    output = np.zeros((1, 1, 17, 3), np.float32)
    output[0, 0, :13] = MOVENET
    network = Recorded((1, 192, 192, 3), output_0=output)
    points = MoveNet(network, (192, 192)).predict(driver.image, driver.box)
    # by hand for the first: the square is 1.1 times the longer side of the box, 188.5 px of height
    side = 1.1 * (driver.box[3] - driver.box[1])
    corner = (driver.box[:2] + driver.box[2:]) / 2 - side / 2
    assert np.allclose(points[0], [*(corner + side * np.array([0.665, 0.232])), 0.330], atol=1e-6)
    away = np.hypot(*(points[:9, :2] - driver.points[:9, :2]).T) / driver.size  # from the nose to the elbows
    assert away.max() < 0.05
    assert network.seen.shape == (1, 192, 192, 3) and network.seen.dtype == np.uint8


def test_movenet_is_given_red_first():
    network = Recorded((1, 8, 8, 3), output_0=np.zeros((1, 1, 17, 3), np.float32))
    blue = np.zeros((20, 20, 3), np.uint8)
    blue[..., 0] = 255
    MoveNet(network, (8, 8)).predict(blue, np.array([4.0, 4.0, 16.0, 16.0]))
    assert network.seen[0, 4, 4].tolist() == [0, 0, 255]


def test_blazepose_reads_the_recorded_output(driver):
    landmarks = np.zeros((39, 5), np.float32)
    for name, (x, y, visible) in BLAZEPOSE.items():
        landmarks[BLAZE_NAMES.index(name), [0, 1, 3]] = x, y, visible
    network = Recorded((1, 256, 256, 3), Identity=landmarks.reshape(1, 195), Identity_1=np.ones((1, 1), np.float32))
    points = BlazePose(network, (256, 256)).predict(driver.image, driver.box)
    assert points.shape == (33, 3) and network.seen.max() <= 1
    for name in ("nose", "right_shoulder", "right_wrist"):
        own, label = points[BLAZE_NAMES.index(name)], driver.points[COCO_NAMES.index(name)]
        assert np.hypot(*(own - label)[:2]) / driver.size < 0.06, name
    visible = points[BLAZE_NAMES.index("right_wrist"), 2]
    assert visible == pytest.approx(1 / (1 + np.exp(-0.54)))
    assert points[BLAZE_NAMES.index("left_ankle"), 2] < 0.5


def test_blazepose_heatmaps_move_landmarks_that_they_are_sure_of():
    heatmaps = np.zeros((64, 64, 3))
    heatmaps[20, 30:32, 0] = 0.9, 0.3  # mean column 30.25, row 20
    heatmaps[20, 30, 1] = 0.4  # not sure
    points = np.array([[28.5, 21.5], [28.5, 21.5], [80.0, 3.0]])
    assert np.allclose(sharpened(points, heatmaps), [[30.25, 20.0], [28.5, 21.5], [80.0, 3.0]])


def openpose(points: np.ndarray, size: tuple[int, int] = (256, 456)) -> Recorded:
    """Lightweight OpenPose that has Gaussians at (18, 2) crop pixels, in its second stage."""
    height, width = size[0] // 8, size[1] // 8
    y, x = 8 * (np.mgrid[:height, :width] + 0.5)
    maps = np.exp(-((x - points[:, :1, None]) ** 2 + (y - points[:, 1:, None]) ** 2) / (2 * 14**2))
    maps = np.concatenate([maps, 1 - maps.max(0, keepdims=True)])[None].astype(np.float32)
    fields = np.zeros((1, 38, height, width), np.float32)
    return Recorded((1, 3, *size), heat_0=maps * 0, paf_0=fields, heat_1=maps, paf_1=fields)


def test_openpose_finds_peaks_between_cells():
    rng = np.random.default_rng(0)
    box = np.array([100.0, 50.0, 300.0, 250.0])
    crop = Crop.around(box, 1.25, (456, 256))
    wanted = rng.uniform([110, 60], [290, 240], (18, 2))
    network = openpose(crop.forward(wanted))
    points = LightweightOpenPose(network, (456, 256)).predict(np.zeros((300, 400, 3), np.uint8), box)
    assert np.abs(points[:, :2] - wanted).max() < 0.1 * 8 / crop.scale
    assert points[:, 2].min() > 0.9
    assert network.seen.shape == (1, 3, 256, 456) and network.seen.max() == -0.5


def test_openpose_looks_only_inside_the_box():
    points = np.tile([[228.0, 128.0]], (18, 1))
    network = openpose(points)
    network.outputs["heat_1"][0, :, 2, 2] = 5  # a stronger peak, far outside
    found = LightweightOpenPose(network, (456, 256)).read(network.outputs, np.array([[178.0, 78.0], [278.0, 178.0]]))
    assert np.allclose(found[:, :2], points, atol=0.8)


def test_peak_at_a_border_stays_there():
    assert peak(np.array([[3.0, 1.0], [1.0, 0.0]])) == (0, 0, 3)
    assert peak(np.array([[1.0, 3.0, 2.0]])) == (pytest.approx(1 + 1 / 6), 0, 3)


def test_files_are_told_by_inputs_and_outputs():
    move = Recorded((1, 192, 192, 3), a=np.zeros((1, 1, 17, 3)))
    blaze = Recorded((1, 256, 256, 3), a=np.zeros((1, 195)), b=np.zeros((1, 1)))
    assert adapter_of(move) is MoveNet and adapter_of(blaze) is BlazePose
    assert adapter_of(openpose(np.zeros((18, 2)))) is LightweightOpenPose
    assert adapter_of(Recorded((1, 3, 320, 320), output0=np.zeros((1, 56, 2100)))) is None


def test_names_match_however_they_are_spelt():
    assert match_keypoints(COCO_NAMES, ["LWrist", "nose", "r-hip", "neck"]) == [9, 0, 12, -1]
    assert match_keypoints([str(k) for k in range(17)], ["right_ankle"]) == [16]
    assert match_keypoints([str(k) for k in range(5)], list("abcde")) == [0, 1, 2, 3, 4]
    assert match_keypoints(list("abc"), ["0", "1"]) == [-1, -1]
    assert -1 not in match_keypoints(BLAZE_NAMES, COCO_NAMES)
    assert -1 not in match_keypoints(OPENPOSE_NAMES, [*COCO_NAMES, "neck"])
    assert len(BLAZE_NAMES) == 33 and BLAZE_NAMES[15] == "left_wrist" and BLAZE_NAMES[28] == "right_ankle"
    assert common_keypoints([[0, -1, 2, 3], [5, 6, -1, 8]]) == [0, 3]


class Echo(Peer):
    """Answers with the corners of the box that it is given."""

    kind, keypoint_names = "echo", ("low", "high")

    def __init__(self):
        self.factor = 1.0

    fits = prepare = read = None  # never asked: `predict` is replaced

    def predict(self, image: np.ndarray, box: np.ndarray) -> np.ndarray:
        return np.array([[box[0], box[1], 0.2], [box[2], box[3], 0.6]])


def test_peers_give_one_detection_for_each_labelled_person():
    from dpose_yolo.metrics import Truth

    flags = np.zeros((3, 3, 3))
    flags[[0, 2], 0, 2] = 2  # the second person has no labelled keypoint
    boxes = np.array([[1.0, 2.0, 30.0, 40.0], [0, 0, 5, 5], [-4.0, 2.0, 120.0, 40.0]])
    truth = Truth(["a", "b"], [[50, 60], [100, 60]], [0, 0, 1], flags, boxes, ["high", "none", "low"], np.ones(3))
    found = peer_detections(Echo(), SimpleNamespace(truth=truth), [1, -1, 0], lambda file: np.zeros((4, 4, 3)))
    assert found.image.tolist() == [0, 1]
    assert found.keypoints[0].tolist() == [[30, 40, 0.6], [0, 0, 0], [1, 2, 0.2]]
    assert found.keypoints[1, :, :2].tolist() == [[100, 40], [0, 0], [0, 2]]  # clipped to the picture
    assert np.allclose(found.score, 0.4)


def save_onnx(path: Path, shape: list, nodes: list, constants: dict[str, np.ndarray], output: str, out: list) -> Path:
    """An ONNX file with the input `input`."""
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(*node[:3], **node[3]) for node in nodes],
        "test",
        [onnx.helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, out)],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(path))
    return path


def movenet_file(path: Path) -> Path:
    """A file of MoveNet's form: it always answers (0.5, 0.25, 0.9) but for what the input adds, which is nothing."""
    answer = np.tile(np.array([0.5, 0.25, 0.9], np.float32), (1, 1, 17, 1))
    constants = {"axes": np.array([1, 2, 3]), "zero": np.zeros(1, np.float32), "answer": answer}
    nodes = [
        ("ReduceMean", ["input"], ["mean"], {"axes": [1, 2, 3]}),
        ("Mul", ["mean", "zero"], ["nothing"], {}),
        ("Add", ["answer", "nothing"], ["output"], {}),
    ]
    return save_onnx(path, [1, 32, 32, 3], nodes, constants, "output", [1, 1, 17, 3])


def test_onnx_file_is_loaded_and_run(tmp_path):
    peer = load_peer(movenet_file(tmp_path / "anything.onnx"))
    assert isinstance(peer, MoveNet) and peer.size == (32, 32) and peer.factor == 1.1
    points = peer.predict(np.zeros((60, 60, 3), np.uint8), np.array([10.0, 10.0, 30.0, 30.0]))
    assert np.allclose(points, [[20 - 22 / 4, 20, 0.9]], atol=1e-5)
    assert load_peer(tmp_path / "anything.onnx", factor=2).factor == 2


def test_cost_of_a_graph_counted_by_hand(tmp_path):
    """A strided convolution whose weights are quantized, and a matrix product."""
    constants = {
        "packed": np.ones((4, 3, 3, 3), np.int8),
        "scale": np.array(0.5, np.float32),
        "bias": np.zeros(4, np.float32),
        "matrix": np.ones((8, 5), np.float32),
        "unused": np.ones(1000, np.float32),
    }
    nodes = [
        ("DequantizeLinear", ["packed", "scale"], ["weight"], {}),
        ("Conv", ["input", "weight", "bias"], ["features"], {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("MatMul", ["features", "matrix"], ["output"], {}),
    ]
    path = save_onnx(tmp_path / "net.onnx", [1, 3, "h", "w"], nodes, constants, "output", [1, 4, 8, 5])
    cost = file_cost(path, 16)
    assert cost.parameters == 4 * 3 * 9 + 4 + 8 * 5
    convolution, product = 4 * 8 * 8 * 3 * 9, 4 * 8 * 5 * 8
    assert cost.gflops == pytest.approx(2 * (convolution + product) / 1e9)
    assert file_cost(tmp_path / "model.engine", 16) == (None, None)


def test_files_of_another_kind_are_refused_in_one_line(tmp_path):
    nodes = [("Relu", ["input"], ["output"], {})]
    other = save_onnx(tmp_path / "other.onnx", [1, 3, 8, 8], nodes, {}, "output", [1, 3, 8, 8])
    with pytest.raises(DPoseError, match=r"other.onnx is no model that dpose compare can read \(input \[1, 3, 8, 8\]"):
        load_peer(other)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"nothing")
    with pytest.raises(DPoseError, match=r"broken.onnx cannot be loaded: [^\n]*$"):
        load_peer(broken)
    with pytest.raises(DPoseError, match=r"neither an \.onnx nor a \.tflite"):
        load_peer(tmp_path / "model.bin")


def test_missing_runtime_is_told_with_what_brings_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(DPoseError, match=r"x.tflite needs ai-edge-litert: pip install ai-edge-litert"):
        load_peer(tmp_path / "x.tflite")


@pytest.fixture
def weights(shared_data: Path) -> Path:
    folder = shared_data.parent / "weights"
    if not folder.is_dir():
        pytest.skip(f"no weights of other projects: {folder} does not exist")
    return folder


# median distance to the labels of 20 rendered drivers, as a share of the person size
@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "kind", "parameters", "gflops", "error"),
    [
        ("movenet_lightning.onnx", MoveNet, 2_300_184, 0.541, 0.04),
        ("blazepose_lite.tflite", BlazePose, 1_363_089, 0.396, 0.06),
        ("blazepose_full.tflite", BlazePose, 3_169_489, 0.772, 0.06),
    ],
)
def test_real_files_find_rendered_drivers(root, weights, file, kind, parameters, gflops, error):
    if file.endswith(".tflite"):
        pytest.importorskip("ai_edge_litert")
    peer = load_peer(weights / file)
    assert type(peer) is kind
    assert file_cost(weights / file, 640) == (parameters, pytest.approx(gflops, abs=0.001))
    from dpose_yolo.evaluation.data import load_part

    part = load_part(root / "data" / "cabin_mini.yaml", "test")
    truth, chosen = part.truth, match_keypoints(peer.keypoint_names, part.truth.names)
    away = []
    for p in range(0, len(truth.image), len(truth.image) // 20):
        points = peer.predict(cv2.imread(truth.files[truth.image[p]]), truth.boxes[p])[chosen]
        labelled = truth.labelled()[p]
        size = truth.box_areas()[p] ** 0.5
        away += list(np.hypot(*(points - truth.keypoints[p])[labelled, :2].T) / size)
    assert np.median(away) < error
