"""Clocks and throttling of a GPU, looked up between pairs of calls."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from vegtts_core.evaluator.runner import Watch
from vegtts_core.evaluator.types import DeviceState

#: A pair counts if the clock moved by no more than this share from one side of it to the other.
_DRIFT = 0.02
# nvml.h: reasons for lower clocks that are not the device's usual way of saving power
_REASONS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "too hot",
    0x40: "too hot (hardware)",
    0x80: "power brake",
}
_NOT_STEADY = 0x08 | 0x20 | 0x40 | 0x80


class ClockWatch(Watch):
    """Discards pairs during which the SM clock moved, or the device was slowed down by heat or by its power supply."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._states: list[DeviceState] = []
        self._last = _state(handle)[0]

    @property
    def states(self) -> tuple[DeviceState, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """After each pair that counted."""
        return tuple(self._states)

    def counts(self) -> bool:
        """Whether the pair that has just been taken counts."""
        before, (now, reasons) = self._last, _state(self._handle)
        self._last = now
        steady = abs(now.sm_mhz - before.sm_mhz) <= _DRIFT * before.sm_mhz and not reasons & _NOT_STEADY
        if steady:
            self._states.append(now)
        return steady


def device_handle(uuid: str) -> Any:
    """NVML's handle of a GPU; None where NVML (package nvidia-ml-py) is missing."""
    with suppress(Exception):
        import pynvml  # pyright: ignore[reportMissingImports]

        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
    return None


def _state(handle: Any) -> tuple[DeviceState, int]:
    import pynvml  # pyright: ignore[reportMissingImports]

    reasons = int(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
    state = DeviceState(
        sm_mhz=pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        memory_mhz=pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
        celsius=pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
        throttled=", ".join(name for bit, name in _REASONS.items() if reasons & bit),
    )
    return state, reasons
