"""Which adapter a file needs: told by its inputs and outputs, not by its name."""

from __future__ import annotations

from pathlib import Path

from dpose_yolo.errors import DPoseError
from dpose_yolo.peers.base import Network, Peer
from dpose_yolo.peers.blazepose import BlazePose
from dpose_yolo.peers.movenet import MoveNet
from dpose_yolo.peers.networks import load_network
from dpose_yolo.peers.openpose import OPEN_SIZE, LightweightOpenPose

ADAPTERS: tuple[type[Peer], ...] = (MoveNet, BlazePose, LightweightOpenPose)


def load_peer(path: str | Path, threads: int | None = None, factor: float | None = None) -> Peer:
    """Load the model of another project.

    Args:
        path: an .onnx or .tflite file.
        threads: of the run; None leaves it to the runtime.
        factor: how much the box prior is enlarged; None is the adapter's own.

    Raises:
        DPoseError: when the file cannot be loaded, or no adapter reads it.
    """
    network = load_network(path, threads)
    adapter = adapter_of(network)
    if adapter is None:
        shapes = ", ".join(str(list(s)) for s in network.output_shapes.values())
        raise DPoseError(
            f"{path} is no model that dpose compare can read (input {list(network.input_shape)}, outputs {shapes}): "
            "give an Ultralytics pose model, MoveNet SinglePose, BlazePose landmarks or Lightweight OpenPose"
        )
    return adapter(network, _input_size(network), factor)


def adapter_of(network: Network) -> type[Peer] | None:
    """The adapter that reads a network, None where there is none."""
    return next((a for a in ADAPTERS if a.fits(network)), None)


def _input_size(network: Network) -> tuple[int, int]:
    """Width and height of an input with channels first or last."""
    shape = network.input_shape
    height, width = shape[1:3] if shape[3] == 3 else shape[2:4]
    return width or OPEN_SIZE, height or OPEN_SIZE
