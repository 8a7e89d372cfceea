"""Converts published ImageNet weights into the file that `--config.model.weights` names.

    python scripts/convert_weights.py --source=vgg16-397923af.pth --architecture=vgg16 --out=vgg16.safetensors
    python scripts/train.py --config.model.weights=vgg16.safetensors --config.model.norm=none ...

Reads .safetensors, .pth (needs torch), Keras's .h5 and .onnx files with the names of torchvision, timm or
Keras. The second command names the norm that the first one prints.
"""

from absl import flags

from segjax import cli

SOURCE = flags.DEFINE_string(
    "source", None, "The file to convert: .safetensors, .pth, .h5 or .onnx.", required=True
)
ARCHITECTURE = flags.DEFINE_string(
    "architecture",
    None,
    "What it holds: vgg16, resnet50 (PyTorch's), resnet50_v1 (Keras's)...",
    required=True,
)
OUT = flags.DEFINE_string("out", None, "The file to write: <name>.safetensors.", required=True)
PREPROCESSING = flags.DEFINE_string(
    "preprocessing",
    None,
    "How the weights want their images: torchvision (the default for PyTorch's names), caffe (the default for"
    " Keras's), caffe_rgb, inception or none.",
)


def main() -> None:
    """Converts."""
    import jax

    from segjax.models import choose, conversion, foreign, weights

    name = PREPROCESSING.value
    preprocessing = None if name is None else choose(weights.PREPROCESSING, "preprocessing", name)
    tensors = foreign.read_checkpoint(SOURCE.value)
    converted = conversion.convert(tensors, ARCHITECTURE.value, preprocessing=preprocessing)
    weights.save(converted, OUT.value)
    count = sum(leaf.size for leaf in jax.tree.leaves(converted.params))
    print(f"{OUT.value}: {count:,} parameters of {converted.architecture}, for norm={converted.norm}")
    print(converted.preprocessing)


if __name__ == "__main__":
    cli.run(main)
