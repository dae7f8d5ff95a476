"""What a policy could not tell is null in the samples table, never a number."""

import math

from vegtts_core.policy.types import Completion, StopReason
from vegtts_core.runs.rows import completion_columns
from vegtts_core.tasks import Size, get_task


def columns(completion: Completion) -> dict:
    return completion_columns(get_task(4, Size.CPU), 1, 0, 0, "prompt", completion)


def test_a_server_that_hides_ids_and_tempered_log_probabilities() -> None:
    hidden = Completion((), "x y", StopReason.EOS, (-1.0, -3.0), (-0.5, math.nan))
    row = columns(hidden)
    assert (row["token_ids"], row["tokens"], row["mean_logprob"]) == (None, 2, -2.0)
    assert row["sampling_mean_logprob"] is None and math.isnan(row["sampling_logprobs"][1])


def test_an_empty_completion_has_no_tokens_and_no_mean() -> None:
    row = columns(Completion((), "", StopReason.EOS, (), ()))
    assert (row["token_ids"], row["tokens"], row["mean_logprob"]) == ([], 0, None)
