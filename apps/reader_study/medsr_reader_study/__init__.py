"""Reader studies: blinded reading forms from an evaluation's pictures, and the analysis of what readers answered.

Importing it is cheap, as the command line needs it: the public names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medsr_monai.system.optional import load_lazily

if TYPE_CHECKING:
    from medsr_reader_study.analysis import analyse_study
    from medsr_reader_study.creation import Study, create_study
    from medsr_reader_study.tables import analysis_text, write_analysis

__all__ = ["Study", "analyse_study", "analysis_text", "create_study", "write_analysis"]

_HOME = {
    "Study": "creation",
    "analyse_study": "analysis",
    "analysis_text": "tables",
    "create_study": "creation",
    "write_analysis": "tables",
}

__getattr__, __dir__ = load_lazily(__name__, globals(), _HOME)
