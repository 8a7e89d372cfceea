"""A 3 x 3 convolution and its gradients in float64, one offset of the kernel at a time."""

import numpy as np


def convolve(x, kernel):
    return sum(_shifted(x, i, j) @ kernel[i, j] for i in range(3) for j in range(3))


def input_gradient(kernel, gradient):
    return sum(_shifted(gradient, 2 - i, 2 - j) @ kernel[i, j].T for i in range(3) for j in range(3))


def kernel_gradient(x, gradient):
    offsets = [(i, j) for i in range(3) for j in range(3)]
    products = [np.einsum("bhwc,bhwo->co", _shifted(x, i, j), gradient) for i, j in offsets]
    return np.reshape(products, (3, 3, x.shape[-1], gradient.shape[-1]))


def _shifted(x, i, j):
    """x[:, h + i - 1, w + j - 1], zero outside."""
    height, width = x.shape[1:3]
    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    return padded[:, i : i + height, j : j + width]
