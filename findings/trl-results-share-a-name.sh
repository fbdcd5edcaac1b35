#!/usr/bin/env bash
# TRL's tool loop names every result of a turn after the first: Gemma 4 calls weather and clock, and reads "response:weather" twice.
#
# Guess before: what the policy reads after its calls is what the chat template writes for these calls and results; that
#   is what it will read when it is served.
# What happens: `GRPOTrainer(tools=[...])` of TRL 1.16 does not render the conversation anew after a call, but a
#   stand-in with one empty call, that of the first result's tool, and cuts the results out of it. Gemma 4's template
#   writes a tool's name into each result and takes it from the call. So all results of a turn bear the first one's name:
#   the time of day stands as the weather, and so does the price, in four of the five versions of the template that TRL
#   ships (the second version writes no name). The reward functions see the right names in `completions`, the mask leaves
#   the results out of the loss, nothing fails: the policy learns to go on from results that it cannot tell apart but by
#   their order, in a text that it does not meet when it is served with the template. Two calls of the same tool are
#   right, as is one call; Qwen's templates write no name, and gpt-oss, which does, makes one call a turn. (No report was
#   found. The policy here is small and has learnt three calls by heart.)
# So: let each tool's text say what it is, "time: noon"; or train Gemma 4 on one call a turn; and decode `completion_ids`
#   in a reward function once.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.13.0 trl==1.16.0 transformers==5.24.0 \
  datasets==5.2.0 accelerate==1.15.0 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }
cd "$folder"
OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" -W ignore - 2>>"$folder/noise" <<'PY' || { tail -5 "$folder/noise"; exit 1; }
import re, sys
import torch, transformers, trl
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, PrinterCallback
from trl import GRPOConfig, GRPOTrainer, chat_template_utils as shipped

for package in (torch, transformers, trl):
    print(package.__name__, package.__version__)
SPECIAL = ["<pad>", "<eos>", "<|turn>", "<turn|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>", '<|"|>']


def tokenizer_of(template, text="x"):
    letters = Tokenizer(models.BPE())
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.decoder = decoders.ByteLevel()
    letters.train_from_iterator([text], trainers.BpeTrainer(
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), vocab_size=900, min_frequency=1, show_progress=False, special_tokens=SPECIAL))
    return PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="<eos>", pad_token="<pad>", chat_template=template)


def weather() -> str:
    """Says the weather."""
    return "rain"


def clock() -> str:
    """Says the time."""
    return "noon"


def stock() -> str:
    """Says the price."""
    return "17"


TOOLS, PROMPT = [weather, clock, stock], [{"role": "user", "content": "Go."}]


def run(version, wanted):
    """The names and results that a policy reads in a run of GRPOTrainer, those that rewards see, and those of the template."""
    template = getattr(shipped, f"{version}_chat_template")
    said = "".join(f"<|tool_call>call:{tool.__name__}{{}}<tool_call|>" for tool in wanted) + "<|tool_response>"  # where Gemma 4 stops
    asked = tokenizer_of(template).apply_chat_template(PROMPT, tools=TOOLS, add_generation_prompt=True, tokenize=False)
    tokenizer = tokenizer_of(template, asked + said)
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                                         num_attention_heads=4, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
                                         eos_token_id=tokenizer.convert_tokens_to_ids(["<eos>", "<turn|>", "<|tool_response>"])))
    start, whole = (tokenizer(text, return_tensors="pt")["input_ids"] for text in (asked, asked + said))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(200):
        loss = model(input_ids=whole, labels=torch.where(torch.arange(whole.shape[1]) < start.shape[1], -100, whole)).loss
        optimizer.zero_grad(), loss.backward(), optimizer.step()
    seen = {}

    def results(text):
        return re.findall(r'<\|tool_response>response:(\w+)\{value:<\|"\|>(.*?)<\|"\|>\}<tool_response\|>', text)

    def reward(completions, completion_ids, **_):
        seen["policy"] = results(tokenizer.decode(completion_ids[0]))
        seen["rewards"] = [(message["name"], message["content"]) for message in completions[0] if message["role"] == "tool"]
        return [0.0] * len(completions)

    trainer = GRPOTrainer(model=model, reward_funcs=reward, tools=TOOLS, processing_class=tokenizer,
                          train_dataset=Dataset.from_list([{"prompt": PROMPT}] * 2),
                          args=GRPOConfig(output_dir="out", use_cpu=True, bf16=False, report_to=[], max_steps=1, num_generations=2,
                                          per_device_train_batch_size=2, max_completion_length=300, top_k=1, learning_rate=0.0,
                                          max_tool_calling_iterations=1, disable_tqdm=True, save_strategy="no"))
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    calls = [{"id": str(i), "type": "function", "function": {"name": tool.__name__, "arguments": {}}} for i, tool in enumerate(wanted)]
    answers = [{"role": "tool", "tool_call_id": str(i), "name": tool.__name__, "content": tool()} for i, tool in enumerate(wanted)]
    served = results(tokenizer.apply_chat_template([*PROMPT, {"role": "assistant", "content": "", "tool_calls": calls}, *answers],
                                                   tools=TOOLS, tokenize=False))
    return seen["policy"], seen["rewards"], served


VERSIONS = ("gemma4", "gemma4_v3", "gemma4_v4", "gemma4_v5")
RIGHT = [(tool.__name__, tool()) for tool in TOOLS]
all_three = {}
for version in VERSIONS:
    all_three[version] = run(version, TOOLS)
    if version == "gemma4":
        for title, value in zip(("the policy reads  ", "the rewards see   ", "the template says "), all_three[version]):
            print(f"{version}, calls of weather, clock, stock: {title}", ", ".join(f"{name}: {text}" for name, text in value))
    else:
        print(f"{version}: the policy reads", ", ".join(f"{name}: {text}" for name, text in all_three[version][0]))
one = run("gemma4", [clock])
print("gemma4, a call of clock alone: the policy reads", ", ".join(f"{name}: {text}" for name, text in one[0]))
sys.exit(0 if all(value == ([("weather", text) for _, text in RIGHT], RIGHT, RIGHT) for value in all_three.values())
         and one == ([("clock", "noon")],) * 3 else 1)
PY
