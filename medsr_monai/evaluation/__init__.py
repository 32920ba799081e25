"""The table of methods, cases and conditions: measured, compared, written down, summarised."""

from medsr_monai.evaluation.cases import find_cases
from medsr_monai.evaluation.evaluation import Evaluation
from medsr_monai.evaluation.methods import parse_method
from medsr_monai.evaluation.plan import Case, Condition, Method

__all__ = ["Case", "Condition", "Evaluation", "Method", "find_cases", "parse_method"]
