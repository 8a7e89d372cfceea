"""Preparation with Apache Beam on several machines; all of them must have access to the staging folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow_datasets as tfds

from segjax.datasets.folder.examination import Checker
from segjax.datasets.folder.image_files import ImageFile
from segjax.errors import InputError


def check_all(checker: Checker, items: Sequence[ImageFile], options: Sequence[str]) -> None:
    """Checks all images that are not staged yet.

    Args:
      checker: checks one image.
      items: the images.
      options: options of Beam, `--name=value` each; the default runner is the local one.

    Raises:
      InputError: if Beam is not installed.
    """
    beam = _import()
    with beam.Pipeline(options=_parsed(options)) as pipeline:
        _ = pipeline | beam.Create(list(items)) | beam.Reshuffle() | beam.Map(checker)


def download_config(options: Sequence[str]) -> tfds.download.DownloadConfig:
    """Returns the configuration with which TFDS writes a data set by Beam."""
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
