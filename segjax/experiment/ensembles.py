"""Seeds of one config that are trained together: `config.ensemble` runs, each with a folder of its own."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path

import jax
from ml_collections import ConfigDict

from segjax.errors import InputError
from segjax.experiment.sections import read_mesh, read_top
from segjax.experiment.workdir import SEED, seed_folders
from segjax.train.sharding import make_mesh


def seeds_of(config: ConfigDict, workdir: Path) -> dict[Path, ConfigDict]:
    """Returns the config of each seed by its folder: `seed`, `seed + 1`, ... in `workdir/seed_N`.

    Each is the config that trains this seed alone. Without an ensemble, it is the config and `workdir`.

    Raises:
      InputError: if the folder has runs of the other kind, there are several devices or processes, or a seed
        is too large.
    """
    top = read_top(config)
    if top.ensemble == 1:
        if earlier := seed_folders(workdir):
            raise InputError(
                f"{workdir} has the seeds of an ensemble: add --config.ensemble={len(earlier)}, give one of"
                f" them, such as --workdir={earlier[0]}, or choose another --workdir"
            )
        return {workdir: config}
    if (workdir / "config.json").exists():
        raise InputError(f"{workdir} has a run of one seed: choose another --workdir for config.ensemble")
    if jax.process_count() > 1 or make_mesh(**vars(read_mesh(config))).size > 1:
        raise InputError(
            f"config.ensemble={top.ensemble} trains all seeds on one device: set config.mesh.data,"
            " config.mesh.fsdp and config.mesh.space to 1, with one process"
        )
    seeds = {}
    for seed in range(top.seed, top.seed + top.ensemble):
        member = copy.deepcopy(config)
        member.seed, member.ensemble = seed, 1
        read_top(member)
        seeds[workdir / f"{SEED}{seed}"] = member
    return seeds


def refuse_ensemble(config: ConfigDict, purpose: str) -> None:
    """Refuses a config of several seeds where one run is needed.

    Raises:
      InputError: if `config.ensemble` is above 1; the sentence begins with the purpose.
    """
    if (count := read_top(config).ensemble) > 1:
        raise InputError(
            f"{purpose} is for one run: leave out config.ensemble={count} and give one seed, such as"
            f" --config.seed={config.seed} --workdir=RUN/seed_{config.seed}"
        )


def with_seeds(workdirs: Iterable[Path]) -> list[Path]:
    """Returns folders of runs, with those of its seeds for that of an ensemble."""
    return [folder for workdir in workdirs for folder in seed_folders(workdir) or [workdir]]
