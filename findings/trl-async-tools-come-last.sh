#!/usr/bin/env bash
# TRL's tool loop runs async tools after all others of a turn: "deposit, then balance" answers the old balance, and first.
#
# Guess before: when a policy makes two calls in one turn they are run in the order in which it made them, or at least
#   their results come back in that order; so it is where all tools are plain functions, or all are async.
# What happens: `GRPOTrainer(tools=[...])` of TRL 1.16 takes plain and async functions side by side. Of one turn's calls
#   it runs the plain ones first, and only then starts the async ones and appends their results behind. So an async call
#   that changes something comes after the plain call that was to see it, and the second call's result stands in the first
#   one's place. With all 24 templates that TRL can parse and that take two calls, the order is all that tells whose a
#   result is: no text changes when the names of two results are swapped. So the policy reads each result as the answer to
#   the other call, and is trained on it; with an environment's methods it is the same. `completions` in the reward
#   functions has that order too, so pairing calls with results by position pays for the wrong one. No failure is counted.
#   (On an unmerged change to another trainer, pull request 5446, a review remarked on the order of results; the
#   asynchronous GRPO of September 2026, pull request 7175, keeps the order; of `GRPOTrainer`, and of calls that see the
#   old state, no report was found.)
# So: hand over plain functions only or async ones only; plain ones if a call may depend on one before it, as async ones
#   run side by side.
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


def tokenizer_of(template, text="x"):
    letters = Tokenizer(models.BPE())
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.decoder = decoders.ByteLevel()
    letters.train_from_iterator([text], trainers.BpeTrainer(
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), vocab_size=600, min_frequency=1, show_progress=False,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"]))
    return PreTrainedTokenizerFast(tokenizer_object=letters, eos_token="<|im_end|>", pad_token="<|endoftext|>",
                                   chat_template=template)


class Account:
    """A purse of its own for each rollout, with one method plain and one async, or both alike."""

    def reset(self, **_):
        self.money = 0


def purse_of(plain_deposit, plain_balance):
    class Purse(Account):
        if plain_deposit:
            def deposit(self) -> str:
                """Pays 50 in."""
                self.money += 50
                return "paid in"
        else:
            async def deposit(self) -> str:
                """Pays 50 in."""
                self.money += 50
                return "paid in"
        if plain_balance:
            def balance(self) -> str:
                """Says what is in the purse."""
                return str(self.money)
        else:
            async def balance(self) -> str:
                """Says what is in the purse."""
                return str(self.money)

    return Purse


prompt = [{"role": "user", "content": "Go."}]
CALLS = "\n".join(f'<tool_call>\n{{"name": "{name}", "arguments": {{}}}}\n</tool_call>' for name in ("deposit", "balance")) + "<|im_end|>"
purse = purse_of(True, True)()
tools = [purse.balance, purse.deposit]
asked = tokenizer_of(shipped.qwen3_chat_template).apply_chat_template(prompt, tools=tools, add_generation_prompt=True, tokenize=False)
tokenizer = tokenizer_of(shipped.qwen3_chat_template, asked + CALLS)
torch.manual_seed(0)
model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                                     num_attention_heads=4))
start, whole = (tokenizer(text, return_tensors="pt")["input_ids"] for text in (asked, asked + CALLS))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for _ in range(200):  # a small policy that knows by heart to deposit, and then to look
    loss = model(input_ids=whole, labels=torch.where(torch.arange(whole.shape[1]) < start.shape[1], -100, whole)).loss
    optimizer.zero_grad(), loss.backward(), optimizer.step()
called, given, read, failed = {}, {}, {}, {}


def reward(completions, completion_ids, **_):
    called[kind] = [call["function"]["name"] for call in completions[0][0]["tool_calls"]]
    given[kind] = [(message["name"], message["content"]) for message in completions[0] if message["role"] == "tool"]
    read[kind] = re.findall(r"<tool_response>\n(.*?)\n</tool_response>", tokenizer.decode(completion_ids[0]), re.S)
    return [0.0] * len(completions)


print("a run of GRPOTrainer, Qwen3's template:")
for plain_deposit, plain_balance in ((True, True), (False, False), (True, False), (False, True)):
    kind = plain_deposit, plain_balance
    trainer = GRPOTrainer(model=model, reward_funcs=reward, environment_factory=purse_of(*kind), processing_class=tokenizer,
                          train_dataset=Dataset.from_list([{"prompt": prompt}] * 2),
                          args=GRPOConfig(output_dir="out", use_cpu=True, bf16=False, report_to=[], max_steps=1, num_generations=2,
                                          per_device_train_batch_size=2, max_completion_length=120, top_k=1, learning_rate=0.0,
                                          max_tool_calling_iterations=1, disable_tqdm=True, save_strategy="no"))
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    failed[kind] = next(row["tools/failure_frequency"] for row in trainer.state.log_history if "tools/failure_frequency" in row)
    kinds = [f"{name} {'plain' if plain else 'async'}" for name, plain in zip(("deposit", "balance"), kind)]
    print(f"  {', '.join(kinds):30} calls {', '.join(called[kind])}; results for the rewards {given[kind]}; "
          f"the policy reads {read[kind]}; failures {failed[kind]}")

nameless, named = [], []
for name in sorted(vars(shipped)):
    if not name.endswith("_chat_template") or "training" in name or not isinstance(getattr(shipped, name), str):
        continue
    look = tokenizer_of(getattr(shipped, name))
    try:
        shipped.add_response_schema(look)
        calls = [{"type": "function", "function": {"name": each, "arguments": {}}} for each in ("deposit", "balance")]
        texts = {look.apply_chat_template([*prompt, {"role": "assistant", "content": "", "tool_calls": calls},
                                           *({"role": "tool", "name": each, "content": "50"} for each in order)], tokenize=False)
                 for order in (("deposit", "balance"), ("balance", "deposit"))}
    except Exception:  # no parser for it, or a template that asks for more
        continue
    (nameless if len(texts) == 1 else named).append(name.removesuffix("_chat_template"))
print(f"swapping the names of two results changes no text with {len(nameless)} of {len(nameless) + len(named)} templates: {', '.join(nameless)}")
OLD = [("balance", "0"), ("deposit", "paid in")]
RIGHT = [("deposit", "paid in"), ("balance", "50")]
sys.exit(0 if all(names == ["deposit", "balance"] for names in called.values()) and not any(failed.values())
         and given == {(True, True): RIGHT, (False, False): RIGHT, (True, False): RIGHT, (False, True): OLD}
         and read[False, True] == ["0", "paid in"] and read[True, True] == ["paid in", "50"]
         and not named and len(nameless) == 24 else 1)
PY
