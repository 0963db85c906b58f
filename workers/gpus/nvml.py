"""What the driver says of this machine's GPUs: NVML's answers, and nothing where there is no driver or no NVML.

The one place that knows the package `nvidia-ml-py`, whose module is `pynvml`. Names and meanings are those of NVML's
API reference, https://docs.nvidia.com/deploy/nvml-api/. Nothing here makes a context on a GPU.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

#: The first GPUs with bf16 arithmetic of their own are those of compute capability 8.0 (Ampere).
BF16 = (8, 0)


@dataclass(frozen=True)
class Card:
    """A GPU, or a slice of one (MIG)."""

    index: int
    uuid: str
    name: str
    capability: tuple[int, int]
    "Compute capability; (0, 0) where it is not told."
    memory: int
    "Bytes; 0 where it is not told."
    used: int
    "Bytes that are taken now, by anybody."
    driver: str
    mig: bool = False
    "Is it divided into slices?"
    errors: int = 0
    "Uncorrected ECC errors since the driver was loaded."
    trouble: str = ""
    "Why it can't be used, as far as NVML sees; then what else is told may be lacking."
    slices: tuple[Card, ...] = ()
    "Those that this machine, or this container, is shown of a divided one."

    @property
    def parts(self) -> tuple[Card, ...]:
        """What members compute on: its slices, or itself."""
        return self.slices or (self,)

    @property
    def bf16(self) -> bool:
        """Has it bf16 arithmetic of its own? Of one that tells nothing nobody says that it lacks it."""
        return self.capability >= BF16 or self.capability == (0, 0)


def cards(nvml: Any = None) -> tuple[Card, ...]:
    """This machine's GPUs, in NVML's order; () where there are none. `nvml`: in place of the module `pynvml`."""
    if nvml is None:
        try:
            nvml = importlib.import_module("pynvml")
        except ImportError:
            return ()
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:  # no driver, or one that does not answer
        return ()
    try:
        driver = _text(nvml.nvmlSystemGetDriverVersion())
        return tuple(_card(nvml, index, driver) for index in range(nvml.nvmlDeviceGetCount()))
    finally:
        nvml.nvmlShutdown()


def _card(nvml: Any, index: int, driver: str) -> Card:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError as error:
        return Card(index, "", "GPU", (0, 0), 0, 0, driver, trouble=f"its driver says: {_words(error)}")
    card = _told(nvml, handle, index, driver)
    return replace(card, slices=tuple(_slices(nvml, handle, card))) if card.mig else card


def _told(nvml: Any, handle: Any, index: int, driver: str) -> Card:
    def told(ask: Callable[..., Any], *more: Any, default: Any = None) -> Any:
        """What is told of it; not every GPU tells everything."""
        try:
            return ask(handle, *more)
        except nvml.NVMLError:
            return default

    errors = told(
        nvml.nvmlDeviceGetTotalEccErrors,
        nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
        nvml.NVML_VOLATILE_ECC,
        default=0,
    )
    mode = told(nvml.nvmlDeviceGetMigMode, default=(0, 0))
    memory = told(nvml.nvmlDeviceGetMemoryInfo)  # of a divided GPU not everybody may know it
    return Card(
        index,
        _text(told(nvml.nvmlDeviceGetUUID, default="")),
        _text(told(nvml.nvmlDeviceGetName, default="GPU")),
        tuple(told(nvml.nvmlDeviceGetCudaComputeCapability, default=(0, 0))),
        int(memory.total) if memory else 0,
        int(memory.used) if memory else 0,
        driver,
        mig=bool(mode[0]),
        errors=int(errors),
        trouble=f"{errors} uncorrected ECC errors" if errors else "",
    )


def _slices(nvml: Any, handle: Any, card: Card) -> Iterator[Card]:
    """Its slices. They have the arithmetic of the whole and its errors, and memory of their own."""
    try:
        most = nvml.nvmlDeviceGetMaxMigDeviceCount(handle)
    except nvml.NVMLError:
        return
    for number in range(most):
        with suppress(nvml.NVMLError):  # numbers have gaps
            one = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
            memory = nvml.nvmlDeviceGetMemoryInfo(one)
            yield replace(
                card,
                uuid=_text(nvml.nvmlDeviceGetUUID(one)),
                name=_text(nvml.nvmlDeviceGetName(one)),
                memory=int(memory.total),
                used=int(memory.used),
                mig=False,
            )


def find(visible: str, among: Sequence[Card]) -> Card | None:
    """The GPU or the slice that CUDA_VISIBLE_DEVICES calls so: by number or UUID, of which a beginning will do."""
    if visible.isdigit():
        return next((card for card in among if card.index == int(visible)), None)
    every = (one for card in among for one in (card, *card.slices))
    return next((one for one in every if visible and one.uuid.startswith(visible)), None)


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _words(error: Exception) -> str:
    return str(error).strip() or type(error).__name__
