"""Kills segjax at random moments, starts it again, and checks that it ends as if nothing had happened.

    python scripts/break_runs.py --out=runs/broken
    python scripts/break_runs.py --out=runs/broken --commands=predict --count=20
    python scripts/break_runs.py --out=runs/broken --commands=large --side=10000 --count=10

Train, prepare, predict and evaluate run on small synthetic data, and predict also on an image that is read
and written in parts (large). Each runs once undisturbed. Then each runs again and again in a new folder: it
is killed up to six times by SIGKILL, SIGTERM or SIGINT, and started again after each kill until it ends. Its
results must have the same sha256 as those of the undisturbed run, except for times: the state, the progress
and the log of a training, shards, label images, tables, scores, reports.

A table has the numbers of kills by command. If a run differs, its folder stays, the files that differ are
named, and the exit code is 1. The same command continues where it was stopped; a larger --count adds kills.
200 kills take about an hour on two busy cores.
"""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from segjax import cli
from segjax.errors import InputError, choose
from segjax.files import write_json
from suites.broken_data import make_images, make_large
from suites.contents import compare, digests_of

OUT = flags.DEFINE_string("out", None, "Folder for the data, the runs and their results.")
COUNT = flags.DEFINE_integer("count", 200, "Number of kills of all commands together.", lower_bound=1)
SIDE = flags.DEFINE_integer("side", 2000, "Large: side of the image, pixels.", lower_bound=600)
SEED = flags.DEFINE_integer("seed", 0, "Random seed of the moments.", lower_bound=0)
NAMES = ("train", "prepare", "predict", "evaluate", "large")
COMMANDS = flags.DEFINE_list("commands", list(NAMES), f"Commands to break: {', '.join(NAMES)}.")
flags.mark_flag_as_required("out")

# Exit codes after a signal: of the signal itself, and 128 + number.
STOPPED = {number: {-number, 128 + number} for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)}
MAX_KILLS = 6
# Number of runs that differ after which the script ends.
MAX_BAD = 10
# Seconds after which a process counts as hanging.
PATIENCE = 900.0
RESULT, OUTPUT, CONTENTS, CYCLES = "result", "output.txt", "contents.json", "cycles.jsonl"


@dataclasses.dataclass(frozen=True)
class Cycle:
    """A run that was killed and started again until it ended.

    Attributes:
      command: name of the command.
      index: number of the cycle of this command, from 0.
      seed: random seed of its moments.
      kills: names of the signals, in order.
      differing: what differs from the undisturbed run; empty if nothing does.
    """

    command: str
    index: int
    seed: int
    kills: Sequence[str]
    differing: Sequence[str]


def main() -> None:
    """Breaks runs until each command has its number of kills, and prints the table."""
    from tqdm import tqdm

    for name in COMMANDS.value:
        choose(NAMES, "--commands", name)
    out = Path(OUT.value or "").absolute()
    # A shell starts background jobs with Ctrl-C ignored, which the commands would inherit. An exception at
    # either signal lets no command run on alone.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    make_images(out / "data")
    done = read_cycles(out / CYCLES)
    goals = split_evenly(COUNT.value, COMMANDS.value)
    with tqdm(total=COUNT.value, unit="kill", desc="break", dynamic_ncols=True) as bar:
        while True:
            counts = Counter(cycle.command for cycle in done for _ in cycle.kills)
            bar.update(sum(min(counts[name], goals[name]) for name in goals) - bar.n)
            # The command that is furthest from its goal, so that a part of the kills is one of all commands.
            name = max(goals, key=lambda name: goals[name] - counts[name])
            if counts[name] >= goals[name] or sum(bool(cycle.differing) for cycle in done) >= MAX_BAD:
                break
            index = sum(cycle.command == name for cycle in done)
            done.append(break_run(out, name, index, goals[name] - counts[name]))
            with (out / CYCLES).open("a") as file:
                file.write(json.dumps(dataclasses.asdict(done[-1])) + "\n")
    print(table(done))
    bad = [cycle for cycle in done if cycle.differing]
    for cycle in bad:
        folder = folder_of(out, cycle.command, cycle.index)
        print(f"{folder} differs from the undisturbed run: {'; '.join(cycle.differing)}")
    sys.exit(1 if bad else 0)


def folder_of(out: Path, name: str, index: int) -> Path:
    """Returns the folder of a run that is killed."""
    return out / name / f"{SEED.value}_{index:04}"


def arguments(name: str, out: Path, result: Path) -> list[str]:
    """Returns the arguments of a command that leaves its results in a folder."""
    images, trained = out / "data" / "images", out / "train" / "undisturbed" / RESULT
    if name == "train":
        return [
            "--config=semantic:encoder=vgg11,dataset=synthetic",
            f"--workdir={result}",
            "--config.steps=24",
            "--config.batch_size=2",
            "--config.data.patch_size=32",
            "--config.data.margin=1.0",
            "--config.model.width=0.03125",
            "--config.optimizer.warmup=2",
            "--config.train.log_every=1",
            "--config.train.validate_every=12",
            "--config.train.checkpoint_every=3",
            "--config.dataset.validation=validation[:2]",
            "--config.dataset.test=test[:4]",
        ]
    if name == "prepare":
        return [f"--images={images}", f"--masks={out / 'data' / 'masks'}", f"--out={result}", "--workers=2"]
    if name == "large":
        parts = [
            f"--images={make_large(out / 'data', SIDE.value)}",
            "--level=0",
            "--export=ome-tiff,csv,geojson",
        ]
        return [f"--workdir={trained}", f"--out={result}", *parts]
    if name == "predict":
        return [f"--workdir={trained}", f"--images={images}", f"--out={result}", "--measure", "--coco"]
    return [f"--workdir={trained}", f"--out={result}"]


def start(name: str, out: Path, folder: Path) -> subprocess.Popen[bytes]:
    """Starts a command, whose output is appended to a file in the folder."""
    # A cache of its own, because processes that are killed while they write to it could damage it. With -P,
    # files in the current folder do not replace modules.
    command = "predict" if name == "large" else name
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(out / "compiled")}
    with (folder / OUTPUT).open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "segjax", command, *arguments(name, out, folder / RESULT)],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for this script only
        )


def undisturbed(out: Path, name: str) -> dict[str, Any]:
    """Runs a command undisturbed, unless that is done; returns its exit code, times and digests."""
    path = out / name / CONTENTS
    if path.exists():
        return json.loads(path.read_text())
    if name in ("predict", "evaluate", "large"):
        undisturbed(out, "train")
    # The first run compiles; the times are those of the second.
    first, second = (run_undisturbed(out, name, folder) for folder in ("compiling", "undisturbed"))
    if differing := compare(first["digests"], second["digests"]):
        raise InputError(f"two undisturbed runs of segjax {name} differ: {'; '.join(differing)}")
    write_json(path, second)
    return second


def run_undisturbed(out: Path, name: str, folder_name: str) -> dict[str, Any]:
    """Runs a command in a new folder; returns its exit code, times and digests."""
    folder = out / name / folder_name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    began = time.monotonic()
    process = start(name, out, folder)
    try:
        wait_for_output(folder / OUTPUT, process)
        startup = time.monotonic() - began
        code = process.wait(PATIENCE)
    finally:
        process.kill()
    # One of the images cannot be read, which predict says by its exit code.
    if code != (2 if name == "predict" else 0):
        raise InputError(f"segjax {name} ends with exit code {code} undisturbed: see {folder / OUTPUT}")
    seconds = time.monotonic() - began
    return {"code": code, "startup": startup, "seconds": seconds, "digests": digests_of(folder / RESULT)}


def break_run(out: Path, name: str, index: int, most: int) -> Cycle:
    """Kills a command a few times, at most `most` times, lets it end, and compares what it leaves."""
    expected = undisturbed(out, name)
    moments = random.Random(f"{SEED.value} {name} {index}")
    folder = folder_of(out, name, index)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    kills: list[str] = []
    differing: list[str] = []
    for remaining in reversed(range(min(moments.randint(1, MAX_KILLS), most) + 1)):
        process = start(name, out, folder)
        try:
            number = send_signal(process, folder / OUTPUT, expected, moments) if remaining else None
            code: int | str = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            number, code = None, "(it hangs)"
        finally:
            process.kill()
        if number is None or code not in STOPPED[number]:
            break
        kills.append(number.name)
    if code != expected["code"]:
        differing.append(f"exit code {code} instead of {expected['code']}")
    differing += compare(expected["digests"], digests_of(folder / RESULT))
    output = (folder / OUTPUT).read_text(errors="replace")
    # The workers of a killed process report that no more data come; these tracebacks are expected.
    if output.count("Traceback") > output.count("EOFError: Ran out of input"):
        differing.append(f"a traceback in {OUTPUT}")
    if not differing:
        shutil.rmtree(folder)
    return Cycle(name, index, SEED.value, kills, differing)


def send_signal(
    process: subprocess.Popen[bytes], output: Path, expected: dict[str, Any], moments: random.Random
) -> signal.Signals | None:
    """Sends a signal to a process at a random moment; returns it, None if the process ends before."""
    number = moments.choices(list(STOPPED), (4, 1, 1))[0]
    seconds = moments.uniform(0, expected["seconds"])
    if moments.random() < 0.75:
        # Most of a start is spent on imports, so most moments count from the first output. A run that goes on
        # has less to do, so early moments are more frequent.
        seconds = moments.random() ** 2 * (expected["seconds"] - expected["startup"])
        wait_for_output(output, process)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
        return number
    return None


def wait_for_output(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Waits until a process writes to the file of its output, such as a progress bar, or ends."""
    before, deadline = path.stat().st_size, time.monotonic() + PATIENCE
    while process.poll() is None and path.stat().st_size == before and time.monotonic() < deadline:
        time.sleep(0.01)


def read_cycles(path: Path) -> list[Cycle]:
    """Returns the cycles that are done with this seed, of the chosen commands."""
    lines = path.read_text().splitlines() if path.exists() else []
    cycles = [Cycle(**json.loads(line)) for line in lines]
    return [cycle for cycle in cycles if cycle.seed == SEED.value and cycle.command in COMMANDS.value]


def split_evenly(count: int, names: Sequence[str]) -> dict[str, int]:
    """Returns a number for each name.

    >>> split_evenly(5, ["train", "predict"])
    {'train': 3, 'predict': 2}
    """
    return {name: count // len(names) + (index < count % len(names)) for index, name in enumerate(names)}


def table(cycles: Sequence[Cycle]) -> str:
    """Returns the numbers of each command and of all: runs, kills by signal, and runs that ended equal."""
    rows: list[tuple[str, ...]] = [("command", "runs", "kills", "SIGKILL", "SIGTERM", "SIGINT", "equal")]
    groups = {name: [cycle for cycle in cycles if cycle.command == name] for name in NAMES}
    for name, group in (groups | {"all": list(cycles)}).items():
        if group:
            kills = Counter(kill for cycle in group for kill in cycle.kills)
            equal = sum(not cycle.differing for cycle in group)
            numbers = (len(group), kills.total(), kills["SIGKILL"], kills["SIGTERM"], kills["SIGINT"])
            rows.append((name, *map(str, numbers), f"{equal} of {len(group)}"))
    return "\n".join("".join(f"{cell:<10}" for cell in row).rstrip() for row in rows)


if __name__ == "__main__":
    cli.run(main)
