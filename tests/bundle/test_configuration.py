"""Misspelt keys are found, and what cannot be built is said in one line that names the class."""

from __future__ import annotations

import json

import pytest
from monai.bundle import ConfigParser

from medsr_monai.bundle.configuration import active_parser, merged_config, unread_keys
from medsr_monai.system.errors import InputError, find_input_error

CHECK = {"initialize": "$medsr_monai.check_configuration()"}


def parser_of(**items) -> ConfigParser:
    return ConfigParser({"imports": ["$import medsr_monai"], **items})


def said(parser: ConfigParser, name: str = "initialize") -> str:
    with pytest.raises(RuntimeError) as caught:
        parser.get_parsed_content(name)
    error = find_input_error(caught.value)
    assert error is not None
    (line,) = str(error).splitlines()
    return line


def test_merged_config_is_the_text_of_the_bundle_with_its_overrides():
    parser = parser_of(scale=2, twice="$@scale * 2", all="$medsr_monai.merged_config()")
    parser["scale"] = 3
    parser["component"] = {"_target_": "medsr_monai.merged_config"}
    for name in ("all", "component"):
        found = parser.get_parsed_content(name)
        assert found["scale"] == 3 and found["twice"] == "$@scale * 2"
    found["scale"] = 7
    assert parser["scale"] == 3, "it is a copy"


@pytest.mark.parametrize("function", [merged_config, active_parser])
def test_without_a_bundle_there_is_nothing_to_see(function):
    with pytest.raises(InputError, match="no bundle is being parsed"):
        function()


def test_a_key_that_nothing_reads_is_refused_with_the_one_that_is_meant():
    config = {**CHECK, "run": "$@max_epochs", "max_epochs": 4, "bundle_root": "."}
    parser_of(**config).get_parsed_content("initialize")
    assert said(parser_of(**config, max_epoch=3)) == (
        "max_epoch: nothing in the configuration reads it; 'max_epochs' is meant?"
    )
    assert "remove it" in said(parser_of(**config, zzz=3))


def test_a_key_that_the_bundle_has_is_no_mistake_but_one_of_another_workflow_is(tmp_path):
    (tmp_path / "configs").mkdir()
    for name, key in (("train", "loss"), ("train_gan", "objective"), ("inference", "stream")):
        (tmp_path / "configs" / f"{name}.json").write_text(json.dumps({key: None}))
    config = {**CHECK, "run": 1, "bundle_root": str(tmp_path)}
    parser_of(**config, loss=1, objective=2, stream="auto").get_parsed_content("initialize")
    assert "los: nothing" in said(parser_of(**config, los=1))
    training = {**config, "run": "$@train.run()", "train": {}}
    parser_of(**training, loss=1).get_parsed_content("initialize")
    assert "objective: nothing" in said(parser_of(**training, objective=2))
    assert "stream: nothing" in said(parser_of(**training, stream="auto"))


def test_a_text_that_monai_changes_is_refused():
    config = {**CHECK, "run": "$@folder"}
    parser_of(**config, folder="out").get_parsed_content("initialize")
    assert said(parser_of(**config, folder="out/a#b")).startswith("folder 'out/a#b': MONAI reads '#'")


def test_every_setting_is_checked_where_it_is_and_so_are_those_that_hang_together():
    config = {**CHECK, "run": "$@batch_size, @decay, @uncertainty, @ensemble, @output_suffix"}
    config |= {
        "batch_size": 2,
        "decay": "$@batch_size * 2",
        "uncertainty": True,
        "ensemble": 2,
        "output_suffix": ".nii",
    }
    parser_of(**config).get_parsed_content("initialize")
    assert said(parser_of(**{**config, "batch_size": "foo"})).startswith("batch_size 'foo'"), "not what becomes of it"
    assert said(parser_of(**{**config, "decay": "$-@batch_size"})).startswith("decay '-2'")
    assert "needs an ensemble of 2" in said(parser_of(**{**config, "ensemble": 1}))
    del config["ensemble"]
    config["run"] = "$@batch_size, @decay, @uncertainty, @output_suffix"
    parser_of(**config).get_parsed_content("initialize")


def test_keys_that_are_read_inside_others_and_those_of_monai_are_known():
    config = {"_meta_": {}, "run": ["$f(@a#b, [@c])", "$medsr_monai.build('e', 'f#g')"], "a": {"b": "@d"}, "c": 1}
    config |= {"d": 2, "e": 3, "f": {"g": 4}, "network_def": None, "typo": 5}
    assert unread_keys(config) == ["typo"]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"_target_": "medsr_monai.VGGDiscriminator", "spatial_dims": 4}, "spatial_dims 4: must be 2 or 3"),
        (
            {"_target_": "medsr_monai.VGGDiscriminator", "spatial_dims": 3, "nrom": "none"},
            "medsr_monai.VGGDiscriminator: cannot be built with these settings: "
            "VGGDiscriminator.__init__() got an unexpected keyword argument 'nrom'",
        ),
        ({"_target_": "torch.nn.Conv2d", "in_channels": "a"}, "torch.nn.Conv2d: cannot be built with these settings"),
    ],
    ids=["refused", "unknown-argument", "wrong-type"],
)
def test_what_a_class_refuses_is_one_line(item, expected):
    parser = parser_of(outer={"_target_": "medsr_monai.PerceptualLoss", "features": "@item"}, item=item)
    parser["initialize"] = "$medsr_monai.build('outer')"
    assert expected in said(parser)


def test_what_is_built_stays_built():
    parser = parser_of(layer={"_target_": "torch.nn.ReLU"}, initialize="$medsr_monai.build('layer')", run="@layer")
    assert parser.get_parsed_content("initialize") is parser.get_parsed_content("layer")
    assert parser.get_parsed_content("run") is parser.get_parsed_content("layer")


def test_a_mistake_in_an_expression_keeps_its_stack():
    parser = parser_of(bad="$1 / 0", initialize="$medsr_monai.build('bad')")
    with pytest.raises(RuntimeError, match="Failed to evaluate"):
        parser.get_parsed_content("initialize")
