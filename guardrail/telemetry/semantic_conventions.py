"""Names of attributes, events and metrics: those of OpenTelemetry's conventions, and guardrail's own.

The conventions for generative AI have a repository of their own, and no stable package of names; these are
its names as of 2026 (``gen_ai.*``, status: development), with ``error.type`` and ``http.*`` of the general
ones.
"""

from typing import Final

__all__ = [
    "CHAT",
    "CONFIDENCE_BUCKETS",
    "EVALUATION_EVENT",
    "EVALUATION_NAME",
    "JUDGE",
    "PROVIDER_NAME",
    "SECONDS_BUCKETS",
    "SIZE_BUCKETS",
    "TOKEN_BUCKETS",
    "Attribute",
    "MetricName",
]

# Values of gen_ai.operation.name: the model is asked, or an answer from elsewhere is read.
CHAT: Final = "chat"
JUDGE: Final = "judge"
PROVIDER_NAME: Final = "guardrail"
EVALUATION_EVENT: Final = "gen_ai.evaluation.result"
EVALUATION_NAME: Final = "guardrail.confidence"


class Attribute:
    """Names of attributes. Those with ``guardrail.`` before them are of no convention."""

    OPERATION: Final = "gen_ai.operation.name"
    PROVIDER: Final = "gen_ai.provider.name"
    REQUEST_MODEL: Final = "gen_ai.request.model"
    REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
    REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
    REQUEST_TOP_P: Final = "gen_ai.request.top_p"
    REQUEST_SEED: Final = "gen_ai.request.seed"
    RESPONSE_ID: Final = "gen_ai.response.id"
    RESPONSE_MODEL: Final = "gen_ai.response.model"
    FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
    INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
    OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
    REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
    TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105  (of a token of a text)
    INPUT_MESSAGES: Final = "gen_ai.input.messages"
    OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
    SCORE_VALUE: Final = "gen_ai.evaluation.score.value"
    SCORE_LABEL: Final = "gen_ai.evaluation.score.label"
    EVALUATION: Final = "gen_ai.evaluation.name"
    EXPLANATION: Final = "gen_ai.evaluation.explanation"
    ERROR_TYPE: Final = "error.type"
    HTTP_METHOD: Final = "http.request.method"
    HTTP_ROUTE: Final = "http.route"
    HTTP_STATUS: Final = "http.response.status_code"
    ACTION: Final = "guardrail.action"
    RULE: Final = "guardrail.rule"
    ENFORCED: Final = "guardrail.enforced"
    CONFIDENCE: Final = "guardrail.confidence"
    REASON: Final = "guardrail.reason"
    FAMILIAR: Final = "guardrail.familiar"
    POLICY: Final = "guardrail.policy"
    STAGE: Final = "guardrail.stage"
    BATCH_SIZE: Final = "guardrail.batch.size"
    REQUEST_ID: Final = "guardrail.server.request_id"
    DRAFT: Final = "guardrail.draft"


class MetricName:
    """Names of metrics. Prometheus has them with ``_`` for ``.``, the unit, and ``_total`` for counters."""

    OPERATION_DURATION: Final = "gen_ai.client.operation.duration"
    TOKEN_USAGE: Final = "gen_ai.client.token.usage"  # noqa: S105  (as above)
    ANSWERS: Final = "guardrail.answers"
    CONFIDENCE: Final = "guardrail.confidence"
    STAGE_DURATION: Final = "guardrail.stage.duration"
    BATCH_SIZE: Final = "guardrail.batch.size"
    ERRORS: Final = "guardrail.errors"
    QUEUE_REQUESTS: Final = "guardrail.queue.requests"
    HTTP_DURATION: Final = "http.server.request.duration"
    HTTP_ACTIVE: Final = "http.server.active_requests"
    HTTP_ADMITTED: Final = "guardrail.server.admitted_requests"


# As the conventions advise: seconds, and numbers of tokens.
SECONDS_BUCKETS: Final = tuple(0.01 * 2**power for power in range(14))
TOKEN_BUCKETS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
CONFIDENCE_BUCKETS: Final = tuple(percent / 100 for percent in (1, *range(5, 100, 5), 99))
SIZE_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64)
