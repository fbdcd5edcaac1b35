"""The tools over HTTP: the same results as in process, and nothing but the tools."""

import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from toolexpander_lite.worlds.api_service import LOOPBACK, MAX_BODY, HttpTools, ToolService
from toolexpander_lite.worlds.api_tasks import api_tasks
from toolexpander_lite.worlds.api_world import World, initial_state
from toolexpander_lite.worlds.run_calls import ToolRegistry

HOSTILE = [
    {"name": "get_balance", "arguments": {"owner": "'; DROP TABLE accounts; --"}},
    {"name": "get_balance", "arguments": {"owner": "Zoë"}},
    {"name": "get_balance", "arguments": {"owner": "小" * 20_000}},
    {"name": "get_balance", "arguments": {"owner": "\ud800"}},
    {"name": "get_balance", "arguments": {}},
    {"name": "get_balance", "arguments": ["Zoë"]},
    {"name": "deposit_money", "arguments": {"owner": "Zoë", "amount": -1}},
    {"name": "deposit_money", "arguments": {"owner": "Zoë", "amount": float("nan")}},
    {"name": "deposit_money", "arguments": {"owner": "Zoë", "amount": 10**400}},
    {"name": "deposit_money", "arguments": {"owner": "Zoë", "amount": 10**5000}},
    {"name": "withdraw_money", "arguments": {"owner": "Zoë", "amount": 100_000}},
    {"name": "../tools/get_balance", "arguments": {}},
    {"name": "get_balance?owner=Zoë#", "arguments": {}},
    {"name": "", "arguments": {}},
    {"name": "\ud800", "arguments": {}},
    {"name": "x" * 20_000, "arguments": {}},
    {"name": "小" * 20_000, "arguments": {}},
    {"name": ["get_balance"], "arguments": {}},
    {"name": "get_balance"},
    "get_balance",
]


@pytest.fixture
def service():
    with World() as world, ToolService(world.tools, timeout=60) as service:
        service.world = world
        yield service


def ask(service, method, path, body=None, headers=None):
    """One request -> (status, JSON answer)."""
    connection = http.client.HTTPConnection(LOOPBACK, service.port, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        assert answer.headers["Content-Type"] == "application/json"
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_http_and_in_process_give_the_same_results_and_states(service):
    client = HttpTools(service.port)
    gold = [call for task in api_tasks(per_family=1) for turn in task.turns for call in turn]
    reasons = set()
    with World() as world:
        for call in gold + HOSTILE:
            here, there = world.tools.execute(call, timeout=60), client.execute(call, timeout=60)
            assert here == there
            reasons.add(here.reason)
        assert world.state() == service.world.state() != initial_state(0)
    assert reasons == {"ok", "bad_call", "unknown_tool", "bad_arguments", "tool_error"}


def test_hostile_calls_alone_change_nothing(service):
    client = HttpTools(service.port)
    results = [client.execute(call, timeout=60) for call in HOSTILE]
    assert [result.ok for result in results].count(True) == 1  # Zoë's balance may be asked for
    assert service.world.state() == initial_state(0)


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "error"),
    [
        ("POST", "/tools/get_balance", b'{"owner": "Bob"}', {}, 200, ""),
        ("POST", "/tools/nothing", b"{}", {}, 404, "unknown tool 'nothing'"),
        ("POST", "/tools/get_balance", b"{}", {}, 400, "'owner' is a required property"),
        ("POST", "/tools/get_balance", b'{"owner": "Nobody"}', {}, 422, "there is no 'Nobody'"),
        ("POST", "/tools/get_balance", b'["Bob"]', {}, 400, "must be an object"),
        ("POST", "/tools/get_balance", b'{"owner": NaN}', {}, 400, "no strict JSON"),
        ("POST", "/tools/get_balance", b'{"owner": "A", "owner": "B"}', {}, 400, "the same key twice"),
        ("POST", "/tools/get_balance", b'{"owner": "Bob"} {}', {}, 400, "something follows"),
        ("POST", "/tools/get_balance", b"[" * 5000, {}, 400, "nested deeper"),
        ("POST", "/tools/get_balance", b"\xff", {}, 400, "no strict JSON"),
        ("POST", "/tools/get_balance", b"", {}, 400, "no strict JSON"),
        ("POST", "/tools/get_balance", None, {"Content-Length": str(MAX_BODY + 1)}, 413, "larger than 80000 bytes"),
        ("POST", "/tools/get_balance", None, {"Content-Length": "9" * 5000}, 413, "larger than"),
        ("POST", "/tools/get_balance", None, {"Content-Length": "-1"}, 411, "Content-Length"),
        ("POST", "/tools/get_balance", None, {"Transfer-Encoding": "chunked"}, 411, "Content-Length"),
        ("POST", "/tools/get_balance", b'{"owner": "Bob"}', {"Host": "evil.example"}, 403, "the Host of a request"),
        ("POST", "/", b"{}", {}, 404, "there is no '/'"),
        ("POST", "/etc/passwd", b"{}", {}, 404, "there is no '/etc/passwd'"),
        ("GET", "/tools/get_balance", None, {}, 501, "Unsupported method"),
        ("DELETE", "/tools/get_balance", None, {}, 501, "Unsupported method"),
    ],
)  # fmt: skip
def test_every_request_gets_a_status_and_json(service, method, path, body, headers, status, error):
    got, answer = ask(service, method, path, body, headers)
    assert got == status
    assert answer["ok"] == (status == 200) and error in answer["error"]
    assert service.world.state() == initial_state(0)


def test_only_the_loopback_address_is_bound(service):
    assert service._server.socket.getsockname() == ("127.0.0.1", service.port)


def test_the_proxy_of_the_environment_is_not_asked(service, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    call = {"name": "get_balance", "arguments": {"owner": "Bob"}}
    assert HttpTools(service.port).execute(call, timeout=60).ok


def test_calls_at_the_same_time_are_all_counted(service):
    call = {"name": "deposit_money", "arguments": {"owner": "Bob", "amount": 1}}
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: HttpTools(service.port).execute(call, timeout=60), range(20)))
    assert all(result.ok for result in results)
    assert service.world.state()["accounts"]["Bob"] == initial_state(0)["accounts"]["Bob"] + 20


def test_a_hanging_tool_times_out_at_the_service_and_at_the_client():
    release, registry = threading.Event(), ToolRegistry()
    registry.register(release.wait, {"type": "function", "function": {"name": "hang"}})
    call = {"name": "hang", "arguments": {}}
    try:
        with ToolService(registry, timeout=0.2) as service:
            assert ask(service, "POST", "/tools/hang", b"{}")[0] == 504
            assert HttpTools(service.port).execute(call, timeout=60).error == "timeout: no result after 0.2 s"
        with ToolService(registry, timeout=60) as service:
            result = HttpTools(service.port).execute(call, timeout=0.2)
            assert (result.reason, result.error) == ("timeout", "timeout: no result after 0.2 s")
    finally:
        release.set()


def test_an_answer_that_is_no_json_is_the_tools_fault():
    registry = ToolRegistry()
    registry.register(lambda: {1, 2}, {"type": "function", "function": {"name": "sets"}})
    with ToolService(registry, timeout=60) as service:
        result = HttpTools(service.port).execute({"name": "sets", "arguments": {}}, timeout=60)
    assert result.reason == "bad_result" and "JSON" in result.error


def test_a_service_that_is_gone_comes_back_as_text():
    with ToolService(ToolRegistry()) as service:
        pass
    result = HttpTools(service.port).execute({"name": "a", "arguments": {}}, timeout=60)
    assert result.reason == "tool_error" and "no answer from the service" in result.error
