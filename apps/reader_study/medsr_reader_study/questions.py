"""What readers are asked: two questions with five answers each, from 1 to 5: its word, and the sentence behind it."""

from __future__ import annotations

from typing import Any

LOWEST, HIGHEST = 1, 5
QUESTIONS: tuple[dict[str, Any], ...] = (
    {
        "name": "image_quality",
        "title": "Image quality",
        "text": "How good is it: sharpness, noise, artefacts?",
        "anchors": [
            ["Very poor", "structures cannot be seen"],
            ["Poor", "structures hidden by blur or noise"],
            ["Fair", "structures seen, clearly degraded"],
            ["Good", "slight blur, noise or artefacts"],
            ["Excellent", "hardly any flaw"],
        ],
    },
    {
        "name": "diagnostic_usefulness",
        "title": "Diagnostic usefulness",
        "text": "How far would you rely on it for a diagnosis?",
        "anchors": [
            ["None", "no diagnosis possible"],
            ["Slight", "gross findings only"],
            ["Moderate", "usual findings, with doubt"],
            ["Good", "most findings, with confidence"],
            ["Full", "all findings, with confidence"],
        ],
    },
)
