"""Finds out whether this process is one of several that train together, and how they find each other.

Flags come first, then JAX's environment variables, then those of SLURM, Open MPI, Kubernetes and TPU hosts.
Nothing here imports JAX.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from segjax.errors import InputError

# Field of `Launch` -> flag, environment variable.
SOURCES = {
    "coordinator": ("--coordinator", "JAX_COORDINATOR_ADDRESS"),
    "num_processes": ("--num_processes", "JAX_NUM_PROCESSES"),
    "process_id": ("--process_id", "JAX_PROCESS_ID"),
}
# SLURM has no port for us: one of the last 4,096 ports, by the number of the job, as JAX does it.
FIRST_PORT, NUM_PORTS = 61440, 4096


@dataclasses.dataclass(frozen=True)
class Launch:
    """One of several processes that train together.

    Attributes:
      coordinator: `host:port` of the first process; None if JAX finds it, as on TPU hosts.
      num_processes: number of processes; None if JAX finds it.
      process_id: index of this process, from 0; None if JAX finds it.
      local_devices: indices of the devices of this host that this process uses; None for all.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None
    local_devices: tuple[int, ...] | None = None


def find_launch(
    flags: Mapping[str, Any], environment: Mapping[str, str], *, distributed: bool | None = None
) -> Launch | None:
    """Returns how this process finds the others; None if it trains alone.

    Args:
      flags: values of `coordinator`, `num_processes` and `process_id`; None where a flag is not used.
      environment: the environment variables.
      distributed: whether there are several processes; None to find out.

    Raises:
      InputError: if something is missing or invalid; the message says what.
    """
    if distributed is False:
        return None
    values = {name: _value(name, flags.get(name), environment) for name in SOURCES}
    is_explicit = any(value is not None for value in values.values())
    launcher = _slurm(environment) or _open_mpi(environment) or _kubernetes(environment)
    if launcher.get("num_processes", 1) > 1 or distributed or is_explicit:
        values = {**launcher, **{name: value for name, value in values.items() if value is not None}}
        if not values and (_has_tpu() or _has_kubernetes_client(environment)):
            return Launch()
    elif _has_tpu():
        return Launch()
    else:
        return None
    if values.get("num_processes") == 1:
        return None
    _check(values)
    return Launch(**values)


def _value(name: str, flag: Any, environment: Mapping[str, str]) -> Any:
    text = environment.get(SOURCES[name][1])
    if flag is not None or not text:
        return flag
    if name == "coordinator":
        return text
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{SOURCES[name][1]}={text} is not an integer: correct the variable") from None


def _check(values: Mapping[str, Any]) -> None:
    missing = [f"{flag} (or {variable})" for name, (flag, variable) in SOURCES.items() if name not in values]
    if missing:
        raise InputError(
            f"several processes need {', '.join(missing)}: start them with srun or mpirun, which set these,"
            " or run this process alone with --nodistributed"
        )
    if not re.fullmatch(r".+:\d+", values["coordinator"]):
        raise InputError(
            f"--coordinator={values['coordinator']} is not HOST:PORT: give the address of the first process,"
            " such as node1:8476"
        )
    count, index = values["num_processes"], values["process_id"]
    if not 0 <= index < count:
        raise InputError(
            f"--process_id={index} does not fit --num_processes={count}: the ids are 0 to {count - 1}"
        )


def _slurm(environment: Mapping[str, str]) -> dict[str, Any]:
    """Returns the fields of `Launch` if `srun` started this process."""
    names = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID", "SLURM_LOCALID")
    if any(name not in environment for name in names):
        return {}
    job, nodes, count, index, local = (environment[name] for name in names)
    # The first of node1,node2 or node[001-004,007].
    first = re.match(r"([^\[,]+)(?:\[([^\],-]+))?", nodes)
    host = "".join(part or "" for part in first.groups()) if first else nodes
    port = FIRST_PORT + int(job) % NUM_PORTS
    # "1(x2)" is one process on each of two nodes.
    is_alone = environment.get("SLURM_STEP_TASKS_PER_NODE", "").split("(")[0] == "1"
    return {
        "coordinator": f"{host}:{port}",
        "num_processes": int(count),
        "process_id": int(index),
        "local_devices": _local_devices(int(local), is_alone=is_alone, environment=environment),
    }


def _open_mpi(environment: Mapping[str, str]) -> dict[str, Any]:
    """Returns the fields of `Launch` if `mpirun` started this process; later versions give no address."""
    prefix = "OMPI_COMM_WORLD_"
    names = [prefix + name for name in ("SIZE", "RANK", "LOCAL_SIZE", "LOCAL_RANK")]
    if any(name not in environment for name in names):
        return {}
    size, rank, local_size, local_rank = (int(environment[name]) for name in names)
    values: dict[str, Any] = {
        "num_processes": size,
        "process_id": rank,
        "local_devices": _local_devices(local_rank, is_alone=local_size == 1, environment=environment),
    }
    uri = environment.get("OMPI_MCA_orte_hnp_uri", "")
    address = re.search(r"tcp://([^,:]+)|tcp6://\[([^,\]]+)", uri)
    if address:
        # Open MPI multiplies the number of the job by 4,096.
        port = FIRST_PORT + int(uri.split(".")[0]) // NUM_PORTS % NUM_PORTS
        values["coordinator"] = f"{address.group(1) or address.group(2)}:{port}"
    return values


def _kubernetes(environment: Mapping[str, str]) -> dict[str, Any]:
    """Returns the index of a pod of an Indexed Job, which does not know the other pods."""
    index = environment.get("JOB_COMPLETION_INDEX")
    return {} if index is None else {"process_id": int(index)}


def _local_devices(index: int, *, is_alone: bool, environment: Mapping[str, str]) -> tuple[int, ...] | None:
    """Returns one GPU for each process of a host, unless there is one process or its GPUs are bound to it."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    is_bound = visible is not None and "," not in visible
    return None if is_alone or is_bound else (index,)


def _has_tpu() -> bool:
    return find_spec("libtpu") is not None and any(
        Path(device).exists() for device in ("/dev/accel0", "/dev/vfio/0")
    )


def _has_kubernetes_client(environment: Mapping[str, str]) -> bool:
    return "KUBERNETES_SERVICE_HOST" in environment and find_spec("kubernetes") is not None
