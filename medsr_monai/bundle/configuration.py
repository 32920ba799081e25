"""A bundle's merged configuration, seen from its own expressions: its text, its misspelt keys, and what it builds."""

from __future__ import annotations

import difflib
import inspect
import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

from monai.bundle import ConfigParser
from monai.bundle.properties import InferProperties, TrainProperties
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

from medsr_monai.bundle.settings import CROSS_CHECKS, SETTINGS, check_settings
from medsr_monai.bundle.workflows import bundle_identity
from medsr_monai.system.errors import InputError, find_input_error

__all__ = ["build", "check_configuration", "describe_algorithm", "merged_config"]

# What MONAI looks up by itself: a workflow's steps, the properties of bundles, the settings of `--tracking`.
PROPERTIES = cast(list[dict[str, Any]], [*TrainProperties.values(), *InferProperties.values()])
TRACKING: dict[str, Any] = DEFAULT_EXP_MGMT_SETTINGS
MONAI_KEYS = {
    *("imports", "initialize", "run", "finalize", "execute_config"),
    *(re.split("#|::", item["id"])[0] for item in PROPERTIES),
    *(key for settings in TRACKING.values() for key in settings["configs"]),
}
# What overlays that suit both stages bring for the second one.
SECOND_STAGE = {"discriminator", "discriminator_optimizer"}
# A reference, or a name that an expression gives to `build`.
READ = re.compile(r"[@'](\w+)")
# How a constructor or a reference says that what it was given cannot serve.
REFUSALS = (TypeError, ValueError, AttributeError, KeyError, IndexError, RuntimeError)
NOT_BUILT = re.compile(r"Failed to instantiate component '([^']+)'")


def active_parser() -> ConfigParser:
    """The parser that evaluates the expression in which this is called.

    MONAI hands an expression neither its parser nor the text of other items, and a macro (``%``) would build every
    object of the copied text once more; so this looks for the parser among the callers.

    Raises:
        InputError: called by no ``ConfigParser``.
    """
    frame = inspect.currentframe()
    try:
        while frame is not None:
            parser = frame.f_locals.get("self")
            if isinstance(parser, ConfigParser):
                return parser
            frame = frame.f_back
    finally:
        del frame  # a frame kept in a local variable would keep all the others alive
    raise InputError("no bundle is being parsed; call this in a bundle's JSON")


def merged_config() -> dict[str, Any]:
    """The configuration that is being parsed, overlays and command-line settings merged, before it is evaluated.

    For ``{"_target_": "medsr_monai.merged_config"}`` in a bundle's JSON.

    Raises:
        InputError: called by no ``ConfigParser``.
    """
    return deepcopy(dict(active_parser().get()))


def describe_algorithm(bundle_root: str | Path, consistency: Any, profile: Any, perception: float) -> str:
    """What makes a bundle's images, for formats that say so: its name and version, and the settings that matter.

    Raises:
        InputError: the bundle's metadata are missing or damaged.
    """
    profiles = "/".join(map(str, profile)) if isinstance(profile, list | tuple) else profile
    return f"{bundle_identity(bundle_root)}, consistency {consistency}, profile {profiles}, perception {perception:g}"


def unread_keys(config: Mapping[str, Any]) -> list[str]:
    """Top-level keys that no reference and no :func:`build` names, and MONAI does not look for either."""
    known = MONAI_KEYS | SECOND_STAGE | set(READ.findall(json.dumps(config, default=str)))
    return [key for key in config if not key.startswith("_") and key not in known]


def check_configuration(parser: ConfigParser | None = None) -> None:
    """Check a configuration: its keys, its texts, and every setting in it that has a check.

    A bundle's JSON calls it first in ``initialize``. It needs no data, and builds no network.

    Args:
        parser: of the configuration; default is the one that is being parsed.

    Raises:
        InputError: a setting that nothing reads: a misspelt one, which MONAI takes for a new one; a text with '#'; or
            the first setting that cannot serve, alone or with another.
    """
    parser = active_parser() if parser is None else parser
    config = parser.get()
    _refuse_changed_texts(config)
    _refuse_unread_keys(config, parser)
    # What an expression makes of a bad setting is an error that does not name it: plain values come first.
    for name in sorted((key for key in SETTINGS if key in config), key=lambda key: _is_evaluated(config[key])):
        check_settings(**{name: parser.get_parsed_content(name)})
    for check in CROSS_CHECKS:
        names = inspect.signature(check).parameters
        if all(name in config for name in names):
            check(**{name: parser.get_parsed_content(name) for name in names})


def _is_evaluated(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


def _refuse_changed_texts(config: Mapping[str, Any]) -> None:
    for key, value in config.items():
        # MONAI writes "#" as "::" in every text, not in references alone: results would land in another folder.
        if isinstance(value, str) and not _is_evaluated(value) and ("#" in value or "::" in value):
            name = value.replace("::", "#")
            raise InputError(f"{key} '{name}': MONAI reads '#' as a reference of its own; rename the file or folder")


def _refuse_unread_keys(config: Mapping[str, Any], parser: ConfigParser) -> None:
    unread = unread_keys(config)
    if unread:
        # Another part in the place of one leaves the old one's settings unread. Evaluation is laid over a training, and
        # overlays for training, say of a network, over inference: there the keys of every configuration may be.
        folder = Path(parser.get_parsed_content("bundle_root")) / "configs"
        is_training = "@train" in json.dumps(config.get("run"), default=str)
        files = set(folder.glob("train.json" if is_training else "*.json")) - {folder / "metadata.json"}
        of_bundle = {key for file in files for key in json.loads(file.read_text())}
        unread = [key for key in unread if key not in of_bundle]
    for key in unread:
        similar = difflib.get_close_matches(key, [other for other in config if other != key], n=1)
        meant = f"'{similar[0]}' is meant?" if similar else "remove it, or add the overlay that reads it"
        raise InputError(f"{key}: nothing in the configuration reads it; {meant}")


def build(*names: str) -> Any:
    """Build items of the configuration that is being parsed; they stay built.

    What one of them refuses is said in one line, where MONAI would show a stack of its own.

    Args:
        names: of items, without ``@``: a reference would be built before this is called.

    Returns:
        The last of them.

    Raises:
        InputError: what is wrong, or which class does not take what it was given.
    """
    parser, built = active_parser(), None
    for name in names:
        try:
            built = parser.get_parsed_content(name)
        except Exception as error:
            if find_input_error(error) is None and (refusal := _refusal(error)):
                raise InputError(refusal) from error
            raise
    return built


def _refusal(error: BaseException) -> str | None:
    """The line of the innermost class that could not be built, None if the reason is no setting of it."""
    line = None
    for wrapped in _chain(error):
        found, cause = NOT_BUILT.match(str(wrapped)), wrapped.__cause__
        if found and isinstance(cause, REFUSALS):
            said = next(iter(str(cause).strip().splitlines()), type(cause).__name__)
            line = f"{found[1]}: cannot be built with these settings: {said}"
    return line


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
