"""NVML's answers, played: made from nvml.h and its documentation, and from what public logs show. No GPU gave them.

https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html names what each function returns.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

GIB = 1 << 30


class NVMLError(Exception):
    """As pynvml's: its text is NVML's own."""


class PlayedNvml:
    """In place of the module `pynvml`: some GPUs, each a dict of what NVML tells of it; what lacks is not supported."""

    NVMLError = NVMLError
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC = 1, 0

    def __init__(self, *gpus: dict[str, Any], driver: str = "580.95.05") -> None:
        self.gpus, self.driver, self.open = gpus, driver, 0

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.gpus:
            raise NVMLError("Driver Not Loaded")
        self.open += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.open -= 1

    def nvmlSystemGetDriverVersion(self) -> str:  # noqa: N802
        return self.driver

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:  # noqa: N802
        if self.gpus[index].get("lost"):
            raise NVMLError("GPU is lost")
        return self.gpus[index]

    def nvmlDeviceGetMemoryInfo(self, gpu: dict[str, Any]) -> Any:  # noqa: N802
        if gpu.get("hidden"):
            raise NVMLError("Insufficient Permissions")
        return SimpleNamespace(total=gpu["memory"], used=gpu.get("used", 600 << 20))

    def nvmlDeviceGetTotalEccErrors(self, gpu: dict[str, Any], kind: int, counter: int) -> int:  # noqa: N802
        assert (kind, counter) == (1, 0)
        return int(told(gpu, "ecc"))

    def nvmlDeviceGetMigMode(self, gpu: dict[str, Any]) -> tuple[int, int]:  # noqa: N802
        return (int(told(gpu, "mig")),) * 2

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: dict[str, Any]) -> int:  # noqa: N802
        told(gpu, "mig")
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: dict[str, Any], index: int) -> dict[str, Any]:  # noqa: N802
        slices = gpu.get("slices", {})
        if index not in slices:
            raise NVMLError("Not Found")
        found: dict[str, Any] = slices[index]
        return found

    def nvmlDeviceGetUUID(self, gpu: dict[str, Any]) -> str:  # noqa: N802
        return str(told(gpu, "uuid"))

    def nvmlDeviceGetName(self, gpu: dict[str, Any]) -> bytes:  # noqa: N802  (bytes, in older releases of pynvml)
        return str(told(gpu, "name")).encode()

    def nvmlDeviceGetCudaComputeCapability(self, gpu: dict[str, Any]) -> tuple[int, int]:  # noqa: N802
        found: tuple[int, int] = told(gpu, "capability")
        return found


def told(gpu: dict[str, Any], what: str) -> Any:
    if what not in gpu:
        raise NVMLError("Not Supported")
    return gpu[what]


def gpu(name: str, capability: tuple[int, int], gib: float, **more: Any) -> dict[str, Any]:
    number = abs(hash((name, str(more)))) % 10**8
    return {
        "name": name,
        "capability": capability,
        "memory": int(gib * GIB),
        "uuid": f"GPU-{number:08d}-aaaa",
        **more,
    }


H100 = gpu("NVIDIA H100 80GB HBM3", (9, 0), 79.6, ecc=0, mig=0)
A100 = gpu("NVIDIA A100-SXM4-80GB", (8, 0), 80.0, ecc=0, mig=0)
SLICED = gpu("NVIDIA A100-SXM4-40GB", (8, 0), 40.0, ecc=0, mig=1)
#: Three slices, of which the middle one was taken away since.
SLICES = {
    0: {
        "name": "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        "memory": int(19.5 * GIB),
        "uuid": "MIG-0000aaaa",
        "used": 37 << 20,
    },
    2: {
        "name": "NVIDIA A100-SXM4-40GB MIG 1g.5gb",
        "memory": int(4.75 * GIB),
        "uuid": "MIG-2222cccc",
        "used": 12 << 20,
    },
}
SHOWN = gpu("NVIDIA A100-SXM4-40GB", (8, 0), 40.0, ecc=0, mig=1, slices=SLICES)
V100 = gpu("Tesla V100-SXM2-16GB", (7, 0), 16.0, ecc=0)
T4 = gpu("Tesla T4", (7, 5), 15.0, ecc=0)
RTX_2080_TI = gpu("NVIDIA GeForce RTX 2080 Ti", (7, 5), 11.0)  # of no ECC nothing is told
RTX_6000_ADA = gpu("NVIDIA RTX 6000 Ada Generation", (8, 9), 48.0, ecc=0)
FAULTY = gpu("NVIDIA H100 80GB HBM3", (9, 0), 79.6, ecc=3, mig=0)
BUSY = gpu("NVIDIA H100 80GB HBM3", (9, 0), 79.6, ecc=0, mig=0, used=70 * GIB)
LOST = {"lost": True}
