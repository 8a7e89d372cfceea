"""The command `segjax`, and the common parts of all commands: `--config`, JAX settings, error messages."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import runpy
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

try:
    from absl import app, flags, logging
    from ml_collections import config_flags
except KeyboardInterrupt:  # these imports take a moment
    sys.exit(130)

from segjax.errors import InputError, Interrupted
from segjax.files import explain_refusal, is_refusal

# Commands by name: the module in scripts/ and one line of help.
COMMANDS = {
    "train": ("train", "train a network, evaluate it on the test split, write a report"),
    "export": ("export", "write a trained network into one file"),
    "evaluate": (
        "evaluate",
        "score networks and classical methods on a split, or predictions of any program",
    ),
    "predict": ("predict", "segment every image of a folder"),
    "serve": ("serve", "start a page on which images are segmented and cells corrected"),
    "prepare": ("prepare", "prepare a data set from images and masks, and check it"),
    "ablate": ("ablate", "run a sweep of any config, and compare its points"),
    "verify": ("verify", "reproduce the scores in the tables of a README, and report which differ"),
    "convert": ("convert_weights", "convert published weights"),
}

# With this, `--help` lists `--config` among the flags of the script that calls `define_config`.
flags.disclaim_key_flags()


def main() -> None:
    """Runs `segjax COMMAND --flag=value`."""
    command, *arguments = sys.argv[1:] or ["--help"]
    if command in ("--help", "-h", "help"):
        print("Trains and compares methods that segment cells.\n\nusage: segjax COMMAND --flag=value\n")
        for name, (_, text) in COMMANDS.items():
            print(f"  {name:10}{text}")
        print("\nsegjax COMMAND --help lists the flags of a command.")
        return
    if command not in COMMANDS:
        fail(f"there is no command {command!r}: choose one of {', '.join(COMMANDS)}")
    sys.argv = ["segjax", *arguments]
    try:
        runpy.run_module(f"segjax.scripts.{COMMANDS[command][0]}", run_name="__main__", alter_sys=True)
    except KeyboardInterrupt:
        sys.exit(130)


def define_config() -> flags.FlagHolder:
    """Defines `--config`, whose fields can be overridden as `--config.field=value`."""
    return config_flags.DEFINE_config_file(
        "config",
        None,
        "A config by its name or its file, with a variant after a colon: quickstart,"
        " semantic:encoder=resnet50, configs/quickstart.py. Any field can be overridden: --config.steps=2000",
    )


def define_processes() -> Callable[..., AbstractContextManager[None]]:
    """Defines the flags of a command that several processes run together, each on a part of the data.

    Returns:
      A context in which the processes are connected. Its argument `restarts` is how often the command starts
      again after a crash. If there are several processes, or restarts, it is a child process that enters it.
    """
    distributed = flags.DEFINE_bool(
        "distributed",
        None,
        "Whether there are several processes; by default, if the next three flags, SLURM, Open MPI or a TPU"
        " host say so.",
    )
    launch_flags = (
        flags.DEFINE_string(
            "coordinator", None, "HOST:PORT of the first process; JAX_COORDINATOR_ADDRESS is the same."
        ),
        flags.DEFINE_integer(
            "num_processes", None, "Number of processes; JAX_NUM_PROCESSES is the same.", lower_bound=1
        ),
        flags.DEFINE_integer(
            "process_id", None, "Index of this process, from 0; JAX_PROCESS_ID is the same.", lower_bound=0
        ),
    )
    # Then `--help` lists them among those of the script.
    for holder in (distributed, *launch_flags):
        flags.declare_key_flag(holder.name)

    @contextmanager
    def connected_processes(*, restarts: int = 0) -> Iterator[None]:
        from segjax.train.interruption import leave_at_once
        from segjax.train.launch import find_launch
        from segjax.train.supervision import supervise

        values = {holder.name: holder.value for holder in launch_flags}
        launch = find_launch(values, os.environ, distributed=distributed.value)
        if launch is not None or restarts:
            supervise(restarts=restarts, several=launch is not None)
        if launch is None:  # JAX catches the signals of several processes
            leave_at_once()
        from segjax.train.processes import connected

        with connected(launch):
            yield

    return connected_processes


def print_once(text: str) -> None:
    """Prints a text in the first of several processes."""
    import jax

    if jax.process_index() == 0:
        print(text)


def configs_folder() -> Path:
    """Returns the folder of the configs: configs/ of a clone, or its copy in an installed segjax."""
    spec = find_spec("segjax.configs")
    if spec is None or spec.origin is None:
        raise InputError("segjax is not installed: run pip install -e . in the clone")
    return Path(spec.origin).parent


def _config_names() -> list[str]:
    """Returns the names of the configs; that folder has other modules, too."""
    files = sorted(configs_folder().glob("*.py"))
    return [file.stem for file in files if "def get_config" in file.read_text(encoding="utf-8")]


def _config_file(value: str) -> str:
    """Returns `configs/rcnn.py:size=small` for `rcnn:size=small`; everything else stays as it is."""
    name, colon, variant = value.partition(":")
    return f"{configs_folder() / name}.py{colon}{variant}" if name in _config_names() else value


def run(command: Callable[..., None], *, positional: bool = False) -> None:
    """Runs a command; an InputError ends it with one sentence and exit code 2.

    Args:
      command: the command.
      positional: whether it takes arguments that are no flags; it is called with their list.
    """
    try:
        logging.set_verbosity(logging.WARNING)
        configure_jax()
        with _output_that_may_close():
            app.run(
                lambda argv: _guarded(functools.partial(command, argv[1:]) if positional else command),
                flags_parser=functools.partial(_parse, positional=positional),
            )
    except KeyboardInterrupt:
        sys.exit(130)


@contextmanager
def _output_that_may_close() -> Iterator[None]:
    """Ends the program without a traceback if the reader of its output has ended, as `head` does."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        try:
            print(flush=True)
        except BrokenPipeError:
            # Python flushes once more at its exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)  # as the shell has it for SIGPIPE
        raise  # another pipe


def configure_jax() -> None:
    """Sets JAX's environment variables, before JAX is imported; existing values are kept."""
    # Cache entries from another jaxlib or processor are unusable, and have crashed programs.
    machine = hashlib.sha256(f"{platform.node()} {platform.machine()} {_processor()}".encode()).hexdigest()[
        :12
    ]
    if (cache := _cache_folder()) is not None:
        folder = cache / "segjax" / "compiled" / f"jaxlib-{version('jaxlib')}-{machine}"
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")


def _cache_folder() -> Path | None:
    """Returns the folder for files that can be made again; None for a user without a home."""
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder)
    try:
        return Path.home() / ".cache"
    except RuntimeError:  # as in a container, with an id that is no user's
        return None


def _processor() -> str:
    """Returns the processor's model and features, as far as the system reports them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(line for line in lines[:30] if line.startswith(("model name", "flags", "Features")))


def _parse(argv: Sequence[str], *, positional: bool = False) -> list[str]:
    """Parses flags; errors in them or in the config end the program with one sentence."""
    try:
        rest = flags.FLAGS(list(_by_path(argv)))
        if "config" in flags.FLAGS and flags.FLAGS.config is not None:
            flags.FLAGS.config.keys()  # a config that failed to load raises only when used
    except BrokenPipeError:
        raise
    except (flags.Error, AttributeError, KeyError, OSError, TypeError, ValueError, SyntaxError) as error:
        fail(_explain(error))
    for name in flags.FLAGS:
        # As of `--images=$FOLDER` without such a variable; an empty path would be the current folder.
        if flags.FLAGS[name].present and flags.FLAGS[name].value == "" and "." not in name:
            fail(f"--{name}= is empty: give a value, or leave the flag out")
    if len(rest) > 1 and not positional:
        fail(f"unexpected argument {rest[1]!r}: options are written --name=value; see --help")
    return rest


def _by_path(argv: Sequence[str]) -> Iterator[str]:
    """Replaces the name of a config after `--config` by its file, and `~` in any flag by the home folder."""
    for before, argument in zip(["", *argv], argv, strict=False):
        flag, equals, value = argument.partition("=")
        if flag.startswith("-") and equals:
            # Shells expand `--out ~/x`, but not `--out=~/x`.
            value = os.path.expanduser(value)
            yield f"{flag}={_config_file(value) if flag in ('--config', '-config') else value}"
        else:
            yield _config_file(argument) if before in ("--config", "-config") else argument


def _explain(error: Exception) -> str:
    # Errors raised inside a config file arrive as text that includes the traceback.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = lines[-1].removeprefix("ValueError: ") if "Traceback" in str(error) else " ".join(lines)
    if "no attribute 'get_config'" in message:
        return (
            "the file of --config has no function get_config(variant): give another file, or one of"
            f" {', '.join(_config_names())}"
        )
    if isinstance(error, AttributeError | KeyError):
        return f"the config has no such field: {message}"
    if isinstance(error, OSError):
        path = config_flags.get_config_filename(flags.FLAGS["config"])
        names = ", ".join(_config_names())
        return f"--config={path} cannot be loaded ({lines[-1]}): give a file, or one of {names}"
    return message


def _guarded(command: Callable[[], None]) -> None:
    try:
        command()
    except InputError as error:
        fail(str(error))
    except OSError as error:
        if not is_refusal(error):
            raise
        fail(explain_refusal(error))
    except Interrupted as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        sys.exit(stopped.exit_code)


def fail(message: str) -> NoReturn:
    """Ends the program with one sentence and exit code 2."""
    print(f"\nerror: {message}", file=sys.stderr)
    sys.exit(2)
