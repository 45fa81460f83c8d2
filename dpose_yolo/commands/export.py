"""`dpose export`: through the engine's exporters, then proven against PyTorch on real images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dpose_yolo.commands.common import leave_none, output_folder, refuse_non_engine, with_quantize
from dpose_yolo.commands.usage import require
from dpose_yolo.engine.models import engine_model
from dpose_yolo.errors import DPoseError


def main(settings: dict[str, Any]) -> int:
    """Export a checkpoint, prove it, and say where the file is; the exit status is 1 if the proof fails."""
    path = Path(str(require(settings, "model", "export")))
    from dpose_yolo.export.options import OWN, read_options, require_data

    settings = with_quantize(settings)
    refuse_non_engine(settings, "export", OWN)
    if path.suffix != ".pt":
        raise DPoseError(f"model={path} is not a .pt checkpoint: export starts from one")
    from dpose_yolo.export.formats import check_format, require_toolkit

    fmt = check_format(settings.get("format", "onnx"))
    options = read_options(settings, fmt)
    quantize = settings.get("quantize")
    require_toolkit(fmt, quantize in (8, "w8a16", "w8a32"))
    yolo = engine_model(path)
    args = dict((yolo.ckpt or {}).get("train_args") or {})
    data = settings.get("data")
    if options.verify or options.int8:
        data = require_data(data, args, "int8=True" if options.int8 else "the comparison with PyTorch")
    from dpose_yolo.export.export import export
    from dpose_yolo.report.export import print_export

    engine = {k: v for k, v in settings.items() if k not in (*OWN, "model", "data")} | {"format": fmt}
    if quantize in (8, "w8a16") and data:
        engine["data"] = str(data)
    given = settings.get("project") or settings.get("name")
    folder = output_folder(settings, "export") if given else path.resolve().parent
    try:
        target, report = export(yolo, path, data, engine, options, folder)
    except BaseException:
        if given:
            leave_none(folder)
        raise
    print_export(target, report, options.verify)
    found = report["parity"]
    if found and not found["passed"]:
        reasons = "; ".join(found["reasons"])
        if not found["judged"]:
            raise DPoseError(
                f"parity is not proven: {reasons}; it is kept as {target}, verify=False leaves out the proof"
            )
        raise DPoseError(f"the export does not answer as the PyTorch model does: {reasons}; it is kept as {target}")
    return 0
