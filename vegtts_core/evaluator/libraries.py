"""The compiled library of the C++ kernel in hand: all runs of it use one, and it can be begun early."""

from __future__ import annotations

import os

from vegtts_core.evaluator.compiling import Compilation, sealed_file
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.evaluator.warm_process import WarmProcess
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.types import Candidate


class Libraries:
    """Keeps the last library, and at most one compilation."""

    def __init__(self, warm: WarmProcess, settings: EvaluatorSettings) -> None:
        self._warm = warm
        self._settings = settings
        self._compilation: tuple[str, Compilation] | None = None
        self._library: tuple[str, int] | None = None

    def announce(self, candidate: Candidate) -> bool:
        """Begin to compile a kernel that will be asked for. Whether that goes on beside whatever is done next.

        Raises UserError if there is no compiler.
        """
        known = self._library is not None and self._library[0] == candidate.fingerprint
        if candidate.language is not Language.CPP or known:
            return False
        self._drop_compilation()
        compilation = Compilation(candidate.source, candidate.language, self._warm, self._settings)
        self._compilation = (candidate.fingerprint, compilation)
        return True

    def file_of(self, candidate: Candidate) -> int:
        """File descriptor of a kernel's library. Raises `CandidateFailure` if it cannot be compiled."""
        if self._library is None or self._library[0] != candidate.fingerprint:
            self._drop_library()
            if self._compilation is None or self._compilation[0] != candidate.fingerprint:
                self.announce(candidate)
            assert self._compilation is not None
            try:
                self._library = (candidate.fingerprint, sealed_file(self._compilation[1].result()))
            finally:
                self._drop_compilation()
        return self._library[1]

    def close(self) -> None:
        """Forget both."""
        self._drop_compilation()
        self._drop_library()

    def _drop_compilation(self) -> None:
        if self._compilation is not None:
            self._compilation[1].close()
            self._compilation = None

    def _drop_library(self) -> None:
        if self._library is not None:
            os.close(self._library[1])
            self._library = None
