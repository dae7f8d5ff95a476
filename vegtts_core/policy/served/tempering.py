"""Tempered log-probabilities from raw ones, where a server's list of alternatives pins them down.

A server reports log p(token) of the whole vocabulary but lists only its most likely tokens. At a temperature T below 1
the others hardly count: they share the probability that is left over, and each is at most as likely as the least
likely token listed. That bounds what they can add to the normalising sum, and so the error of leaving them out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

#: The largest error (nats) of a tempered log-probability that is still given.
TOLERANCE = 1e-3
#: Probability that may be missing from a sum of float32 log-probabilities by rounding alone.
ROUNDING = 1e-6


def tempered(logprob: float, others: Sequence[float], whole: bool, temperature: float) -> float:
    """log p of a token at ``temperature`` (nats), at most ``TOLERANCE`` too high; NaN where that is not known.

    ``logprob`` is the token's own under the model, ``others`` those of other listed tokens; ``whole`` says that no
    token that is not listed is more likely than all of ``others``. At temperature 0 a drawn token has probability 1.
    """
    if temperature == 1:
        return logprob
    if temperature == 0:
        return 0.0
    if temperature > 1 or not math.isfinite(logprob):
        return math.nan
    power = 1 / temperature
    listed = [logprob, *others]
    top = max(listed)
    total = sum(math.exp(power * (value - top)) for value in listed)
    left = max(1 - sum(math.exp(value) for value in listed), ROUNDING)
    likeliest = min(left, math.exp(min(others))) if whole and others else left
    # left tokens of at most `likeliest` each: sum of p**power <= left * likeliest**(power - 1), in units of exp(top).
    unlisted = math.exp(min(math.log(left) + (power - 1) * math.log(likeliest) - power * top, 700.0))
    if math.log1p(unlisted / total) > TOLERANCE:
        return math.nan
    return power * (logprob - top) - math.log(total)
