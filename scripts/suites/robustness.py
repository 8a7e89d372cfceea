"""F1 of methods on perturbed test images: clean, and the worst perturbation."""

from collections.abc import Sequence

from ml_collections import ConfigDict
from tqdm import tqdm

from segjax.evaluation.evaluate import evaluate
from segjax.evaluation.perturbations import PERTURBATIONS, PerturbedSource
from segjax.experiment.methods import make_reference, open_method
from segjax.experiment.setup import open_split
from segjax.segmentation import Method


def main(config: ConfigDict, methods: Sequence[str]) -> None:
    """Prints a table: a row for each method, a column for each perturbation.

    Args:
      config: its test split and its reference are used.
      methods: names or folders, see `segjax.load`; "reference" is that of the config.
    """
    source = open_split(config, "test")
    rows = []
    for name in methods:
        method: Method = (make_reference(config) if name == "reference" else open_method(name)).__call__
        scores = {}
        for perturbation in tqdm(PERTURBATIONS, desc=name, unit="perturbation", leave=False):
            perturbed = PerturbedSource(source, perturbation)
            scores[perturbation] = evaluate(method, perturbed, headline=config.dataset.headline).scores.f1
        rows.append((name, scores))
    print(f"F1 at IoU 0.5 on {len(source)} test images of {config.dataset.name}\n")
    print("| method | " + " | ".join(PERTURBATIONS) + " | worst / clean |")
    print("|---|" + "---|" * (len(PERTURBATIONS) + 1))
    for name, scores in rows:
        clean = scores["clean"]
        worst = min(scores.values()) / clean if clean else float("nan")
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in scores.values()) + f" | {worst:.3f} |")
