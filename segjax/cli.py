"""Common parts of the command line scripts: flags, configs, error messages and JAX setup."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from segjax.errors import InputError, Interrupted

# The repository root, which contains `configs/`.
ROOT = Path(__file__).parents[1]


def define_config() -> flags.FlagHolder:
    """Defines `--config`, whose fields can be overridden as `--config.field=value`."""
    sys.path.append(str(ROOT))  # configs import each other
    return config_flags.DEFINE_config_file(
        "config",
        None,
        "A file of configs/, a variant after a colon: configs/semantic.py:encoder=resnet50. Any field can be"
        " overridden: --config.steps=2000",
    )


def run(main: Callable[[], None]) -> None:
    """Runs a script; an InputError ends it with one sentence and exit code 2."""
    logging.set_verbosity(logging.WARNING)
    configure_jax()
    try:
        app.run(lambda _: _guarded(main), flags_parser=_parse)
    except KeyboardInterrupt:
        sys.exit(130)


def configure_jax() -> None:
    """Sets JAX's environment variables, before JAX is imported; existing values are kept."""
    # Cache entries from another jaxlib or processor are unusable and have been seen to crash.
    machine = hashlib.sha256(f"{platform.node()} {platform.machine()} {_processor()}".encode()).hexdigest()[
        :12
    ]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "segjax" / "compiled"
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache / f"jaxlib-{version('jaxlib')}-{machine}"))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
    # Makes gradients of 3 x 3 convolutions up to three times as fast on CPU. XLA aborts on unknown flags, so
    # the flag is set only for tested versions.
    flag = "--xla_cpu_experimental_ynn_fusion_type=LIBRARY_FUSION_TYPE_DOT"
    tried = (0, 10) <= tuple(int(part) for part in version("jaxlib").split(".")[:2]) <= (0, 12)
    if tried and "xla_cpu_experimental_ynn_fusion_type" not in os.environ.get("XLA_FLAGS", ""):
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()


def _processor() -> str:
    """Returns the processor's model and features, as far as the system reports them."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "".join(line for line in lines[:30] if line.startswith(("model name", "flags", "Features")))


def _parse(argv: Sequence[str]) -> list[str]:
    """Parses flags; errors in them or in the config end the program with one sentence."""
    try:
        rest = flags.FLAGS(list(argv))
        if "config" in flags.FLAGS and flags.FLAGS.config is not None:
            flags.FLAGS.config.keys()  # a config that failed to load raises only when used
    except (flags.Error, AttributeError, KeyError, OSError, TypeError, ValueError, SyntaxError) as error:
        fail(_explain(error))
    if len(rest) > 1:
        fail(f"unexpected argument {rest[1]!r}: options are written --name=value; see --help")
    return rest


def _explain(error: Exception) -> str:
    # Errors raised inside a config file arrive as text that includes the traceback.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    message = lines[-1].removeprefix("ValueError: ") if "Traceback" in str(error) else " ".join(lines)
    if isinstance(error, AttributeError | KeyError):
        return f"the config has no such field: {message}"
    if isinstance(error, OSError):
        path = config_flags.get_config_filename(flags.FLAGS["config"])
        return f"--config={path} cannot be loaded ({lines[-1]}): the configs are in {ROOT / 'configs'}"
    return message


def _guarded(main: Callable[[], None]) -> None:
    try:
        main()
    except InputError as error:
        fail(str(error))
    except Interrupted as stopped:
        print(f"\n{stopped}", file=sys.stderr)
        sys.exit(130)


def fail(message: str) -> None:
    """Ends the program with one sentence and exit code 2."""
    print(f"\nerror: {message}", file=sys.stderr)
    sys.exit(2)
