r"""Converts published weights to a file for `--config.model.weights`.

    segjax convert --source=vgg16-397923af.pth --architecture=vgg16 --out=vgg16.safetensors
    segjax train --config=semantic --config.model.weights=vgg16.safetensors --config.model.norm=none \
        --workdir=runs/pretrained

    segjax convert --source=maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth --architecture=maskrcnn_resnet50_fpn \
        --out=maskrcnn.safetensors
    segjax train --config=rcnn:arch=torchvision_v1 --config.model.weights=maskrcnn.safetensors \
        --workdir=runs/from_coco

Reads .safetensors, .pth (needs torch), Keras's .h5 and .onnx files with the names of torchvision,
timm or Keras. The command prints the value that `--config.model.norm` needs.
"""

from absl import flags

from segjax import cli

SOURCE = flags.DEFINE_string(
    "source", None, "File to convert: .safetensors, .pth, .h5 or .onnx.", required=True
)
ARCHITECTURE = flags.DEFINE_string(
    "architecture",
    None,
    "Architecture of the weights: vgg16, resnet50 (PyTorch's), resnet50_v1 (Keras's)..., or torchvision's"
    " fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn, or either with _v2.",
    required=True,
)
OUT = flags.DEFINE_string("out", None, "File to write: <name>.safetensors.", required=True)
PREPROCESSING = flags.DEFINE_string(
    "preprocessing",
    None,
    "Preprocessing of the training images: torchvision (default for PyTorch's names), caffe (default for"
    " Keras's), caffe_rgb, inception or none.",
)
NORM_EPSILON = flags.DEFINE_float(
    "norm_epsilon",
    None,
    "Epsilon of a detector's batch norms. The default is 0 for torchvision's first version, as in its COCO"
    " weights, and 1e-5 for the second. Use 1e-5 for a first version trained without these weights.",
)


def main() -> None:
    """Converts the weights and prints a summary."""
    import jax

    from segjax.errors import InputError, choose
    from segjax.models.weights import detectors, encoders, file, readers

    is_detector = ARCHITECTURE.value in detectors.DETECTORS
    if NORM_EPSILON.present and not is_detector:
        raise InputError(
            f"--norm_epsilon is for {', '.join(detectors.DETECTORS)}, and --architecture={ARCHITECTURE.value}"
            " is none of them: leave it out"
        )
    name = PREPROCESSING.value
    preprocessing = None if name is None else choose(file.PREPROCESSING, "preprocessing", name)
    tensors = readers.read_checkpoint(SOURCE.value)
    if is_detector:
        converted = detectors.convert_detector(
            tensors, ARCHITECTURE.value, epsilon=NORM_EPSILON.value, preprocessing=preprocessing
        )
    else:
        converted = encoders.convert(tensors, ARCHITECTURE.value, preprocessing=preprocessing)
    file.save(converted, OUT.value)
    count = sum(leaf.size for leaf in jax.tree.leaves(converted.params))
    print(f"{OUT.value}: {count:,} parameters of {converted.architecture}, for norm={converted.norm}")
    print(converted.preprocessing)


if __name__ == "__main__":
    cli.run(main)
