"""What readers are asked: two questions with five anchored answers each."""

from __future__ import annotations

from dataclasses import dataclass

LOWEST, HIGHEST = 1, 5


@dataclass(frozen=True)
class Question:
    """A question by its name in the files, as it is put, and what each answer from 1 to 5 means: (word, sentence)."""

    name: str
    title: str
    text: str
    anchors: tuple[tuple[str, str], ...]


QUESTIONS = (
    Question(
        "image_quality",
        "Image quality",
        "How good is the picture itself: sharpness, noise, artefacts?",
        (
            ("Very poor", "structures cannot be made out"),
            ("Poor", "blur, noise or artefacts hide structures"),
            ("Fair", "structures are seen, but clearly degraded"),
            ("Good", "slight blur, noise or artefacts"),
            ("Excellent", "no blur, noise or artefacts to speak of"),
        ),
    ),
    Question(
        "diagnostic_usefulness",
        "Diagnostic usefulness",
        "How far would you rely on it for the examination's usual question?",
        (
            ("None", "no diagnosis is possible"),
            ("Slight", "only gross findings can be judged"),
            ("Moderate", "the usual findings can be judged, with doubt"),
            ("Good", "most findings can be judged with confidence"),
            ("Full", "all that the examination can show, with confidence"),
        ),
    ),
)
