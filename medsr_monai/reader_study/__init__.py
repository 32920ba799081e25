"""Reader studies: blinded reading forms from an evaluation's pictures, and the analysis of what readers answered."""

from medsr_monai.reader_study.agreement import Estimate, intraclass_correlation, pairwise_kappa, weighted_kappa
from medsr_monai.reader_study.analysis import analyse_study
from medsr_monai.reader_study.comparison import holm, signed_rank
from medsr_monai.reader_study.creation import Study, create_study
from medsr_monai.reader_study.tables import analysis_text, write_analysis

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
