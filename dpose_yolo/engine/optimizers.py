"""The engine's optimizers, quicker on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from ultralytics.optim import MuSGD, muon

# Newton-Schulz steps towards the nearest matrix of orthonormal rows, and their coefficients: those of the engine.
STEPS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalized(matrices: torch.Tensor, eps: float = 1e-7) -> torch.Tensor:
    """The engine's `zeropower_via_newtonschulz5` in single precision.

    Args:
        matrices: (rows, columns) or (N, rows, columns), float32.
        eps: added to the norm of each.

    Returns:
        The same shape: for U S V' about U V'. Singular values come near 1 (up to 1.2), but for those near 0.
    """
    wide = matrices.size(-2) <= matrices.size(-1)
    x = matrices.reshape(-1, *matrices.shape[-2:])
    x = x if wide else x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + eps)
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x if wide else x.mT).reshape(matrices.shape)


class SingleMuSGD(MuSGD):
    """The engine's MuSGD, orthogonalizing in single precision.

    The engine's half precision (bfloat16) is quick on GPUs that compute in it. A CPU that does not takes longer for it
    than for all the rest of a step (docs/benchmarks.md).
    """

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; argument and result are the engine's."""
        engine = muon.zeropower_via_newtonschulz5
        muon.zeropower_via_newtonschulz5 = orthogonalized
        try:
            return super().step(closure)
        finally:
            muon.zeropower_via_newtonschulz5 = engine

    # torch wraps the `step` of an optimizer's class for its hooks, once; the engine's is wrapped already.
    step.hooked = True  # type: ignore[attr-defined]


def quick_on_cpu(optimizer: torch.optim.Optimizer) -> None:
    """Make an optimizer of weights on the CPU quick, in place: one call for all tensors (Adam), or no bfloat16 (MuSGD).

    Weights differ from those of the engine's optimizer: in the last digits with Adam, by a hundredth of a step with
    MuSGD.
    """
    if isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW):
        for group in optimizer.param_groups:
            group["fused"] = True
    elif type(optimizer) is MuSGD:
        optimizer.__class__ = SingleMuSGD
