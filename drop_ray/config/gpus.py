"""What GPUs can do at most, by their makers' data sheets: forecasts take a stated part of it."""

from dataclasses import dataclass
from typing import Literal, get_args

GpuName = Literal[
    "b200",
    "h200",
    "h100",
    "h100-pcie",
    "a100-80gb",
    "a100-40gb",
    "l40s",
    "l4",
    "a10g",
    "rtx-4090",
    "rtx-3090",
]


@dataclass(frozen=True)
class Gpu:
    """The peak rates of one GPU."""

    flops: float
    """Dense bfloat16 operations per second with float32 accumulation; half of what sheets state with sparsity."""
    bandwidth: float
    """Bytes per second between the GPU and its own memory."""
    memory: float
    """Bytes of that memory."""


GPUS: dict[GpuName, Gpu] = {
    # NVIDIA HGX B200 data sheet: 2.25 PFLOP/s dense, 180 GB at 7.7 TB/s.
    "b200": Gpu(2250e12, 7.7e12, 180e9),
    # NVIDIA H200 data sheet, SXM.
    "h200": Gpu(989e12, 4.8e12, 141e9),
    # NVIDIA H100 data sheet, SXM5 and PCIe.
    "h100": Gpu(989e12, 3.35e12, 80e9),
    "h100-pcie": Gpu(756e12, 2.0e12, 80e9),
    # NVIDIA A100 data sheet, SXM.
    "a100-80gb": Gpu(312e12, 2.039e12, 80e9),
    "a100-40gb": Gpu(312e12, 1.555e12, 40e9),
    # NVIDIA L40S and L4 data sheets.
    "l40s": Gpu(362e12, 0.864e12, 48e9),
    "l4": Gpu(121e12, 0.3e12, 24e9),
    # NVIDIA A10G, as in AWS G5: 70 TFLOP/s, 600 GB/s.
    "a10g": Gpu(70e12, 0.6e12, 24e9),
    # NVIDIA Ada and Ampere GA102 architecture papers: tensor cores with float32 accumulation.
    "rtx-4090": Gpu(165e12, 1.008e12, 24e9),
    "rtx-3090": Gpu(71e12, 0.936e12, 24e9),
}
assert set(GPUS) == set(get_args(GpuName))
