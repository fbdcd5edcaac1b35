#!/usr/bin/env bash
# ART trains an agent's rollout with each tool call standing in it twice, unless the rollout ends with it.
#
# Guess before: the tokens of a trajectory are the prompt that the policy saw and what it sampled; masked elsewhere.
# What happens: ART 0.5.18 renders the conversation with a placeholder for each sampled message and puts the sampled
#   tokens there. The server's answer holds a call twice, as tokens and as parsed `tool_calls`, and the template
#   writes the parsed ones, too; only the last message is cleared of them. So behind the sampled call and its end-of-
#   turn token the call stands once more, in each turn before the last. It is masked, but every later token is trained
#   in a context that the policy never saw, against log-probabilities from the true one: the ratio is wrong before the
#   first update. With Qwen2.5's template the second call moreover has its arguments as quoted text. Five calls in a
#   rollout make it five times; a rollout of one answer is exact. Nothing is said. (The order of a tool's keys is made
#   the server's here.) Since the change that keeps `tool_calls` (ART's pull request 527, January 2026); 0.5.18 is the
#   newest release; the tokenizer was rewritten since, unreleased. No report was found.
# So: clear the parsed calls of all sampled messages before `train`, as below, and decode one trajectory's tokens once.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --disable-pip-version-check "$@" 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }; }
pip torch==2.13.0 transformers==5.2.0 jinja2==3.1.6 pillow==13.0.0 openpipe-art==0.5.18 openai==3.57.0 litellm==1.82.0 weave==0.54.0
pip --no-deps trl==1.16.0  # for its copies of the models' templates
cd "$folder"
OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error LITELLM_LOCAL_MODEL_COST_MAP=True "$folder/venv/bin/python" - 2>>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import json, os, sys
from importlib.metadata import distribution, version
import art
from art.preprocessing.tokenize import tokenize_trajectory
from openai.types.chat.chat_completion import Choice
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

print(", ".join(f"{name} {version(name)}" for name in ("openpipe-art", "transformers", "openai", "trl")))
TOOLS = [{"type": "function", "function": {"name": "find", "description": "Find.", "parameters": {
    "type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}}}]
ANSWER = "Rome."


def tokenizer_of(template):
    byte_level = Tokenizer(models.BPE())
    byte_level.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte_level.decoder = decoders.ByteLevel()
    byte_level.train_from_iterator(["lemon lemon quilt quilt zebra zebra"], trainers.BpeTrainer(
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"]))
    with open(distribution("trl").locate_file(f"trl/chat_templates/{template}.jinja"), encoding="utf-8") as file:
        return PreTrainedTokenizerFast(tokenizer_object=byte_level, eos_token="<|im_end|>", pad_token="<|endoftext|>",
                                       chat_template=file.read())


def rollout(tokenizer, calls, cleared):
    """Play a server -> (trajectory, tokens that the policy saw and sampled, tokens that it sampled)."""
    def render(chat):  # a server of chat completions hands the template the arguments as an object
        return tokenizer.apply_chat_template(chat, tools=TOOLS, add_generation_prompt=True, tokenize=False)

    seen, messages, sampled = [{"role": "user", "content": "Go."}], [{"role": "user", "content": "Go."}], []
    text = render(seen)
    for turn in range(calls + 1):
        last = turn == calls
        arguments = {"q": f"town {turn}"}
        says = ANSWER if last else f'<tool_call>\n{json.dumps({"name": "find", "arguments": arguments})}\n</tool_call>'
        ids = tokenizer(says + "<|im_end|>")["input_ids"]
        parsed = None if last else [{"id": f"c{turn}", "type": "function", "function": {
            "name": "find", "arguments": json.dumps(arguments)}}]
        choice = Choice.model_validate({
            "index": 0, "finish_reason": "stop" if last else "tool_calls",
            "message": {"role": "assistant", "content": ANSWER if last else "", "tool_calls": None if cleared else parsed},
            "logprobs": {"content": [{"token": f"token_id:{i}", "logprob": -0.5, "top_logprobs": [],
                                      "bytes": list(tokenizer.decode([i]).encode())} for i in ids]}})
        messages.append(choice)
        sampled += ids
        text += says + "<|im_end|>"
        if not last:
            before = [*seen, {"role": "assistant", "content": "", "tool_calls": [
                {"type": "function", "function": {"name": "find", "arguments": arguments}}]}]
            result = {"role": "tool", "tool_call_id": f"c{turn}", "content": "Oslo"}
            seen = [*before, result]
            messages.append(result)
            text = render(seen)
    return art.Trajectory(messages_and_choices=messages, tools=TOOLS, reward=1.0), tokenizer(text)["input_ids"], sampled


as_told = True
for template in ("qwen2_5", "qwen3_instruct_2507"):
    tokenizer = tokenizer_of(template)
    for calls in (0, 1, 2, 5):
        for cleared in (False, True):
            trajectory, right, sampled = rollout(tokenizer, calls, cleared)
            history = art.trajectories.History(messages_and_choices=trajectory.messages_and_choices, tools=TOOLS)
            result = tokenize_trajectory(tokenizer, None, history, 1.0, False, trajectory, chat_template_tool_schema_format="vllm_openai")
            text = tokenizer.decode(result.token_ids)
            times = text.count("<tool_call>\n{\"name\": \"find\"")
            trained = [i for i, on in zip(result.token_ids, result.assistant_mask) if on]
            print(f"{template:20} {calls} calls{', parsed ones cleared' if cleared else '':22} in the training tokens: {times:2} calls, "
                  f"{len(result.token_ids)} tokens, the policy had {len(right)}")
            as_told &= trained == sampled and times == (calls if cleared or not calls else 2 * calls)
            as_told &= (result.token_ids == right) == (cleared or not calls)
            if calls == 1 and not cleared:
                print("   ", json.dumps(text[text.index("Go."):].split("<|im_start|>user", 1)[0]))
sys.exit(0 if as_told else 1)
PY
