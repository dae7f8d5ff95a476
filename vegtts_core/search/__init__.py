"""Search: spend test-time compute by sampling more."""

from vegtts_core.search.best_of_n import BestOfNParameters, best_of_n

__all__ = ["BestOfNParameters", "best_of_n"]
