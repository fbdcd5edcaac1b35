"""Sharing prompts changes what is computed, not what comes out: against the same model without it."""

import copy
import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from scipy.stats import chi2_contingency
from transformers import (
    BitsAndBytesConfig,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    set_seed,
)
from trl import GRPOTrainer
from trl.trainer.utils import add_fused_lm_head

from toolexpander_lite.method.rewards import conjunctive_reward
from toolexpander_lite.models.hardware import describe_hardware
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.models.shared_prompt import plan_rows, share_prompts, unshare
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.training.splits import load_splits, training_rows
from toolexpander_lite.training.train import grpo_config
from toolexpander_lite.variants.all_recipes import get_recipe

SIZES = {"vocab_size": 24, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0}  # fmt: skip
GEMMA = {"head_dim": 4, "sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=4)),
    "gemma3": lambda: Gemma3ForCausalLM(Gemma3TextConfig(**SIZES, **GEMMA)),
}


@functools.cache
def tiny(family, attention="sdpa", lora=False):
    """A random model as TRL's trainer prepares it: `fused_lm_head=True` gives log-probabilities of the labels."""
    torch.manual_seed(0)
    model = FAMILIES[family]()
    model.set_attn_implementation(attention)
    with torch.no_grad():  # away from the tiny values that weights begin with, so that every token matters
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    if lora:
        model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    return model.train()


def pad_rows(rows):
    """[(prompt, answer)] -> ids, mask, width of the answers: prompts padded left, answers right, as TRL does."""
    left, right = max(len(p) for p, _ in rows), max(len(a) for _, a in rows)
    ids = [[0] * (left - len(p)) + p + a + [0] * (right - len(a)) for p, a in rows]
    mask = [[0] * (left - len(p)) + [1] * len(p + a) + [0] * (right - len(a)) for p, a in rows]
    return torch.tensor(ids), torch.tensor(mask), right


def score(model, ids, mask, right):
    """Log-probabilities and entropies of the answers, and the gradient of a weighted sum of the former."""
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, :-right] = -100
    out = model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True)
    model.zero_grad()
    (out.log_probs * torch.linspace(-1, 1, out.log_probs.numel()).view_as(out.log_probs)).sum().backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    return out.log_probs.detach(), out.entropy.detach(), gradient


def computed(model, call):
    """How many tokens go through the first layer during `call`."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    sizes = []
    hook = base.model.layers[0].register_forward_pre_hook(lambda module, args: sizes.append(args[0][..., 0].numel()))
    result = call()
    hook.remove()
    return sum(sizes), result


def assert_same(model, ids, mask, right, **closeness):
    stock = score(model, ids, mask, right)
    with share_prompts(model):
        tokens, ours = computed(model, lambda: score(model, ids, mask, right))
    for a, b in zip(stock[:2], ours[:2]):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)
    assert (ours[2] - stock[2]).norm() <= 1e-5 * stock[2].norm()
    return tokens


def texts(least, most):
    return st.lists(st.integers(3, 23), min_size=least, max_size=most)


@st.composite
def batches(draw):
    """Groups of several prompts that may begin alike, with answers that may; shuffled."""
    system, rows = draw(texts(0, 5)), []
    for _ in range(draw(st.integers(1, 3))):
        prompt, opening = system + draw(texts(1, 10)), draw(texts(0, 3))
        answers = draw(st.lists(st.tuples(st.booleans(), texts(0, 6)), min_size=1, max_size=5))
        rows += [(prompt, opening * opened + answer) for opened, answer in answers]
    rows[0] = (rows[0][0], rows[0][1] or [3])
    return pad_rows(draw(st.permutations(rows)))


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(batches())
def test_scores_and_gradients_of_every_family(family, attention, batch):
    assert_same(tiny(family, attention), *batch)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(batches())
def test_scores_and_gradients_with_adapters_and_without_them(family, batch):
    model = tiny(family, lora=True)
    assert_same(model, *batch)
    with model.disable_adapter(), torch.no_grad():
        ids, mask, right = batch
        labels = ids.masked_fill(mask == 0, -100)
        labels[:, :-right] = -100
        call = {"input_ids": ids, "attention_mask": mask, "labels": labels, "fused_lm_head": True}
        stock = model(**call).log_probs
        with share_prompts(model):
            torch.testing.assert_close(model(**call).log_probs, stock, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(batches())
def test_gradient_checkpointing_shares_in_one_pass(family, batch):
    model = copy.deepcopy(tiny(family))
    model.gradient_checkpointing_enable()
    assert_same(model, *batch)


GROUP = [(list(range(3, 23)), [4, 5, 6 + i]) for i in range(4)]
OTHER = [([9] + list(range(4, 20)), [7, i + 3, 8]) for i in range(4)]


def test_each_prompt_is_computed_once_and_padding_not_at_all():
    """20 tokens of one prompt and answers 4 5 6, 4 5 7, ..: the beginning they share, then one token each."""
    tokens = assert_same(tiny("llama"), *pad_rows(GROUP))
    assert tokens == 22 + 4
    ids, mask, right = pad_rows([row for pair in zip(GROUP, OTHER) for row in pair])  # two groups, mixed
    assert assert_same(tiny("llama"), ids, mask, right) < len(ids) * ids.shape[1] / 2


def test_gemma_beyond_its_window_from_hand_written_rows():
    """A window of 6, prompts of 20: what a sliding layer drops from a cache must still be seen by none."""
    assert_same(tiny("gemma3"), *pad_rows(GROUP + OTHER))


def test_rows_cut_to_nothing_and_equal_rows():
    """`mask_truncated_completions` blanks whole answers; two rollouts may be equal to the last token."""
    ids, mask, right = pad_rows([*GROUP, *GROUP, (GROUP[0][0], [])])
    mask[0, -right:] = 0
    assert_same(tiny("llama"), ids, mask, right)


def test_bf16_autocast_is_as_close_to_float32_as_stock():
    model, (ids, mask, right) = tiny("llama", lora=True), pad_rows(GROUP + OTHER)
    exact = score(model, ids, mask, right)[0]
    with torch.autocast("cpu", torch.bfloat16):
        stock = score(model, ids, mask, right)[0]
        with share_prompts(model):
            tokens, (ours, *_) = computed(model, lambda: score(model, ids, mask, right))
    assert tokens < ids.numel() / 2 and stock.ne(exact).any()
    assert (ours - exact).abs().mean() < 1.5 * (stock - exact).abs().mean()


def test_unused_places_see_themselves():
    """A mask of float32's least number is -inf in half precision, and a softmax over nothing NaN."""
    ids, mask, _ = pad_rows(GROUP + OTHER[:2])
    plan = plan_rows(ids, mask)
    assert plan.sees.any(-1).all() and (plan.sees.sum(-1) == 1).sum() > 2


def test_four_bit_weights(tmp_path):
    pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    LlamaForCausalLM(LlamaConfig(**{**SIZES, "hidden_size": 64, "intermediate_size": 64})).save_pretrained(tmp_path)
    four_bit = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)
    model = LlamaForCausalLM.from_pretrained(tmp_path, quantization_config=four_bit, device_map={"": "cpu"})
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):  # as `load_policy` does
            layer.support_avx512bf16_for_cpu = False
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    assert_same(model, *pad_rows(GROUP + OTHER))


def test_plain_logits_and_losses_share_too():
    """Code that scores rows without TRL: logits at all real places."""
    model, (ids, mask, _) = tiny("qwen3"), pad_rows(GROUP + OTHER)
    stock = model(input_ids=ids, attention_mask=mask).logits
    with share_prompts(model):
        tokens, out = computed(model, lambda: model(input_ids=ids, attention_mask=mask))
    assert tokens < ids.numel() / 2
    torch.testing.assert_close(out.logits[mask.bool()], stock[mask.bool()], rtol=1e-5, atol=1e-5)


def test_nothing_shared_runs_the_rows_as_they_are():
    rows = [([3 + i, *range(4, 20)], [5, 6]) for i in range(4)]
    ids, mask, right = pad_rows(rows)
    assert plan_rows(ids, mask) is None
    assert assert_same(tiny("llama"), ids, mask, right) == ids.numel()


def test_what_would_not_be_the_same_is_left_alone(caplog):
    ids, mask, right = pad_rows(GROUP)
    call = {"input_ids": ids, "attention_mask": mask}
    model = FAMILIES["llama"]().train()
    share_prompts(model)
    assert computed(model, lambda: model(**call))[0] == 26
    assert computed(model, lambda: model(**call, use_cache=True))[0] == ids.numel()
    assert computed(model, lambda: model(**call, output_hidden_states=True))[0] == ids.numel()
    model.model.layers[0].self_attn.attention_dropout = 0.1
    assert computed(model, lambda: model(**call))[0] == ids.numel()
    assert computed(model.eval(), lambda: model(**call))[0] == 26
    stranger = GPT2LMHeadModel(GPT2Config(vocab_size=24, n_positions=32, n_embd=8, n_layer=1, n_head=2))
    with share_prompts(stranger):
        assert "gpt2 is none of llama" in caplog.text and "forward" not in vars(stranger.transformer)


def test_undone_twice_shared_twice_and_copied():
    model, (ids, mask, _) = FAMILIES["llama"](), pad_rows(GROUP)
    share_prompts(model)
    share_prompts(model)
    other = copy.deepcopy(model)  # as a reference model may be made: it must not run the weights of the first
    with torch.no_grad():
        other.model.layers[0].mlp.up_proj.weight.add_(1)
    assert computed(other, lambda: other(input_ids=ids, attention_mask=mask))[0] == 26
    shared = other(input_ids=ids, attention_mask=mask).logits
    unshare(other)
    unshare(other)
    assert "forward" not in vars(other.model) or other.model.forward.__func__ is type(other.model).forward
    torch.testing.assert_close(other(input_ids=ids, attention_mask=mask).logits[mask.bool()], shared[mask.bool()])
    assert computed(other, lambda: other(input_ids=ids, attention_mask=mask))[0] == ids.numel()


SAMPLING = {"max_new_tokens": 12, "do_sample": True, "top_k": 0, "eos_token_id": [2, 7], "pad_token_id": 0}
SETTINGS = [
    {}, {"temperature": 0.7, "top_k": 5}, {"top_p": 0.8}, {"min_p": 0.05, "min_new_tokens": 4}, {"do_sample": False},
    {"repetition_penalty": 1.3}, {"eos_token_id": None}, {"num_return_sequences": 2},
]  # fmt: skip


def three_prompts(rows):
    prompts = [[3, 4, 5, 6, 7, 8, 9, 10, 11], [5, 4, 3], [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 13, 14]]
    ids, mask, _ = pad_rows([(prompts[i % 3], []) for i in range(rows)])
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("changes", SETTINGS, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_samples_the_same_tokens(family, changes):
    """Rows of three prompts that take turns; some end early. What they share is computed once."""
    model, call = tiny(family), three_prompts(16)
    torch.manual_seed(0)
    stock_tokens, stock = computed(model, lambda: model.generate(**call, **{**SAMPLING, **changes}))
    with share_prompts(model):
        torch.manual_seed(0)
        tokens, ours = computed(model, lambda: model.generate(**call, **{**SAMPLING, **changes}))
    assert torch.equal(ours, stock)
    assert tokens < 0.7 * stock_tokens


def test_sampled_tokens_have_the_distribution_of_generate():
    """First, second and third tokens of 1,000 rows per prompt, with another seed than stock's."""
    model, call = tiny("llama"), three_prompts(3000)
    options = {**SAMPLING, "max_new_tokens": 3, "temperature": 2.0}
    torch.manual_seed(1)
    stock = model.generate(**call, **options)[:, 12:]
    with share_prompts(model):
        torch.manual_seed(2)
        ours = model.generate(**call, **options)[:, 12:]
    for prompt in range(3):
        for place in range(3):
            pair = torch.stack([rows[prompt::3, place].bincount(minlength=24) for rows in (stock, ours)])
            pair = pair[:, pair.sum(0) >= 10].numpy()
            assert chi2_contingency(pair).pvalue > 0.001  # of nine
            assert chi2_contingency([pair[0], pair[1][::-1]]).pvalue < 1e-6  # the test can fail


LEFT_TO_STOCK = [
    {"num_beams": 2}, {"return_dict_in_generate": True}, {"use_cache": False}, {"prefill_chunk_size": 8},
    {"cache_implementation": "dynamic"},
]  # fmt: skip


def test_prompts_of_one_length_are_sampled_without_a_mask():
    """`generate` hands the decoder no mask where nothing is padded."""
    model, call = tiny("llama"), {"input_ids": three_prompts(12)["input_ids"][::3]}
    torch.manual_seed(0)
    stock = model.generate(**call, **SAMPLING)
    with share_prompts(model):
        torch.manual_seed(0)
        tokens, ours = computed(model, lambda: model.generate(**call, **SAMPLING))
    assert torch.equal(ours, stock) and tokens <= call["input_ids"].shape[1] + 4 * 12


@pytest.mark.parametrize("changes", LEFT_TO_STOCK, ids=str)
def test_generation_that_is_not_understood_is_left_to_stock(changes):
    model, call = tiny("llama"), three_prompts(12)
    with share_prompts(model):
        tokens, _ = computed(model, lambda: model.generate(**call, **{**SAMPLING, **changes, "max_new_tokens": 4}))
        assert tokens >= 12 * 12
        tokens, _ = computed(model, lambda: model.generate(**call, **{**SAMPLING, "max_new_tokens": 4}))
        assert tokens <= 3 * 12 + 12 * 3  # fewer, as rows that have said the same are computed once


@pytest.mark.parametrize("sampling", ["stock", "shared"])
def test_twenty_training_steps_are_those_of_stock(tmp_path, sampling):
    """Nano, with a reference model: the logs agree line by line, whoever samples."""
    profile = get_profile("nano", steps=20, prompts_per_step=4, train_prompts=2, eval_every=10**6)
    options = {"cache_implementation": "dynamic"} if sampling == "stock" else {}
    stock = train_logs(profile, tmp_path / "stock", False, options)
    ours = train_logs(profile, tmp_path / "ours", True, options)
    assert len(stock) == len(ours) > 20 and any(row["reward_std"] > 0 for row in stock[:20])
    for a, b in zip(stock[:20], ours[:20]):
        same = set(a) - {"step_time"}
        assert same == set(b) - {"step_time"}
        assert {name: b[name] for name in same} == pytest.approx({name: a[name] for name in same}, rel=1e-3, abs=1e-6)


def train_logs(profile, folder, share, generation):
    recipe = get_recipe("grpo")
    set_seed(0)
    model, tokenizer = load_policy(profile)
    rows = training_rows(load_splits(profile, 0, tokenizer).train, tokenizer)
    arguments = grpo_config(recipe, profile, 0, folder, describe_hardware())
    arguments.generation_kwargs = generation
    trainer = GRPOTrainer(
        model=model, reward_funcs=conjunctive_reward, train_dataset=rows, processing_class=tokenizer, args=arguments
    )
    for each in (model, trainer.ref_model) if share else ():
        share_prompts(each)
    trainer.train()
    return trainer.state.log_history
