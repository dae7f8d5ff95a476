"""The one exception for mistakes that a user can make: its message is one sentence naming the cause and the cure."""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can put right. Command lines and notebooks show the sentence, not a traceback."""

    def _render_traceback_(self) -> list[str]:
        """What IPython (and so a notebook) prints instead of a traceback."""
        return [f"{type(self).__name__}: {self}"]


class DeviceMemoryError(UserError):
    """A task whose tensors do not fit into a device's memory; other tasks may."""
