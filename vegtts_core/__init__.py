"""vegtts_core: test-time compute on verifiable, execution-grounded (VEG) tasks.

Sample completions from a language model, execute them, select among them, and keep what was measured.
Imports point one way::

    book -> search -> policy, evaluator, runs -> scaffolds, kernels -> tasks

and ``selection``, ``metrics`` and ``statistics`` know only the samples table (``vegtts_core.runs.schema``).
"""

__version__ = "0.1.0"
