"""Reads the names and arrays in checkpoints of other libraries, without executing code in them."""

import pathlib
from collections.abc import Callable

import numpy as np

from segjax.errors import InputError

Tensors = dict[str, np.ndarray]
# Earlier versions execute code in a file in spite of `weights_only` (CVE-2025-32434).
TORCH = (2, 6)


def read_checkpoint(path: str | pathlib.Path) -> Tensors:
    """Reads the arrays of a checkpoint.

    Args:
      path: a file of safetensors (`.safetensors`), PyTorch (`.pth`, `.pt`, `.bin`; needs torch), Keras
        (`.h5`, `.hdf5`; needs h5py) or ONNX (`.onnx`; needs onnx).

    Returns:
      The arrays, with the names and layouts of the file.

    Raises:
      InputError: if the file cannot be read, or the library that reads it is not installed.
    """
    path = pathlib.Path(path)
    if path.suffix not in READERS:
        raise InputError(f"{path}: not a weights file: its name must end in {', '.join(READERS)}")
    if not path.is_file():
        raise InputError(f"{path} does not exist: give the file to convert")
    try:
        tensors = READERS[path.suffix](path)
    except ImportError as error:
        extra = "torch" if error.name == "torch" else "segjax[convert]"
        raise InputError(f"{path}: to read it, install {error.name}: pip install {extra}") from error
    except InputError:
        raise
    except Exception as error:  # Each library has its own exceptions; some raise a bare RuntimeError.
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"{path}: not a readable {path.suffix} file of weights ({reason}): download or save it again"
        ) from error
    if not tensors:
        raise InputError(f"{path} contains no arrays: give a file with weights")
    return tensors


def read_safetensors(path: pathlib.Path) -> Tensors:
    """Reads a `.safetensors` file; bfloat16 becomes float32."""
    import ml_dtypes  # NumPy knows bfloat16 from here on
    from safetensors.numpy import load_file

    return {
        name: value.astype(np.float32) if value.dtype == ml_dtypes.bfloat16 else value
        for name, value in load_file(path).items()
    }


def read_torch(path: pathlib.Path) -> Tensors:
    """Reads a state dict, or the state dict in a training checkpoint."""
    import torch

    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < TORCH:
        raise InputError(
            f"{path}: torch {torch.__version__} can be made to execute code in such a file: install torch"
            f" {'.'.join(map(str, TORCH))} or later, or convert the file to .safetensors elsewhere"
        )
    # `weights_only` rejects pickles with anything but tensors and plain containers.
    state = torch.load(path, map_location="cpu", weights_only=True)
    for key in ("state_dict", "model"):
        if isinstance(state.get(key), dict):
            state = state[key]
    return {
        # A parameter, unlike the values of a state dict, has a gradient.
        name: (value.detach().float() if value.is_floating_point() else value).numpy()
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }


def read_keras(path: pathlib.Path) -> Tensors:
    """Reads the data sets of an HDF5 file, except those that are stored in other files."""
    import h5py

    tensors: Tensors = {}

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if not isinstance(item, h5py.Dataset) or item.external or item.is_virtual:
            return
        if np.issubdtype(item.dtype, np.floating):
            tensors[name] = item[()]

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return tensors


def read_onnx(path: pathlib.Path) -> Tensors:
    """Reads the initialisers of an ONNX graph."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    tensors = {}
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise InputError(f"{path}: {tensor.name} is in another file; save the model as one .onnx file")
        tensors[tensor.name] = onnx.numpy_helper.to_array(tensor)
    return tensors


READERS: dict[str, Callable[[pathlib.Path], Tensors]] = {
    ".safetensors": read_safetensors,
    ".pth": read_torch,
    ".pt": read_torch,
    ".bin": read_torch,
    ".h5": read_keras,
    ".hdf5": read_keras,
    ".onnx": read_onnx,
}
