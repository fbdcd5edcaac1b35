#!/usr/bin/env bash
# Tunix takes the <tool_call> tags out of its own prompt and out of the policy's earlier calls; its default parser trains a second system turn behind each call.
#
# Guess before: the prompt that asks for calls in <tool_call> tags shows them, a policy reads its own earlier calls as it
#   wrote them, and the row that is trained is what was sampled; so it is in TRL for these templates.
# What happens: Tunix 0.1.7 (Google's RL library) has a chat parser per family. Since May 2026 it removes the family's control
#   texts from every message, the system's and the assistant's too, and counts the tags of tool calls among Qwen's. So the
#   prompt of its `ToolAgent` says "within <tool_call></tool_call> XML tags:" and shows a call without any, and in the second
#   turn the policy reads its first call bare, or with an opening tag and no end. One that does as it is shown calls no
#   tool: the call is taken for the final answer, and the episode ends. The trained row holds the tags all the same. So
#   of 316 rollouts of two turns, with every tenth gold call of BFCL, none is trained as it was sampled, and in none can
#   Tunix's own reader find the first call in the second prompt. The default parser (`chat_parser_config.type: default`)
#   keeps the tags, but renders each tool result as a conversation of its own: with Qwen2.5's template the row holds "You are
#   Qwen, created by Alibaba Cloud" once more behind every call, with Llama 3.1's a second beginning and system turn, with
#   Qwen3's just a line break is missing. None of that was sampled, and nothing is said. (No report was found. At c7d8950,
#   August 2026, the source still does it; for Gemma 4 it has a parser of its own there.)
# So: before a run compare one row that will be trained with the prompts that were sampled.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check "$@" 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }; }
pip transformers==5.24.0 jax==0.10.2 jaxtyping==0.3.11 absl-py==2.5.1 etils==1.15.0 importlib_resources==6.5.2 fsspec==2026.9.0 sentencepiece==0.2.3 jinja2==3.1.6
pip --no-deps google-tunix==0.1.7 trl==1.16.0 bfcl-eval==2026.3.23
cd "$folder"
OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" -W ignore - 2>>noise <<'PY' || { tail -5 noise; exit 1; }
import asyncio, importlib.util, json, sys, types
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
import numpy as np
# Tunix's `__init__` imports its models and trainers; the rollout's modules do without.
tunix = types.ModuleType("tunix")
tunix.__path__ = list(importlib.util.find_spec("tunix").submodule_search_locations)
sys.modules["tunix"] = tunix
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from absl import logging
from tunix.generate.tokenizer_adapter import TokenizerAdapter
from tunix.rl.agentic.agents.tool_agent import ToolAgent
from tunix.rl.agentic.environments.tool_environment import ToolEnvironment
from tunix.rl.agentic.parser.chat_template_parser import parser as parsers
from tunix.rl.agentic.parser.tool_parser.qwen_parser import QwenToolParser
from tunix.rl.agentic.tools.base_tool import BaseTool, ToolOutput
from tunix.rl.agentic.trajectory.trajectory_collect_engine import TrajectoryCollectEngine

logging.set_verbosity(logging.ERROR)
print(", ".join(f"{name} {version(name)}" for name in ("google-tunix", "transformers", "trl", "bfcl-eval")))
templates = Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"
data = Path(importlib.util.find_spec("bfcl_eval").origin).parent / "data"
# The learner renders the whole conversation with the parser in each turn; its module needs an accelerator's packages.
learner = (Path(tunix.__path__[0]) / "rl/agentic/agentic_rl_learner.py").read_text(encoding="utf-8")
step = "".join(learner.split("def _model_call(")[1].split("self.rl_cluster.generate(")[0].split())
rendered_whole = "self.chat_parser.parse(messages=chat_lists,add_generation_prompt=True,is_first_msg=True," in step


def tokenizer(template):
    """A byte tokenizer with the end token of Qwen or Llama and a chat template that TRL ships."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False), decoders.ByteLevel()
    end = "<|eot_id|>" if template.startswith("llama") else "<|im_end|>"
    made = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token=end, bos_token="<|begin_of_text|>" if template.startswith("llama") else None)
    made.chat_template = (templates / f"{template}.jinja").read_text(encoding="utf-8")
    return made


def tool(function):
    """A class of tool with a given schema that answers "ok"."""
    class Tool(BaseTool):
        def get_json_schema(self):
            return {"type": "function", "function": function}

        def apply(self, **arguments):
            return ToolOutput(name=self.name, output="ok")
    return Tool


def rollout(tokens, parser, functions, replies):
    """What the policy was asked in each turn, the row that Tunix trains, and its mask."""
    asked = []

    def model_call(messages, env, max_generation_steps=None):
        asked.append(parser.parse(messages=messages, add_generation_prompt=True, is_first_msg=True))
        reply = replies[len(asked) - 1]
        return SimpleNamespace(text=[reply], tokens=[np.array(tokens.encode(reply + tokens.eos_token, add_special_tokens=False))],
                               logprobs=None, left_padded_prompt_tokens=np.array([tokens.encode(asked[-1], add_special_tokens=False)]))

    tool_map = {function["name"]: tool(function) for function in functions}
    agent = ToolAgent(system_prompt="You are a helpful assistant.\n", tool_map=tool_map)
    env = ToolEnvironment({"question": "Please do it."}, tool_map=tool_map, reward_fn=lambda task, action: 1.0, max_steps=4)
    engine = TrajectoryCollectEngine(agent, env, model_call=model_call, tokenizer=TokenizerAdapter(tokens), chat_parser=parser)
    row = asyncio.run(engine.collect("Token"))
    return asked, tokens.decode([*row["prompt_tokens"], *row["conversation_tokens"]])


def plain(value):
    """An accepted value of the key as a model would write it: in objects the first choice of each field."""
    if isinstance(value, dict):
        return {name: plain(choices[0]) if isinstance(choices, list) else choices
                for name, choices in value.items() if choices != [""] and not (isinstance(choices, list) and choices[0] == "")}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def written(name, arguments):
    return "<tool_call>\n" + json.dumps({"name": name, "arguments": arguments}) + "\n</tool_call>"


gold = []
for category in ("simple_python", "multiple", "parallel", "parallel_multiple", "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple"):
    rows, answers = ([json.loads(line) for line in (data / path / f"BFCL_v4_{category}.json").read_text(encoding="utf-8").splitlines()]
                     for path in ("", "possible_answer"))
    keys = {row["id"]: row["ground_truth"] for row in answers}
    for row in rows:
        for call in keys[row["id"]]:
            (name, arguments), = call.items()
            functions = [function for function in row["function"] if function["name"] == name]
            if name != "finish":  # Tunix ends an episode with it
                gold.append((functions, name, {key: plain(choices[0]) for key, choices in arguments.items() if choices and choices[0] != ""}))
gold = gold[::10]


def mended(tokens):
    parser = parsers.QwenChatTemplateParser(TokenizerAdapter(tokens))
    parser._tokens_to_sanitize -= {parser.tokens.tool_start_token, parser.tokens.tool_end_token}
    return parser


kinds = {"qwen, mended": ("qwen2_5", mended),
         "qwen": ("qwen2_5", lambda tokens: parsers.QwenChatTemplateParser(TokenizerAdapter(tokens))),
         "default, Qwen2.5": ("qwen2_5", lambda tokens: parsers.DefaultChatTemplateParser(TokenizerAdapter(tokens))),
         "default, Qwen3": ("qwen3", lambda tokens: parsers.DefaultChatTemplateParser(TokenizerAdapter(tokens))),
         "default, Llama 3.1": ("llama3_1", lambda tokens: parsers.DefaultChatTemplateParser(TokenizerAdapter(tokens)))}
BOOK = {"name": "book", "description": "Book a room.", "parameters": {"type": "object", "properties": {"nights": {"type": "integer"}}}}
for kind in ("qwen, mended", "qwen"):
    template, make = kinds[kind]
    tokens = tokenizer(template)
    for text in ("I book it.\n", ""):
        asked, row = rollout(tokens, make(tokens), [BOOK], [text + written("book", {"nights": 3}), "Done."])
        print(f"{kind}: the prompt ends {asked[0].split('<|im_end|>')[0][-75:]!r},\n    turn 2 reads {asked[1].split('assistant')[-2].split('<|im_end|>')[0]!r}"
              f"\n    trained is   {row.split('assistant')[-2].split('<|im_end|>')[0]!r}")
tokens = tokenizer("qwen2_5")
bare = rollout(tokens, kinds["qwen"][1](tokens), [BOOK], ['{"name": "book", "arguments": {"nights": 3}}', "Done."])
print(f"a policy that calls as the prompt shows it is asked {len(bare[0])} time(s), one that writes the tags {len(asked)}")
print(f"of {len(gold)} rollouts of two turns, with every tenth gold call of BFCL in the first:\n{'parser':20} trained as sampled  first call still readable in turn 2")
counts, extra = {}, {}
for kind, (template, make) in kinds.items():
    tokens, whole, found = tokenizer(template), 0, 0
    parser = make(tokens)
    for functions, name, arguments in gold:
        asked, row = rollout(tokens, parser, functions, [written(name, arguments), "Done."])
        whole += row == asked[1] + "Done." + tokens.eos_token
        # what stands behind the question is the policy's own turn
        found += [call.arguments for call in QwenToolParser().parse(asked[1].split("Please do it.")[1])] == [arguments]
    counts[kind] = (whole, found)
    extra[kind] = row[len(asked[0]):].split("Done.")[0].split(tokens.eos_token, 1)[1]
    print(f"{kind:20} {whole:6} {found:20}")
for kind in list(kinds)[2:]:
    print(f"{kind}: trained behind the call is {extra[kind]!r}")
print("the learner renders the whole conversation in each turn:", rendered_whole)
total = len(gold)
sys.exit(0 if rendered_whole and counts["qwen, mended"] == (total, total) and counts["qwen"] == (0, 0) and len(bare[0]) == 1
         and all(counts[kind] == (0, total) for kind in list(kinds)[2:]) and "created by Alibaba Cloud" in extra["default, Qwen2.5"] else 1)
PY
