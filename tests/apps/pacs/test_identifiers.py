"""What is a UID and an AE title, and how UIDs are logged."""

from __future__ import annotations

import pytest

from medsr_pacs.identifiers import is_ae_title, is_uid, token, without_uids


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("1.2.840.10008.1.2", True), ("2.25.0", True), ("1", False), ("1.02", False), ("1..2", False), (".1.2", False),
     ("1.2.", False), ("1.2\n", False), ("1.a", False), ("../1.2", False), ("1.٣", False), ("1." * 32 + "1", False),
     ("1." * 31 + "11", True)],
)  # fmt: skip
def test_the_grammar_of_uids(text: str, is_one: bool) -> None:
    assert is_uid(text) == is_one


def test_titles_and_logged_uids() -> None:
    assert is_ae_title("A B-1") and not any(map(is_ae_title, ["", " ", "A\\B", "A\n", "Ä", "A" * 17]))
    said = without_uids("at 127.0.0.1:104 and 1.2.3, not 1.2.840.113619.2.5")
    assert said == f"at 127.0.0.1:104 and 1.2.3, not {token('1.2.840.113619.2.5')}"
