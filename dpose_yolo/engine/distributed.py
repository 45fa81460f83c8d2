"""`DistributedTrainer`: the engine's `PoseTrainer` in several processes, on one machine or several."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from ultralytics.engine import validator as engine_validator
from ultralytics.models.yolo.pose import PoseTrainer
from ultralytics.utils import LOCAL_RANK, RANK, __version__
from ultralytics.utils.torch_utils import unset_deterministic

from dpose_yolo.engine import processes
from dpose_yolo.engine.launch import launch, refuse_unequal_shares
from dpose_yolo.engine.randomness import data_fingerprint
from dpose_yolo.errors import DPoseError

# Settings that may differ between machines: places, devices, and what is only shown.
OF_A_MACHINE = (
    "model", "data", "pretrained", "project", "name", "save_dir", "resume", "exist_ok", "device", "workers", "cache",
    "plots", "verbose", "replay", "start",
)  # fmt: skip


class _OnCpu(DistributedDataParallel):
    """Torch's, which takes no number of a device on the CPU; the engine gives one."""

    def __init__(self, module: nn.Module, device_ids: Any = None, **kwargs: Any):
        super().__init__(module, **kwargs)


class DistributedTrainer(PoseTrainer):
    """Adds to the engine's several processes: several machines, the CPU (gloo), and one end for all of them.

    The engine takes the number of processes from `device`, which knows only this machine. In one process nothing is
    changed.
    """

    dpose: dict[str, Any]

    def __init__(self, *args: Any, **kwargs: Any):
        """The engine's, with the number of processes that whoever started them gives."""
        super().__init__(*args, **kwargs)
        if RANK != -1:
            self.world_size = processes.world_size()

    def train(self) -> None:
        """The engine's; several GPUs that one command asks for get their processes."""
        if not self.ddp:
            return super().train()
        try:
            launch(self)
        finally:
            unset_deterministic()

    def _setup_ddp(self) -> None:
        """The engine's, which knows GPUs; processes on the CPU speak over gloo."""
        refuse_unequal_shares(self, self.world_size)
        if dist.is_initialized():
            return
        with processes.joining(self.dpose["lost_after"]):
            if self.device.type == "cpu":
                dist.init_process_group("gloo", rank=RANK, world_size=self.world_size)
                return
            self._require_own_device()
            super()._setup_ddp()

    def _require_own_device(self) -> None:
        """Raise `DPoseError` unless `device` names one for this process."""
        named = [d for d in str(self.args.device).split(":", 1)[-1].split(",") if d]
        if len(named) <= LOCAL_RANK:
            raise DPoseError(
                f"device={self.args.device} names {len(named)} of this machine's devices, but its process number "
                f"{LOCAL_RANK} needs one of its own: name as many as processes on a machine, e.g. device=0,1"
            )

    def _setup_train(self) -> None:
        """The engine's; then all processes have to have set up the same."""
        with _ddp_on_cpu(self.world_size > 1 and self.device.type == "cpu"):
            super()._setup_train()
        if RANK != -1:
            processes.agree(self._facts(), self.save_dir)

    def _facts(self) -> dict[str, Any]:
        """What has to be equal in all processes."""
        settings = {k: str(v) for k, v in vars(self.args).items() if k not in OF_A_MACHINE}
        return {
            **settings,
            "images and labels": data_fingerprint(self.train_loader.dataset),
            "first epoch": self.start_epoch + 1,
            "batches": len(self.train_loader),
            "torch": str(torch.__version__),
            "ultralytics": __version__,
        }

    def final_eval(self) -> None:
        """The engine's, on the device of the training."""
        with _validation_on_cpu(RANK != -1 and self.device.type == "cpu"):
            super().final_eval()


@contextmanager
def _ddp_on_cpu(needed: bool) -> Iterator[None]:
    """Within it, the engine's wrapping of the model works on the CPU."""
    if needed:
        nn.parallel.DistributedDataParallel = _OnCpu  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        nn.parallel.DistributedDataParallel = DistributedDataParallel  # type: ignore[misc]


@contextmanager
def _validation_on_cpu(needed: bool) -> Iterator[None]:
    """Within it, the engine's validator, which asks CUDA for the device of each process, takes the CPU."""
    backend, device = engine_validator.AutoBackend, engine_validator.get_torch_device_backend
    if needed:
        engine_validator.AutoBackend = lambda **settings: backend(**{**settings, "device": torch.device("cpu")})
        engine_validator.get_torch_device_backend = lambda _: SimpleNamespace(current_device=lambda: 0)
    try:
        yield
    finally:
        engine_validator.AutoBackend, engine_validator.get_torch_device_backend = backend, device
