"""Slices on disk and in memory are the same image, and a folder without room is one line."""

from __future__ import annotations

import pytest
import torch

from medsr_monai.system.errors import InputError
from medsr_monai.system.scratch import SliceFile, SliceMemory


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_what_is_written_is_read(axis, tmp_path):
    shape = (4, 5, 6)
    image = torch.rand(1, 1, *shape)
    across = 0 if axis else 1
    with SliceFile(shape, axis, tmp_path) as on_disk:
        for store in (on_disk, SliceMemory(shape, axis)):
            assert not store.read(0, shape[axis]).any()
            store.write(1, image.narrow(axis + 2, 1, 2))
            assert torch.equal(store.read(1, 3), image.narrow(axis + 2, 1, 2))
            store.write(0, image.narrow(across + 2, 1, 2), slice(1, 3))
            part = image.narrow(across + 2, 1, 2)
            assert torch.equal(store.read(0, shape[axis], slice(1, 3)), part)
            assert torch.equal(store.read(2, 4, slice(2, 3)), part.narrow(axis + 2, 2, 2).narrow(across + 2, 1, 1))
        place = (slice(1, 3), slice(2, 5), slice(0, 2))
        on_disk.write_part(place, 2 * image[(..., *place)])
        assert torch.equal(on_disk.read(0, shape[axis])[(..., *place)], 2 * image[(..., *place)])
        assert not list(tmp_path.iterdir())


def test_no_room_names_the_folder(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"nowhere: cannot hold the temporary file \(No such file"):
        SliceFile((2, 2, 2), 0, tmp_path / "nowhere")
    with SliceFile((2, 2, 2), 0, tmp_path) as on_disk:

        class Full:
            def seek(self, *_: int) -> None: ...

            def write(self, *_: object) -> None:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr(on_disk, "_file", Full())
        with pytest.raises(InputError, match=r"No space left on device.*scratch_dir"):
            on_disk.write(0, torch.zeros(1, 1, 1, 2, 2))
