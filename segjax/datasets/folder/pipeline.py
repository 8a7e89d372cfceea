"""The same by Apache Beam, for sets beyond one machine; what is staged must lie where all workers see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds

from segjax.datasets.folder.examination import Checker
from segjax.datasets.folder.image_files import ImageFile
from segjax.errors import InputError


def examine_all(examiner: Checker, items: Sequence[ImageFile], options: Sequence[str]) -> None:
    """Looks at all images; only what is not staged yet costs time.

    Args:
      examiner: of the folder.
      items: to be looked at.
      options: of Beam, `--name=value` each; the local runner if they name none.

    Raises:
      InputError: if Beam is not installed.
    """
    beam = _import()
    with beam.Pipeline(options=_parsed(options)) as pipeline:
        _ = pipeline | beam.Create(list(items)) | beam.Reshuffle() | beam.Map(examiner)


def download_config(options: Sequence[str]) -> tfds.download.DownloadConfig:
    """How TFDS writes a data set by Beam with these options."""
    return tfds.download.DownloadConfig(beam_options=_parsed(options))


def _parsed(options: Sequence[str]) -> Any:
    _import()
    from apache_beam.options.pipeline_options import PipelineOptions

    return PipelineOptions(flags=list(options))


def _import() -> Any:
    try:
        import apache_beam
    except ImportError as error:
        raise InputError('--beam needs Apache Beam: pip install -e ".[beam]"') from error
    return apache_beam
