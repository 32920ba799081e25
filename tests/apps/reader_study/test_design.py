"""Orders: every picture once, repeats late, no case twice in a row, and nothing that gives a method away."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from medsr_monai.system.errors import InputError
from medsr_reader_study.design import draw_items

METHODS = ("cubic", "sr", "sr@1", "hr")
PAIRS = [(f"case{n}", method) for n in range(8) for method in METHODS]


@pytest.mark.parametrize("reader", [1, 2, 3])
def test_every_picture_comes_once_and_some_twice(reader):
    items = draw_items(PAIRS, 0.1, 0, reader)
    first = [item for item in items if item.repeat_of is None]
    again = [item for item in items if item.repeat_of is not None]
    assert sorted((item.case, item.method) for item in first) == sorted(PAIRS)
    assert len(again) == 4 and len({item.repeat_of for item in again}) == 4  # 3.2, rounded up
    assert len({item.item for item in items}) == len(items)
    of = {item.item: item for item in items}
    for item in again:
        assert (of[item.repeat_of].case, of[item.repeat_of].method) == (item.case, item.method)
        assert items.index(item) - items.index(of[item.repeat_of]) >= len(PAIRS) // 3


def test_no_case_follows_itself():
    for reader in range(1, 40):
        items = draw_items(PAIRS, 0.2, 7, reader)
        assert all(a.case != b.case for a, b in pairwise(items))


def test_readers_and_seeds_differ_and_the_same_seed_does_not():
    orders = [draw_items(PAIRS, 0.1, seed, reader) for seed in (0, 1) for reader in (1, 2, 3)]
    assert len({tuple((item.case, item.method) for item in items) for items in orders}) == 6
    assert len({item.item for items in orders for item in items}) == sum(map(len, orders))
    assert draw_items(PAIRS, 0.1, 1, 2) == orders[4]


def test_position_and_identifier_tell_nothing_of_the_method():
    """Over many readers each method's mean position, and mean identifier as a number, is that of all."""
    positions: dict[str, list[float]] = {method: [] for method in METHODS}
    identifiers: dict[str, list[float]] = {method: [] for method in METHODS}
    for reader in range(300):
        items = draw_items(PAIRS, 0.0, 0, reader)
        for position, item in enumerate(items):
            positions[item.method].append(position / (len(items) - 1))
            identifiers[item.method].append(int(item.item, 16) / 2 ** (4 * len(item.item)))
    error = 5 / np.sqrt(12 * 300 * 8)  # five standard errors of a mean of uniform numbers
    for found in (positions, identifiers):
        assert all(abs(np.mean(values) - 0.5) < error for values in found.values())


@pytest.mark.parametrize(("cases", "methods"), [(1, 3), (2, 1), (1, 1), (2, 4)])
def test_tiny_studies_have_an_order(cases, methods):
    pairs = [(f"c{c}", f"m{m}") for c in range(cases) for m in range(methods)]
    assert len(draw_items(pairs, 0.5, 0, 1)) == len(pairs) + len(pairs) // 2


@pytest.mark.parametrize(
    ("repeats", "seed", "words"),
    [(-0.1, 0, "--repeats"), (0.6, 0, "--repeats"), ("a", 0, "--repeats"), (0.1, -1, "--seed"), (0.1, 1.5, "--seed")],
)
def test_refuses(repeats, seed, words):
    with pytest.raises(InputError, match=words):
        draw_items(PAIRS, repeats, seed, 1)
