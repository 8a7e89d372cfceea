"""Colours of stained tissue, one pixel at a time, in float64."""

import math

import numpy as np
from skimage.color import lab2rgb, rgb2lab


def density(light):
    return np.array([[-math.log(max(value, 1 / 255)) for value in pixel] for pixel in light.astype(float)])


def stain_matrix(light, *, threshold=0.15, alpha=1.0):
    """By the singular vectors of the stained pixels; [2, 3] and their number."""
    stained = np.array([pixel for pixel in density(light) if min(pixel) >= threshold])
    _, _, rows = np.linalg.svd(stained - stained.mean(axis=0), full_matrices=False)
    plane = [row * (-1 if row.sum() < 0 else 1) for row in rows[:2]]
    angles = [math.atan2(pixel @ plane[1], pixel @ plane[0]) for pixel in stained]
    ends = np.percentile(angles, [alpha, 100 - alpha])
    both = [math.cos(end) * plane[0] + math.sin(end) * plane[1] for end in ends]
    return np.array(sorted(both, key=lambda stain: -stain[0])), len(stained)


def macenko(light, *, stains, strongest):
    own, _ = stain_matrix(light)
    amounts = np.array([np.linalg.lstsq(own.T, pixel, rcond=None)[0] for pixel in density(light)])
    amounts *= strongest / np.percentile(amounts, 99, axis=0)
    return np.array([np.clip(np.exp(-(pair @ stains)), 0, 1) for pair in amounts])


def reinhard(light, *, mean, deviation):
    lab = rgb2lab(light.astype(float))
    for channel in range(3):
        values = lab[:, channel]
        lab[:, channel] = (values - values.mean()) / values.std() * deviation[channel] + mean[channel]
    return np.clip(lab2rgb(lab), 0, 1)
