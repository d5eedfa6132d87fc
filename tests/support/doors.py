"""All doors through which an answer may leave, everybody who listens there, and a search for one word."""

import asyncio
import contextvars
import gc
import types
import warnings

from langchain_core.messages import AIMessage
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.context import collect_runs

from tests.support.wrapping import AsyncListener, Listener

# In one piece nowhere but in an answer: neither in a constant of a test nor in a model before it is asked.
PIECES = ("Ouaga", "dougou")


def canary():
    return "".join(PIECES)


def answers():
    """Every kind of answer that a provider may give, each with the word in it; made when a model is asked."""
    word = canary()
    call = {"name": "look_up", "args": {"place": word}, "id": "c1"}
    raw = {"id": "c2", "type": "function", "function": {"name": "look_up", "arguments": f'{{"a": "{word}"}}'}}
    return {
        "text": AIMessage(f"It is {word}."),
        "blocks": AIMessage([{"type": "text", "text": f"It is {word}."}]),
        "nested": AIMessage([{"type": "tool_result", "content": [[{"type": "text", "text": word}]]}]),
        "call": AIMessage("", tool_calls=[call]),
        "text and call": AIMessage(f"It is {word}.", tool_calls=[call]),
        "invalid call": AIMessage(
            "I", invalid_tool_calls=[{"name": "f", "args": word, "id": "1", "error": word}]
        ),
        "function call": AIMessage(
            "I", additional_kwargs={"function_call": {"name": "f", "arguments": word}}
        ),
        "raw calls": AIMessage("I", additional_kwargs={"tool_calls": [raw]}),
        "refusal": AIMessage([{"type": "refusal", "refusal": f"Not {word}."}]),
        "refusal beside": AIMessage("", additional_kwargs={"refusal": f"Not {word}."}),
        "reasoning": AIMessage(
            [{"type": "reasoning", "reasoning": word}, {"type": "text", "text": "Paris."}]
        ),
        "thinking": AIMessage([{"type": "thinking", "thinking": word}, {"type": "text", "text": "Paris."}]),
        "reasoning beside": AIMessage("Paris.", additional_kwargs={"reasoning_content": word}),
        "server call": AIMessage(["I", {"type": "server_tool_call", "name": "search", "args": {"q": word}}]),
        "mcp call": AIMessage(["I", {"type": "mcp_call", "name": "mail", "arguments": word}]),
        "non-standard": AIMessage(["I", {"type": "non_standard", "value": {"what": word}}]),
        "picture": AIMessage(["I", {"type": "image", "url": f"https://x/{word}"}]),
        "sound alone": AIMessage([{"type": "audio", "base64": word}]),
        "unknown field": AIMessage("I", artifact={"what": word}),
        "unknown fact": AIMessage("I", response_metadata={"safety": word, "finish_reason": "stop"}),
        "claims to pass": AIMessage(
            f"It is {word}.",
            response_metadata={"uncertainty": {"action": "pass", "rule": word, "enforced": True}},
        ),
        "claims to be withheld": AIMessage(
            f"It is {word}.",
            response_metadata={
                "uncertainty": {"action": "abstain", "rule": word, "enforced": True, "message": word}
            },
        ),
        "empty": AIMessage("", additional_kwargs={"draft": word}),
    }


class Tracer(BaseTracer):
    """Keeps every run with all that it says."""

    def __init__(self):
        super().__init__()
        self.kept = []

    def _persist_run(self, run):
        self.kept.append(run)

    def runs(self):
        """All runs, those within others too."""
        found, open_ = [], [*self.kept]
        while open_:
            run = open_.pop()
            found.append(run)
            open_ += run.child_runs
        return found

    def __repr__(self):
        return repr([(r.inputs, r.outputs, r.error, r.extra, r.events, r.serialized) for r in self.runs()])


async def _all(stream):
    return [one async for one in stream]


async def _events(runnable, asked, config, version):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        events = runnable.astream_events(asked, config, version=version)
        return await _all(await events if version == "v3" else events)


async def _log(runnable, asked, config):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return await _all(runnable.astream_log(asked, config))


async def _one(asked):
    yield asked


async def _cancelled(runnable, asked, config):
    task = asyncio.ensure_future(runnable.ainvoke(asked, config))
    await asyncio.sleep(0.005)
    task.cancel()
    return await task


DOORS = {
    "invoke": lambda r, a, c: r.invoke(a, c),
    "stream": lambda r, a, c: [*r.stream(a, c)],
    "transform": lambda r, a, c: [*r.transform(iter([a]), c)],
    "batch": lambda r, a, c: r.batch([a, a], c),
    "batch, errors kept": lambda r, a, c: r.batch([a, a], c, return_exceptions=True),
    "batch as completed": lambda r, a, c: [*r.batch_as_completed([a], c, return_exceptions=True)],
    "map": lambda r, a, c: r.map().invoke([a], c),
    "with config": lambda r, a, c: r.with_config(c).invoke(a),
    "with retry": lambda r, a, c: r.with_retry(stop_after_attempt=1).invoke(a, c),
    "ainvoke": lambda r, a, c: asyncio.run(r.ainvoke(a, c)),
    "astream": lambda r, a, c: asyncio.run(_all(r.astream(a, c))),
    "atransform": lambda r, a, c: asyncio.run(_all(r.atransform(_one(a), c))),
    "abatch": lambda r, a, c: asyncio.run(r.abatch([a], c, return_exceptions=True)),
    "abatch as completed": lambda r, a, c: asyncio.run(_all(r.abatch_as_completed([a], c))),
    "astream_log": lambda r, a, c: asyncio.run(_log(r, a, c)),
    "astream_events v1": lambda r, a, c: asyncio.run(_events(r, a, c, "v1")),
    "astream_events v2": lambda r, a, c: asyncio.run(_events(r, a, c, "v2")),
    "cancelled": lambda r, a, c: asyncio.run(_cancelled(r, a, c)),
}


def opened(door, runnable, asked):
    """Go through a door, and give everything that anybody around it has then, by who has it."""
    listener, later, tracer = Listener(), AsyncListener(), Tracer()
    config = {"callbacks": [listener, later, tracer], "metadata": {"who": {"is": ["me"]}}, "tags": ["t"]}
    seen = {"listener": listener, "async listener": later, "tracer": tracer, "config": config, "input": asked}
    with collect_runs() as runs:
        try:
            seen["output"] = DOORS[door](runnable, asked, config)
        except BaseException as error:  # noqa: BLE001  (what it carries is what is looked into)
            seen["error"] = error
    seen["runs"] = runs.traced_runs
    return seen


def check_nobody_knows(seen, word=None):
    """Nothing that anybody has leads to the word, however deep."""
    for who, value in seen.items():
        path = leads_to(value, word or canary())
        assert path is None, f"{who}: {path}"


_DEAD_ENDS = (types.ModuleType, type, types.FunctionType, types.BuiltinFunctionType, types.CodeType)


def leads_to(value, word):
    """How a value leads to a word, through everything that it refers to, its errors' frames too; or None."""
    known, open_ = {id(value)}, [(value, type(value).__name__)]
    here = {id(globals()), id(vars(types))}
    while open_:
        one, path = open_.pop()
        if isinstance(one, str):
            if word in one:
                return f"{path}: {one[:80]!r}"
            continue
        if isinstance(one, bytes):
            if word.encode() in one:
                return path
            continue
        for name, part in _parts(one):
            if id(part) not in known and id(part) not in here and not isinstance(part, _DEAD_ENDS):
                known.add(id(part))
                open_.append((part, f"{path}.{name}" if len(path) < 400 else path))
        if len(known) > 400_000:
            raise AssertionError(f"there is no end: {path}")
    return None


def _parts(value):
    if isinstance(value, BaseException):
        yield "args", value.args
        yield "__dict__", vars(value)
        yield "__cause__", value.__cause__
        yield "__context__", value.__context__
        trace = value.__traceback__
        while trace is not None:
            if "/tests/" not in trace.tb_frame.f_code.co_filename:
                for name, local in trace.tb_frame.f_locals.items():
                    yield f"{trace.tb_frame.f_code.co_name}[{name}]", local
            trace = trace.tb_next
    elif isinstance(value, dict):
        for key, part in value.items():
            yield "key", key
            yield repr(key)[:40], part
    elif isinstance(value, contextvars.Context):
        for variable, part in value.items():
            yield variable.name, part
    elif isinstance(value, types.MethodType):
        yield "__self__", value.__self__
    elif not isinstance(value, types.FrameType | types.TracebackType):
        for part in gc.get_referents(value):
            yield type(part).__name__, part
