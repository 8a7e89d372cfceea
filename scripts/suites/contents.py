"""Digests of what a command left in a folder, without the times in it."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

# Values that are times.
TIMES = {"seconds", "images_per_second", "data_wait", "model_flops_utilisation"}
# The state of a training is compared array by array. Events and locks have times and processes in them.
LEFT_OUT = re.compile(r"(checkpoints|tensorboard)/.*|training\.lock|\.segjax/prediction\.lock")


def digests_of(result: Path) -> dict[str, str]:
    """Returns the sha256 of everything that a command left, by name; without times."""
    digests = {}
    for path in sorted(result.rglob("*")):
        name = path.relative_to(result).as_posix()
        if path.is_file() and not LEFT_OUT.fullmatch(name):
            digests[name] = hashlib.sha256(without_times(path)).hexdigest()
    if (result / "checkpoints").exists():
        digests |= state_digests(result / "checkpoints")
    return digests


def without_times(path: Path) -> bytes:
    """Returns the content of a file, of JSON and pages without the times in it."""
    content = path.read_bytes()
    if path.suffix == ".json":
        return json.dumps(drop_times(json.loads(content))).encode()
    if path.suffix == ".jsonl":
        return "\n".join(json.dumps(drop_times(json.loads(line))) for line in content.splitlines()).encode()
    if path.suffix == ".html":
        return re.sub(rb"<dt>seconds\..*</dd>", b"", content)
    return content


def drop_times(value: Any) -> Any:
    """Returns a JSON value without the entries that are times."""
    if isinstance(value, dict):
        return {name: drop_times(entry) for name, entry in value.items() if name not in TIMES}
    return [drop_times(entry) for entry in value] if isinstance(value, list) else value


def state_digests(folder: Path) -> dict[str, str]:
    """Returns the sha256 of every array, of the progress and of the score of the last checkpoint."""
    import jax
    import numpy as np
    import orbax.checkpoint as ocp

    from segjax.train.checkpoint_files import CheckpointReader
    from segjax.train.reading import json_digest
    from segjax.train.state import digests

    reader = CheckpointReader(folder)
    last = max(reader.steps(), default=None)
    if last is None:
        return {}
    path = reader.folder / str(last) / "state"
    handler = ocp.PyTreeCheckpointHandler()
    as_arrays = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), handler.metadata(path).tree)
    with ocp.Checkpointer(handler) as checkpointer:
        state = checkpointer.restore(path, args=ocp.args.PyTreeRestore(restore_args=as_arrays))
    progress = {"score": reader.score(last), **drop_times(reader.progress(last))}
    return {f"state {name}": digest for name, digest in digests(state).items()} | {
        "step": str(last),
        "progress": json_digest(progress),
    }


def compare(expected: dict[str, str], actual: dict[str, str]) -> list[str]:
    """Returns what differs, in one sentence for each name.

    >>> compare({"a": "1", "b": "1"}, {"a": "2", "c": "1"})
    ['a differs', 'b is missing', 'c is unexpected']
    """
    sentences = []
    for name in sorted(expected.keys() | actual.keys()):
        if name not in actual:
            sentences.append(f"{name} is missing")
        elif name not in expected:
            sentences.append(f"{name} is unexpected")
        elif actual[name] != expected[name]:
            sentences.append(f"{name} differs")
    return sentences
