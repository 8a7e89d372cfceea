"""The same by Apache Beam, for sets beyond one machine; what is staged must lie where all workers see it."""

from __future__ import annotations

from collections.abc import Sequence

from segjax.data.preparation.examination import Examiner
from segjax.data.preparation.folder import Item
from segjax.errors import InputError


def examine_all(examiner: Examiner, items: Sequence[Item]) -> None:
    """Looks at all images by a pipeline of Beam's default runner; only what is not staged yet costs time.

    Raises:
      InputError: if Beam is not installed.
    """
    try:
        import apache_beam as beam
    except ImportError as error:
        raise InputError('--beam needs Apache Beam: pip install -e ".[beam]"') from error
    with beam.Pipeline() as pipeline:
        _ = pipeline | beam.Create(list(items)) | beam.Reshuffle() | beam.Map(examiner)
