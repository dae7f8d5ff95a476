"""Compiling CUDA kernels ahead of the device: several at once, each in a sandboxed process."""

from __future__ import annotations

from collections.abc import Sequence

from vegtts_core.evaluator.compiling import Compilation
from vegtts_core.evaluator.settings import EvaluatorSettings
from vegtts_core.evaluator.warm_process import WarmProcess
from vegtts_core.kernels.types import Language
from vegtts_core.scaffolds.types import Candidate


class Compilations:
    """Running compilations by what they compile."""

    def __init__(self, warm: WarmProcess, settings: EvaluatorSettings, architecture: str) -> None:
        self._warm, self._settings, self._architecture = warm, settings, architecture
        self._running: dict[str, Compilation] = {}

    def announce(self, candidates: Sequence[Candidate]) -> None:
        """Start compiling these, if they are CUDA and are not being compiled; give up on all others."""
        wanted = {c.fingerprint: c for c in candidates if c.language is Language.CUDA and c.launch is not None}
        for fingerprint in self._running.keys() - wanted.keys():
            self._running.pop(fingerprint).close()
        for fingerprint, candidate in wanted.items():
            if fingerprint not in self._running:
                self._running[fingerprint] = self._start(candidate)

    def cubin(self, candidate: Candidate) -> bytes:
        """The cubin, once it is there. Raises `CandidateFailure` if it does not compile within the limits."""
        compilation = self._running.pop(candidate.fingerprint, None) or self._start(candidate)
        try:
            return compilation.result()
        finally:
            compilation.close()

    def _start(self, candidate: Candidate) -> Compilation:
        return Compilation(candidate.source, Language.CUDA, self._warm, self._settings, self._architecture)

    def close(self) -> None:
        """End all that still run."""
        self.announce(())
