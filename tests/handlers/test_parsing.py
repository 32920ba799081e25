"""A bundle's JSON gets at its own text, and what a component refuses is bad input like any other."""

from __future__ import annotations

import re

import pytest
from monai.bundle import ConfigParser

from medsr_monai.errors import EXIT_STATUS, InputError
from medsr_monai.handlers import build, merged_config


def test_merged_config_is_the_text_of_the_bundle_with_its_overrides():
    parser = ConfigParser({"scale": 2, "twice": "$@scale * 2", "all": "$handlers.merged_config()"})
    parser["imports"] = ["$import medsr_monai.handlers as handlers"]
    parser["component"] = {"_target_": "medsr_monai.handlers.merged_config"}
    parser["scale"] = 3
    expected = {"scale": 3, "twice": "$@scale * 2"}
    for name in ("all", "component"):
        found = parser.get_parsed_content(name)
        assert {key: found[key] for key in expected} == expected
        found["scale"] = 9
        assert parser["scale"] == 3, "a copy"
    with pytest.raises(InputError, match="no bundle is being parsed"):
        merged_config()


def parser_that_builds(loss: dict) -> ConfigParser:
    imports = ["$import medsr_monai.handlers as handlers", "$from medsr_monai.errors import or_exit"]
    trainer = {"_target_": "builtins.dict", "loss": "@loss"}
    run = ["$or_exit(handlers.build, 'train#trainer')", "$@train#trainer['loss']"]
    return ConfigParser({"imports": imports, "loss": loss, "train": {"trainer": trainer}, "run": run})


def test_a_component_is_built_once_and_shared():
    parser = parser_that_builds({"_target_": "medsr_monai.losses.Hinge", "r1_weight": 2})
    built, loss = parser.get_parsed_content("run", instantiate=True, eval_expr=True)
    assert built["loss"] is loss and loss.r1_weight == 2


REFUSED = {
    "by-the-component": ({"_target_": "medsr_monai.losses.Hinge", "r1_weight": -1}, "error: r1_weight -1: must be"),
    "no-such-argument": (
        {"_target_": "medsr_monai.losses.Hinge", "weight": 1},
        "error: component 'medsr_monai.losses.Hinge': unexpected keyword argument 'weight'; check its spelling",
    ),
    "no-such-file": (
        {"_target_": "medsr_monai.networks.VGG19Features", "weights": "/nix/vgg.pth"},
        "error: /nix/vgg.pth: no such weights",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_a_component_refuses_is_one_line(case, capsys):
    loss, said = REFUSED[case]
    with pytest.raises(SystemExit) as caught:
        parser_that_builds(loss).get_parsed_content("run")
    assert caught.value.code == EXIT_STATUS
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and re.match(said, lines[0]), lines


def test_another_error_stays_what_it_is():
    with pytest.raises(RuntimeError, match="Failed to evaluate"):
        parser_that_builds({"_target_": "builtins.open", "file": "/nix"}).get_parsed_content("run")


def test_outside_a_bundle_there_is_nothing_to_build():
    with pytest.raises(InputError, match="build: no bundle is being parsed"):
        build("train")
