"""Where the time of a training step and of a prediction goes, by module, from a trace of JAX's profiler."""

import functools
import re
import tempfile
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from suites.timing import print_hardware

# What JAX adds to the path of an operation: calls, loops, transformations and formulas of sums.
NO_MODULE = re.compile(
    r"(jit|vmap|remat|checkpoint|custom_\w+)\(.*|while|body|cond|closed_call|branch_\d+_fun|.*[,;>].*"
)
PRODUCTS = ("dot_general", "conv_general_dilated")
NOT_NAMED = "not named, such as gradients of kernels"


class Place(NamedTuple):
    """Where an operation comes from.

    Attributes:
      module: path of the module, `encoder/stage1`.
      backward: whether it is part of the backward pass.
      product: whether it is a matrix product or a convolution, rather than what surrounds them.
    """

    module: str
    backward: bool
    product: bool


def main(config: Any, *, size: int, batch: int, rounds: int) -> None:
    """Traces the network and prints a table for a training step and one for a prediction."""
    import jax

    from suites import detection, network

    if config.task.name == "detection":
        task, params = detection.mask_rcnn()
        data = detection.training_batch(50, size, batch)
        title = "Mask R-CNN, ResNet50-FPN"
    else:
        task, params, data = network.network_and_data(config, size, batch)
        title = f"{config.model.encoder}, width {config.model.width}"
    print_hardware()
    print(f"{title}, {batch} x {size} x {size}")
    programs = network.programs(task, params, data)
    for name, program in (("training step", "training"), ("prediction", "inference")):
        function, arguments = programs[program]
        compiled = jax.jit(function).lower(*arguments).compile()
        origin = places(compiled.as_text() or "")
        seconds = trace(functools.partial(network.finished, compiled, arguments), origin, rounds)
        print(f"\n{table(name, seconds, origin)}")


def trace(call: Callable[[], Any], names: Container[str], rounds: int) -> dict[str, float]:
    """Returns the mean seconds that a call spends in each operation itself.

    Args:
      call: runs a program and waits for its end.
      names: names of the operations of the program; what else the threads do does not count.
      rounds: number of calls.
    """
    import jax
    from jax.profiler import ProfileData

    call()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(rounds):
                call()
        (path,) = Path(folder).rglob("*.xplane.pb")
        # The planes are parts of the profile, which must not go before them.
        profile = ProfileData.from_file(str(path))
        seconds: dict[str, float] = defaultdict(float)
        for plane in profile.planes:
            for line in plane.lines:
                events = [(event.start_ns, event.duration_ns, event.name) for event in line.events]
                spans = [event for event in events if event[2] in names]
                for name, nanoseconds in own_times(spans).items():
                    seconds[name] += nanoseconds / 1e9 / rounds
    return seconds


def own_times(spans: Iterable[tuple[float, float, str]]) -> dict[str, float]:
    """Returns the time of each name without that of the spans within, such as the operations of a loop.

    Args:
      spans: start, duration and name of what one thread does.

    >>> own_times([(0.0, 10.0, "loop"), (1.0, 4.0, "add"), (5.0, 3.0, "add")])
    {'loop': 3.0, 'add': 7.0}
    """
    times: dict[str, float] = defaultdict(float)
    open_spans: list[tuple[float, str]] = []
    for start, duration, name in sorted(spans, key=lambda span: (span[0], -span[1])):
        while open_spans and open_spans[-1][0] <= start:
            open_spans.pop()
        if open_spans:
            times[open_spans[-1][1]] -= duration
        times[name] += duration
        open_spans.append((start + duration, name))
    return dict(times)


def places(program: str) -> dict[str, Place]:
    """Returns where each operation of a compiled program comes from.

    Args:
      program: the text of the program. An operation has the place of its metadata; a fusion without has
        that of the last operation in it.
    """
    places: dict[str, Place] = {}
    in_computations: dict[str, Place] = {}
    computation = ""
    for line in program.splitlines():
        if header := re.match(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$", line):
            computation = header[1]
        elif operation := re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = ", line):
            path = re.search(r'op_name="([^"]*)"', line)
            called = re.search(r"calls=%?([\w.\-]+)", line)
            if path:
                place = place_of(path[1])
            elif called and called[1] in in_computations:
                place = in_computations[called[1]]
            else:
                # XLA rewrites some convolutions and does not copy their paths.
                place = Place(NOT_NAMED, True, False)
            if " dot(" in line or " convolution(" in line:
                place = place._replace(product=True)
            places[operation[1]] = in_computations[computation] = place
    return places


def place_of(path: str, depth: int = 2) -> Place:
    """Reads the path of an operation, of which the first `depth` modules are kept.

    >>> place_of("jit(step)/transpose(jvp(Segmenter))/encoder/conv/cond/branch_0_fun/dot_general")
    Place(module='encoder/conv', backward=True, product=True)
    """
    *modules, primitive = path.split("/")[1:] or [""]
    backward = any(part.startswith("transpose(") for part in modules)
    modules = [re.sub(r"^(?:(?:transpose|jvp|vmap)\()+|\)+$", "", part) for part in modules]
    modules = [part for part in modules if part and not NO_MODULE.fullmatch(part) and part[0].islower()]
    return Place("/".join(modules[:depth]) or "loss and targets", backward, primitive in PRODUCTS)


def table(name: str, seconds: Mapping[str, float], origin: Mapping[str, Place]) -> str:
    """Returns milliseconds by module: of products and of the rest, forward and backward."""
    times: dict[Place, float] = defaultdict(float)
    for operation, value in seconds.items():
        times[origin[operation]] += value
    total = sum(times.values())
    sums: dict[str, float] = defaultdict(float)
    for place, value in times.items():
        sums[place.module] += value
    lines = [
        f"| {name} | products, forward | rest | products, backward | rest | share |",
        "|---|---|---|---|---|---|",
    ]
    for module in [*sorted(sums, key=sums.__getitem__, reverse=True), None]:
        cells = [
            sum(
                value
                for place, value in times.items()
                if place[1:] == (backward, product) and module in (None, place.module)
            )
            for backward in (False, True)
            for product in (True, False)
        ]
        share = sum(cells) / total if total else 0.0
        row = " | ".join(f"{1e3 * cell:.0f} ms" for cell in cells)
        lines.append(f"| {module or 'all'} | {row} | {100 * share:.0f} % |")
    return "\n".join(lines)
