"""Label files as text."""

from __future__ import annotations

import numpy as np


def label_text(rows: np.ndarray, dims: int = 3) -> str:
    """Content of a YOLO-pose label file.

    Args:
        rows: (P, 5 + dims * K) class, box centre and size, then x, y and, with three dims, flag of the keypoints;
            shares of the image. Points of flag 0 become `0 0 0`.
        dims: numbers of a keypoint, 2 or 3.
    """
    lines = []
    for row in rows:
        words = [str(int(row[0])), *(f"{v:.6f}" for v in row[1:5])]
        for x, y, *flag in row[5:].reshape(-1, dims):
            hidden = flag and flag[0] <= 0
            words.append("0 0 0" if hidden else " ".join([f"{x:.6f}", f"{y:.6f}", *(str(int(v)) for v in flag)]))
        lines.append(" ".join(words) + "\n")
    return "".join(lines)
