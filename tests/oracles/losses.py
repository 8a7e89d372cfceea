"""Losses in float64, one pixel and one class at a time."""

import math

import numpy as np

IGNORE = -1


def softmax(row):
    powers = [math.exp(value - max(row)) for value in row]
    return [power / sum(powers) for power in powers]


def cross_entropy(logits, targets, *, class_weights, label_smoothing):
    values = np.zeros(targets.shape)
    num_classes = logits.shape[-1]
    for at in np.ndindex(targets.shape):
        if targets[at] == IGNORE:
            continue
        for k, probability in enumerate(softmax(logits[at])):
            wanted = (1 - label_smoothing) * (k == targets[at]) + label_smoothing / num_classes
            values[at] -= class_weights[k] * wanted * math.log(probability)
    return values


def focal(logits, targets, *, gamma, class_weights):
    values = np.zeros(targets.shape)
    for at in np.ndindex(targets.shape):
        if targets[at] != IGNORE:
            probability = softmax(logits[at])[targets[at]]
            values[at] = -class_weights[targets[at]] * (1 - probability) ** gamma * math.log(probability)
    return values


def dice(logits, targets, *, smooth):
    values = []
    for k in range(logits.shape[-1]):
        both = predicted = true = 0.0
        for at in np.ndindex(targets.shape):
            if targets[at] != IGNORE:
                probability = softmax(logits[at])[k]
                both += probability * (targets[at] == k)
                predicted += probability
                true += targets[at] == k
        values.append(1 - (2 * both + smooth) / (predicted + true + smooth) if true else 0.0)
    return np.array(values)


def jaccard_of_mistakes(true, wrong):
    """One minus the intersection over union of a set and what is predicted if some pixels are wrong."""
    predicted = {i for i, inside in enumerate(true) if inside} ^ wrong
    true = {i for i, inside in enumerate(true) if inside}
    return 1 - len(true & predicted) / len(true | predicted) if true | predicted else 0.0


def lovasz_softmax(logits, targets):
    """The Lovász extension by its definition, a telescope of a set function, not by cumulative sums."""
    judged = [at for at in np.ndindex(targets.shape) if targets[at] != IGNORE]
    values = []
    for k in range(logits.shape[-1]):
        true = [targets[at] == k for at in judged]
        errors = [abs(inside - softmax(logits[at])[k]) for at, inside in zip(judged, true, strict=True)]
        order = sorted(range(len(judged)), key=lambda i: -errors[i])
        value = 0.0
        for rank, i in enumerate(order):
            after = jaccard_of_mistakes(true, set(order[: rank + 1]))
            value += errors[i] * (after - jaccard_of_mistakes(true, set(order[:rank])))
        values.append(value if any(true) else 0.0)
    return np.array(values)
