"""A mode that stands in for an accelerator: it refuses what would make tensors on the CPU there.

Under it a factory call without ``device`` fails, unless it is a ``*_like`` or ``new_*``; and what
makes the host wait for the device is counted by name.
"""

from collections import Counter

import torch
from torch.overrides import TorchFunctionMode

FACTORIES = {
    torch.tensor, torch.zeros, torch.ones, torch.empty, torch.full, torch.arange, torch.linspace,
    torch.rand, torch.randn, torch.randint, torch.randperm, torch.eye, torch.tril_indices,
    torch.triu_indices, torch.as_tensor, torch.logspace,
}  # fmt: skip
SYNCS = {
    "item", "cpu", "tolist", "numpy", "nonzero", "__bool__", "__int__", "__float__", "__index__",
    "masked_select", "unique", "argwhere", "equal", "allclose", "is_nonzero",
}  # fmt: skip


class DeviceMode(TorchFunctionMode):
    """Refuses factory calls without a device, and counts what waits for one."""

    def __init__(self):
        super().__init__()
        self.syncs = Counter()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        # A tensor handed to as_tensor says where it is.
        placed = function is torch.as_tensor and isinstance(args[0], torch.Tensor)
        if function in FACTORIES and "device" not in kwargs and not placed:
            raise AssertionError(f"torch.{function.__name__} without a device")
        name = getattr(function, "__name__", "")
        if name in SYNCS:
            self.syncs[name] += 1
        elif name == "__getitem__" and _masks(args[1]):
            self.syncs["mask index"] += 1
        return function(*args, **kwargs)


def _masks(index):
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(p, torch.Tensor) and p.dtype == torch.bool for p in parts)
