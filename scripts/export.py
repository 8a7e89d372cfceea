"""Writes the network of a run, with its fitted decoder, into one file that needs no other.

segjax export --workdir=runs/nuclei --out=nuclei.safetensors
"""

from pathlib import Path

from absl import flags

from segjax import cli
from segjax.errors import InputError

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of segjax train.", required=True)
OUT = flags.DEFINE_string("out", None, "File to write: <name>.safetensors.", required=True)


def main() -> None:
    """Exports the network and prints a summary."""
    from segjax.experiment.pretrained import export_run

    path = Path(OUT.value)
    if path.suffix != ".safetensors":
        raise InputError(f"--out={path} must end in .safetensors")
    digest = export_run(Path(WORKDIR.value), path)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, sha256 of the parameters {digest}")


if __name__ == "__main__":
    cli.run(main)
