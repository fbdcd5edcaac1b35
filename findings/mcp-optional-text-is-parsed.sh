#!/usr/bin/env bash
# In the MCP SDK (2.x) a tool's optional text argument is parsed as JSON first: JSON text is refused, "null" is lost.
#
# Guess before: `text: str | None` takes any text as it is, as `text: str` does; the published schema says string or null.
# What happens: only a parameter annotated plainly `str` is left alone. For `str | None` and `int | str` the server
#   tries to read the text as JSON before it validates: the text of an object or a list becomes one and is refused
#   ("Input should be a valid string"), and the text "null" arrives as None. Texts of numbers stay texts. So a model that
#   correctly passes the content of a JSON file to an optional argument is told that it is wrong, and learns from it.
# So: annotate texts that may hold JSON as plain `str` with a default of "", in tools that a policy is trained on.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check mcp==2.3.0 pydantic==2.14.4 2>/dev/null
cd "$folder"
"$folder/venv/bin/python" - 2>/dev/null <<'PY'
import asyncio, sys
from importlib.metadata import version
from mcp.server.mcpserver import MCPServer

print("mcp", version("mcp"), "pydantic", version("pydantic"))
server = MCPServer("notes")


@server.tool()
def plain(text: str) -> str:
    return repr(text)


@server.tool()
def optional(text: str | None = None) -> str:
    return repr(text)


@server.tool()
def number_or_text(text: int | str) -> str:
    return repr(text)


async def called(tool, text):
    try:
        return (await server.call_tool(tool, {"text": text})).content[0].text
    except AttributeError:  # the server hands back the list of contents itself
        return (await server.call_tool(tool, {"text": text}))[0].text
    except Exception as error:
        return "refused: " + next(line.strip() for line in str(error).splitlines() if "Input should" in line)[:60]


async def main():
    rows = {}
    for text in ("hello", "007", '{"a": 1}', "[1, 2]", "null"):
        rows[text] = [await called(tool, text) for tool in ("plain", "optional", "number_or_text")]
        print(f"{text!r:12} str: {rows[text][0]:14} str | None: {rows[text][1]:50} int | str: {rows[text][2]}")
    kept = all(rows[text][0] == repr(text) for text in rows) and rows["007"] == ["'007'"] * 3
    refused = all(rows[text][1].startswith("refused") for text in ('{"a": 1}', "[1, 2]"))
    return kept and refused and rows["null"][1] == "None"


sys.exit(0 if asyncio.run(main()) else 1)
PY
