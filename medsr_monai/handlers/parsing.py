"""What a bundle's JSON cannot ask its own parser: the merged text, and to build a component so that bad input is named.

MONAI hands an expression neither its parser nor the text of other items, so these look for the parser among the
callers.
"""

from __future__ import annotations

import inspect
import re
from copy import deepcopy
from typing import Any

from monai.bundle import ConfigParser

from medsr_monai.errors import InputError

UNKNOWN_ARGUMENT = re.compile(r"unexpected keyword argument .*")  # Python's words, after the name of the function
COMPONENT = re.compile(r"component '[^']*'")  # MONAI's words


def _calling_parser(function: str) -> ConfigParser:
    frame = inspect.currentframe()
    try:
        while frame is not None:
            parser = frame.f_locals.get("self")
            if isinstance(parser, ConfigParser):
                return parser
            frame = frame.f_back
    finally:
        del frame  # a frame kept in a local variable would keep all the others alive
    raise InputError(f"{function}: no bundle is being parsed; call it in a bundle's JSON")


def merged_config() -> dict[str, Any]:
    """The configuration that is being parsed, overlays and command-line settings merged, before it is evaluated.

    For ``$handlers.merged_config()`` in a bundle's JSON; a macro (``%``) would build every object of the copied text
    once more.

    Raises:
        InputError: called by no ``ConfigParser``.
    """
    return deepcopy(dict(_calling_parser("merged_config").get()))


def build(name: str) -> Any:
    """Build a component of the configuration that is being parsed, and all that it refers to.

    For ``$or_exit(handlers.build, 'train#trainer')`` in a bundle's JSON: a reference (``@train#trainer``) would be
    built before ``or_exit`` is called, and what a component refuses would end in MONAI's traceback.

    Args:
        name: of the component.

    Raises:
        InputError: called by no ``ConfigParser``; what a component refuses, or an argument that it does not have.
    """
    try:
        return _calling_parser("build").get_parsed_content(name)
    except RuntimeError as error:
        wrapper: BaseException = error
        while wrapper.__cause__ is not None:
            if isinstance(wrapper.__cause__, TypeError) and (found := UNKNOWN_ARGUMENT.search(str(wrapper.__cause__))):
                named = COMPONENT.search(str(wrapper))
                raise InputError(f"{named[0] if named else name}: {found[0]}; check its spelling") from error
            wrapper = wrapper.__cause__
        raise
