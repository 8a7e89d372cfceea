"""Writes a trained network, with its fitted decoder, into one file.

    segjax export --workdir=runs/nuclei --out=nuclei.safetensors
    segjax export --model=nuclei --out=nuclei.stablehlo

The suffix chooses the format. A .safetensors file is for segjax: segjax predict --model=nuclei.safetensors. A
.stablehlo file is a program of a segmenter that runs on CPU, CUDA and TPU without segjax, see
segjax.experiment.export_program. It maps images [B, H, W, C] of any number and size to class probabilities
and the map of the instances; nuclei.json beside it describes both. It needs pip install "segjax[export]".
"""

from pathlib import Path

from absl import flags

from segjax import cli
from segjax.errors import InputError

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of segjax train.")
MODEL = flags.DEFINE_string(
    "model", None, "Instead of a run: file of segjax export, or the name of a network in the package."
)
OUT = flags.DEFINE_string(
    "out", None, "File to write: <name>.safetensors or <name>.stablehlo.", required=True
)


def main() -> None:
    """Exports the network and prints a summary."""
    path = Path(OUT.value)
    if path.suffix not in (".safetensors", ".stablehlo"):
        raise InputError(f"--out={path} must end in .safetensors or .stablehlo")
    if (WORKDIR.value is None) == (MODEL.value is None):
        raise InputError("give either --workdir=RUN, a trained run, or --model=FILE, an exported network")
    from segjax.experiment.export_program import export_program, open_network
    from segjax.experiment.pretrained import export_run

    if path.suffix == ".stablehlo":
        about = export_program(open_network(WORKDIR.value, MODEL.value), path)
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, described by {about}")
        return
    if WORKDIR.value is None:
        raise InputError("--model is a .safetensors file already: give --out=NAME.stablehlo")
    digest = export_run(Path(WORKDIR.value), path)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, sha256 of the parameters {digest}")


if __name__ == "__main__":
    cli.run(main)
