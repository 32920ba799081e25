"""Who reads what in which order: every reader every picture, in an order of their own, some of them twice."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medsr_monai.system.errors import InputError

ID_BYTES = 5


@dataclass(frozen=True)
class Item:
    """One picture as one reader gets it: an identifier that tells nothing, and what it stands for.

    repeat_of: the identifier of the first showing, None where this is the first.
    """

    item: str
    case: str
    method: str
    repeat_of: str | None = None


def draw_items(pairs: Sequence[tuple[str, str]], repeats: float, seed: int, reader: int) -> list[Item]:
    """The items of one reader, in order.

    A case does not follow itself where that can be avoided, and a repeat comes at least a third of the session
    after its first showing, so that neither can be compared from memory with what was just seen.

    Args:
        pairs: case and method of every picture.
        repeats: share of the pictures that are shown twice, rounded up, at most a half.
        seed: of the whole study, 0 or more.
        reader: number of the reader; each has an order and identifiers of their own.
    """
    if isinstance(repeats, bool) or not isinstance(repeats, int | float) or not 0 <= repeats <= 0.5:
        raise InputError(f"--repeats {repeats}: need a share from 0 to 0.5")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"--seed {seed}: must be a whole number, 0 or more")
    rng = np.random.default_rng([seed, reader])
    first = spread(pairs, rng)
    # 0.1 * 30 is 3.0000000000000004: rounding up must not make four of it.
    repeated = min(math.ceil(round(repeats * len(first), 6)), len(first) // 2)
    slots = repeat_slots(first, repeated, rng)
    drawn: dict[str, None] = {}
    while len(drawn) < len(first) + repeated:
        drawn.setdefault(rng.bytes(ID_BYTES).hex())
    ids = list(drawn)
    items = [Item(ids[i], *pair) for i, pair in enumerate(first)]
    order: list[tuple[float, Item]] = [(float(i), item) for i, item in enumerate(items)]
    for n, (index, slot) in enumerate(slots):
        again = Item(ids[len(first) + n], *first[index], repeat_of=items[index].item)
        order.append((slot - 0.5, again))
    return [item for _, item in sorted(order, key=lambda entry: entry[0])]


def spread(pairs: Sequence[tuple[str, str]], rng: np.random.Generator) -> list[tuple[str, str]]:
    """A random order in which no case follows itself, where that can be."""
    left = [pairs[i] for i in rng.permutation(len(pairs))]
    order: list[tuple[str, str]] = []
    while left:
        previous = order[-1][0] if order else None
        allowed = [pair for pair in left if pair[0] != previous] or left
        most, count = Counter(case for case, _ in left).most_common(1)[0]
        # A case that has more than half of what is left must come now, or it would have to follow itself later.
        if most != previous and count > math.ceil((len(left) - 1) / 2):
            allowed = [pair for pair in left if pair[0] == most]
        order.append(allowed[0])
        left.remove(allowed[0])
    return order


def repeat_slots(order: Sequence[tuple[str, str]], repeats: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Which pictures are shown again, and before which picture: pairs of indices into the order (its length: the end).

    Only pictures of the first half, so that a third of the session can lie between and there is a choice of slots. No
    two repeats share a slot, and no slot is beside a picture of the same case, while there are others.
    """
    half = len(order) // 2
    taken: set[int] = set()
    slots = []
    for index in sorted(rng.permutation(half)[:repeats].tolist(), reverse=True):
        late = list(range(index + max(1, len(order) // 3), len(order) + 1))
        case = order[index][0]
        apart = [s for s in late if case not in {pair[0] for pair in order[s - 1 : s + 1]}]
        free = [s for s in apart if s not in taken] or apart or late
        slot = int(free[int(rng.integers(len(free)))])
        taken.add(slot)
        slots.append((index, slot))
    return slots
