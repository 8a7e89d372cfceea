"""Lloyd's algorithm, one point at a time, in double precision."""

import numpy as np


def lloyd(points, centres, max_steps=300, tolerance=1e-4):
    points, centres = np.asarray(points, float), np.array(centres, float)
    rest = tolerance * points.var(axis=0).mean()

    def nearest():
        return [int(np.argmin([np.sum((point - centre) ** 2) for centre in centres])) for point in points]

    for _ in range(max_steps):
        assignment = nearest()
        moved = centres.copy()
        for index in range(len(centres)):
            mine = [point for point, of in zip(points, assignment, strict=True) if of == index]
            if mine:
                moved[index] = np.mean(mine, axis=0)
        shift = np.sum((moved - centres) ** 2)
        centres = moved
        if shift <= rest:
            break
    assignment = nearest()
    inertia = sum(np.sum((point - centres[of]) ** 2) for point, of in zip(points, assignment, strict=True))
    return centres, np.array(assignment), inertia
