#!/usr/bin/env bash
# ms-swift asks for JSON and trains Python: ten of its agent templates write {'city': 'Rome', 'when': None}; its own reward pays none of it.
#
# Guess before: where the prompt says "Format the arguments as a JSON object", the trained call is a JSON object, a served
#   call can be read by json.loads, and the reward `toolbench` pays right calls and no wrong ones.
# What happens: ms-swift 4.6.0 loads the arguments of a tool call and writes what Python shows of them: single quotes, True,
#   None. So do react_en, react_zh, toolbench, react_grpo and Qwen-Agent's four, among which one chooses for models that have
#   none of their own (159 of its 253 templates), and glm4 and chatglm4, which GLM-4 gets unasked, whose prompt asks for
#   JSON, too (in Chinese). The model learns to break its prompt, and to break the format that it knew; `swift deploy`
#   hands the text on, where a client's json.loads raises for each of BFCL's 3,122 calls that have an argument. Then GRPO
#   with --reward_funcs toolbench: it wants JSON on both sides or on none. With solutions in JSON no right call is paid as it
#   was trained, 0 of 3,122; with solutions as trained it compares words by ROUGE, from 0.2 on in full, and of calls with
#   ALL arguments wrong 3,066 are paid. (An example in the documentation shows the single quotes, without a word on them. The
#   same was mended for Qwen3-Coder and GLM 4.5 in 2026, pull requests 9968 and 10169; for these ten no report was found.)
# So: use `hermes`, or write the calls as text of the assistant yourself, and look at the decoded labels before a run.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check "$@" 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }; }
pip torch==2.13.0 transformers==5.19.0 trl==0.29.1 peft==0.20.0 datasets==4.8.4 modelscope==1.40.2 scipy==1.17.1 rouge==1.0.1 \
  json-repair==0.64.6 simplejson==4.3.0 sentencepiece==0.2.3 zstandard==0.25.0 pillow==13.0.0
pip --no-deps ms-swift==4.6.0 bfcl-eval==2026.3.23
cd "$folder"
OMP_NUM_THREADS=1 LOG_LEVEL=ERROR TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" -W ignore - 2>>noise <<'PY' || { tail -5 noise; exit 1; }
import importlib.util, json, sys
from importlib.metadata import version
from pathlib import Path
from swift import get_processor, get_template
from swift.agent_template import agent_template_map
from swift.rewards import orms
from swift.template import TEMPLATE_MAPPING
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config

print(", ".join(f"{name} {version(name)}" for name in ("ms-swift", "transformers", "bfcl-eval", "rouge")))
letters = Tokenizer(models.BPE())
letters.pre_tokenizer, letters.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
letters.train_from_iterator(["x"], trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
                                                       special_tokens=["<|im_end|>", "<|endoftext|>"]))
PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="<|im_end|>", pad_token="<|endoftext|>").save_pretrained("model")
Qwen2Config(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1).save_pretrained("model")
processor = get_processor("model", model_type="qwen2", download_model=False)
TOOL = {"type": "function", "function": {"name": "book", "description": "Book a hotel.", "parameters": {
    "type": "object", "properties": {"city": {"type": "string"}, "when": {"type": ["string", "null"]}, "meal": {"type": "boolean"}}}}}
CALL = {"name": "book", "arguments": {"city": "Rome", "when": None, "meal": True}}
trained = {}
for template, agent in (("chatml", "react_en"), ("glm4", None), ("chatml", "hermes")):
    maker = get_template(processor, template_type=template, agent_template=agent)
    maker.set_mode("train")
    row = maker.encode({"messages": [{"role": "user", "content": "Go."}, {"role": "tool_call", "content": json.dumps(CALL)}], "tools": [TOOL]})
    prompt = processor.decode([token for token, label in zip(row["input_ids"], row["labels"]) if label == -100])
    asked = next((words for words in ("Format the arguments as a JSON object", "使用 Json 格式表示调用的参数", "args-json-object") if words in prompt), None)
    trained[template, agent] = processor.decode([label for label in row["labels"] if label != -100])
    print(f"  --template {template} --agent_template {agent}: the prompt says {asked!r}, trained is {trained[template, agent]!r}")
own = [meta.agent_template for meta in TEMPLATE_MAPPING.values()]
print(f"  of {len(own)} templates {own.count(None)} have no agent template, {own.count('glm4') + own.count('chatglm4')} have glm4 or chatglm4")

data = Path(importlib.util.find_spec("bfcl_eval").origin).parent / "data" / "possible_answer"


def plain(value):
    """An accepted value of the key as a model would write it: in objects the first choice of each field."""
    if isinstance(value, dict):
        return {name: plain(choices[0]) if isinstance(choices, list) else choices
                for name, choices in value.items() if choices != [""] and not (isinstance(choices, list) and choices[0] == "")}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


gold = [(name, {key: plain(choices[0]) for key, choices in arguments.items() if choices and choices[0] != ""})
        for category in ("simple_python", "multiple", "parallel", "parallel_multiple",
                         "live_simple", "live_multiple", "live_parallel", "live_parallel_multiple")
        for row in (data / f"BFCL_v4_{category}.json").read_text(encoding="utf-8").splitlines()
        for call in json.loads(row)["ground_truth"] for name, arguments in call.items()]
gold = [(name, arguments) for name, arguments in gold if arguments]


def written(agent, name, arguments):
    return agent_template_map[agent]()._format_tool_calls([{"role": "tool_call", "content": json.dumps({"name": name, "arguments": arguments})}])


def served_as_json(agent):
    """How many of the calls a client can read, as the template writes them and its own reader finds them."""
    count = 0
    for name, arguments in gold:
        for function in agent_template_map[agent]().get_toolcall(written(agent, name, arguments)):
            try:
                count += isinstance(json.loads(function.arguments), dict)
            except ValueError:
                pass
    return count


counts = {agent: served_as_json(agent) for agent in agent_template_map}
python = [agent for agent, count in counts.items() if not count]
print(f"of BFCL's {len(gold)} calls with arguments none is served as JSON with {', '.join(python)}; with hermes {counts['hermes']}")


def wrong(value):
    if isinstance(value, (bool, str)) or value is None:
        return not value if isinstance(value, bool) else "wrong"
    return value + 1 if isinstance(value, (int, float)) else {"wrong": True} if isinstance(value, dict) else [wrong(inner) for inner in value] or ["wrong"]


def as_json(name, arguments):
    return f"Action: {name}\nAction Input: {json.dumps(arguments, ensure_ascii=False)}\n"


def as_trained(name, arguments):
    return written("react_en", name, arguments)


paid = {}
for answers, solutions in ((as_json, as_json), (as_trained, as_json), (as_trained, as_trained)):
    truth = [solutions(name, arguments).removesuffix("Observation:") for name, arguments in gold]
    right = sum(orms["toolbench"]()([answers(name, arguments) for name, arguments in gold], truth))
    bad = sum(orms["toolbench"]()([answers(name, {key: wrong(value) for key, value in arguments.items()}) for name, arguments in gold], truth))
    paid[answers.__name__, solutions.__name__] = int(right), int(bad)
    print(f"reward toolbench, answers {answers.__name__:10}, solutions {solutions.__name__:10}: "
          f"right calls paid {right:.0f}, calls with every argument wrong paid {bad:.0f} of {len(gold)}")
print(f"  paid in full for {as_trained(*gold[0])!r}: {as_trained(gold[0][0], {key: wrong(value) for key, value in gold[0][1].items()})!r}")
sys.exit(0 if "{'city': 'Rome', 'when': None, 'meal': True}" in trained["chatml", "react_en"] and "'when': None" in trained["glm4", None]
         and '"when": null' in trained["chatml", "hermes"] and len(python) == 10 and counts["hermes"] == len(gold)
         and paid["as_json", "as_json"] == (len(gold), 0) and paid["as_trained", "as_json"] == (0, 0)
         and paid["as_trained", "as_trained"][0] == len(gold) and paid["as_trained", "as_trained"][1] > 0.9 * len(gold) else 1)
PY
