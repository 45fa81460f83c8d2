"""COCO numbers against pycocotools, and the data classes' checks."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from metric_cases import NAMES, SIGMAS, cabin_truth, crowd_truth, detected, found, people, pycocotools_metrics

from dpose_yolo.errors import DPoseError
from dpose_yolo.metrics import Detections, Truth, coco_metrics, match


def assert_equal_everywhere(truth: Truth, detections: Detections, oks_area: float, limit: int = 20) -> dict:
    """faster-coco-eval, pycocotools and the match record give the same four numbers."""
    ours = coco_metrics(truth, detections, oks_area, limit)
    assert ours == pytest.approx(pycocotools_metrics(truth, detections, oks_area, limit), abs=1e-6)
    matches = match(truth, detections, oks_area, limit)
    ap, ap50, ap75 = matches.average_precision()
    record = {"AP": ap[0], "AP50": ap50[0], "AP75": ap75[0], "AR": matches.average_recall()[0]}
    assert record == pytest.approx(ours, abs=1e-9)
    return ours


@pytest.mark.parametrize("noise", [0.01, 0.03, 0.06])
@pytest.mark.parametrize("oks_area", [0.53, 1.0])
def test_numbers_of_pycocotools_on_the_sample_set(noise, oks_area):
    truth = cabin_truth()
    ours = assert_equal_everywhere(truth, detected(truth, noise=noise), oks_area)
    assert 0.1 < ours["AP"] < ours["AP50"] < 0.95  # a middling model: thresholds tell


@pytest.mark.parametrize("limit", [20, 3, 1])
@pytest.mark.parametrize("seed", range(3))
def test_numbers_of_pycocotools_in_crowds_with_persons_that_do_not_count(seed, limit):
    truth = crowd_truth(seed=seed)
    assert (~truth.labelled().any(1)).sum() > 5
    detections = detected(truth, seed=seed, noise=0.04)
    assert match(truth, detections).ignored.any()
    assert_equal_everywhere(truth, detections, 0.53, limit)


def test_equal_scores_keep_cocos_order():
    truth = crowd_truth(seed=3)
    detections = detected(truth, noise=0.05)
    detections.score = detections.score.round(1)
    assert_equal_everywhere(truth, detections, 0.53)


def test_ap_and_ar_of_three_detections_by_hand():
    truth = people((0, 0.0), (1, 0.0), images=3)
    detections = found(truth, (0, 0.9, 0.97), (1, 0.8, 0.3), (1, 0.7, 0.77))
    ours = assert_equal_everywhere(truth, detections, 1.0)
    both = (51 + 50 * 2 / 3) / 101  # one right: precision 1 up to recall 0.5; then a wrong one, then 2 of 3
    assert ours["AP50"] == pytest.approx(both)
    assert ours["AP"] == pytest.approx((6 * both + 4 * 51 / 101) / 10)  # OKS 0.77 reaches six thresholds of ten
    assert ours["AR"] == pytest.approx(0.8)


def test_a_larger_area_forgives_more():
    truth = people((0, 0.0))
    detections = found(truth, (0, 0.9, 0.6))  # at oks_area=1
    assert coco_metrics(truth, detections, 1.0)["AP50"] == 1
    assert coco_metrics(truth, detections, 0.53)["AP50"] == 0  # 0.6 ** (1 / 0.53) = 0.38


def test_no_detections_are_zero_and_no_labels_are_no_number():
    truth, nothing = people((0, 0.0)), Detections(np.zeros(0), np.zeros(0), np.zeros((0, 4)), np.zeros((0, 1, 3)))
    assert set(coco_metrics(truth, nothing).values()) == {0.0}
    assert match(truth, nothing).average_precision()[0] == [0.0]
    empty = replace(truth, keypoints=truth.keypoints * 0)
    assert all(np.isnan(value) for value in coco_metrics(empty, found(truth, (0, 0.9, 0.9))).values())
    assert np.isnan(match(empty, found(truth, (0, 0.9, 0.9))).average_precision()).all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image": [1]}, "image indices of labelled persons run from 1 to 1"),
        ({"keypoints": np.zeros((1, 2, 3))}, r"labelled keypoints have shape \(1, 2, 3\): expected \(1, 1, 3\)"),
        ({"boxes": np.full((1, 4), np.nan)}, "labelled boxes hold numbers that are not finite"),
        ({"sigmas": [0.0]}, "sigmas above 0"),
        ({"sizes": np.zeros((2, 2))}, "1 images, but 2 image sizes"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change, told):
    with pytest.raises(DPoseError, match=told):
        replace(people((0, 0.0)), **change)


def test_foreign_detections_and_areas_are_refused():
    truth = people((0, 0.0))
    detections = found(truth, (0, 0.9, 0.9))
    with pytest.raises(DPoseError, match="a detection is of image 4, but there are 1 images"):
        coco_metrics(truth, replace(detections, image=np.array([4])))
    with pytest.raises(DPoseError, match="the model gives 2 keypoints, but 1 are labelled"):
        match(truth, replace(detections, keypoints=np.zeros((1, 2, 3))))
    with pytest.raises(DPoseError, match="oks_area=0 is no share"):
        coco_metrics(truth, detections, 0)
    with pytest.raises(DPoseError, match="oks_area=nan is no share"):
        match(truth, detections, float("nan"))


def test_coco_results_are_unrounded_and_count_images_from_one():
    truth = people((0, 0.0), (1, 10.0), images=2)
    detections = found(truth, (1, 1 / 3, 0.5))
    (row,) = detections.coco()
    assert (row["image_id"], row["category_id"], row["score"]) == (2, 1, 1 / 3)
    assert row["bbox"] == [10.0, 0.0, 100.0, 100.0]
    assert row["keypoints"] == detections.keypoints[0].ravel().tolist()


def test_selected_keypoints_keep_names_and_sigmas_together():
    truth = cabin_truth()
    part = truth.select([9, 5])
    assert part.names == ["left_wrist", "left_shoulder"]
    np.testing.assert_array_equal(part.sigmas, [0.062, 0.079])
    np.testing.assert_array_equal(part.keypoints[:, 0], truth.keypoints[:, 9])


def read_labels(images: Path, labels: Path) -> Truth:
    """Labels of COCO persons, with the images' own sizes."""
    from PIL import Image

    files, sizes, image, rows = sorted(images.glob("*.jpg"))[:60], [], [], []
    for i, file in enumerate(files):
        sizes.append(Image.open(file).size)
        own = labels / f"{file.stem}.txt"
        table = np.loadtxt(own, ndmin=2) if own.exists() and own.stat().st_size else np.zeros((0, 56))
        scale = np.array(sizes[-1], float)
        points = table[:, 5:].reshape(-1, 17, 3) * [*scale, 1]
        centre, half = table[:, 1:3] * scale, table[:, 3:5] * scale / 2
        rows.append((points, np.hstack([centre - half, centre + half])))
        image += [i] * len(table)
    points, boxes = (np.concatenate(part) for part in zip(*rows, strict=True))
    return Truth([str(f) for f in files], np.array(sizes), np.array(image), points, boxes, NAMES, SIGMAS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cabin_mini", "coco_mini_pose"])
def test_numbers_of_pycocotools_on_real_predictions(root, shared_data, name):
    weights = shared_data.parent / "weights" / "yolo11n-pose.pt"
    if not weights.is_file():
        pytest.skip(f"no pretrained model: {weights} does not exist")
    from ultralytics import YOLO

    folder, split = (root / "data" / "cabin_mini", "test") if name == "cabin_mini" else (shared_data / name, "val")
    truth = read_labels(folder / "images" / split, folder / "labels" / split)
    model, parts = YOLO(weights), []
    for i, file in enumerate(truth.files):
        result = model.predict(file, conf=0.001, iou=0.7, imgsz=320, verbose=False)[0]
        boxes, keypoints = result.boxes.data.numpy(), result.keypoints.data.numpy()
        parts.append((np.full(len(boxes), i), boxes[:, 4], boxes[:, :4], keypoints.reshape(-1, 17, 3)))
    detections = Detections(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    ours = assert_equal_everywhere(truth, detections, 0.53)
    assert ours["AP"] > 0.1
