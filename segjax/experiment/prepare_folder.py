"""Prepares a data set from a user's folder and writes a quality report."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from filelock import FileLock, Timeout
from tqdm import tqdm

from segjax.datasets.checks.findings import KINDS
from segjax.datasets.folder import NAME, pipeline
from segjax.datasets.folder.builder import Folder, dataset_dir
from segjax.datasets.folder.decisions import Plan, decide
from segjax.datasets.folder.examination import Checker, Options, check_all
from segjax.datasets.sources import FolderSource
from segjax.datasets.store.builder import check_location
from segjax.datasets.store.builder import prepare as prepare_builder
from segjax.errors import InputError
from segjax.experiment.dataset_report import contact_sheets
from segjax.experiment.prepare_inputs import DOWNLOADS, MARK, REPORT, STAGING, Inputs, Request, open_inputs
from segjax.experiment.results_folder import FAILED, join_first, open_results, write_failed, writing
from segjax.files import printable, remove_temporary, write_json
from segjax.report.dataset_page import format_counts, write_quality

# Held by the process that prepares the folder; hidden, so that it is never an input.
LOCK = ".preparation.lock"
# Number of reasons that the message names if no image can be used.
NAMED = 3


def prepare_folder(
    request: Request, *, workers: int, previews: bool, beam: Sequence[str] | None = None
) -> str:
    """Prepares a data set from a folder of images and masks.

    The preparation may be interrupted at any time: the same command resumes, with byte-identical results.

    Args:
      request: settings of the preparation.
      workers: number of processes that check images; 0 uses only this process.
      previews: whether to draw contact sheets.
      beam: options of Apache Beam, such as `--runner=FlinkRunner`, to run on it.

    Returns:
      The message for the user.

    Raises:
      InputError: if the request or its files are invalid, another process prepares the folder, the results
        cannot be written, or no image can be used; then the report is written, but no data set.
    """
    out = Path(request.out)
    inputs = open_inputs(request)
    finished = printable(f"{out} is prepared already: {out / REPORT / 'index.html'}")
    if _is_finished(out, request, inputs.state):
        return finished
    check_location(out)
    open_results(out)
    with writing(out), _alone(out):
        if _is_finished(out, request, inputs.state):  # by a process that ended meanwhile
            return finished
        return printable(_prepare(out, request, inputs, workers, previews, beam))


@contextlib.contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Lets one process at a time prepare a folder; the lock ends with its process."""
    lock = FileLock(out / LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise InputError(
            f"another process prepares {out}: wait for its end, stop it, or choose another --out"
        ) from error
    try:
        yield
    finally:
        (out / LOCK).unlink(missing_ok=True)
        lock.release()


def _prepare(
    out: Path, request: Request, inputs: Inputs, workers: int, previews: bool, beam: Sequence[str] | None
) -> str:
    checker = _check_images(out, request, inputs, workers, beam)
    plan = decide(
        inputs.items,
        checker.staging,
        annotated=inputs.annotations.keys,
        fractions=request.split_fractions,
        by=request.split_by,
        folds=request.folds,
        seed=request.seed,
        accept=frozenset(request.accept),
    )
    failed = _failed(plan)
    if not plan.splits:
        _write_report(out, inputs, plan, failed, previews=False)
        if len(failed) == len(inputs.items):
            # Nothing in it is of use to another command.
            _clean(out, checker)
        raise InputError(f"{_why_empty(plan)}; see {out / REPORT / 'index.html'}")
    _write_dataset(out, inputs, checker, plan, beam)
    summary = _write_report(out, inputs, plan, failed, previews)
    _clean(out, checker)
    write_json(out / MARK, {"request": request.key, "state": inputs.state})
    splits = format_counts({split: part["images"] for split, part in summary["splits"].items()})
    left_out = f"left out, see {out / REPORT / FAILED}: {join_first(failed)}\n\n" if failed else ""
    return (
        f"{format_counts(summary['images'])} of {len(inputs.items)} images in {inputs.root}\n{splits}\n\n"
        f"{left_out}report: {out / REPORT / 'index.html'}\n"
        f"train on it: --config=configs/semantic.py:dataset=folder --config.dataset.data_dir={out}"
    )


def _is_finished(out: Path, request: Request, state: dict[str, str]) -> bool:
    """Returns whether the same request is already prepared; refuses a folder with another data set."""
    mark = out / MARK
    if not mark.exists():
        # A run that stopped after it had written the data set leaves its staged examples, too.
        is_own = (out / STAGING).exists() and (dataset_dir(out) / "dataset_info.json").exists()
        if dataset_dir(out).exists() and not is_own:
            raise InputError(
                f"{out} holds a data set that was not made by this command: choose another --out"
            )
        return False
    try:
        before = json.loads(mark.read_text())
        options, is_same = before["request"], before == {"request": request.key, "state": state}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{mark} is damaged ({error!r}): choose another --out") from error
    if not is_same:
        changed = [name for name, value in request.key.items() if options.get(name) != value]
        reason = f"--{changed[0]} was {options.get(changed[0])!r}" if changed else "the files have changed"
        # Never the advice to delete the folder: it may hold the images, too.
        raise InputError(f"{out} was prepared from something else ({reason}): choose another --out")
    return True


def _check_images(
    out: Path, request: Request, inputs: Inputs, workers: int, beam: Sequence[str] | None
) -> Checker:
    """Checks, repairs and stages all images."""
    checker = Checker(
        inputs.annotations,
        Options(
            inputs.class_names,
            image_classes=any(item.class_name is not None for item in inputs.items),
            channel_axis=request.channel_axis,
            planes=request.axis,
            accept=frozenset(request.accept),
        ),
        out / STAGING,
        annotations_digest=inputs.annotations_digest,
    )
    if beam is not None:
        pipeline.check_all(checker, inputs.items, beam)
    else:
        staged = check_all(checker, inputs.items, workers=workers)
        for _ in tqdm(staged, total=len(inputs.items), unit="image", desc="check", dynamic_ncols=True):
            pass
    return checker


def _write_dataset(
    out: Path, inputs: Inputs, checker: Checker, plan: Plan, beam: Sequence[str] | None
) -> None:
    """Writes the staged examples as a TFDS data set."""
    if (before := dataset_dir(out)).exists():
        # Left by a run that stopped before its end: its request or its files may have been others. With this
        # name it is removed as incomplete.
        before.rename(before.with_name(f"incomplete.{uuid.uuid4().hex}"))
    # The examples are encoded already: copying them is too quick for a progress bar.
    tfds.disable_progress_bar()
    prepare_builder(
        Folder,
        out,
        config=None if beam is None else pipeline.download_config(beam),
        staging=checker.staging,
        splits=plan.splits,
        class_names=inputs.class_names,
        about={"leaks": list(plan.leaks)},
        pipeline=beam is not None,
    )


def _write_report(
    out: Path, inputs: Inputs, plan: Plan, failed: Mapping[str, str], previews: bool
) -> dict[str, Any]:
    """Writes the quality report and returns its content."""
    sources = {split: FolderSource(split, data_dir=out) for split in plan.splits}
    warnings = [] if plan.splits else [f"There is no data set: {_why_empty(plan)}."]
    if all(item.group is None for item in inputs.items):
        warnings.append(
            "It is not known which images are of one patient, so each image was split on its own, apart from"
            " near duplicates. If several are, give --metadata with a column `patient`, or --pattern."
        )
    summary = write_quality(
        out / REPORT,
        plan,
        title=f"{out.name}: state of the data",
        class_names=inputs.class_names,
        warnings=warnings,
        sheets=contact_sheets(sources, inputs.class_names) if previews else [],
        split_sha256=next((source.split_sha256 for source in sources.values()), None),
    )
    write_failed(out / REPORT, failed)
    remove_temporary(out / REPORT)
    return summary


def _failed(plan: Plan) -> dict[str, str]:
    """Returns the reasons of each image that is left out, by its key."""
    return {
        one.item.key: f"{one.item.key}: "
        + ", ".join(f"{KINDS[finding.kind].title} ({finding.detail})" for finding in one.findings)
        for one in plan.decisions
        if one.action == "quarantined"
    }


def _why_empty(plan: Plan) -> str:
    """Returns why there is no data set, with the remedies of the most frequent reasons."""
    aside = [one for one in plan.decisions if one.action == "quarantined"]
    details: dict[str, list[str]] = defaultdict(list)
    for one in aside:
        cause = next(finding for finding in one.findings if KINDS[finding.kind].action == "quarantine")
        details[cause.kind].append(f"{one.item.key}: {cause.detail}")
    reasons = "; ".join(
        f"{len(of_kind)} for {kind} ({KINDS[kind].title}, such as {of_kind[0]}): {KINDS[kind].remedy}"
        for kind, of_kind in sorted(details.items(), key=lambda entry: -len(entry[1]))[:NAMED]
    )
    if not plan.problem:
        return f"all {len(aside)} images were set aside: {reasons}"
    return f"{plan.problem}; {len(aside)} images were set aside: {reasons}" if aside else plan.problem


def _clean(out: Path, checker: Checker) -> None:
    """Removes what only an interrupted preparation needs; the user may have folders of the same names."""
    checker.staging.clear()
    (out / DOWNLOADS / f"{NAME}.lock").unlink(missing_ok=True)
    for folder in (STAGING, DOWNLOADS):
        with contextlib.suppress(OSError):  # it holds other files
            (out / folder).rmdir()
