"""Misspelt keys are found, and what cannot be built is said in one line that names the class."""

from __future__ import annotations

import pytest
from monai.bundle import ConfigParser

from medsr_monai.bundle.configuration import active_parser, merged_config, unread_keys
from medsr_monai.system.errors import InputError

IMPORTS = ["$from medsr_monai.bundle import configuration", "$from medsr_monai.system.errors import or_exit"]


def parser_of(**items) -> ConfigParser:
    return ConfigParser({"imports": IMPORTS, **items})


def said(parser: ConfigParser, name: str, capsys) -> str:
    with pytest.raises(SystemExit) as caught:
        parser.get_parsed_content(name)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_merged_config_is_the_text_of_the_bundle_with_its_overrides():
    parser = parser_of(scale=2, twice="$@scale * 2", all="$configuration.merged_config()")
    parser["scale"] = 3
    parser["component"] = {"_target_": "medsr_monai.bundle.configuration.merged_config"}
    for name in ("all", "component"):
        found = parser.get_parsed_content(name)
        assert found["scale"] == 3 and found["twice"] == "$@scale * 2"
    found["scale"] = 7
    assert parser["scale"] == 3, "it is a copy"


@pytest.mark.parametrize("function", [merged_config, active_parser])
def test_without_a_bundle_there_is_nothing_to_see(function):
    with pytest.raises(InputError, match="no bundle is being parsed"):
        function()


def test_a_key_that_nothing_reads_is_refused_with_the_one_that_is_meant(capsys):
    check = {"initialize": "$or_exit(configuration.check_keys)", "run": "$@max_epochs", "max_epochs": 4}
    parser_of(**check).get_parsed_content("initialize")
    line = said(parser_of(**check, max_epoch=3), "initialize", capsys)
    assert line == "error: max_epoch: nothing in the configuration reads it; 'max_epochs' is meant?"
    assert "remove it" in said(parser_of(**check, zzz=3), "initialize", capsys)


def test_a_key_that_another_configuration_has_is_an_overlays(capsys, tmp_path):
    other = tmp_path / "train.json"
    other.write_text('{"loss": null}')
    check = {"initialize": f"$or_exit(configuration.check_keys, '{other}', '{tmp_path}/missing.json')", "run": 1}
    parser_of(**check, loss=1).get_parsed_content("initialize")
    assert "los: nothing" in said(parser_of(**check, los=1), "initialize", capsys)


def test_a_text_that_monai_changes_is_refused(capsys):
    check = {"initialize": "$or_exit(configuration.check_keys)", "run": "$@folder", "folder": "out"}
    parser_of(**check).get_parsed_content("initialize")
    line = said(parser_of(**{**check, "folder": "out/a#b"}), "initialize", capsys)
    assert line.startswith("error: folder 'out/a#b': MONAI reads '#'")


def test_keys_that_are_read_inside_others_and_those_of_monai_are_known():
    config = {"_meta_": {}, "run": ["$f(@a#b, [@c])", "$configuration.build('e', 'f#g')"], "a": {"b": "@d"}, "c": 1}
    config |= {"d": 2, "e": 3, "f": {"g": 4}, "network_def": None, "typo": 5}
    assert unread_keys(config) == ["typo"]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"_target_": "medsr_monai.networks.VGGDiscriminator", "spatial_dims": 4}, "spatial_dims 4: must be 2 or 3"),
        (
            {"_target_": "medsr_monai.networks.VGGDiscriminator", "spatial_dims": 3, "nrom": "none"},
            "medsr_monai.networks.VGGDiscriminator: cannot be built with these settings: "
            "VGGDiscriminator.__init__() got an unexpected keyword argument 'nrom'",
        ),
        ({"_target_": "torch.nn.Conv2d", "in_channels": "a"}, "torch.nn.Conv2d: cannot be built with these settings"),
    ],
    ids=["refused", "unknown-argument", "wrong-type"],
)
def test_what_a_class_refuses_is_one_line(item, expected, capsys):
    parser = parser_of(outer={"_target_": "medsr_monai.training.losses.PerceptualLoss", "features": "@item"}, item=item)
    parser["initialize"] = "$or_exit(configuration.build, 'outer')"
    assert expected in said(parser, "initialize", capsys)


def test_what_is_built_stays_built():
    parser = parser_of(layer={"_target_": "torch.nn.ReLU"}, initialize="$configuration.build('layer')", run="@layer")
    parser.get_parsed_content("initialize")
    assert parser.get_parsed_content("run") is parser.get_parsed_content("layer")


def test_a_mistake_in_an_expression_keeps_its_stack():
    parser = parser_of(bad="$1 / 0", initialize="$or_exit(configuration.build, 'bad')")
    with pytest.raises(RuntimeError, match="Failed to evaluate"):
        parser.get_parsed_content("initialize")
