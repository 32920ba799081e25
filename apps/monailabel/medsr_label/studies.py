"""The images that a server offers, from a folder that it only reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

from fastapi import HTTPException
from monailabel.datastore.local import LocalDatastore

from medsr_monai.volumes import READABLE_SUFFIXES
from medsr_monai.volumes.dicom import is_dicom

LISTED = 100
READ_ONLY = "the studies are only read: this server stores no images and no labels"


class ReadOnlyStudies(LocalDatastore):
    """MONAI Label's store of images and labels without the labels, and without a way to write.

    Its own book-keeping, which would lie among the images, lies in a folder of the server's.
    """

    def __init__(self, images: Path, state: Path, extensions: tuple[str, ...] = ()) -> None:
        super().__init__(str(state), images_dir=str(images), extensions=extensions, auto_reload=False)

    def status(self) -> dict[str, Any]:
        """What ``info`` says of the studies: how many, and the first of their IDs."""
        images = self.list_images()
        return {"total": len(images), "completed": 0, "label_tags": {}, "images": images[:LISTED]}

    def json(self) -> dict[str, Any]:
        """What there is, as MONAI Label's store describes itself, without where it lies."""
        images = {image: {"image": {"info": self.get_image_info(image)}, "labels": {}} for image in self.list_images()}
        return {"name": self.name(), "objects": images}

    def get_unlabeled_images(self, label_tag: str | None = None, labels: list[str] | None = None) -> list[str]:
        """All of them: there are no labels."""
        return self.list_images()

    def _refuse(self, *given: Any, **named: Any) -> NoReturn:
        raise HTTPException(405, READ_ONLY)

    add_image = remove_image = save_label = remove_label = update_image_info = update_label_info = _refuse
    set_name = set_description = get_dataset_archive = _refuse


class FolderStudies(ReadOnlyStudies):
    """Volumes and DICOM series of one folder, without those of its subfolders.

    The ID of a volume is its name, with or without the suffix; that of a series is the name of its folder or zip.
    """

    def __init__(self, studies: str, state: Path) -> None:
        self.folder = Path(studies)
        super().__init__(self.folder, state, tuple(f"*{suffix}" for suffix in READABLE_SUFFIXES))

    def _files(self) -> dict[str, list[Path]]:
        """Files by ID, looked up now: images come and go."""
        files: dict[str, list[Path]] = {}
        for path in sorted(self.folder.iterdir()):
            name = path.name.lower()
            suffix = max((s for s in READABLE_SUFFIXES if name.endswith(s) and path.is_file()), key=len, default="")
            if path.name.startswith(".") or not (suffix or _is_series(path)):
                continue
            files.setdefault(path.name[: len(path.name) - len(suffix)], []).append(path)
        return files

    def list_images(self) -> list[str]:
        """IDs, sorted; where two files share one, their whole names."""
        found = self._files().items()
        return sorted(name for key, paths in found for name in ([key] if len(paths) == 1 else [p.name for p in paths]))

    def get_image_uri(self, image_id: str) -> str:
        """Path of an image, empty if there is none."""
        found = self._files()
        paths = [p for paths in found.values() for p in paths if p.name == image_id] or found.get(image_id, [])
        if len(paths) > 1:
            names = ", ".join(path.name for path in paths)
            raise HTTPException(409, f"image '{image_id}': there are {names}; name one with its suffix")
        return str(paths[0].resolve()) if paths else ""

    def get_image_info(self, image_id: str) -> dict[str, Any]:
        """Nothing but the file's own name."""
        path = self.get_image_uri(image_id)
        return {"name": Path(path).name} if path else {}


def _is_series(path: Path) -> bool:
    return (path.is_dir() or path.suffix.lower() == ".zip") and is_dicom(path)
