"""What `dpose export` prints: the file, its proof, whether TensorRT takes it."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def export_lines(target: Path, report: dict[str, Any], verify: bool) -> list[str]:
    """The lines.

    Args:
        target: the file or folder.
        report: from `export.export.export`.
        verify: whether a comparison was asked for.
    """
    lines = [f"written to {target}, {report['bytes'] / 1e6:.2f} MB"]
    if report["int8"]:
        about = report["int8"]
        head = "in floating point" if about["float_head"] else "quantised too"
        lines.append(f"INT8: {about['images']} calibration images, {about['how']}; pose head {head}")
        if about["cache_file"]:
            lines.append(f"calibration cache for TensorRT {about['cache']}: {about['cache_file']}")
    problems = report["tensorrt"]
    if problems is not None:
        lines.append("TensorRT: " + ("; ".join(problems) if problems else "operators, types and shapes are taken"))
    found = report["parity"]
    if not found:
        return [*lines, "not compared with PyTorch" + ("" if verify else " (verify=False)")]
    allowed = found["allowed"]
    limit = "" if allowed["pixels"] is None else f" (allowed: {allowed['pixels']:g})"
    verdict = "parity with PyTorch" if found["passed"] else "PARITY FAILED" if found["judged"] else "parity NOT PROVEN"
    lines += [
        f"{verdict} on {found['images']} images of the {found['split']} part of {found['data']}, "
        f"{found['keypoints']} keypoints",
        f"  keypoint difference, px     largest {found['pixels_max']:.3g}, 99 % {found['pixels_p99']:.3g}{limit}",
        f"  confidence difference       keypoints {found['keypoint_confidence_max']:.2g}, "
        f"boxes {found['box_confidence_max']:.2g}",
        f"  AP                          PyTorch {found['AP_pytorch']:.4f}, exported {found['AP_exported']:.4f} "
        f"(allowed: {allowed['AP']:g})",
    ]
    return lines + ([found["note"]] if found.get("note") else [])


def print_export(target: Path, report: dict[str, Any], verify: bool) -> None:
    """Print the lines."""
    print("\n" + "\n".join(export_lines(target, report, verify)))
