"""What an optimizer needs beside its arguments."""

from __future__ import annotations

from torch.optim import Optimizer


def use_plain_kernels(optimizer: Optimizer) -> None:
    """Let an optimizer that has not stepped yet step without fused kernels, to the same result but for rounding.

    Fused ones undo the scaling of mixed precision by themselves, so that gradients cannot be clipped before: Lightning
    refuses the two together.

    Example:
        >>> import torch
        >>> adam = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], fused=True)
        >>> use_plain_kernels(adam)
        >>> adam.param_groups[0]["fused"]
        False
    """
    for group in optimizer.param_groups:
        if group.get("fused"):
            group["fused"] = False
    vars(optimizer).pop("_step_supports_amp_scaling", None)  # what PyTorch and Lightning know fused ones by
