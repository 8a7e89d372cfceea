"""Kinds of errors, one instance at a time, on sets of pixels."""

import itertools


def pixels_of(labels):
    result = {}
    for (y, x), index in (
        (position, labels[position]) for position in itertools.product(*map(range, labels.shape))
    ):
        if index:
            result.setdefault(int(index), set()).add((y, x))
    return dict(sorted(result.items()))


def kinds(truth, prediction, true_classes, classes):
    """Kinds of the ids of two label maps, as two dictionaries; `true_classes` and `classes` are by id."""
    true, predicted = pixels_of(truth), pixels_of(prediction)
    true_kind, kind = dict.fromkeys(true, "missed"), dict.fromkeys(predicted, "spurious")

    def iou(i, j):
        return len(true[i] & predicted[j]) / len(true[i] | predicted[j])

    for i, j in itertools.product(true, predicted):
        if iou(i, j) >= 0.5 and true_kind[i] == "missed" and kind[j] == "spurious":
            true_kind[i] = kind[j] = "correct" if true_classes[i] == classes[j] else "wrong_class"
    for i in [i for i in true if true_kind[i] == "missed"]:
        parts = [
            j
            for j in predicted
            if kind[j] == "spurious" and 2 * len(true[i] & predicted[j]) >= len(predicted[j])
        ]
        if len(parts) > 1:
            true_kind[i] = "split"
            kind.update(dict.fromkeys(parts, "split"))
    merging = {}
    for j in predicted:
        inside = [
            i for i in true if 2 * len(true[i] & predicted[j]) >= len(true[i]) and true_kind[i] != "split"
        ]
        if len(inside) > 1:
            merging[j] = [i for i in inside if true_kind[i] == "missed"]
    for j, members in merging.items():
        true_kind.update(dict.fromkeys(members, "merged"))
        if members and kind[j] == "spurious":
            kind[j] = "merged"
    for i, j in itertools.product(true, predicted):
        is_pair = true_kind[i] in ("correct", "wrong_class")
        if is_pair and kind[j] == "spurious" and 2 * len(true[i] & predicted[j]) >= len(predicted[j]):
            kind[j] = "double"
    free = [
        (i, j)
        for i, j in itertools.product(true, predicted)
        if true_kind[i] == "missed" and kind[j] == "spurious" and iou(i, j) >= 0.1
    ]
    for pair in heaviest(free, iou):
        true_kind[pair[0]] = kind[pair[1]] = "bad_outline"
    return true_kind, kind


def heaviest(pairs, weight):
    """The disjoint pairs of the largest total weight, of all subsets."""
    best, most = [], 0.0
    for size in range(1, len(pairs) + 1):
        for chosen in itertools.combinations(pairs, size):
            if len({i for i, _ in chosen}) == len({j for _, j in chosen}) == size:
                total = sum(weight(*pair) for pair in chosen)
                if total > most:
                    best, most = chosen, total
    return best
