"""The kinds of findings of `dpose check`: how grave, what it means, how to mend it."""

from __future__ import annotations

from typing import NamedTuple

LEVELS = ("error", "warning", "note")


class Kind(NamedTuple):
    """A kind of finding.

    Attributes:
        level: "error" (the engine drops or misreads it, or the figures lie), "warning" (probably wrong), "note".
        title: what it is, in a few words.
        mend: what to do.
        left_out: whether `fix=True` leaves the image out of the new list.
    """

    level: str
    title: str
    mend: str
    left_out: bool


_LOOK = "look at the image and correct its label file"

KINDS: dict[str, Kind] = {
    "missing_image": Kind("error", "image is not there", "restore the file or take it off the list", True),
    "broken_image": Kind("error", "image cannot be read", "get the file again or remove it", True),
    "malformed_label": Kind("error", "label is not in YOLO-pose form", "write the label file again", True),
    "keypoint_count": Kind("error", "wrong number of keypoints", "correct the label, or kpt_shape in the YAML", True),
    "bad_class": Kind(
        "error", "class that the data YAML lacks", "correct the class number, or names: in the YAML", True
    ),
    "bad_visibility": Kind("error", "visibility flag other than 0, 1, 2", "write 0 for an unlabelled keypoint", True),
    "out_of_range": Kind("error", "coordinates outside the image", "divide by the image's width and height", True),
    "empty_box": Kind("error", "box without extent", _LOOK, True),
    "box_outside": Kind("warning", "box reaches beyond the image", "cut the box at the edge of the image", False),
    "point_in_corner": Kind("warning", "labelled keypoint at (0, 0)", "set its visibility flag to 0", False),
    "repeated_person": Kind("warning", "person is written twice", "delete the line", False),
    "box_misses_keypoints": Kind("error", "box misses its keypoints", _LOOK, True),
    "swapped_sides": Kind("warning", "left and right seem swapped", "swap left and right in the label", True),
    "shared_label": Kind("warning", "two images share one label", "rename one of the images and its label", False),
    "duplicate": Kind("warning", "same file twice in a part", "remove one of the two", True),
    "duplicate_across": Kind("error", "same file in two parts", "keep it in one part only", True),
    "near_duplicate_across": Kind("warning", "nearly the same image in two parts", "keep it in one part only", True),
    "same_part": Kind("warning", "two parts are the same images", "give each part images of its own", False),
    "subject_across": Kind("error", "subject in two parts", "split by subject: each in one part only", False),
    "index_conflict": Kind("warning", "index names two subjects for a file", "correct the table", False),
    "unlabelled_image": Kind("warning", "image without a label file", "label it, or add an empty file if empty", False),
    "empty_label": Kind("note", "label file without a person", "right for a picture of nobody", False),
    "no_keypoints": Kind(
        "note", "person without a labelled keypoint", "label the keypoints, or remove the line", False
    ),
    "orphan_label": Kind("warning", "label without an image", "restore the image or move the label away", False),
    "never_labelled": Kind("warning", "keypoint is never labelled", "label it, or leave it out of kpt_shape", False),
    "flip_idx": Kind("error", "flip_idx does not swap the sides", "correct flip_idx in the data YAML", False),
    "unseen_name": Kind("warning", "name that the training part lacks", "add such images to the training part", False),
    "unseen_posture": Kind("warning", "posture unlike any in training", "check the label; add such images", False),
    "outlier": Kind("note", "unusual posture", "check the label", False),
    "not_judged": Kind("note", "postures were not judged", "label more poses of the training part", False),
}
