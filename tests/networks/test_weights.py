"""The dial between two sets of weights: its ends, what lies between, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from medsr_monai.networks import RRDBNet, load_interpolated_weights
from medsr_monai.system.errors import InputError


def network(seed: int, features: int = 4) -> RRDBNet:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return RRDBNet(3, scale=2, features=features, growth=4, dense_blocks=1)


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    for name, seed in (("model", 0), ("model_gan", 1)):
        torch.save(network(seed).state_dict(), tmp_path / f"{name}.pt")
    return tmp_path / "model.pt", tmp_path / "model_gan.pt"


def dialled(files: tuple[Path, Path], perception) -> dict[str, torch.Tensor]:
    return load_interpolated_weights(network(2), *files, perception).state_dict()


def test_the_ends_are_the_two_files(files):
    for perception, file in ((0, files[0]), (0.0, files[0]), (1, files[1]), (1.0, files[1])):
        expected = torch.load(file, weights_only=True)
        found = dialled(files, perception)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("perception", [0.25, 0.5, 0.9])
def test_it_is_linear_between_them(files, perception):
    fidelity, perceptual = (torch.load(file, weights_only=True) for file in files)
    assert any(not torch.equal(fidelity[name], value) for name, value in perceptual.items())
    for name, value in dialled(files, perception).items():
        expected = (1 - perception) * fidelity[name].double() + perception * perceptual[name].double()
        torch.testing.assert_close(value.double(), expected, rtol=0, atol=1e-7, msg=name)


@pytest.mark.parametrize("bad", [-0.1, 1.5, "x", "0.5", True, False, None, float("nan"), float("inf"), [0.5]])
def test_what_is_no_share_is_refused(files, bad):
    with pytest.raises(InputError, match=r"^perception '.*': must be a number from 0"):
        dialled(files, bad)


def test_the_second_file_is_only_needed_when_it_counts(files):
    files[1].unlink()
    dialled(files, 0)
    for perception in (1e-6, 1):
        with pytest.raises(InputError, match=r"model_gan\.pt: no such weights"):
            dialled(files, perception)


def test_files_that_do_not_fit_are_named(files):
    torch.save(network(1, features=6).state_dict(), files[1])
    with pytest.raises(InputError, match=r"model_gan\.pt: these weights are for another network"):
        dialled(files, 0.5)
    files[1].write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"model_gan\.pt: cannot read the weights"):
        dialled(files, 0.5)
    files[0].unlink()
    with pytest.raises(InputError, match=r"model\.pt: no such weights"):
        dialled(files, 0.5)
