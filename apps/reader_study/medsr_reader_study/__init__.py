"""Reader studies: blinded reading forms from an evaluation's pictures, and the analysis of what readers answered.

Importing it is cheap, as the command line needs it: the public names are loaded when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medsr_monai.system.optional import load_lazily

if TYPE_CHECKING:
    from medsr_reader_study.agreement import Estimate, intraclass_correlation, pairwise_kappa, weighted_kappa
    from medsr_reader_study.analysis import analyse_study
    from medsr_reader_study.comparison import holm, signed_rank
    from medsr_reader_study.creation import Study, create_study
    from medsr_reader_study.tables import analysis_text, write_analysis

__all__ = [
    "Estimate",
    "Study",
    "analyse_study",
    "analysis_text",
    "create_study",
    "holm",
    "intraclass_correlation",
    "pairwise_kappa",
    "signed_rank",
    "weighted_kappa",
    "write_analysis",
]

_HOME = {
    "Estimate": "agreement",
    "Study": "creation",
    "analyse_study": "analysis",
    "analysis_text": "tables",
    "create_study": "creation",
    "holm": "comparison",
    "intraclass_correlation": "agreement",
    "pairwise_kappa": "agreement",
    "signed_rank": "comparison",
    "weighted_kappa": "agreement",
    "write_analysis": "tables",
}

__getattr__, __dir__ = load_lazily(__name__, globals(), _HOME)
