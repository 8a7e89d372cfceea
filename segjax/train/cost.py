"""What a compiled training step costs: floating-point operations and memory."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, cast

import jax

from segjax.train.state import State
from segjax.train.step import Step
from segjax.typing import Array, Batch

# Peak of one device in bfloat16 (float16 before Ampere), dense, in FLOP/s, by the start of its name,
# the longer ones first: the data sheets of NVIDIA and Google Cloud. A device of TPU v2 and v3 is half a chip.
PEAKS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L40S": 362e12,
    "Tesla T4": 65e12,
    "Tesla V100": 125e12,
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4 lite": 138e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
}


@dataclasses.dataclass(frozen=True)
class Cost:
    """Cost of a training step.

    Attributes:
      flops: operations of the convolutions and matrix products of a step, over all devices, counted as two
        for each multiplication and addition of the direct algorithms, whatever the compiler makes of them.
      argument_bytes: memory of state and batch, per device; None if it is not known.
      temporary_bytes: memory of everything that the step computes on the way, per device; None if it is not
        known.
      peak: sum of the peaks of all devices in FLOP/s; None if it is not known.
    """

    flops: float
    argument_bytes: int | None
    temporary_bytes: int | None
    peak: float | None

    def utilisation(self, steps_per_second: float) -> float | None:
        """Returns the model FLOPs utilisation: the fraction of the peak that a rate of steps needs."""
        return None if self.peak is None else self.flops * steps_per_second / self.peak

    def as_dict(self) -> dict[str, float]:
        """Returns the known numbers for the log, without the peak."""
        values = dataclasses.asdict(self).items()
        return {name: value for name, value in values if name != "peak" and value is not None}


@dataclasses.dataclass(frozen=True)
class KeyedStep:
    """A training step with the key of the run: `(state, batch) -> (state, metrics)`.

    Attributes:
      step: from `make_step`.
      key: key of the run.
    """

    step: Step
    key: Array

    def __call__(self, state: State, batch: Batch) -> tuple[State, Mapping[str, Array]]:
        """Takes a step; donates the state."""
        return self.step(state, batch, self.key)

    def cost(self, state: State, batch: Batch) -> Cost:
        """Returns the cost of a step that was taken with arguments of these shapes.

        The memory is None if the step was taken in one program with those of other members: that of this step
        alone is then not compiled.
        """
        traced, step = self.step.trace(state, batch, self.key), cast(Any, self.step)
        # If it is compiled, JAX takes the program from its cache.
        memory = traced.lower().compile().memory_analysis() if step._cache_size() else None
        devices = jax.tree.leaves(state)[0].sharding.mesh.devices.ravel()
        return Cost(
            model_flops(traced.jaxpr.jaxpr),
            # Some platforms do not say either.
            getattr(memory, "argument_size_in_bytes", None),
            getattr(memory, "temp_size_in_bytes", None),
            peak(devices[0].device_kind, len(devices)),
        )


def peak(kind: str, count: int = 1) -> float | None:
    """Returns the sum of the peaks of devices of a kind in FLOP/s; None if it is not known."""
    if "MIG" in kind:  # a part of a GPU
        return None
    return next((count * value for name, value in PEAKS.items() if kind.startswith(name)), None)


def model_flops(jaxpr: Any) -> float:
    """Returns the operations of the convolutions and matrix products in a jaxpr.

    Loops count as often as they run, if that is known; of branches, the most expensive one counts.
    """
    return sum(_equation_flops(equation) for equation in jaxpr.eqns)


def _equation_flops(equation: Any) -> float:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return 2.0 * equation.outvars[0].aval.size * math.prod(shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        outputs = kernel.shape[params["dimension_numbers"].rhs_spec[0]]
        # Products with the zeros between the pixels of a dilated image do not count.
        products = kernel.size / outputs / math.prod(params["lhs_dilation"])
        return 2.0 * equation.outvars[0].aval.size * products
    inner = [model_flops(jaxpr) for value in params.values() for jaxpr in _jaxprs(value)]
    if name == "cond":
        return max(inner)
    return sum(inner) * (params["length"] if name == "scan" else 1)


def _jaxprs(value: Any) -> list[Any]:
    """Returns the jaxprs in a parameter of an equation."""
    values = value if isinstance(value, tuple | list) else (value,)
    jaxprs = [getattr(item, "jaxpr", item) for item in values]
    return [jaxpr for jaxpr in jaxprs if hasattr(jaxpr, "eqns")]
