"""Executing tool calls: the kit's check that a call not only looks right but runs.

Calls come from a model, so they are hostile: only registered functions run, on arguments that their
JSON Schema allows, within a time limit, and whatever goes wrong comes back as text, as it would be
shown to the model.
"""

import copy
import ctypes
import json
import threading
from dataclasses import dataclass, field
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError, best_match

from ..base.schemas import fault
from ..base.spelled_defaults import DEFAULTS_RULE, without_defaults
from ..method.samples import tool_name

MAX_ERROR_CHARS = 300  # our assumption: enough for a message, too little to flood a context
MAX_RESULT_CHARS = 10_000  # of JSON that a tool may return (our assumption: some 2,500 tokens)


@dataclass(frozen=True)
class ToolResult:
    """Outcome of one call: the function's return value when ok, else an error in words.

    `reason` is the kind of outcome, for counting: "ok", "bad_call" (not a call at all), "unknown_tool",
    "bad_arguments", "tool_error" (the tool raised), "bad_result" (no JSON, or too much of it), "timeout" or
    "step_limit". The value is what JSON holds of the tool's own: a tuple becomes a list.
    """

    ok: bool
    value: Any
    error: str
    reason: str = field(repr=False)  # what is printed is for people, and the error has told them


class ToolRegistry:
    """Functions that a model may call, each with its JSON Schema."""

    def __init__(self):
        self._tools = {}  # name -> (function, schema)

    def register(self, function, schema):
        """Offer `function` under the name and parameters that `schema` gives.

        Args:
            function: called with the arguments of a call as keywords.
            schema: `{"type": "function", "function": {"name", "parameters", ...}}`. Without
                `"additionalProperties": False`, arguments it does not list reach the function.

        Raises:
            DataError: `schema` is not of that form.
            ValueError: its parameters are not valid JSON Schema, or the name is taken.
        """
        name = tool_name(schema)
        if name in self._tools:
            raise ValueError(f"tool {name!r} is registered already")
        try:
            Draft202012Validator.check_schema(schema["function"].get("parameters", {}))
        except SchemaError as error:
            raise ValueError(f"tool {name!r}: parameters are no valid JSON Schema: {error.message}") from None
        self._tools[name] = (function, copy.deepcopy(schema))

    def schemas(self):
        """The registered schemas in order of registration, ready for `ToolSample.tools` (copies)."""
        return [copy.deepcopy(schema) for _, schema in self._tools.values()]

    def execute(self, call, timeout=1.0):
        """Run one call, `{"name": str, "arguments": dict}` -> `ToolResult`. Never raises on model output.

        The call is checked and run in a worker thread, which works on every platform and inside
        notebooks, where signals do not. A worker that overruns is stopped between two Python
        instructions; one that sleeps in C code is left to finish by itself. One that computes in C code without
        letting go of the interpreter (a huge power) blocks this call too, however long it takes. This is a guard
        against slow tools, not a sandbox: register no function that may do harm, and bound the numbers and texts in
        its schema.

        Args:
            timeout: seconds.
        """
        outcome = [failure("tool_error", "the tool ended without a result")]
        same = DEFAULTS_RULE.get() == "same"  # asked here: a thread does not see it
        worker = threading.Thread(target=self._work, args=(call, outcome, same), daemon=True)
        worker.start()
        worker.join(timeout)
        if worker.is_alive():
            # CPython's way to raise in another thread; SystemExit ends it without a traceback.
            raise_in_thread = ctypes.pythonapi.PyThreadState_SetAsyncExc
            raise_in_thread(ctypes.c_ulong(worker.ident), ctypes.py_object(SystemExit))
            return failure("timeout", f"timeout: no result after {timeout:g} s")
        return outcome[0]

    def execute_calls(self, calls, max_steps=8, timeout=1.0):
        """Run calls one after the other -> list of `ToolResult`, one per call.

        Args:
            calls: as for `execute`.
            max_steps: calls that are run; later ones fail without running (8 is our assumption).
            timeout: seconds for each call.
        """
        limit = failure("step_limit", f"step limit: only the first {max_steps} calls are run")
        return [self.execute(call, timeout) if i < max_steps else limit for i, call in enumerate(calls)]

    def _work(self, call, outcome, same):
        """Body of the worker thread: put the result of the call into `outcome[0]`."""
        try:
            outcome[0] = self._checked_run(call, same)
        except BaseException as error:  # a tool may even call exit(); its thread's end must not go unseen
            outcome[0] = failure("tool_error", f"{type(error).__name__}: {error}")

    def _checked_run(self, call, same):
        """Check the call and run it, with `same` less what `calls.without_defaults` takes for left out.

        What the tool raises is `_work`'s to catch.
        """
        problem = check_form(call)
        if problem is not None:
            return problem
        if call["name"] not in self._tools:
            return failure("unknown_tool", f"unknown tool {call['name']!r:.60}; choose one of {', '.join(self._tools)}")
        function, schema = self._tools[call["name"]]
        problem = fault(schema["function"].get("parameters", {}), call["arguments"], best_match)
        if problem is not None:
            return failure("bad_arguments", f"bad arguments at {problem.json_path}: {problem.message}")
        if same:
            [call] = without_defaults([call], [schema])
        # A copy: the call may be logged or scored after the tool has changed its arguments.
        return checked_result(function(**copy.deepcopy(call["arguments"])))


def checked_result(value):
    """What a tool returned -> `ToolResult`: failed unless it is JSON of at most `MAX_RESULT_CHARS`."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (ValueError, TypeError, RecursionError) as error:
        told = f"the tool returned a {type(value).__name__}, which JSON cannot hold ({error}); return text or numbers"
        return failure("bad_result", told)
    if len(text) > MAX_RESULT_CHARS:
        return failure("bad_result", f"the tool returned {len(text):,} characters; at most {MAX_RESULT_CHARS:,} go on")
    return ToolResult(True, json.loads(text), "", "ok")


def check_form(call):
    """None for `{"name": str, "arguments": dict}` that JSON can hold, else a failed `ToolResult`."""
    if not isinstance(call, dict) or call.keys() != {"name", "arguments"}:
        return failure("bad_call", "a call is {'name': str, 'arguments': dict}")
    if not isinstance(call["name"], str):
        return failure("unknown_tool", f"unknown tool {call['name']!r:.60}; its name must be a string")
    if not isinstance(call["arguments"], dict):
        return failure("bad_arguments", "the arguments must be an object")
    try:
        json.dumps(call, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError) as error:  # NaN, half a surrogate pair, a set, no end of brackets
        return failure("bad_arguments", f"{type(error).__name__}: the call is no JSON: {error}")
    return None


def failure(reason, text):
    """A failed `ToolResult`; its text is cut, since what a model wrote may be in it."""
    return ToolResult(False, None, text[:MAX_ERROR_CHARS], reason)
