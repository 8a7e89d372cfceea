"""Expected calibration error, one prediction at a time."""

import math


def expected_calibration_error(scores, correct, bins=10):
    members = [[] for _ in range(bins)]
    for score, hit in zip(scores, correct, strict=True):
        members[min(int(score * bins), bins - 1)].append((float(score), bool(hit)))
    gaps = [abs(math.fsum(score - hit for score, hit in part)) for part in members]
    return math.fsum(gaps) / len(scores)
