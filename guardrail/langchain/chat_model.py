"""A chat model of LangChain with the guard inside: nothing leaves it before the policy decided."""

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
# What all copies share: services, and what is never changed in place.
_SHARED = ("model", "policy", "targets", "cache", "rate_limiter", "callbacks", "custom_get_token_ids")


class ChatGuardrail(ConfigCheckedChatModel):
    """A local model behind a policy, as a chat model of LangChain.

    A message's content is the answer, or the policy's message where the answer is withheld. What the model
    thought before a shown answer is a ``reasoning`` block of ``content_blocks``, and stands where LangChain
    reads it for chat models whose content is a text: ``additional_kwargs["reasoning_content"]``. The verdict
    is in ``response_metadata["uncertainty"]`` (:func:`~guardrail.langchain.verdicts.verdict_of`), on one
    chunk of a stream. A withheld draft is not in messages, chunks, callbacks, traces, caches or errors.

    Streams: with ``streaming: buffer``, a policy's default, nothing is emitted before it is decided. With
    ``streaming: annotate`` text is emitted as it is generated, and the verdict with the last chunk; an answer
    that fails to be checked is then followed by the policy's message. Answers that may call tools are always
    decided on first.

    In a conversation, answers that were withheld and their questions are no part of the prompt
    (:meth:`Guard.spoken <guardrail.guard.guard.Guard.spoken>`); the messages themselves stay as they are.

    Many threads and tasks may use one chat model. Requests that wait are answered together, and chat models
    that name the same model share its weights.

    Examples:
        >>> chat = ChatGuardrail(model="smollm2-135m", policy="builtin:default")
        >>> message = chat.invoke("What is the capital of France?")
        >>> message.response_metadata["uncertainty"]["action"]

    An option that is not understood is an error, here and in a call. LangChain's names are understood too:
    ``model_name``, ``max_completion_tokens``, ``stop_sequences``, ``request_timeout``; ``max_retries`` is a
    most that is kept, since nothing is retried (``with_retry`` does), and an ``api_key`` opens nothing here.

    A copy shares the weights. A pickle holds names, options and what is known of the traffic: what was
    opened by name is opened anew when it is first used there.

    Attributes:
        model: A model's name (``smollm2-135m``, a folder, a ``.gguf`` file, a hub id) or a ``LocalModel``;
            the policy's own, and otherwise the built-in, if not given.
        policy: Path, ``builtin:NAME``, or a policy that was loaded.
        max_tokens: Most tokens of an answer. This and the next four can also be given to a call, or bound;
            where they are not, answers are drawn as those were that the policy's profile was made of.
        temperature: 0 for greedy decoding.
        top_p: Draw from the smallest set of tokens with this much probability.
        seed: Makes drawing repeatable.
        stop: Strings that end an answer.
        max_reasoning_tokens: Most tokens that a model which reasons may think for before it answers; 2,048 if
            not given. One that has not come to an answer by then is cut off, and its answer withheld.
        chat_template_kwargs: Arguments of the model's chat template, such as ``{"enable_thinking": False}``,
            over those of the policy. Also for a call; a profile does not hold for what a call changes.
        timeout: Seconds that a caller waits for the verdict, its turn included, before
            :class:`~guardrail.errors.AnswerTimeoutError` is raised and the model freed at the next token.
            What an escalation asks has times of its own. Also for a call; None for as long as it takes.
        on_abstain: What happens where nothing answers: ``message`` (the content is the policy's message),
            ``refusal`` (the same, marked as a refusal in the way that the installed LangChain knows) or
            ``raise`` (:class:`~guardrail.errors.AbstainedError`, before the first chunk: for
            ``with_fallbacks``).
        targets: Chat models, functions or queues for names of the policy's ``escalation``.
        policy_tags: What the policy's rules, and its ``streams``, may go by. Also for a call.
        familiarity: What an earlier guard of the same profile knew of the traffic
            (``chat.guard.familiarity``), to go on from there; then what is known now. Copies learn together.
        batch_size: How many waiting requests are answered together at most.
        streaming: Have ``invoke`` stream inside, so that whoever listens hears the chunks.
        with_draft: Put drafts into verdicts, withheld or not; for debugging.
        device: Where a model given by name is opened; ``auto`` chooses.
        dtype: Type that its weights are read in; ``auto`` chooses.
        quantization: Quantize it while loading; needs CUDA.

    Raises:
        PolicyError: The policy has mistakes.
        GuardrailError: The model cannot be opened, or its profile or a target cannot be used.
        OptionError: An option is out of its range.
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
        # Not in a validator: pydantic wraps what is raised there. Hidden: the fields are the arguments.
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            """Open everything, so that what cannot work is known at once."""
            given = named_fields(kwargs, type(self).model_fields)
            # Before pydantic, which takes True for 1; and before the weights, which take longer.
            _ = CallOptions.of_fields(given, Sampling())
            super().__init__(*args, **given)
            self._open()

    @property
    def model_name(self) -> str:
        """What messages call the model."""
        return self.guard.model.name

    @property
    def guard(self) -> "Guard":
        """The guard inside."""
        return self._open().guard

    @property
    def _llm_type(self) -> str:
        return "guardrail"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """Everything that an answer or its verdict hangs on: LangChain's caches go by it."""
        # Not by the name of a call's own stop strings, which LangChain writes beside it.
        options = {f"default_{name}": value for name, value in asdict(self._options).items()}
        # No answer hangs on it.
        del options["default_timeout"]
        return {
            **self._open().identity,
            "familiarity": self.familiarity.known() if self.familiarity else [],
            **options,
            "with_draft": self.with_draft,
            "output_version": self.output_version,
        }

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        # Another model's name, or what only a request would refuse, is told as it was given.
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
        # Neither objects, which are long, nor a path of this machine.
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
        # Fields may be set anew, and copies made with others: a guard of another policy must not go on.
        known = self._opened.guard.streams if self._opened else None
        if self._opened is None or not self._opened.is_of(source) or self.familiarity is not known:
            before = self._opened.model_profile if self._opened else None
            self._opened = open_source(source, self.familiarity)
            self.familiarity = self._opened.guard.streams
            # Unless a caller gave another: what was said of one model does not hold for the next.
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
        """The ids of a text's tokens, by the model's own tokenizer."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return self.guard.model.token_ids(text)

    def get_num_tokens_from_messages(
        self, messages: Sequence[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """How many tokens the model reads of a conversation, with all that its chat template writes.

        That is exact for what it can be asked. Parts of a conversation that are none by themselves, at which
        ``trim_messages`` looks, are rather counted too long than too short.

        Args:
            messages: The conversation.
            tools: The tools that are offered, as for :meth:`bind_tools`.

        Raises:
            PromptError: A message holds what no text model can read.
        """
        from guardrail.langchain.shared_models import count_tokens

        offered = offer(tools or (), "auto")["tools"]
        # As the guard reads it: turns that were withheld are none.
        spoken = self.guard.spoken(prompt_of(messages)).messages
        return count_tokens(self.guard.model.tokenizer, spoken, offered)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, which shares the weights.

        Args:
            update: Fields to be others; options by any of their names.
            deep: Copy also what the fields hold.

        Raises:
            OptionError: A name is none of a field.
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
        # Whoever unpickles it opens the model anew.
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

        The policy decides on a call as on any answer. A rule that names tools (``tool_call``) goes by the
        least of the answer's confidence and of those of the calls that it names; each is in the verdict's
        ``tool_calls``. Calls of a withheld answer are withheld.

        Args:
            tools: Tools, functions, pydantic classes or JSON schemas.
            tool_choice: ``auto``, ``none``, ``any`` (or ``required``, or True: one of them must be called) or
                a tool's name; also as a dict, in the form of OpenAI or of Anthropic. A call that must be made
                is held to the form of the tool's arguments.
            **kwargs: Bound as they are.

        Raises:
            NotImplementedError: The model's chat template shows no tools.
            OptionError: A tool is none, or ``tool_choice`` is none of these, or another option is none.
            MissingDependencyError: A call must be made, and llguidance is not installed.
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
        """Have answers as data that fits a schema.

        The model is told of the schema and held to it, token by token (llguidance); the answer is scored and
        decided on like any other. Where it is withheld, :class:`~guardrail.errors.AbstainedError` is raised.

        Args:
            schema: A pydantic class (gives its objects), a TypedDict, a JSON schema, or a function of
                OpenAI's form (these give dicts).
            include_raw: Give ``{"raw": message, "parsed", "parsing_error"}``, and raise nothing for what
                cannot be read or is withheld.
            method: All are the same here: answers are always held to the schema.
            strict: Likewise; they are never held to less.
            **kwargs: Bound as they are.

        Raises:
            OptionError: No answer can be held to the schema.
            MissingDependencyError: llguidance is not installed.
        """
        from guardrail.models.decoding import held_to, json_grammar

        if method not in get_args(_Method):
            raise OptionError(f"method is {method!r}; it can be {', '.join(get_args(_Method))}.")
        form = schema_of(schema)
        # What cannot be is known at once.
        held_to(json_grammar(form))
        _ = self._options.changed(None, {**kwargs, "strict": strict, "json_schema": form})
        model = self.bind(json_schema=form, **told_to_tracers(schema, method), **kwargs)
        return parsed_by(model, schema, include_raw=include_raw)
