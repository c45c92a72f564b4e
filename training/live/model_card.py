"""Writes MODEL_CARD.md: what the live model was trained on, how well it does, and where it does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgeemo.training.live.calibration import Calibration

DATA: tuple[dict[str, str], ...] = (
    {
        "name": "RAVDESS speech (speech_ravdess)",
        "licence": "CC BY-NC-SA 4.0",
        "use": "voice stem, trunk; 18 actors to train, 2 to select",
    },
    {
        "name": "nEMO (speech_nemo_pl)",
        "licence": "CC BY-NC-SA 4.0",
        "use": "voice stem, trunk; 5 speakers to train, 2 to select",
    },
    {
        "name": "EMO-DB (speech_emodb)",
        "licence": "research use",
        "use": "voice stem, trunk; 6 speakers to train, 2 to select",
    },
    {
        "name": "FER+ (ferplus)",
        "licence": "labels MIT, rights of the images unclear",
        "use": "face stem (7 of 8 train rows), trunk (all train rows); val to select",
    },
    {
        "name": "GoEmotions (goemotions)",
        "licence": "CC BY 4.0",
        "use": "text stem (7 of 8 train rows), trunk (all train rows); dev to select",
    },
    {
        "name": "MELD text (meld_text)",
        "licence": "GPL-3.0",
        "use": "text stem (7 of 8 train rows), trunk (all train rows); dev to select",
    },
    {
        "name": "ISEAR (isear_text)",
        "licence": "research use",
        "use": "text stem (7 of 8 train rows), trunk (all train rows); dev to select",
    },
)

LICENCE: dict[str, Any] = {
    "weights": "CC BY-NC-SA 4.0",
    "non_commercial": True,
    "notice": "These weights were learned in part from data licensed for non-commercial use "
    "(RAVDESS, nEMO: CC BY-NC-SA 4.0) and for research (EMO-DB, ISEAR): do not use them commercially.",
}

_LIMITS = """\
- Voices are acted, faces are single pictures, texts are short and mostly English. None of it is how
  people feel; it is how others labelled what they showed, said or wrote.
- FER+ holds few faces of fear and disgust (575 and 155 in train), and of children and old people; accuracy
  differs between groups of people in ways that these data cannot show.
- No corpus has voice, face and words of one person in one clip. Windows of two or three modalities are
  **label-matched**: a voice, a face and a text of different people under the same label. Given the label they
  are independent, so these figures overstate what fusion gains on real people.
- The validation speakers, faces and texts were never trained on, but epochs and temperatures were chosen
  on them, which flatters the figures slightly. Two speakers a speech corpus are few: read their figures
  with an error of about five points.
- Not for decisions about people: not for hiring, policing, schooling, credit, health or border control.
"""


_TRIED = """\
- Faces: a residual network of 1.9 M parameters reached 84.8 % on FER+ val after 18 epochs, less than the
  stem itself (85.6 % on a plain crop). A stem taught by both for 44 epochs had 85.5 %. The mean of all of
  them on a crop and its mirror image had 86.4 %, the stem alone on both 86.3 %: that is what ships.
- Voices: three teachers (61, 67 and 62 % UAR on RAVDESS; 64, 57 and 54 on nEMO; 90, 79 and 76 on EMO-DB)
  have 69, 64 and 86 together. The stem that they taught gained on RAVDESS and lost on the other two.
- Texts: the linear teachers reach 66.0 % on GoEmotions and 58.2 % (weighted F1 54.9) on MELD, each with the
  corpus known: about what these data give without pre-trained words.
"""


def model_card(
    *,
    labels: Sequence[str],
    stems: Mapping[str, Mapping[str, float]],
    trunks: Mapping[str, Mapping[str, float]],
    chosen: str,
    report: Mapping[str, Mapping[str, Mapping[str, float]]],
    priors: Mapping[str, Sequence[float]],
    calibration: Calibration,
    sizes: Mapping[str, int],
) -> str:
    """Returns the card as Markdown.

    Args:
        labels: class names.
        stems: modality -> metrics of the stem under the head it was trained with.
        trunks: family -> figures of its best epoch, ``score`` among them.
        chosen: the family that ships.
        report: subset -> check -> figures, from `edgeemo.training.live.measure.measure_trunk`.
        priors: subset -> class probabilities.
        calibration: temperatures and their cross-fitted errors.
        sizes: part -> number of parameters.
    """
    return "\n".join(
        (
            "# Model card: edgeemo live",
            "",
            "A small network that names one of seven emotions (" + ", ".join(labels) + ") from a voice, a",
            f"face, words, or any combination of them: three frozen stems, a trunk of the {chosen} family,",
            "a common low-rank adapter and one for each of the seven subsets (arXiv 2507.11202).",
            "",
            f"**Licence of the weights: {LICENCE['weights']}.** {LICENCE['notice']}",
            "",
            "## Data",
            "",
            *_table(("data", "licence", "use"), [(d["name"], d["licence"], d["use"]) for d in DATA]),
            "",
            "Speech is split by speaker, ISEAR by subject, the others by their published splits; test",
            "splits were not used. Every eighth train row of faces and texts was kept from the stems, for",
            "the trunk; half of the faces and texts that the trunk was trained on are such rows. The voice",
            "stem has seen all train speakers, so the trunk meets voices that the stem knows.",
            "",
            "## Figures on val and dev",
            "",
            "One modality, each corpus by itself. Speech: the probabilities of all 4 s windows of a clip are",
            "averaged. Faces: one still face fills the window (ferplus), or one slot of it (glimpse). Texts:",
            "rows with exactly one label.",
            "",
            *_table(_HEAD, _rows(report, lambda subset: "+" not in subset)),
            "",
            "Two and three modalities, **label-matched** windows of different people (see Limits):",
            "",
            *_table(_HEAD, _rows(report, lambda subset: "+" in subset)),
            "",
            "The stems alone, under the heads they were trained with and that are thrown away:",
            "",
            *_table(
                ("stem", "metric", "value"),
                [
                    (modality, name.replace("_", " "), f"{value:.3f}")
                    for modality, metrics in stems.items()
                    for name, value in metrics.items()
                    if name not in ("loss", "faces") and "." not in name
                ],
            ),
            "",
            "## Choice of the trunk",
            "",
            "Each family was trained with the same stems, data, steps and adapters, with dynamic training",
            "ratios measured on validation windows. The score is the mean over the seven subsets (UAR;",
            "accuracy for words and faces) at the best epoch; label-matched windows flatter all alike.",
            "",
            *_table(
                ("family", "score", *_SHOWN),
                [
                    (
                        f"**{family}**" if family == chosen else family,
                        f"{metrics['score']:.3f}",
                        *(f"{metrics[name]:.3f}" if name in metrics else "" for name in _SHOWN),
                    )
                    for family, metrics in trunks.items()
                ],
            ),
            "",
            "## Prior and temperature",
            "",
            "The logits are free of any prior (trained with logit adjustment, arXiv 2007.07314). A session",
            "computes `softmax(logits / temperature + log prior)` with the prior of the subset below:",
            "uniform for the voice (balanced training), that of FER+ train to the power of 1.3 for faces,",
            "that of the training texts for words, and the normalised geometric mean of its members' for a",
            "larger subset. What a text tells about its source (comment, dialogue, report) is evidence.",
            "Replace it in the manifest with that of your application. The calibration error below is over",
            "all corpora of the subset but ISEAR, each half of the items under the temperature of the other.",
            "",
            *_table(
                ("subset", "temperature", "calibration error", *labels),
                [
                    (
                        subset,
                        f"{calibration.temperatures[subset]:.2f}",
                        f"{calibration.errors[subset]:.3f}",
                        *(f"{value:.3f}" for value in prior),
                    )
                    for subset, prior in priors.items()
                ],
            ),
            "",
            "## Size",
            "",
            *_table(("part", "parameters"), [(part, f"{count:,}") for part, count in sizes.items()]),
            "",
            "## Tried",
            "",
            _TRIED,
            "## Limits",
            "",
            _LIMITS,
        )
    )


_SHOWN = (
    "audio.speech_ravdess.uar",
    "video.ferplus_glimpse.accuracy",
    "text.goemotions.accuracy",
    "audio+video+text.label_matched.uar",
)
_HEAD = ("subset", "data", "n", "accuracy", "UAR", "macro-F1", "weighted F1", "calibration error")


def _rows(report: Mapping[str, Mapping[str, Mapping[str, float]]], wanted: Any) -> list[tuple[str, ...]]:
    return [
        (
            subset,
            name.replace("_matched", "-matched").replace("_glimpse", ", glimpse"),
            f"{figures['n']:.0f}",
            *(
                f"{figures[key]:.3f}"
                for key in ("accuracy", "uar", "macro_f1", "weighted_f1", "calibration_error")
            ),
        )
        for subset, checks in report.items()
        if wanted(subset)
        for name, figures in checks.items()
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return [lines[0], "|" + "---|" * len(head), *lines[1:]]
