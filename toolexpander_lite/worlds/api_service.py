"""The registered tools behind HTTP: a service on this machine's loopback address, and a client for it.

    POST /tools/<name>    body: the arguments, a JSON object    ->    {"ok", "value", "error", "reason"}

The answer is a `ToolResult`, whether the call came off or not; the status is 200, or that of `STATUS`. The
service runs calls by the same `ToolRegistry` as a program would, so both ways give the same results. It binds
to 127.0.0.1 only, takes any free port, refuses requests that name another host, reads bodies up to `MAX_BODY` and
answers nothing but the above.
"""

import http.client
import json
import logging
import threading
from contextvars import copy_context
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from urllib.parse import quote, unquote

from ..base.strict_json import read_json
from ..method.calls import MAX_CHARS
from .run_calls import ToolResult, check_form, failure

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"
MAX_BODY = 4 * MAX_CHARS  # bytes: whatever a readable completion can hold, at 4 bytes of UTF-8 a character
MAX_ANSWER = 1_000_000  # bytes, our assumption; a longer answer is not read to its end
STATUS = {"ok": 200, "bad_call": 400, "bad_arguments": 400, "unknown_tool": 404, "tool_error": 422,
          "bad_result": 502, "timeout": 504}  # fmt: skip
MAX_NAME = 256  # characters, our assumption: a longer name is no tool's, and the client sends only its beginning
_PREFIX = "/tools/"


class ToolService:
    """Serves a `ToolRegistry` while its `with` block lasts; `port` is the port it got.

    Args:
        tools: the registry.
        timeout: seconds for each call.
    """

    def __init__(self, tools, timeout=1.0):
        self._server = _Server((LOOPBACK, 0), _Handler)
        self._server.tools, self._server.tool_timeout = tools, timeout
        self._server.context = copy_context()  # a request's thread does not see the rule that `spelled_defaults` sets
        self.port = self._server.server_address[1]
        # The thread looks for the end this often (seconds), so leaving the block takes no longer.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingTCPServer):  # not HTTPServer, which asks the name service for the name of its address
    daemon_threads = True  # a hanging call must not keep the program from ending


class _Handler(BaseHTTPRequestHandler):
    timeout = 5  # seconds for a client to send its request; without it, one that sends nothing keeps a thread

    def do_POST(self):
        # A web page open in a browser here can reach this address under a host name of its own, but not name this host.
        if self.headers.get("Host") != f"{LOOPBACK}:{self.server.server_address[1]}":
            return self._refuse(403, f"the Host of a request must be {LOOPBACK} and this port")
        if not self.path.startswith(_PREFIX):
            return self._refuse(404, f"there is no {self.path!r:.80}; POST to {_PREFIX}<name>")
        if (length := self.headers.get("Content-Length", "")).isascii() and length.isdigit():
            # Looked at before anything is read: an oversized body never gets into memory.
            if len(length) > 9 or int(length) > MAX_BODY:
                return self._refuse(413, f"the body is larger than {MAX_BODY} bytes")
        else:
            return self._refuse(411, "the request needs a Content-Length")
        try:
            text = self.rfile.read(int(length)).decode("utf-8").strip()
            arguments, end = read_json(text, 0)
            if end < len(text):
                raise ValueError("something follows the JSON value")
        except (ValueError, TimeoutError) as error:
            return self._refuse(400, f"the body is no strict JSON: {error}")
        call = {"name": unquote(self.path.removeprefix(_PREFIX)), "arguments": arguments}
        result = self.server.context.copy().run(self.server.tools.execute, call, self.server.tool_timeout)
        self._answer(STATUS[result.reason], result)

    def send_error(self, code, message=None, explain=None):
        """What the base class calls for other methods and for requests that are not HTTP."""
        self._refuse(code, message or self.responses[code][0])

    def _refuse(self, status, text):
        self._answer(status, failure("bad_call", text))

    def _answer(self, status, result):
        try:
            body = json.dumps(asdict(result), ensure_ascii=False, allow_nan=False).encode("utf-8")
        except (ValueError, TypeError) as error:  # the tool's own fault
            return self._answer(STATUS["bad_result"], failure("bad_result", f"the answer is no JSON: {error}"))
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        try:
            self.end_headers()
            self.wfile.write(body)
        except ConnectionError:
            logger.debug("the client did not wait for its answer")

    def log_message(self, format, *values):
        logger.debug(format, *values)  # not to stderr, where the base class writes every request


class HttpTools:
    """Runs calls by the `ToolService` on `port` of this machine; `execute` is that of `ToolRegistry`."""

    def __init__(self, port):
        self._port = port

    def execute(self, call, timeout=1.0):
        """Run one call -> `ToolResult`. Never raises on model output, nor when the service is gone.

        Args:
            timeout: seconds to wait for the service; give it the service's own, or more.
        """
        if (problem := check_form(call)) is not None:
            return problem
        body = json.dumps(call["arguments"], ensure_ascii=False).encode("utf-8")
        if len(body) > MAX_BODY:
            return failure("bad_arguments", f"the arguments are larger than {MAX_BODY} bytes")
        # Not urllib: it follows redirects, and sends requests through the proxy that the environment names.
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=timeout)
        try:
            path = _PREFIX + quote(call["name"][:MAX_NAME], safe="")
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read(MAX_ANSWER))
            return ToolResult(**answer)
        except TimeoutError:
            return failure("timeout", f"timeout: no result after {timeout:g} s")
        except (OSError, http.client.HTTPException, ValueError, TypeError) as error:
            return failure("tool_error", f"no answer from the service: {type(error).__name__}: {error}")
        finally:
            connection.close()
