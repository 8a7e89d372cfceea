"""Power diagrams and clusters of circles, one pair at a time."""

import numpy as np


def power_diagram(points, centres, radii, parts, of_centre):
    owners = []
    for point, part in zip(points, parts, strict=True):
        powers = [
            np.sum((np.asarray(point, float) - centre) ** 2) - radius**2 if of == part else np.inf
            for centre, radius, of in zip(centres, radii, of_centre, strict=True)
        ]
        owners.append(int(np.argmin(powers)))
    return np.array(owners)


def cluster_circles(centres, radii, eps):
    """Joins until nothing changes."""
    of = list(range(len(centres)))
    changed = True
    while changed:
        changed = False
        for i in range(len(centres)):
            for j in range(len(centres)):
                near = np.linalg.norm(centres[i] - centres[j]) / min(radii[i], radii[j]) <= eps
                if near and of[i] != of[j]:
                    of[i] = of[j] = min(of[i], of[j])
                    changed = True
    return np.array(of)
