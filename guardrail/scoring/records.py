"""Lines of a data file, the records that scoring makes of them, and a whole file scored."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import guardrail.errors
from guardrail.errors import GuardrailError, OptionError, RecordError
from guardrail.models.fingerprint import ModelFingerprint, difference_in
from guardrail.scoring.batches import Encoded, Failure, exit_status_of
from guardrail.scoring.options import SCORER_VERSION, ScoringOptions, computation_named
from guardrail.scoring.uncertainty import SCORES
from guardrail.utils.files import check_destination
from guardrail.utils.json_lines import as_json, is_text, json_object, kind_of, read_json_lines, shown, text_of
from guardrail.utils.record_store import RecordStore
from guardrail.utils.threads import ProgressCallback

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.models.prompt import Prompt
    from guardrail.models.trace import FinishReason, Trace
    from guardrail.scoring.uncertainty import Uncertainty

__all__ = ["ScoreRequest", "Tally", "read_lines", "score_file", "stored_results"]


# The fields that a record adds; an input field of one of these names is replaced.
OUR_FIELDS = frozenset(
    {
        "answer",
        "reasoning",
        "model",
        "finish_reason",
        "uncertainty",
        "tokens",
        "semantic_token",
        "computation",
        "computation_reason",
        "usage",
        "timing",
        "scoring",
        "error",
        "error_type",
    }
)
_FINISH_REASONS = ("stop", "length", "reasoning_length")
_FORMS = "messages and response, prompt and response, or prompt_ids and response_ids"


@dataclass(frozen=True, slots=True)
class TextRequest:
    """A question or conversation, and the text that answered it."""

    prompt: "Prompt"
    response: str
    finish_reason: "FinishReason | None"


@dataclass(frozen=True, slots=True)
class IdsRequest:
    """A prompt and a response as token ids, read exactly as they are."""

    prompt_ids: Sequence[int]
    response_ids: Sequence[int]
    finish_reason: "FinishReason | None"


Request = TextRequest | IdsRequest


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a data file.

    Attributes:
        digest: Identifies the line by its text.
        fields: Fields that are passed through to its record.
        request: What is to be scored; None if the line has a problem.
        problem: Why the line cannot be scored; None if it can.
        is_object: Whether the line is a JSON object at all.
    """

    digest: str
    fields: Mapping[str, Any]
    request: Request | None = None
    problem: RecordError | None = None
    is_object: bool = True


@dataclass(frozen=True, slots=True)
class ScoreProvenance:
    """What made a record: an interrupted run is gone on with by the same alone.

    Attributes:
        model: The model.
        options: How it scored.
    """

    model: ModelFingerprint
    options: ScoringOptions

    def fields(self) -> dict[str, Any]:
        """The provenance as a record holds it; the model's name has a field of its own."""
        arguments = asdict(self.options)
        # No argument of a score, and not in the files of earlier versions.
        del arguments["known"]
        model = self.model.as_plain()
        del model["name"]
        return {**arguments, "version": SCORER_VERSION, **model}

    def difference(self, record: Mapping[str, Any]) -> str:
        """In words, how the provenance of a stored record differs from this one; empty if it does not."""
        before = {name: value for name, value in record["scoring"].items() if name != "line"}
        if "computation" in before:
            before["computation"] = computation_named(before["computation"])
        return difference_in(
            {**before, "name": record.get("model")}, {**self.fields(), "name": self.model.name}
        )


def parse_line(text: str) -> Line:
    """Read a line. An error becomes its ``problem``; nothing is raised."""
    digest = sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()[:16]
    try:
        values = json_object(text)
    except RecordError as problem:
        return Line(digest, {}, problem=problem, is_object=False)
    fields = {name: value for name, value in values.items() if name not in OUR_FIELDS}
    if isinstance(values.get("model"), str):
        # Who gave the response; the record's own model is the one that scores it.
        fields.setdefault("answered_by", values["model"])
    try:
        return Line(digest, fields, _request(values))
    except RecordError as problem:
        return Line(digest, fields, problem=problem)


def encode(model: "LocalModel", request: Request) -> Encoded[Request]:
    """Turn a request into token ids.

    Raises:
        PromptError: The prompt is empty, or its chat template refuses it.
    """
    if isinstance(request, IdsRequest):
        response = model.encode_response(request.response_ids, request.finish_reason)
        return Encoded(request, model.encode_ids(request.prompt_ids), response)
    prompt = model.encode_prompt(request.prompt)
    return Encoded(request, prompt, model.encode_response(request.response, request.finish_reason))


def as_record(trace: "Trace", uncertainty: "Uncertainty") -> dict[str, Any]:
    """An answer and its uncertainty as plain values for JSON.

    ``timing`` is that of the batch that the answer was in.
    """
    return {
        "answer": trace.text,
        **({"reasoning": trace.reasoning} if trace.answer_start else {}),
        "model": trace.model,
        "finish_reason": trace.finish_reason,
        "uncertainty": {name: getattr(uncertainty, name) for name in SCORES},
        "tokens": [asdict(token) for token in uncertainty.tokens],
        "semantic_token": asdict(uncertainty.semantic_token),
        "computation": uncertainty.computation,
        "computation_reason": uncertainty.computation_reason,
        "usage": trace.token_counts,
        "timing": {"generate_s": trace.generate_s, "score_s": uncertainty.score_s},
    }


def line_record(
    line: Line, trace: "Trace", uncertainty: "Uncertainty", provenance: ScoreProvenance
) -> dict[str, Any]:
    """The record of a line that was scored."""
    return {**line.fields, **as_record(trace, uncertainty), "scoring": _scoring(line, provenance)}


def error_record(line: Line, error: GuardrailError, provenance: ScoreProvenance) -> dict[str, Any]:
    """The record of a line that was not scored: the reason, and no numbers."""
    reason = {"error": " ".join(str(error).split()), "error_type": type(error).__name__}
    return {**line.fields, **reason, "model": provenance.model.name, "scoring": _scoring(line, provenance)}


def failure_status(record: Mapping[str, Any]) -> int:
    """0 if the record was scored, 2 if its line was wrong, 1 if scoring failed for another reason."""
    if "error" not in record:
        return 0
    kind = getattr(guardrail.errors, str(record.get("error_type")), GuardrailError)
    return int(kind.exit_status)


def _scoring(line: Line, provenance: ScoreProvenance) -> dict[str, Any]:
    return {"line": line.digest, **provenance.fields()}


def _request(values: Mapping[str, Any]) -> Request:
    finish_reason = values.get("finish_reason")
    if finish_reason is not None and finish_reason not in _FINISH_REASONS:
        raise RecordError(f"finish_reason is {shown(finish_reason)}; it can be {_named(_FINISH_REASONS)}.")
    if "prompt_ids" in values and "response_ids" in values:
        return IdsRequest(_ids(values, "prompt_ids"), _ids(values, "response_ids"), finish_reason)
    if "response" not in values or not ({"messages", "prompt"} & set(values)):
        given = ", ".join(sorted(values)[:8]) or "nothing"
        raise RecordError(f"The line needs {_FORMS}; it has {given}.")
    response = text_of(values["response"], "response")
    if "messages" not in values:
        return TextRequest(text_of(values["prompt"], "prompt"), response, finish_reason)
    messages = values["messages"]
    if not isinstance(messages, list):
        raise RecordError(f"messages is {kind_of(messages)}, and a list of messages is expected.")
    if not is_text(json.dumps(messages, ensure_ascii=False)):
        raise RecordError("messages holds half a surrogate pair, which is no text.")
    return TextRequest(messages, response, finish_reason)


def _named(values: Sequence[str]) -> str:
    return " or ".join(f'"{value}"' for value in values)


def _ids(values: Mapping[str, Any], name: str) -> list[int]:
    ids = values[name]
    # A bool is an int to Python, and never a token.
    if not isinstance(ids, list) or any(type(token) is not int for token in ids):
        raise RecordError(f"{name} is to be a list of token ids, such as [1, 9690, 198].")
    return ids


REMEDY = "Choose another file, or start afresh with --overwrite."


def read_lines(path: str | Path) -> list[Line]:
    """Read a file of JSON lines. Lines that cannot be used are included, each with its problem.

    Raises:
        RecordError: The file does not exist, or is not a file of JSON lines at all.
    """
    return [parse_line(text) for text in read_json_lines(path)]


def stored_results(
    store: RecordStore, lines: Sequence[Line], provenance: ScoreProvenance
) -> list[Mapping[str, Any]]:
    """The records that an earlier run on the same lines left, one for each of the first lines.

    Args:
        store: The file, open; new records are appended to these.
        lines: The lines to be scored.
        provenance: What the records of this run say of how they were made.

    Raises:
        RecordError: The file holds something else.
        OptionError: It holds results of other lines, another model or other arguments, or cannot be read.
    """
    # What is passed through stands first in a record.
    start = as_json(lines[0].fields).removesuffix("}")
    records = store.records(_parsed, [start])
    if len(records) > len(lines):
        raise OptionError(f"{store.path} has more lines than there are to score. {REMEDY}")
    for number, (record, line) in enumerate(zip(records, lines, strict=False), start=1):
        is_other = record["scoring"].get("line") != line.digest
        if difference := "belongs to another input" if is_other else provenance.difference(record):
            raise OptionError(f"Line {number} of {store.path} {difference}. {REMEDY}")
    return records


def _parsed(line: str) -> Mapping[str, Any]:
    record = json_object(line)
    if not ("error" in record or "uncertainty" in record) or not isinstance(record.get("scoring"), dict):
        raise RecordError("It is not a result of guardrail score.")
    return record


@dataclass(slots=True)
class Tally:
    """Counts records as they come.

    Attributes:
        kept: How many were there from an earlier run.
        values: HybridGrad of each that was scored.
        failures: Those that were not.
        lines: How many there are.
        model: What the model is called that scored them.
    """

    kept: int = 0
    values: list[float] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    lines: int = 0
    model: str = ""

    def add(self, record: Mapping[str, Any]) -> None:
        """Count the record of the next line."""
        self.lines += 1
        if status := failure_status(record):
            self.failures.append(Failure(self.lines, str(record["error"]), status))
        else:
            self.values.append(record["uncertainty"]["hybridgrad"])

    @property
    def exit_status(self) -> int:
        """0 if all were scored, 2 if the lines themselves were wrong that were not, 1 otherwise."""
        return exit_status_of(self.failures)

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = sorted(self.values)
        return {
            "lines": self.lines,
            "scored": len(values),
            "failed": len(self.failures),
            "kept": self.kept,
            "failures": [{"line": failure.line, "error": failure.reason} for failure in self.failures],
            "hybridgrad": {"min": values[0], "median": median(values), "max": values[-1]} if values else None,
        }


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """A file to be scored.

    Attributes:
        file: The file.
        options: How to score.
        batch_size: How many lines the model reads at once.
        output: Where records go, so that an interrupted run can be gone on with; None to hand them on only.
        overwrite: Start afresh, whatever is in the output file.
    """

    file: Path
    options: ScoringOptions
    batch_size: int = 8
    output: Path | None = None
    overwrite: bool = False


def score_file(
    request: ScoreRequest,
    open_model: Callable[[], "LocalModel"],
    on_record: Callable[[Mapping[str, Any]], None] | None = None,
    progress: ProgressCallback | None = None,
) -> Tally:
    """Score the lines of a file, in their order, going on where an earlier run stopped.

    Args:
        request: What is asked for.
        open_model: Opens the model.
        on_record: Given each record of this run as it comes.
        progress: Told after each batch.

    Raises:
        RecordError: The file holds no lines, or the output file something else than records.
        OptionError: The records in the output file are of another model, of other lines or other options, or
            it cannot be written.
        FileInUseError: Another run writes the output file.
    """
    lines = read_lines(request.file)
    if request.output is None:
        return _score_into(None, request, lines, open_model(), on_record, progress)
    check_destination(request.output, request.file)
    with RecordStore(request.output, REMEDY) as store:
        return _score_into(store, request, lines, open_model(), on_record, progress)


def _score_into(
    store: RecordStore | None,
    request: ScoreRequest,
    lines: Sequence[Line],
    model: "LocalModel",
    on_record: Callable[[Mapping[str, Any]], None] | None,
    progress: ProgressCallback | None,
) -> Tally:
    # They load torch.
    from guardrail.scoring.bulk import provenance_of, score_lines
    from guardrail.scoring.semantic_tokens import with_known_token

    options = with_known_token(request.options, model)
    tally, provenance = Tally(model=model.name), provenance_of(model, options)
    if store is not None and not request.overwrite:
        for record in stored_results(store, lines, provenance):
            tally.add(record)
        tally.kept = tally.lines
    for record in score_lines(
        model,
        lines,
        options,
        batch_size=request.batch_size,
        start=tally.kept,
        provenance=provenance,
        progress=progress,
    ):
        if store is not None:
            store.append(record)
        if on_record is not None:
            on_record(record)
        tally.add(record)
    return tally
