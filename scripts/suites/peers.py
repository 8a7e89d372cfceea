"""PyTorch versions of segjax networks for benchmarks; torch is in the `peers` extra."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from segjax.models.norms import RELU_GAIN, divisor


class LayerNorm(nn.Module):
    """Normalises the channels of each pixel of [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, H, W] to the same shape."""
        by_pixel = x.permute(0, 2, 3, 1)
        normalised = F.layer_norm(by_pixel, self.weight.shape, self.weight, self.bias, eps=1e-3)
        return normalised.permute(0, 3, 1, 2)


class Affine(nn.Module):
    """Scales and shifts the channels of [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, H, W] to the same shape."""
        return x * self.weight[:, None, None] + self.bias[:, None, None]


class StandardisedConvolution(nn.Conv2d):
    """A convolution with a standardised kernel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, H, W] to [B, C', H, W]."""
        centred = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        kernel = RELU_GAIN * centred * (centred**2).sum((1, 2, 3), keepdim=True).rsqrt()
        return F.conv2d(x, kernel, self.bias, padding=self.padding)


def make_norm(norm: str, channels: int) -> nn.Module:
    """Returns the norm `group`, `layer`, `weight` or `none`."""
    if norm == "group":
        return nn.GroupNorm(divisor(channels, min(32, channels // 4)), channels)
    return {"layer": LayerNorm, "weight": Affine, "none": nn.Identity}[norm](channels)


class Stage(nn.Module):
    """A stack of 3 x 3 convolution, optional norm and ReLU."""

    def __init__(self, count: int, inputs: int, channels: int, norm: str) -> None:
        super().__init__()
        kind = StandardisedConvolution if norm == "weight" else nn.Conv2d
        self.convolutions = nn.ModuleList(
            kind(inputs if index == 0 else channels, channels, 3, padding=1) for index in range(count)
        )
        self.norms = nn.ModuleList(make_norm(norm, channels) for _ in range(count))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps [B, C, H, W] to [B, channels, H, W]."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = F.relu(norm(convolution(x)))
        return x


class VGGUNet(nn.Module):
    """A VGG encoder and a decoder of transposed convolutions, skips concatenated, 1 x 1 heads."""

    def __init__(
        self, convolutions: Sequence[int], channels: Sequence[int], *, inputs: int, norm: str, outputs: int
    ) -> None:
        super().__init__()
        sizes = [inputs, *channels]
        self.encoder = nn.ModuleList(
            Stage(count, before, after, norm)
            for count, before, after in zip(convolutions, sizes, channels, strict=False)
        )
        self.doubles, self.decoder = nn.ModuleList(), nn.ModuleList()
        width = channels[-1]
        for skip in reversed(channels[:-1]):
            after = max(skip // 2, 1)
            self.doubles.append(nn.ConvTranspose2d(width, after, 2, stride=2))
            self.decoder.append(Stage(2, skip + after, after, norm))
            width = after
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps images [B, C, H, W] of even sides to logits [B, outputs, H, W]."""
        features: list[torch.Tensor] = []
        for stage in self.encoder:
            x = stage(F.max_pool2d(x, 2) if features else x)
            features.append(x)
        for double, stage, skip in zip(self.doubles, self.decoder, features[-2::-1], strict=True):
            x = stage(torch.cat([skip, double(x)], 1))
        return self.head(x)

    def load(self, params: Mapping[str, Any]) -> "VGGUNet":
        """Loads the parameters of the segjax network with the same settings."""
        # The type of a module's attributes is unknown to PyTorch.
        doubled: Any = zip(self.doubles, self.decoder, strict=True)
        head: Any = self.head
        with torch.no_grad():
            for index, stage in enumerate(self.encoder, start=1):
                _load_stage(stage, params["encoder"][f"stage{index}"])
            for index, (double, stage) in enumerate(doubled, start=1):
                stage_params = params["decoder"][f"stage{index}"]
                double.weight.copy_(_tensor(stage_params["double"]["kernel"]).permute(2, 3, 0, 1))
                double.bias.copy_(_tensor(stage_params["double"]["bias"]))
                _load_stage(stage, stage_params["convolutions"])
            heads = [values for name, values in sorted(params.items()) if name.startswith("head_")]
            head.weight.copy_(torch.cat([_tensor(h["kernel"]).permute(3, 2, 0, 1) for h in heads]))
            head.bias.copy_(torch.cat([_tensor(h["bias"]) for h in heads]))
        return self


def _load_stage(stage: Any, params: Mapping[str, Any]) -> None:
    for index, (convolution, norm) in enumerate(zip(stage.convolutions, stage.norms, strict=True), start=1):
        convolution.weight.copy_(_tensor(params[f"conv{index}"]["kernel"]).permute(3, 2, 0, 1))
        convolution.bias.copy_(_tensor(params[f"conv{index}"]["bias"]))
        if not isinstance(norm, nn.Identity):
            values = params[f"norm{index}"]
            values = values.get("norm", values)
            norm.weight.copy_(_tensor(values["scale"]))
            norm.bias.copy_(_tensor(values["bias"]))


def _tensor(values: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(values))
