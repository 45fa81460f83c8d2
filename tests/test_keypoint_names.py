"""Keypoint names: those of the data or the model; where 17 keypoints have none, COCO's, in every command alike."""

from types import SimpleNamespace

import pytest
import yaml

from dpose_yolo.dataset.card import read_card
from dpose_yolo.engine.explain import model_keypoint_names
from dpose_yolo.engine.postures import keypoint_names
from dpose_yolo.evaluation.data import load_part
from dpose_yolo.keypoints import COCO_NAMES, names_of

NUMBERS = [str(k) for k in range(17)]


@pytest.mark.parametrize(
    ("given", "count", "wanted"),
    [
        (None, 17, COCO_NAMES),
        ({}, 17, COCO_NAMES),
        ({0: NUMBERS}, 17, COCO_NAMES),  # what Ultralytics writes into a model whose data have no names
        (["a"], 17, COCO_NAMES),
        (None, 3, ["0", "1", "2"]),
        ({0: ["a", "b"], 1: ["c", "d"]}, 2, ["a", "b"]),
        (("a", 2), 2, ["a", "2"]),
    ],
)
def test_names_are_those_given_or_cocos(given, count, wanted):
    assert names_of(given, count) == wanted


def test_every_reader_of_a_data_yaml_without_names_has_cocos(mini_dataset):
    file = mini_dataset(keypoints=17)
    card = yaml.safe_load(file.read_text())
    del card["kpt_names"]
    file.write_text(yaml.safe_dump(card))
    assert read_card(file).names == COCO_NAMES
    assert keypoint_names(card) == COCO_NAMES
    assert load_part(str(file), "val").table.names == COCO_NAMES
    head = SimpleNamespace(kpt_shape=(17, 3))
    assert model_keypoint_names(SimpleNamespace(kpt_names={0: NUMBERS}, model=[head])) == COCO_NAMES
    assert model_keypoint_names(SimpleNamespace(model=[head])) == COCO_NAMES
