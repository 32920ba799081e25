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
        "How good is it: sharpness, noise, artefacts?",
        (
            ("Very poor", "structures cannot be seen"),
            ("Poor", "structures hidden by blur or noise"),
            ("Fair", "structures seen, clearly degraded"),
            ("Good", "slight blur, noise or artefacts"),
            ("Excellent", "hardly any flaw"),
        ),
    ),
    Question(
        "diagnostic_usefulness",
        "Diagnostic usefulness",
        "How far would you rely on it for a diagnosis?",
        (
            ("None", "no diagnosis possible"),
            ("Slight", "gross findings only"),
            ("Moderate", "usual findings, with doubt"),
            ("Good", "most findings, with confidence"),
            ("Full", "all findings, with confidence"),
        ),
    ),
)
