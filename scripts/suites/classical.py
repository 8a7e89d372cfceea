"""Benchmark of the classical methods: time per image, ratio to scikit-learn, and scaling."""

import functools
import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from sklearn.cluster import KMeans, MeanShift

from segjax.classical import METHODS, make_method
from segjax.classical.contrast import unit_range
from segjax.classical.features import BASIC, FEATURES, extract
from segjax.datasets.synthetic import SyntheticSource
from segjax.experiment import environment
from segjax.ops import grid_mean_shift, kmeans
from suites.timing import measure

CLUSTERS, RESTARTS, BATCH, BANDWIDTH = 3, 4, 8, 8.0


def main(*, size: int, rounds: int, largest: int, points: int) -> None:
    """Times the classical methods and prints the results."""
    where = environment.hardware_info()
    print(f"{where['device']}, {where['cores']} cores, jax {where['jax']}, Python {where['python']}")
    image = picture(size)
    print(f"\nmethods, {size} x {size}, once compiled (goal: below 1 s)")
    calls: dict[str, Callable[[], Any]] = {
        name: functools.partial(make_method(name), image) for name in METHODS
    }
    for name, seconds in measure(calls, rounds).items():
        print(f"{name:12} {seconds:6.3f} s  {'reached' if seconds < 1 else 'not reached'}")
    print(f"\nfeatures, {size} x {size}")
    rgb = np.repeat(image, 3, axis=-1)
    intensity = unit_range(image)[..., 0]
    calls = {name: functools.partial(extract, rgb, intensity, [name]) for name in FEATURES}
    for name, seconds in measure(calls, rounds).items():
        print(f"{name:22} {1e3 * seconds:7.1f} ms")
    time_kmeans(image, rounds)
    time_mean_shift(image, points)
    time_growth(size, largest)


def picture(size: int) -> np.ndarray:
    """Returns an image of synthetic cells, [size, size, 1]."""
    tile = SyntheticSource("train[:1]")[0].image[..., :1]
    count = -(-size // min(tile.shape[:2]))
    return np.tile(tile, (count, count, 1))[:size, :size]


def ready(result: Any) -> Any:
    """Waits for a result, as JAX dispatches asynchronously."""
    return jax.block_until_ready(result)


def compare(title: str, calls: dict[str, Callable[[], Any]], rounds: int, goal: float) -> None:
    """Prints the seconds of two calls and the ratio of the second to the first."""
    (name, first), (peer_name, second) = measure(calls, rounds).items()
    ratio = second / first
    verdict = "reached" if ratio >= goal else "not reached"
    print(
        f"{title}: {name} {first:.3f} s, {peer_name} {second:.3f} s,"
        f" ratio {ratio:.1f} (goal {goal}: {verdict})"
    )


def time_kmeans(image: np.ndarray, rounds: int) -> None:
    """Times k-means on all pixels, with equal restarts; segjax's restarts compete on a sample."""
    maps = extract(image, unit_range(image)[..., 0], ["basic"])[0].reshape(-1, len(BASIC))
    maps = ((maps - maps.mean(0)) / maps.std(0)).astype(np.float32)
    batch = np.stack([np.roll(maps, shift * 97, axis=0) for shift in range(BATCH)])
    valid = np.ones(len(maps), bool)
    run = functools.partial(kmeans.kmeans, num_clusters=CLUSTERS, restarts=RESTARTS)
    keys = jax.random.split(jax.random.key(0), BATCH)
    together = jax.jit(lambda keys, many: jax.lax.map(lambda one: run(*one, valid), (keys, many)))

    def peer(points: np.ndarray) -> float:
        return KMeans(CLUSTERS, n_init=RESTARTS, random_state=0).fit(points).inertia_

    on_device, many = jax.device_put(maps), jax.device_put(batch)
    ratio = float(run(keys[0], on_device, valid).inertia) / peer(maps)
    print(f"\ninertia of segjax's k-means over scikit-learn's: {ratio:.4f}")
    print(f"k-means, {len(maps)} points of {len(BASIC)} features, K={CLUSTERS}, {RESTARTS} restarts")
    calls = {"segjax": lambda: ready(run(keys[0], on_device, valid)), "scikit-learn": lambda: peer(maps)}
    compare("one image", calls, rounds, 3)
    calls = {
        "segjax": lambda: ready(together(keys, many)),
        "scikit-learn": lambda: [peer(points) for points in batch],
    }
    compare(f"batch of {BATCH}", calls, min(rounds, 3), 10)


def time_mean_shift(image: np.ndarray, points: int) -> None:
    """Times mean-shift on pixel positions; scikit-learn's cost grows faster than linearly."""
    foreground = image[..., 0] > np.percentile(image, 70)
    pixels = np.argwhere(foreground)
    weights = foreground.astype(np.float32)
    print(f"\nmean-shift, {len(pixels)} pixels of the foreground, bandwidth {BANDWIDTH}")

    def segjax() -> Any:
        field = grid_mean_shift.grid_shift(weights, bandwidth=BANDWIDTH / 2)
        return ready(grid_mean_shift.follow(field, pixels, steps=60, tolerance=0.02))

    sampled = pixels[:: max(1, len(pixels) // points)][:points].astype(float)

    def peer() -> Any:
        return MeanShift(bandwidth=BANDWIDTH, bin_seeding=True).fit(sampled)

    title = f"all {len(pixels)} pixels, scikit-learn on {len(sampled)}"
    compare(title, {"segjax": segjax, "scikit-learn": peer}, 1, 200)


def time_growth(size: int, largest: int) -> None:
    """Prints seconds per million pixels and peak memory, with one process per image size."""
    print("\ngrowth: s for a million pixels (bytes for a pixel at the peak)")
    context = multiprocessing.get_context("spawn")
    for name in METHODS:
        cells, side = [], size
        while side <= largest:
            with context.Pool(1) as pool:
                seconds, peak = pool.apply(one_method, (name, side))
            cells.append(f"{side}: {seconds / side**2 * 1e6:.2f} ({peak / side**2:.0f})")
            side *= 2
        print(f"{name:12} {'   '.join(cells)}")


def one_method(name: str, size: int) -> tuple[float, float]:
    """Returns the seconds of the second call and the increase of peak memory over both calls, bytes."""
    image = picture(size)
    method = make_method(name)
    method(image[:128, :128])  # loads and compiles everything independent of the size
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    method(image)
    began = time.perf_counter()
    method(image)
    seconds = time.perf_counter() - began
    return seconds, 1024.0 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
