"""What a CUDA device needs and what is here: each thing that may be missing, and what to install for it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple

from ...errors import DeviceError, mismatch

EXTRAS = "pip install 'fastconv[cuda13]' (NVIDIA driver 580 or newer) or 'fastconv[cuda12]' (525 or newer)"
OLDEST = (7, 5)  # compute capability: what CUDA 13 still compiles for
_NO_DEVICE = 100


class Facts(NamedTuple):
    """What was found; None where the question could not be asked."""

    numba: bool
    driver: int | None = None  # the CUDA version that the driver speaks, as 13000
    toolkit: int | None = None  # the major CUDA version that kernels are compiled with
    status: int = 0  # what the driver answered to being started, a CUresult
    devices: int = 0
    capability: tuple[int, int] | None = None


def problem(facts: Facts) -> str | None:
    """Return what stands in the way of a CUDA device and what to do about it, or nothing.

    >>> problem(Facts(numba=True, driver=13000, toolkit=13, devices=1, capability=(9, 0)))
    """
    if not facts.numba:
        return mismatch("cuda", f"numba-cuda ({EXTRAS})", "no such package")
    if facts.driver is None:
        return mismatch("cuda", "an NVIDIA driver (https://www.nvidia.com/drivers)", "none")
    speaks = f"{facts.driver // 1000}.{facts.driver % 1000 // 10}"
    if facts.toolkit is not None and facts.driver // 1000 < facts.toolkit:
        wanted = f"a driver for CUDA {facts.toolkit} (a newer driver, or the other extra: {EXTRAS})"
        return mismatch("cuda", wanted, f"one for CUDA {speaks}")
    if facts.status == _NO_DEVICE or (facts.status == 0 and not facts.devices):
        return mismatch("cuda", "a GPU that this process may use (CUDA_VISIBLE_DEVICES?)", "none")
    if facts.status:
        return mismatch("cuda", "a driver that starts (restart the machine after an update)", f"error {facts.status}")
    if facts.capability is not None and facts.capability < OLDEST:
        wanted = "a GPU of compute capability {}.{} or newer".format(*OLDEST)
        return mismatch("cuda", wanted, "{}.{}".format(*facts.capability))
    return None


def facts() -> Facts:
    """Ask the installation, the driver and the first device."""
    if find_spec("numba_cuda") is None or find_spec("numba") is None:
        return Facts(numba=False)
    from cuda.bindings import driver
    from numba import cuda

    toolkit = cuda.runtime.get_version()[0]
    try:
        (status,) = driver.cuInit(0)
        _, version = driver.cuDriverGetVersion()
    except RuntimeError:  # there is no such library
        return Facts(numba=True, toolkit=toolkit)
    if status:
        return Facts(True, version, toolkit, int(status))
    _, devices = driver.cuDeviceGetCount()
    capability = cuda.get_current_device().compute_capability if devices else None
    return Facts(True, version, toolkit, 0, devices, capability)


def require() -> None:
    """Check that there is a device.

    Raises:
        DeviceError: numba-cuda, the driver or a GPU is missing or too old; the message says what to install.
    """
    if what := problem(facts()):
        raise DeviceError(what)


def is_out_of_memory(error: Exception) -> bool:
    """Whether the driver said that memory is short."""
    return isinstance(error, MemoryError) or "OUT_OF_MEMORY" in str(error)


def out_of_memory(wanted: int, free: int | None) -> DeviceError:
    """Return the error of an allocation that failed after the pool was emptied."""
    left = "less" if free is None else f"{free} free"
    advice = "a smaller batch, or free what other processes hold"
    return DeviceError(mismatch("cuda", f"{wanted} bytes of device memory ({advice})", left))
