"""Kernel templates with named holes, and the ``template`` scaffold that has a policy fill them."""

from vegtts_core.kernels.templates.coverage import Coverage, covered, template_of
from vegtts_core.kernels.templates.honest import honest_filling
from vegtts_core.kernels.templates.scaffold import TemplateScaffold
from vegtts_core.kernels.templates.tuning import tuning_grid
from vegtts_core.kernels.templates.types import Template, TemplateFamily

__all__ = [
    "Coverage",
    "Template",
    "TemplateFamily",
    "TemplateScaffold",
    "covered",
    "honest_filling",
    "template_of",
    "tuning_grid",
]
