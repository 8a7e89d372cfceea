"""Writes a trained network, with its fitted decoder, into one file.

    segjax export --workdir=runs/nuclei --out=nuclei.safetensors
    segjax export --model=nuclei --out=nuclei.stablehlo
    segjax export --model=nuclei --out=nuclei.onnx --window=512
    segjax export --model=nuclei --out=nuclei.html --runtime=package

The suffix chooses the format:

    .safetensors   for segjax: segjax predict --model=nuclei.safetensors
    .stablehlo     a program of a segmenter that runs on CPU, CUDA and TPU without segjax. It maps any number
                   of images [B, H, W, C], whose sides are multiples of the stride of the network, to class
                   probabilities and the map of the instances; nuclei.json beside it describes both, see
                   segjax.experiment.export_program. It needs pip install "segjax[export]".
    .onnx          the network of a segmenter for onnxruntime. It maps normalised windows of --window pixels
                   to the same maps, see segjax.experiment.export_onnx.
    .html          a page that segments images in a browser, without a server or a network. --runtime is the
                   unpacked npm package onnxruntime-web: npm pack onnxruntime-web && tar xf onnxruntime-web-*

The last two need pip install "segjax[onnx]" in an environment of its own, because jax2onnx wants an older
orbax-checkpoint.
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
    "out",
    None,
    "File to write: <name>.safetensors, <name>.stablehlo, <name>.onnx or <name>.html.",
    required=True,
)
WINDOW = flags.DEFINE_integer(
    "window",
    None,
    "Side of the windows of ONNX, pixels, a multiple of the stride; default: that of the config.",
)
RUNTIME = flags.DEFINE_string(
    "runtime", None, "Folder of the unpacked npm package onnxruntime-web, for <name>.html."
)
SUFFIXES = (".safetensors", ".stablehlo", ".onnx", ".html")


def main() -> None:
    """Exports the network and prints a summary."""
    path = Path(OUT.value)
    if path.suffix not in SUFFIXES:
        raise InputError(f"--out={path} must end in one of {', '.join(SUFFIXES)}")
    if (WORKDIR.value is None) == (MODEL.value is None):
        raise InputError("give either --workdir=RUN, a trained run, or --model=FILE, an exported network")
    for flag, suffix in ((WINDOW, ".onnx"), (RUNTIME, ".html")):
        if flag.value is not None and path.suffix != suffix:
            raise InputError(f"--{flag.name} is for --out=NAME{suffix}: leave it out")
    if path.suffix == ".safetensors":
        _export_parameters(path)
        return
    from segjax.experiment.export_program import open_network

    network = open_network(WORKDIR.value, MODEL.value)
    if path.suffix == ".stablehlo":
        from segjax.experiment.export_program import export_program

        note = f"described by {export_program(network, path)}"
    elif path.suffix == ".onnx":
        from segjax.experiment.export_onnx import export_onnx

        difference = export_onnx(network, path, window=WINDOW.value)
        note = f"onnxruntime's maps differ by at most {difference:.1g} from the network's"
    else:
        from segjax.experiment.export_page import export_page

        if RUNTIME.value is None:
            raise InputError(
                "a page contains the npm package onnxruntime-web: run npm pack onnxruntime-web, unpack the"
                " file, and give its folder as --runtime=package"
            )
        difference = export_page(network, path, runtime=Path(RUNTIME.value).expanduser())
        note = f"onnxruntime's maps differ by at most {difference:.1g} from the network's"
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, {note}")


def _export_parameters(path: Path) -> None:
    from segjax.experiment.pretrained import export_run

    if WORKDIR.value is None:
        raise InputError("--model is a .safetensors file already: give --out=NAME.stablehlo")
    digest = export_run(Path(WORKDIR.value), path)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, sha256 of the parameters {digest}")


if __name__ == "__main__":
    cli.run(main)
