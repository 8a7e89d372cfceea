"""Hardware and versions behind a measurement; without them, measurements cannot be compared."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

import segjax


def hardware_info() -> dict[str, Any]:
    """Returns device, cores and package versions, ready for JSON."""
    device = jax.devices()[0]
    return {
        "device": processor() if device.platform == "cpu" else device.device_kind,
        "platform": device.platform,
        "devices": jax.device_count(),
        "cores": os.cpu_count(),
        **versions(),
    }


def versions() -> dict[str, str]:
    """Returns the versions that the result of a training depends on, by name."""
    return {
        "python": platform.python_version(),
        "segjax": segjax.__version__,
        **{package: version(package) for package in ("jax", "jaxlib", "flax", "numpy", "optax")},
        "platform": jax.devices()[0].platform,
    }


def commit() -> dict[str, str]:
    """Returns `{"commit": ...}` of the git checkout that segjax runs from; empty if it is no checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"commit": done.stdout.strip()}


def processor() -> str:
    """Returns the name of the processor, as far as the system knows it."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
