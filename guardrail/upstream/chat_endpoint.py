"""The chat endpoint of an inference server: asked over HTTP, and taken at its word in nothing."""

import asyncio
import json
import math
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from logging import getLogger
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from guardrail.errors import MissingDependencyError, OptionError, UpstreamError
from guardrail.upstream.completion_report import CompletionReport, read_completion, read_model_names

if TYPE_CHECKING:
    import httpx

    from guardrail.models.sampling import Sampling

__all__ = ["Capabilities", "ChatEndpoint", "ChatPrompt", "public_name"]

LOGGER = getLogger("guardrail.upstream")
_CONNECT_S = 10.0
_CHECK_S, _RECHECK_S = 5.0, 2.0
# Of the reports that one token brings along, ids and log-probabilities among them, some hundred bytes.
_MOST_BYTES = 16 * 2**20
# What a server answers that does not know a field.
_NOT_KNOWN = (400, 422)
_WORDS = {
    401: "refuses the key",
    403: "refuses the key",
    404: "does not serve this model, or has no chat completions at this address",
    429: "has too many requests",
}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server reports beside its answers.

    Attributes:
        token_ids: The token ids of prompt and answer (``return_token_ids``).
        log_probabilities: The log-probability of each token (``logprobs``).
    """

    token_ids: bool
    log_probabilities: bool

    def fields(self) -> dict[str, bool]:
        """The fields of a request that ask for it."""
        ids = {"return_token_ids": True} if self.token_ids else {}
        return {**ids, "logprobs": True} if self.log_probabilities else {**ids}


@dataclass(frozen=True, slots=True)
class ChatPrompt:
    """What a server is asked.

    Attributes:
        messages: The conversation, as chat templates read it.
        sampling: How to draw.
        tools: Functions that the model may call.
        must_call: Whether one of them must be called.
        json_schema: What the answer is held to; None for nothing.
        chat_template_kwargs: Arguments of the chat template.
    """

    messages: Sequence[Mapping[str, Any]] = field(repr=False)
    sampling: "Sampling"
    tools: Sequence[Mapping[str, Any]] = ()
    must_call: bool = False
    json_schema: Mapping[str, Any] | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def as_body(self) -> dict[str, Any]:
        """The fields of a request, without the model's name."""
        sampling = self.sampling
        body: dict[str, Any] = {
            "messages": [_message(message) for message in self.messages],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            # Said even where it is the usual value: a server may have another of its own.
            "top_p": sampling.top_p if sampling.temperature else 1.0,
            "frequency_penalty": 0.0,
            "presence_penalty": 0.0,
            "n": 1,
            "stream": False,
        }
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if self.tools:
            body["tools"] = [dict(tool) for tool in self.tools]
            body["tool_choice"] = "required" if self.must_call else "auto"
        if self.json_schema is not None:
            schema = {"name": "answer", "schema": dict(self.json_schema), "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        if self.chat_template_kwargs:
            body["chat_template_kwargs"] = dict(self.chat_template_kwargs)
        return body


def public_name(name: str) -> str:
    """What a model is called to others: not by where it lies on a machine."""
    is_path = name.startswith((".", "~")) or PurePath(name).is_absolute()
    return PurePath(name).name if is_path else name


class ChatEndpoint:
    """The chat completions of an OpenAI-compatible server, such as vLLM, llama.cpp or Ollama.

    Each request has a connection of its own, which is closed where nobody waits any more, so that the server
    can give the answer up. No proxy of the environment is used and no redirect followed.

    Args:
        url: Where the server's API is, such as ``http://127.0.0.1:8001/v1``; ``/v1`` may be left out where
            there is no path.
        model: Name of the model there; the only one that it serves if not given.
        api_key: Key for the server.
        timeout: Seconds for an answer.
        most_bytes: Largest response that is read.

    Raises:
        OptionError: The URL is none that can be asked, or an argument is out of its range.
        MissingDependencyError: httpx is not installed.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        api_key: str | None = None,
        timeout: float = 120.0,
        most_bytes: int = _MOST_BYTES,
    ) -> None:
        self.url = _checked_url(url)
        if not timeout > 0:
            raise OptionError(f"timeout is {timeout}; it is a number of seconds, more than 0.")
        if api_key is not None and (not api_key.isascii() or not api_key.isprintable() or " " in api_key):
            raise OptionError("The key of the upstream server holds what no header can; look into its file.")
        self._model, self._key = model, api_key
        self._timeout, self._most_bytes = timeout, most_bytes
        self._capabilities: Capabilities | None = None
        self._checked = (-math.inf, "")
        _httpx()

    def __repr__(self) -> str:
        return f"ChatEndpoint({self.url!r}, {self._model!r})"

    def __getstate__(self) -> dict[str, Any]:
        if self._key is not None:
            raise OptionError(
                "An upstream server with a key cannot be pickled: its key would be written out."
            )
        return {name: value for name, value in self.__dict__.items() if name != "_verify"}

    @property
    def model(self) -> str | None:
        """Name of the model at the server; None until it is known."""
        return self._model

    async def check(self) -> Capabilities:
        """See that the server answers, and what it reports beside its answers.

        Raises:
            UpstreamError: It does not, or not in order.
        """
        try:
            async with asyncio.timeout(_CHECK_S):
                names = read_model_names(await self._request("GET", "/models"))
        except TimeoutError:
            raise UpstreamError("the server did not answer in time") from None
        if self._model is None:
            if len(names) != 1:
                raise UpstreamError(f"the server serves {len(names)} models, so that one has to be named")
            self._model = names[0]
        return await self.capabilities()

    async def problem(self) -> str:
        """Why the server cannot be asked now, in words; empty where it can. Looked into every few seconds."""
        at, words = self._checked
        if time.monotonic() - at < _RECHECK_S:
            return words
        try:
            await self.check()
            words = ""
        except UpstreamError as error:
            words = str(error)
        self._checked = (time.monotonic(), words)
        return words

    async def capabilities(self) -> Capabilities:
        """What the server reports beside its answers: asked for once, with an answer of one token.

        Raises:
            UpstreamError: It gave no answer that can be read.
        """
        if self._model is None:
            await self.check()
        if self._capabilities is None:
            self._capabilities = await self._tried()
        return self._capabilities

    async def complete(self, prompt: ChatPrompt) -> CompletionReport:
        """Have a conversation answered.

        Args:
            prompt: What is asked.

        Raises:
            UpstreamError: There is no answer that can be used: the server failed, did not answer in time, or
                left out what it reports otherwise.
        """
        try:
            return await self._completed(prompt)
        except UpstreamError as error:
            # The words are ours. What the server said may hold what was asked.
            LOGGER.warning("%s", error, extra={"facts": {"upstream": str(error)}})
            raise

    async def _completed(self, prompt: ChatPrompt) -> CompletionReport:
        capabilities = await self.capabilities()
        report = await self._asked(prompt, capabilities)
        if capabilities.token_ids and report.token_ids is None:
            raise UpstreamError("the server left out the token ids of its answer")
        if capabilities.log_probabilities and report.log_probabilities is None:
            raise UpstreamError("the server left out the log-probabilities of its answer")
        if report.token_ids is not None and len(report.token_ids) > prompt.sampling.max_tokens:
            raise UpstreamError("the server's answer is longer than it was asked to be")
        return report

    async def _tried(self) -> Capabilities:
        from guardrail.models.sampling import Sampling

        prompt = ChatPrompt([{"role": "user", "content": "Hello"}], Sampling(max_tokens=1))
        for one in (Capabilities(True, True), Capabilities(False, True), Capabilities(False, False)):
            try:
                report = await self._asked(prompt, one)
            except UpstreamError as error:
                if error.status not in _NOT_KNOWN or not one.log_probabilities:
                    raise
                continue
            # A field that is not known may also be passed over.
            found = Capabilities(report.token_ids is not None, report.log_probabilities is not None)
            LOGGER.info("capabilities", extra={"facts": {"upstream": found.fields()}})
            return found
        raise UpstreamError("the server answers no plain question")

    async def _asked(self, prompt: ChatPrompt, capabilities: Capabilities) -> CompletionReport:
        body = {"model": self._model, **prompt.as_body(), **capabilities.fields()}
        try:
            async with asyncio.timeout(self._timeout):
                return read_completion(await self._request("POST", "/chat/completions", body))
        except TimeoutError:
            raise UpstreamError("the server did not answer in time") from None

    async def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        httpx = _httpx()
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if self._key is not None:
            headers["authorization"] = f"Bearer {self._key}"
        content = None
        if body is not None:
            headers["content-type"] = "application/json"
            content = json.dumps(body, allow_nan=False).encode()
        try:
            async with (
                httpx.AsyncClient(
                    verify=self._verify,
                    trust_env=False,
                    follow_redirects=False,
                    timeout=httpx.Timeout(self._timeout, connect=min(_CONNECT_S, self._timeout)),
                ) as client,
                client.stream(method, self.url + path, headers=headers, content=content) as response,
            ):
                return await self._body(response)
        except httpx.TimeoutException:
            raise UpstreamError("the server did not answer in time") from None
        except httpx.ConnectError:
            raise UpstreamError("the server cannot be reached") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError):
            raise UpstreamError("the server broke off, or did not speak HTTP") from None

    async def _body(self, response: "httpx.Response") -> bytes:
        if response.status_code != 200:
            raise _status_error(response.status_code)
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise UpstreamError("the server's response is not JSON by its content type")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise UpstreamError("the server's response is encoded, which it was not asked to be")
        body = bytearray()
        async for part in response.aiter_raw():
            body += part
            if len(body) > self._most_bytes:
                raise UpstreamError(f"the server's response has more than {self._most_bytes} bytes")
        return bytes(body)

    @cached_property
    def _verify(self) -> "ssl.SSLContext | bool":
        # Reading the certificates takes longer than many a request.
        return ssl.create_default_context() if self.url.startswith("https:") else False


def _status_error(status: int) -> UpstreamError:
    what = "redirects, which is not followed" if 300 <= status < 400 else _WORDS.get(status, "failed")
    return UpstreamError(f"the server {what} (status {status})", status)


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message in the form that is sent: what templates read as a dict is JSON there."""
    kept = {name: message[name] for name in ("role", "content", "name", "tool_call_id") if name in message}
    if calls := message.get("tool_calls"):
        kept["tool_calls"] = [_call(call, at) for at, call in enumerate(calls)]
    return kept


def _call(call: Mapping[str, Any], number: int) -> dict[str, Any]:
    function = call.get("function", call)
    arguments = function.get("arguments") or {}
    written = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {
        "id": call.get("id") or f"call_{number}",
        "type": "function",
        "function": {"name": function["name"], "arguments": written},
    }


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url.strip())
        _ = parts.port
    except ValueError as error:
        raise OptionError(f"The URL of the upstream server cannot be read: {error}.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise OptionError("The URL of the upstream server is of the form http://127.0.0.1:8001/v1.")
    if parts.username is not None or parts.password is not None:
        raise OptionError("The URL of the upstream server holds a password; give its key by a file.")
    if parts.query or parts.fragment:
        raise OptionError("The URL of the upstream server has no part behind ? or #.")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/') or '/v1'}"


def _httpx() -> Any:
    try:
        import httpx
    except ImportError as error:
        raise MissingDependencyError(
            'Asking another server needs httpx: pip install "guardrail-llm[serve]"'
        ) from error
    return httpx
