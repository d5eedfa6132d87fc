"""A LangChain chat model with a built-in guard: the policy decides what leaves it."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.callbacks.manager import BaseRunManager
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from pydantic import Field, PrivateAttr

from guardrail.errors import OptionError
from guardrail.escalation.routing import check_keyless
from guardrail.langchain.call_options import CallOptions, ConfigCheckedChatModel, named_fields
from guardrail.langchain.message_conversion import prompt_of
from guardrail.langchain.reply import OnAbstain, parsed_by, schema_of, told_to_tracers
from guardrail.langchain.request import ChatRequest
from guardrail.langchain.shared_models import Opened, Source, arguments_as_json, open_source
from guardrail.langchain.tool_parsing import offer
from guardrail.models.sampling import Sampling

if TYPE_CHECKING:
    from guardrail.guard.guard import Guard

__all__ = ["ChatGuardrail"]

_Method = Literal["json_schema", "function_calling", "json_mode"]
# Fields that all copies share: services, and values that are never changed in place.
_SHARED = ("model", "policy", "targets", "cache", "rate_limiter", "callbacks", "custom_get_token_ids")


class ChatGuardrail(ConfigCheckedChatModel):
    """A local model behind a policy, as a LangChain chat model.

    The content of a message is the answer, or the policy's message if the answer is withheld. Reasoning
    before a shown answer is a ``reasoning`` block in ``content_blocks``, and is stored where LangChain reads
    it for string content: ``additional_kwargs["reasoning_content"]``. The verdict is in
    ``response_metadata["uncertainty"]`` (:func:`~guardrail.langchain.verdicts.verdict_of`); in a stream, one
    chunk carries it. A withheld draft is never in messages, chunks, callbacks, traces, caches or errors.

    Streaming: with ``streaming: buffer``, a policy's default, nothing is emitted before the verdict. With
    ``streaming: annotate``, text is emitted as it is generated and the verdict comes with the last chunk; if
    the check of an answer fails, the policy's message follows it. Answers that may call tools are always
    decided on first.

    In a conversation, withheld answers and their questions are left out of the prompt
    (:meth:`Guard.spoken <guardrail.guard.guard.Guard.spoken>`); the messages themselves are not changed.

    A chat model can be used from many threads and tasks. Waiting requests are batched, and chat models that
    name the same model share its weights.

    Examples:
        >>> chat = ChatGuardrail(model="smollm2-135m", policy="builtin:default")
        >>> message = chat.invoke("What is the capital of France?")
        >>> message.response_metadata["uncertainty"]["action"]

    Unknown options are errors, both here and in a call. Aliases used by LangChain are accepted:
    ``model_name``, ``max_completion_tokens``, ``stop_sequences``, ``request_timeout``. ``max_retries`` is
    accepted as an upper bound, since nothing is retried (use ``with_retry``), and ``api_key`` is ignored.

    A copy shares the weights. A pickle contains names, options and the knowledge of the traffic; whatever was
    opened by name is opened again on first use after unpickling.

    Attributes:
        model: Name of a model (``smollm2-135m``, a folder, a ``.gguf`` file, a hub id) or a ``LocalModel``.
            The default is the policy's model, or else the built-in one.
        policy: Path, ``builtin:NAME``, or a loaded policy.
        max_tokens: Maximum number of tokens in an answer. This option and the next four can also be given to
            a call or bound; defaults are the sampling settings that the policy's profile was made with.
        temperature: Sampling temperature; 0 for greedy decoding.
        top_p: Cumulative probability of the smallest set of tokens to sample from.
        seed: Seed that makes sampling repeatable.
        stop: Strings that end an answer.
        max_reasoning_tokens: Maximum number of tokens for reasoning before the answer; 2,048 if not given. A
            model that has not begun its answer by then is cut off, and its answer is withheld.
        chat_template_kwargs: Arguments of the model's chat template, such as ``{"enable_thinking": False}``,
            which override the policy's. Also per call; a profile does not hold for what a call changes.
        timeout: Seconds that a caller waits for the verdict, including the wait for its turn, before
            :class:`~guardrail.errors.AnswerTimeoutError` is raised and the model is freed at the next token.
            Escalation targets have their own timeouts. Also per call; None for no limit.
        on_abstain: What happens if nothing answers: ``message`` (the content is the policy's message),
            ``refusal`` (the same, marked as a refusal in the form that the installed LangChain supports) or
            ``raise`` (:class:`~guardrail.errors.AbstainedError`, before the first chunk, for
            ``with_fallbacks``).
        targets: Chat models, functions or queues for names in the policy's ``escalation``.
        policy_tags: Tags that the policy's rules and its ``streams`` can match. Also per call.
        familiarity: Knowledge of the traffic from an earlier guard with the same profile
            (``chat.guard.familiarity``), to continue from; afterwards the current knowledge. Copies share it.
        batch_size: Maximum number of waiting requests that are answered in one batch.
        streaming: Make ``invoke`` stream internally, so that callback handlers receive the chunks.
        with_draft: Put drafts into verdicts, withheld or not; for debugging.
        device: Device for a model given by name; ``auto`` chooses.
        dtype: Data type of its weights; ``auto`` chooses.
        quantization: Quantization to apply while loading; needs CUDA.

    Raises:
        PolicyError: The policy has mistakes.
        GuardrailError: The model cannot be opened, or its profile or a target cannot be used.
        OptionError: An option is out of range.
    """

    model: Any = None
    policy: Any = "builtin:default"
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    stop: list[str] | None = None
    max_reasoning_tokens: int | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    timeout: float | None = None
    on_abstain: OnAbstain = "message"
    targets: Any = None
    policy_tags: list[str] = Field(default_factory=list)
    familiarity: Any = None
    batch_size: int = 8
    streaming: bool = False
    with_draft: bool = False
    device: str = "auto"
    dtype: str = "auto"
    quantization: Literal["8bit", "4bit"] | None = None

    _opened: Opened | None = PrivateAttr(default=None)

    if not TYPE_CHECKING:
        # Not in a validator, because pydantic wraps errors raised there. Hidden from type checkers, for which
        # the fields are the arguments.
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            """Open everything at once, so that errors appear here and not at the first call."""
            given = named_fields(kwargs, type(self).model_fields)
            # Checked before pydantic, which accepts True as 1, and before the weights, which take longer.
            _ = CallOptions.of_fields(given, Sampling())
            super().__init__(*args, **given)
            self._open()

    @property
    def model_name(self) -> str:
        """Name of the model in messages."""
        return self.guard.model.name

    @property
    def guard(self) -> "Guard":
        """Guard of this chat model."""
        return self._open().guard

    @property
    def _llm_type(self) -> str:
        return "guardrail"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """Everything that an answer or its verdict depends on; LangChain uses it as a cache key."""
        # Prefixed, because LangChain adds a call's stop strings under the same name.
        options = {f"default_{name}": value for name, value in asdict(self._options).items()}
        # Answers do not depend on the timeout.
        del options["default_timeout"]
        return {
            **self._open().identity,
            "familiarity": self.familiarity.known() if self.familiarity else [],
            **options,
            "with_draft": self.with_draft,
            "output_version": self.output_version,
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        # Options of the call are reported as given, even those that the request will refuse.
        told = {name: value for name, value in kwargs.items() if value is not None}
        options = self._options
        parameters = LangSmithParams(
            ls_provider="guardrail",
            ls_model_type="chat",
            ls_model_name=told.get("model", self.guard.model.name),
            ls_temperature=told.get("temperature", options.temperature),
            ls_max_tokens=told.get("max_tokens", options.max_tokens),
        )
        if stops := list(options.stop if stop is None else stop):
            parameters["ls_stop"] = stops
        return parameters

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        # Names only: objects have long representations, and paths would reveal the machine's file system.
        guard = self._opened.guard if self._opened else None
        yield "model", guard.model.name if guard else self.model
        yield "policy", guard.policy.name if guard else self.policy
        yield "on_abstain", self.on_abstain

    @property
    def _options(self) -> CallOptions:
        return CallOptions.of_fields(vars(self), self.guard.sampling)

    def _open(self) -> Opened:
        source = Source(
            self.model,
            self.policy,
            self.targets,
            self.device,
            self.dtype,
            self.quantization,
            self.batch_size,
            arguments_as_json(self.chat_template_kwargs),
        )
        # Fields may be reassigned or changed in a copy; a guard of the former policy must not stay in use.
        known = self._opened.guard.streams if self._opened else None
        if self._opened is None or not self._opened.is_of(source) or self.familiarity is not known:
            before = self._opened.model_profile if self._opened else None
            self._opened = open_source(source, self.familiarity)
            self.familiarity = self._opened.guard.streams
            # The former model's profile does not hold for the next model, but one set by the caller is kept.
            if self.profile in (None, before):
                self.profile = self._opened.model_profile
        return self._opened

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return self._request(messages, stop, kwargs, run_manager).ask().result()

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return (await self._request(messages, stop, kwargs, run_manager).aask()).result()

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        yield from self._request(messages, stop, kwargs, run_manager).chunks()

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with aclosing(self._request(messages, stop, kwargs, run_manager).achunks()) as chunks:
            async for chunk in chunks:
                yield chunk

    def _request(
        self,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        given: Mapping[str, Any],
        run: BaseRunManager | None,
    ) -> ChatRequest:
        options = self._options.changed(stop, given)
        return ChatRequest(self.guard, messages, options, with_draft=self.with_draft, run=run)

    def get_token_ids(self, text: str) -> list[int]:
        """Tokenize a text with the model's own tokenizer."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return self.guard.model.token_ids(text)

    def get_num_tokens_from_messages(
        self, messages: Sequence[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Count the tokens of a conversation as the model reads it, including those its chat template adds.

        The count is exact for a valid prompt. For parts of a conversation that are not a prompt on their own,
        which ``trim_messages`` counts, it errs on the high side.

        Args:
            messages: Conversation.
            tools: Tools that are offered, as for :meth:`bind_tools`.

        Raises:
            PromptError: A message has content that a text model cannot read.
        """
        from guardrail.langchain.shared_models import count_tokens

        offered = offer(tools or (), "auto")["tools"]
        # The guard leaves out turns that were withheld, so they are not counted.
        spoken = self.guard.spoken(prompt_of(messages)).messages
        return count_tokens(self.guard.model.tokenizer, spoken, offered)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Make a copy that shares the weights.

        Args:
            update: Fields to change, by name or alias.
            deep: Also copy the values of the fields.

        Raises:
            OptionError: A name is not a field.
        """
        copied = super().model_copy(update=named_fields(update or {}, type(self).model_fields), deep=deep)
        copied._open()
        return copied

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        memo = {} if memo is None else memo
        shared = [*(getattr(self, name) for name in (*_SHARED, "familiarity")), self._opened]
        return super().__deepcopy__({**memo, **{id(one): one for one in shared}})

    def __getstate__(self) -> dict[Any, Any]:
        check_keyless(self.targets)
        state = super().__getstate__()
        # The model is opened again after unpickling.
        fields = dict(state["__dict__"])
        if self._opened is not None and fields["familiarity"] is self._opened.guard.streams:
            fields["familiarity"] = self._opened.guard.familiarity
        if self._opened is not None and fields["profile"] == self._opened.model_profile:
            fields["profile"] = None
        return {**state, "__dict__": fields, "__pydantic_private__": {"_opened": None}}

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Let the model call tools.

        The policy decides on a tool call as on any answer. A rule that names tools (``tool_call``) uses the
        lowest of the answer's confidence and the confidences of the calls it names, each of which is in the
        verdict's ``tool_calls``. The calls of a withheld answer are withheld.

        Args:
            tools: Tools, functions, pydantic classes or JSON schemas.
            tool_choice: ``auto``, ``none``, ``any`` (or ``required`` or True: a tool must be called) or the
                name of a tool; also as a dict in OpenAI's or Anthropic's form. A required call is constrained
                to the schema of the tool's arguments.
            **kwargs: Other options to bind.

        Raises:
            NotImplementedError: The model's chat template does not support tools.
            OptionError: A tool cannot be offered, or ``tool_choice`` or another option is invalid.
            MissingDependencyError: A call is required and llguidance is not installed.
        """
        if tools and not self._open().shows_tools:
            raise NotImplementedError(
                f"The chat template of {self.guard.model.name} shows no tools to the model. Choose a model "
                "that was trained to call tools, such as Qwen/Qwen3-4B."
            )
        offered = offer(tools, tool_choice)
        _ = self._options.changed(None, {**kwargs, **offered})
        return self.bind(**offered, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: _Method = "json_schema",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Return answers as data that matches a schema.

        The prompt contains the schema, and decoding is constrained to it token by token (llguidance). The
        answer is scored and decided on like any other; if it is withheld,
        :class:`~guardrail.errors.AbstainedError` is raised.

        Args:
            schema: Pydantic class (yields instances of it), or TypedDict, JSON schema or function in OpenAI's
                form (these yield dicts).
            include_raw: Return ``{"raw": message, "parsed", "parsing_error"}``, and raise no error for
                answers that cannot be parsed or are withheld.
            method: Has no effect, since answers are always constrained to the schema.
            strict: Has no effect, for the same reason.
            **kwargs: Other options to bind.

        Raises:
            OptionError: Answers cannot be constrained to the schema.
            MissingDependencyError: llguidance is not installed.
        """
        from guardrail.models.decoding import held_to, json_grammar

        if method not in get_args(_Method):
            raise OptionError(f"method is {method!r}; it can be {', '.join(get_args(_Method))}.")
        form = schema_of(schema)
        # Compiled now, so that a schema that cannot be used is an error here and not in the first call.
        held_to(json_grammar(form))
        _ = self._options.changed(None, {**kwargs, "strict": strict, "json_schema": form})
        model = self.bind(json_schema=form, **told_to_tracers(schema, method), **kwargs)
        return parsed_by(model, schema, include_raw=include_raw)
