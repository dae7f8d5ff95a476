"""HTTP: one request to an OpenAI-compatible server, its errors, and patience. Knows nothing of prompts or tokens.

httpx carries the requests and tenacity repeats them. The key is read from the environment, goes into one header, and
is taken out of whatever the server says before anybody sees it.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, NoReturn, TypeVar

import anyio
import httpx
from pydantic import SecretStr
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from vegtts_core.errors import UserError
from vegtts_core.policy.served.answers import BadAnswer
from vegtts_core.policy.served.parameters import ServedParameters

LOG = logging.getLogger(__name__)
#: Seconds that pauses between attempts grow to.
LONGEST_BACKOFF = 60.0
#: What a server answers when it may say yes later.
PASSING = frozenset({408, 409, 425, 429})

Result = TypeVar("Result")


class Transient(Exception):
    """Worth another attempt, after ``wait`` seconds if the server says so. ``refused``: nothing was computed."""

    def __init__(self, reason: str, wait: float = 0.0, refused: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait
        self.refused = refused


class _Bearer(httpx.Auth):
    """The key, unpacked only into the header of a request."""

    def __init__(self, key: SecretStr) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._key.get_secret_value()}"
        yield request


class Server:
    """A connection to a server; ``async with`` opens and closes it. Redirects are not followed: the key would be."""

    def __init__(self, parameters: ServedParameters) -> None:
        self.parameters = parameters
        self._key = SecretStr(os.environ.get(parameters.key_variable, "").strip())
        if not self._key.get_secret_value().isascii():
            raise UserError(f"The key in {parameters.key_variable} has characters no key has: set it again.")
        timeout = httpx.Timeout(parameters.silence_seconds, connect=parameters.connect_seconds, pool=None)
        self._http = httpx.AsyncClient(
            auth=_Bearer(self._key) if self._key.get_secret_value() else None,
            timeout=timeout,
            limits=httpx.Limits(max_connections=parameters.concurrency),
        )
        self._free_at = 0.0
        self._spacing = 60 / parameters.requests_per_minute if parameters.requests_per_minute else 0.0
        self._backoff = wait_random_exponential(multiplier=parameters.backoff_seconds, max=LONGEST_BACKOFF)

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    @property
    def name(self) -> str:
        """The server in a sentence."""
        return f"The server at {self.parameters.base_url}"

    async def get(self, path: str) -> Any:
        """The JSON behind ``path`` (under the base URL, or a whole URL); None where the server has nothing there."""
        try:
            response = await self._http.get(path if "://" in path else self.parameters.base_url + path)
        except httpx.RequestError as error:
            raise Transient(_reason(error)) from None
        if response.status_code in (404, 405, 501):
            return None
        if response.status_code != 200:
            self._refuse(response)
        return _json(response.text)

    async def events(self, path: str, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Post ``body`` (after its `turn`); the answer's JSON objects: one, or as many as a streaming server sends.

        Raises Transient and UserError.
        """
        try:
            async with self._http.stream("POST", self.parameters.base_url + path, json=body) as response:
                if response.status_code != 200:
                    await response.aread()
                    self._refuse(response)
                if not response.headers.get("content-type", "").startswith("text/event-stream"):
                    yield self._checked(_json((await response.aread()).decode(errors="replace")))
                    return
                async for line in response.aiter_lines():
                    data = line.removeprefix("data:").strip() if line.startswith("data:") else ""
                    if data and data != "[DONE]":  # read on to the end, or the connection could not be used again
                        yield self._checked(_json(data))
        except httpx.RequestError as error:
            raise Transient(_reason(error), refused=isinstance(error, httpx.ConnectError)) from None

    async def persist(self, attempt: Callable[[], Awaitable[Result]]) -> Result:
        """``attempt`` until it does not raise Transient or BadAnswer; then, after the last one, UserError."""
        retrying = AsyncRetrying(
            retry=retry_if_exception_type((Transient, BadAnswer)),
            stop=stop_after_attempt(self.parameters.attempts),
            wait=self._pause,
            before_sleep=self._tell,
            sleep=anyio.sleep,
            reraise=True,
        )

        async def once() -> Result:  # tenacity awaits only what it can see to be a coroutine function
            return await attempt()

        try:
            return await retrying(once)
        except (Transient, BadAnswer) as error:
            raise UserError(
                f"{self.name} gave no usable answer in {self.parameters.attempts} attempts (at last: {error}): see "
                "that it runs and is not overloaded, then start the same command again; what has come is kept."
            ) from None

    async def turn(self) -> None:
        """Wait for a request's place: so many a minute, and none while the server wants to be left alone."""
        start = max(time.monotonic(), self._free_at)
        self._free_at = start + self._spacing
        await anyio.sleep(start - time.monotonic() if start > time.monotonic() else 0)

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        wait = error.wait if isinstance(error, Transient) else 0.0
        return wait + self._backoff(state) * (0.1 if wait else 1.0)  # not all at the same moment

    def _tell(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        pause = state.next_action.sleep if state.next_action else 0.0
        LOG.warning("%s: %s; attempt %d in %.1f s", self.name, error, state.attempt_number + 1, pause)

    def _checked(self, event: Any) -> dict[str, Any]:
        if not isinstance(event, dict):
            raise Transient("an answer that is not a JSON object")
        if event.get("error"):
            error = event["error"] if isinstance(event["error"], dict) else {"message": event["error"]}
            code = error.get("code")
            if isinstance(code, int) and 400 <= code < 500 and code not in PASSING:
                raise UserError(f"{self.name} refuses the request ({self._said(event)}): change what it names.")
            raise Transient(f"an error in mid-answer: {self._said(event)}")
        return event

    def _refuse(self, response: httpx.Response) -> NoReturn:
        """What an answer other than 200 means."""
        status, said = response.status_code, self._said(_json_or_none(response.text))
        variable = self.parameters.key_variable
        if status in (401, 403):
            there = "the key in" if self._key.get_secret_value() else "a request without a key, as there is none in"
            raise UserError(f"{self.name} refuses {there} {variable} (HTTP {status}): export a valid key under it.")
        if status in PASSING or status >= 500:
            wait = _retry_after(response)
            if "insufficient_quota" in response.text:
                raise UserError(f"{self.name} says that the quota is used up (HTTP {status}): raise it, then go on.")
            if wait > self.parameters.longest_wait_seconds:
                raise UserError(
                    f"{self.name} asks to wait for {wait:.0f} s (HTTP {status}): start the same command again then; "
                    "what has come is kept."
                )
            self._free_at = max(self._free_at, time.monotonic() + wait)
            raise Transient(f"HTTP {status}" + (f", {said}" if said else ""), wait, refused=True)
        if status == 404:
            raise UserError(
                f"{self.name} does not know the model or the api (HTTP 404{', ' + said if said else ''}): correct "
                "base_url (up to /v1), the model's name or api."
            )
        if 300 <= status < 400:
            raise UserError(f"{self.name} sends elsewhere (HTTP {status}): give base_url as the final address.")
        raise UserError(
            f"{self.name} refuses the request (HTTP {status}: {said or 'no reason'}): change what it names."
        )

    def _said(self, answer: Any) -> str:
        """The server's own words on one line, without the key."""
        error = answer.get("error", answer) if isinstance(answer, dict) else answer
        text = error.get("message") or error.get("detail") if isinstance(error, dict) else error
        text = " ".join(str(text or "").split())
        key = self._key.get_secret_value()
        return (text.replace(key, "***") if key else text)[:300]


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise Transient("an answer that is not valid JSON") from None


def _json_or_none(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _reason(error: httpx.RequestError) -> str:
    """httpx's exceptions in words; their own texts are often empty."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return "nothing answers there"
    if isinstance(error, httpx.TimeoutException):
        return "silence beyond silence_seconds"
    return f"the connection was cut ({type(error).__name__})"


def _retry_after(response: httpx.Response) -> float:
    """Seconds that the server asks to wait: a number or a date; 0 if it does not say."""
    said = response.headers.get("retry-after", "")
    try:
        return max(0.0, float(said))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - time.time())
    except ValueError:
        return 0.0
