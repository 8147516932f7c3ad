"""METEOR and SPICE: programs in Java that pycocoevalcap brings, or says where to get. Reported where they can run."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from dataclasses import replace

from rcc.errors import WorkError
from rcc.evaluation.captioning.corpus import CaptionCorpus, CaptionScore
from rcc.evaluation.captioning.tokens import package_directory

SPICE_PARSER = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


def unavailable(name: str) -> str | None:
    """The reason for which the metric cannot be computed on this machine; None if it can."""
    if shutil.which("java") is None:
        return "no 'java' is on the PATH"
    missing = [jar for jar in SPICE_PARSER if not (package_directory() / "spice" / "lib" / jar).exists()]
    if name == "spice" and missing:
        return (
            f"its parser is not installed ({', '.join(missing)}): `python -m pycocoevalcap.spice.get_stanford_models`"
            " fetches it, once"
        )
    return None


def meteor(corpus: CaptionCorpus) -> CaptionScore:
    """METEOR 1.5 for English. The value is of the whole corpus; its standard error is that of the mean over images,
    which is near it, and so is its interval, moved to the value. Source: Denkowski and Lavie (2014).

    Raises:
        WorkError: Java failed.
    """
    from pycocoevalcap.meteor.meteor import Meteor

    scorer = Meteor()
    try:
        value, per_image = scorer.compute_score(*corpus.by_image)
    except (OSError, ValueError) as error:
        # The scorer still holds its lock, which it would wait for when it is deleted.
        scorer.lock.release()
        with suppress(OSError):
            scorer.meteor_p.stdin.close()
        raise WorkError(
            f"METEOR's Java program failed ({error}); it needs 2 GB of memory. Leave it out of metrics=[…]."
        ) from error
    mean = CaptionScore.mean("meteor", per_image)
    moved = mean.interval and mean.interval.mapped(lambda end: end + value - mean.value)
    return replace(mean, value=value, interval=moved)


def spice(corpus: CaptionCorpus) -> CaptionScore:
    """SPICE: F1 over the objects, attributes and relations of the captions. Source: Anderson et al. (2016).

    Raises:
        WorkError: Java failed.
    """
    from pycocoevalcap.spice.spice import Spice

    try:
        _, per_image = Spice().compute_score(*corpus.by_image)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise WorkError(
            f"SPICE's Java program failed ({error}); it wants Java 8. Leave it out of metrics=[…]."
        ) from error
    return CaptionScore.mean("spice", [each["All"]["f"] for each in per_image])
