"""Neighbours, their colours and the loss on them, one pair of pixels at a time."""

import math

import numpy as np

from tests.oracles.losses import softmax


def neighbours(labels, radius):
    """Returns the contact of each pair of ids, the lower first."""
    contact = {}
    pixels = [tuple(pixel) for pixel in np.argwhere(labels > 0)]
    for index, (y, x) in enumerate(pixels):
        for v, u in pixels[index + 1 :]:
            pair = tuple(sorted((int(labels[y, x]), int(labels[v, u]))))
            if max(abs(v - y), abs(u - x)) <= radius and pair[0] != pair[1]:
                contact[pair] = contact.get(pair, 0) + 1
    return contact


def instance_colours(labels, radius, count):
    contact = neighbours(labels, radius)
    ids = sorted(set(labels[labels > 0].tolist()), key=lambda index: (-(labels == index).sum(), index))
    colour = {}
    for index in ids:
        cost = [0] * count
        for (one, other), pixels in contact.items():
            for mine, neighbour in ((one, other), (other, one)):
                if mine == index and neighbour in colour:
                    cost[colour[neighbour] - 1] += pixels
        colour[index] = 1 + cost.index(min(cost))
    return np.array([[colour.get(index, 0) for index in row] for row in labels.tolist()])


def alike(logits, labels, *, radius, epsilon):
    means = {}
    for index in np.unique(labels[labels > 0]):
        means[index] = np.mean([softmax(row) for row in logits[labels == index]], axis=0)
    values = np.zeros(labels.shape)
    for y, x in np.argwhere(labels > 0):
        losses = []
        for down in (-radius, 0, radius):
            for right in (-radius, 0, radius):
                v, u = y + down, x + right
                inside = 0 <= v < labels.shape[0] and 0 <= u < labels.shape[1]
                if inside and labels[v, u] not in (0, labels[y, x]):
                    same = means[labels[y, x]] @ means[labels[v, u]]
                    losses.append(-math.log(1 - same + epsilon))
        values[y, x] = np.mean(losses) if losses else 0
    return values
