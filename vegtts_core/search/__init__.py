"""Search: spend test-time compute by sampling more."""

from vegtts_core.search.best_of_n import best_of_n
from vegtts_core.search.parameters import BestOfNParameters

__all__ = ["BestOfNParameters", "best_of_n"]
