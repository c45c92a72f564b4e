"""Names of models in a repository: made of a kind and the modalities, and read back without doubt.

A model's name is a folder, a part of a URL and a label in metrics. A plus sign means a space in some URLs,
so the modalities of a subset are joined by hyphens, which no modality's name can hold.
"""

from __future__ import annotations

from edgeemo.modality import subset_members

STEM = "stem"
"""A whole window of front-end features -> features."""
STEM_BLOCK = "stem_block"
"""One block of a stream -> its features, for a device that keeps the window itself."""
ENGINE = "engine"
"""Features -> logits and evidence."""
PROBABILITIES = "probabilities"
"""Logits -> probabilities."""
EMOTION = "emotion"
"""The ensemble: whole windows of front-end features -> probabilities, logits and evidence."""
FROM_FEATURES = "emotion_from_features"
"""The ensemble for a device that runs the stems itself: features -> the same."""
JOINT = "-"


def model_name(kind: str, subset: str) -> str:
    """Returns the model's name, such as ``emotion-audio-video`` for ``audio+video``.

    Args:
        kind: one of the words above.
        subset: canonical; for a stem its modality.
    """
    return JOINT.join((kind, *subset_members(subset)))
