"""The table of methods, cases and conditions: measured, compared, written down, summarised."""

from medsr_monai.evaluation.cases import Case, Condition, find_cases
from medsr_monai.evaluation.evaluation import Evaluation
from medsr_monai.evaluation.methods import Method, parse_method
from medsr_monai.evaluation.summary import bootstrap_interval

__all__ = ["Case", "Condition", "Evaluation", "Method", "bootstrap_interval", "find_cases", "parse_method"]
