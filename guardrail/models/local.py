"""A causal language model on this machine: text in, traces out."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from threading import RLock
from typing import TYPE_CHECKING, Any, Self

import torch

from guardrail.errors import GenerationError, OptionError
from guardrail.models.chat_template import check_chat_template_kwargs
from guardrail.models.control_tokens import Region, encode_with
from guardrail.models.decoding import NO_CONTROLS, GenerationControls
from guardrail.models.files.reference import DEFAULT_MODEL, ModelReference
from guardrail.models.generation import Run, generate, read
from guardrail.models.loading import LoadOptions, open_model
from guardrail.models.prompt import EncodedPrompt, Prompt, encode_ids, encode_prompt, without_end
from guardrail.models.replay.architecture import Anatomy, dissect
from guardrail.models.response import (
    ResponseReader,
    encode_response,
    finish_reason,
    read_reason,
    token_budget,
)
from guardrail.models.runnable_model import ReadingLimits, RunnableModel, make_runnable, sees_padding
from guardrail.models.sampling import Sampling
from guardrail.models.trace import FinishReason, Trace, traces_of
from guardrail.utils.text import takes_no_others
from guardrail.utils.threads import renew_after_fork

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from guardrail.utils.threads import ProgressCallback


@takes_no_others
class LocalModel:
    """A model that answers, and leaves what is needed to say how sure it was.

    Runs are serialised by a lock: a model is one set of weights with hooks on it.

    Examples:
        >>> model = LocalModel.load("smollm2-135m")
        >>> trace = model.generate("What is the capital of France?")

    Args:
        model: A causal language model of transformers.
        tokenizer: Its tokenizer.
        name: What traces call the model.
        chat_template_kwargs: Arguments of its chat template for every prompt, such as
            ``{"enable_thinking": False}``. They are a part of the model's fingerprint.

    Raises:
        OptionError: The template reads no such argument.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        name: str,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name = name
        self.chat_template_kwargs = check_chat_template_kwargs(tokenizer, chat_template_kwargs)
        self.anatomy: Anatomy = dissect(model)
        self.lock = RLock()
        # What opens it once more; None where it was not opened by a name.
        self.opened_by: tuple[str, LoadOptions] | None = None
        # Whether this process was forked off while another thread used it.
        self.is_torn = False
        renew_after_fork(self)
        # Why it must be scored by the full backward; empty where the truncated one holds, None until known.
        self.fallback_reason: str | None = None

    @classmethod
    def load(
        cls,
        reference: str | ModelReference = DEFAULT_MODEL,
        options: LoadOptions | None = None,
        progress: "ProgressCallback | None" = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Open a built-in model, a local folder, a GGUF file or a model of the Hugging Face hub.

        Args:
            reference: ``smollm2-135m``, ``./folder``, ``model.gguf``, ``owner/name`` or
                ``owner/name@revision``.
            options: Device, dtype, quantisation; chosen for this machine if not given.
            progress: Told of each stage of a download or conversion.
            chat_template_kwargs: As for the class.

        Raises:
            ModelReferenceError: The name leads to no model.
            ModelUnavailableError: The model could not be fetched, verified or opened.
            OptionError: The model's chat template reads no such argument.
        """
        if isinstance(reference, str):
            reference = ModelReference.parse(reference)
        with torch.inference_mode(False):
            opened = open_model(reference, options or LoadOptions(), progress)
        model = cls(opened.model, opened.tokenizer, str(reference), chat_template_kwargs)
        model.opened_by = (str(reference), options or LoadOptions())
        return model

    def renew_after_fork(self) -> None:
        """Be free in a forked process; what another thread was in the middle of can never be ended there."""
        # The threads that torch computes by are not in it either, and it would wait for them for ever.
        torch.set_num_threads(1)
        if self.lock.acquire(blocking=False):
            self.lock.release()
        else:
            self.lock, self.is_torn = RLock(), True

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        # The weights are shared: runs are one after the other anyway.
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        if self.opened_by is None:
            raise OptionError(
                f"The model {self.name!r} was not opened by a name, so that nothing but its weights could be "
                "pickled. Open it by LocalModel.load, or where it is needed."
            )
        return (type(self).load, (*self.opened_by, None, self.chat_template_kwargs))

    def with_chat_template_kwargs(self, kwargs: Mapping[str, Any] | None) -> Self:
        """The same weights under other arguments of the chat template, over those it has.

        Raises:
            OptionError: The template reads no such argument.
        """
        checked = check_chat_template_kwargs(self.tokenizer, kwargs)
        merged = {**self.chat_template_kwargs, **checked}
        if merged == self.chat_template_kwargs:
            return self
        # Not by copy(), which opens a model anew.
        other = type(self).__new__(type(self))
        other.__dict__.update(self.__dict__, chat_template_kwargs=merged)
        renew_after_fork(other)
        return other

    def encode_prompt(
        self,
        prompt: Prompt,
        tools: Sequence[Mapping[str, Any]] = (),
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> EncodedPrompt:
        """Encode a question or a conversation the way the model was taught to read it.

        Args:
            prompt: A question, or messages with ``role`` and ``content``.
            tools: Functions that the template is to show to the model.
            chat_template_kwargs: Arguments of the chat template, over those of the model.

        Raises:
            PromptError: Nothing was asked, or the template refuses the conversation.
            OptionError: The template reads no such argument.
        """
        given = check_chat_template_kwargs(self.tokenizer, chat_template_kwargs)
        return encode_prompt(self.tokenizer, prompt, tools, {**self.chat_template_kwargs, **given})

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Have the model to oneself, and tensors that autograd may use whatever mode the caller is in.

        Raises:
            GenerationError: This process was forked off while another thread used the model.
        """
        with self.lock, torch.inference_mode(False):
            if self.is_torn:
                raise GenerationError(
                    f"This process was forked off while {self.name} answered, which leaves it in the middle "
                    "of that. Fork while no request runs, or open the model in the new process."
                )
            yield

    @cached_property
    def runnable(self) -> RunnableModel:
        """The model with what runs need to know of it."""
        with self.alone():
            return make_runnable(self.model, self.tokenizer, self.anatomy)

    @property
    def vocabulary_size(self) -> int:
        """Number of token ids the model can read."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    @property
    def limits(self) -> ReadingLimits:
        """The bounds of the model on prompts and responses."""
        return ReadingLimits(self.name, self.vocabulary_size, self.anatomy.context_length)

    def generate(
        self,
        prompt: Prompt,
        sampling: Sampling | None = None,
        *,
        depths: Sequence[float] = (),
        controls: GenerationControls | None = None,
    ) -> Trace:
        """Answer one question or conversation.

        Args:
            prompt: A question, or messages with ``role`` and ``content``.
            sampling: How to decode; greedily if not given.
            depths: Keep hidden-state summaries at these fractions of the layers (2/3 is a good one).
            controls: Tools, who listens to the text, who may stop it, what may be said.

        Raises:
            PromptError: Nothing was asked, or the prompt does not fit the context.
            GenerationError: The model gave logits that are not numbers.
        """
        return self.generate_batch([prompt], sampling, depths=depths, controls=controls)[0]

    def generate_batch(
        self,
        prompts: Sequence[Prompt],
        sampling: Sampling | None = None,
        *,
        depths: Sequence[float] = (),
        controls: GenerationControls | None = None,
    ) -> list[Trace]:
        """Answer several prompts in one run; see :meth:`generate`."""
        sampling, controls = sampling or Sampling(), controls or NO_CONTROLS
        tools, kwargs = controls.tools, controls.chat_template_kwargs
        encoded = [self.encode_prompt(prompt, tools, kwargs) for prompt in prompts]
        return self.generate_encoded(encoded, sampling, depths=depths, controls=controls)

    def generate_encoded(
        self,
        prompts: Sequence[EncodedPrompt],
        sampling: Sampling,
        *,
        depths: Sequence[float] = (),
        controls: GenerationControls = NO_CONTROLS,
    ) -> list[Trace]:
        """Answer prompts that are token ids already; see :meth:`generate`."""
        if not prompts:
            return []
        if controls.is_for_one and len(prompts) > 1:
            raise OptionError("Live text and grammars are for one prompt at a time.")
        most, answer = token_budget(self.tokenizer, prompts, sampling)
        rooms = {min(self.limits.room(prompt), most) for prompt in prompts}
        with self.alone():
            if len(rooms) > 1 or not self._fit_together(prompts, [len(prompt.ids) for prompt in prompts]):
                ones = ([prompt] for prompt in prompts)
                return [
                    self.generate_encoded(one, sampling, depths=depths, controls=controls)[0] for one in ones
                ]
            whole = replace(sampling, max_tokens=rooms.pop())
            run = generate(self.runnable, prompts, whole, self.anatomy.layers_at(depths), controls, answer)
            readers = [self._reader(prompt, sampling.stop) for prompt in prompts]
            reasons = [
                finish_reason(reader, response, self.runnable.end_ids, whole, reads_answer=answer is not None)
                for response, reader in zip(run.responses, readers, strict=True)
            ]
            if self._switched_on_the_way(prompts, run.responses):
                traces = self.read_encoded(prompts, run.responses, depths=depths)
                for trace, reason, reader in zip(traces, reasons, readers, strict=True):
                    trace.text = reader.read(trace.response_ids).answer
                    trace.finish_reason = reason
                    trace.generate_s += run.seconds
            else:
                traces = self._traces(prompts, run, reasons, sampling.stop)
        if run.stream is not None:
            run.stream.finish(traces[0].text)
        return traces

    def read(
        self,
        prompt: Prompt | EncodedPrompt,
        response: str | Sequence[int],
        *,
        finish_reason: FinishReason | None = None,
        depths: Sequence[float] = (),
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> Trace:
        """Read a response that was produced elsewhere by the same weights, by teacher forcing.

        Args:
            prompt: A question, messages, or an encoded prompt.
            response: The response as text or token ids; see :meth:`encode_response`.
            finish_reason: Why the response ended, if it is known.
            depths: As for :meth:`generate`.
            chat_template_kwargs: Arguments of the chat template, over those of the model.

        Raises:
            PromptError: As for :meth:`generate`.
            ResponseError: No tokens, too many, or ids outside the vocabulary.
            GenerationError: The model gave logits that are not numbers.
        """
        if isinstance(prompt, EncodedPrompt):
            encoded = prompt
        else:
            encoded = self.encode_prompt(prompt, chat_template_kwargs=chat_template_kwargs)
        ids = self.encode_response(response, finish_reason)
        trace = self.read_encoded([encoded], [ids], depths=depths)[0]
        trace.finish_reason = trace.ended(finish_reason)
        return trace

    def read_encoded(
        self,
        prompts: Sequence[EncodedPrompt],
        responses: Sequence[Sequence[int]],
        *,
        depths: Sequence[float] = (),
    ) -> list[Trace]:
        """Read several responses in one run; see :meth:`read`."""
        if not prompts:
            return []
        for prompt, response in zip(prompts, responses, strict=True):
            self.limits.check_response(prompt, response)
        with self.alone():
            pairs = list(zip(prompts, responses, strict=True))
            if not self._fit_together(prompts, [len(p.ids) + len(r) - 1 for p, r in pairs]):
                return [self.read_encoded([p], [r], depths=depths)[0] for p, r in pairs]
            run = read(self.runnable, prompts, responses, self.anatomy.layers_at(depths))
        ends = self.runnable.end_ids
        reasons = [read_reason(self._reader(prompt), response, ends) for prompt, response in pairs]
        return self._traces(prompts, run, reasons, ())

    def token_ids(self, text: str) -> list[int]:
        """The ids of a text's tokens, as they are in a message: none of them is a control token.

        Raises:
            PromptError: It spells a control token that this tokenizer can only write as such.
        """
        return encode_with(self.tokenizer, text, [Region(0, len(text))])

    def encode_ids(self, ids: Sequence[int]) -> EncodedPrompt:
        """Take a prompt that is token ids already."""
        return encode_ids(self.tokenizer, ids)

    def encode_response(
        self, response: str | Sequence[int], finish_reason: FinishReason | None = None
    ) -> list[int]:
        """Token ids of a response, with its end of turn, which is part of what is scored, once at its end.

        A text is nothing but text, whatever it spells, except for the end that it may have been logged with
        and the markers that the model writes its reasoning by. One given to a chat model gets the end where
        it has none, unless it was cut off.

        Args:
            response: The response as text, or as token ids, which stay as they are but for padding.
            finish_reason: Why it ended, if it is known; ``length`` if it was cut off.

        Raises:
            ResponseError: It holds what is no character, or what cannot be read as text.
        """
        return encode_response(self.tokenizer, response, self.runnable.end_ids, finish_reason)

    def said(self, response: str) -> str:
        """The words of a response given as text, without the end that it may have been logged with."""
        return without_end(self.tokenizer, response, self.runnable.end_ids)[0]

    def _traces(
        self,
        prompts: Sequence[EncodedPrompt],
        run: Run,
        reasons: Sequence[FinishReason | None],
        stop: Sequence[str],
    ) -> list[Trace]:
        pairs = zip(prompts, run.responses, strict=True)
        read_responses = [self._reader(prompt, stop).read(response) for prompt, response in pairs]
        return traces_of(self.name, prompts, run, read_responses, reasons)

    def _fit_together(self, prompts: Sequence[EncodedPrompt], lengths: Sequence[int]) -> bool:
        """Whether a batch gives each row its own numbers; ``lengths`` is how many tokens each row feeds."""
        switch = self.anatomy.rope_switch
        if switch is not None and len({length > switch for length in lengths}) > 1:
            return False
        return len({len(prompt.ids) for prompt in prompts}) == 1 or not self._sees_padding

    def _switched_on_the_way(
        self, prompts: Sequence[EncodedPrompt], responses: Sequence[Sequence[int]]
    ) -> bool:
        """Whether the angles of positions changed while responses grew: what was kept is of both kinds."""
        switch = self.anatomy.rope_switch
        grown = max(len(p.ids) + len(r) - 1 for p, r in zip(prompts, responses, strict=True))
        return switch is not None and min(len(prompt.ids) for prompt in prompts) <= switch < grown

    @cached_property
    def _sees_padding(self) -> bool:
        return sees_padding(self.model, self.anatomy)

    def _reader(self, prompt: EncodedPrompt, stop: Sequence[str] = ()) -> ResponseReader:
        ends = self.runnable.silent_ends
        return ResponseReader(self.tokenizer, stop, ends, opened=prompt.opens_reasoning)

    def check_response(self, prompt: EncodedPrompt, response: Sequence[int]) -> None:
        """Raise an error unless a response can be read behind a prompt."""
        self.limits.check_response(prompt, response)
