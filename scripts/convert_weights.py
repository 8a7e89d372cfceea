r"""Converts published weights into the file that `--config.model.weights` names.

    python scripts/convert_weights.py --source=vgg16-397923af.pth --architecture=vgg16 --out=vgg16.safetensors
    python scripts/train.py --config.model.weights=vgg16.safetensors --config.model.norm=none ...

    python scripts/convert_weights.py --source=maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth \
        --architecture=maskrcnn_resnet50_fpn --out=maskrcnn.safetensors
    python scripts/train.py --config=configs/rcnn.py:form=v1 --config.model.weights=maskrcnn.safetensors ...

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
    "What it holds: vgg16, resnet50 (PyTorch's), resnet50_v1 (Keras's)..., or torchvision's"
    " fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn, or either with _v2.",
    required=True,
)
OUT = flags.DEFINE_string("out", None, "The file to write: <name>.safetensors.", required=True)
PREPROCESSING = flags.DEFINE_string(
    "preprocessing",
    None,
    "How the weights want their images: torchvision (the default for PyTorch's names), caffe (the default for"
    " Keras's), caffe_rgb, inception or none.",
)
NORM_EPSILON = flags.DEFINE_float(
    "norm_epsilon",
    None,
    "Of a detector's batch norms: by default 0 for torchvision's first version, as its COCO weights are used,"
    " and 1e-5 for the second. Give 1e-5 for a first version that was trained without those weights.",
)


def main() -> None:
    """Converts."""
    import jax

    from segjax.models.segmenters import choose
    from segjax.models.weights import detectors, encoders, loading, readers

    name = PREPROCESSING.value
    preprocessing = None if name is None else choose(loading.PREPROCESSING, "preprocessing", name)
    tensors = readers.read_checkpoint(SOURCE.value)
    if ARCHITECTURE.value in detectors.DETECTORS:
        converted = detectors.convert_detector(
            tensors, ARCHITECTURE.value, epsilon=NORM_EPSILON.value, preprocessing=preprocessing
        )
    else:
        converted = encoders.convert(tensors, ARCHITECTURE.value, preprocessing=preprocessing)
    loading.save(converted, OUT.value)
    count = sum(leaf.size for leaf in jax.tree.leaves(converted.params))
    print(f"{OUT.value}: {count:,} parameters of {converted.architecture}, for norm={converted.norm}")
    print(converted.preprocessing)


if __name__ == "__main__":
    cli.run(main)
