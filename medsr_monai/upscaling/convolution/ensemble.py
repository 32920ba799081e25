"""The streamed mean over the symmetries of a network: every member sees the same slabs in the same order.

To mirror the image, apply the network and mirror the result is the same as to mirror the weights. So no member reads
the image backwards, and the mean and the deviation of a slab are known as soon as all members have computed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from medsr_monai.upscaling.convolution.network import Read, StreamedNetwork


def _shared(read: Read, readers: int) -> Read:
    """Slabs for several readers; each slab is read once and kept until the last reader has taken it."""
    waiting: dict[tuple[int, int], list[Tensor]] = {}

    def take(start: int, stop: int) -> Tensor:
        if not waiting.get((start, stop)):
            waiting[start, stop] = [read(start, stop)] * readers
        return waiting[start, stop].pop()

    return take


class StreamedEnsemble:
    """Members that are streamed side by side, with the interface of :class:`StreamedNetwork`.

    Args:
        members: networks with the same scale, streamed axis and slab thickness.
        deviation: also return the standard deviation over the members, in channels after those of the mean.
    """

    def __init__(self, members: Sequence[StreamedNetwork], deviation: bool = False) -> None:
        self.members = list(members)
        self.deviation = deviation
        first = self.members[0]
        self.network, self.axis, self.slab, self.scale = first.network, first.axis, first.slab, first.scale
        radii = zip(*(member.receptive_radius for member in self.members), strict=True)
        self.receptive_radius = tuple((max(a for a, _ in pairs), max(b for _, b in pairs)) for pairs in radii)

    def stream(self, read: Read, extent: int) -> Iterator[tuple[slice, Tensor]]:
        """As :meth:`StreamedNetwork.stream`."""
        shared = _shared(read, len(self.members))
        streams = [member.stream(shared, extent) for member in self.members]
        dim, done = 2 + self.axis, 0
        waiting: list[Tensor | None] = [None] * len(streams)
        while done < extent * self.scale[self.axis]:
            # A member with a mirrored kernel along the axis may be some slices ahead of the others.
            parts = [next(s)[1] if part is None else part for s, part in zip(streams, waiting, strict=True)]
            size = min(part.shape[dim] for part in parts)
            waiting = [
                part.narrow(dim, size, part.shape[dim] - size) if part.shape[dim] > size else None for part in parts
            ]
            yield slice(done, done + size), self._joined([part.narrow(dim, 0, size) for part in parts])
            done += size

    def _joined(self, parts: list[Tensor]) -> Tensor:
        with torch.inference_mode():
            mean = parts[0].float()
            for count, part in enumerate(parts[1:], start=2):
                mean = mean + (part - mean) / count
            if not self.deviation:
                return mean
            squares = torch.zeros_like(mean)
            for part in parts:
                squares += (part - mean).square()
            return torch.cat((mean, (squares / len(parts)).sqrt()), dim=1)

    def window_bytes(self, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> int:
        """As :meth:`StreamedNetwork.window_bytes`: one member runs at a time, but all members keep slices."""
        first, *others = self.members
        return first.window_bytes(shape, dtype) + sum(member.held_bytes(shape, dtype) for member in others)
