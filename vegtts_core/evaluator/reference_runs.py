"""A reference that fails while a candidate is measured: whose failure that is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from vegtts_core.errors import UserError
from vegtts_core.evaluator.processes import CandidateFailure
from vegtts_core.evaluator.session import TaskSession
from vegtts_core.evaluator.types import ErrorKind


class ReferenceLost(Exception):
    """The reference's process ended while a candidate was measured: not by its own doing."""


@contextlib.contextmanager
def reference_runs(session: TaskSession) -> Iterator[None]:
    """A failure of the reference's process is not the candidate's failure."""
    try:
        yield
    except CandidateFailure as failure:
        session.drop_reference()
        if failure.kind is ErrorKind.TIMEOUT:
            session.reference_timeouts += 1
        if session.reference_timeouts > 1:  # once may be another process's doing
            raise UserError(
                f"The reference of {session.task.key} takes longer than limits.call_seconds = "
                f"{session.settings.limits.call_seconds:g} s: raise that limit or take the task at a smaller size."
            ) from None
        raise ReferenceLost(failure.reason) from None
