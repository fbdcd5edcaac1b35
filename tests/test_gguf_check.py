"""A GGUF file, written here as llama.cpp's converter lays it out, against the model it was made of."""

import gguf
import pytest

from toolexpander_lite.base.errors import ModelError
from toolexpander_lite.method.prompts import render_prompt
from toolexpander_lite.models.files import NANO_CHECKPOINTS
from toolexpander_lite.models.gguf_check import compare_gguf
from toolexpander_lite.models.policy import load_policy
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.worlds.nano_world import nano_samples


def rows_interleaved(weight, heads):
    """llama.cpp's order of the rows of query and key: the halves of each head in turns."""
    return weight.reshape(heads, 2, -1, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(model, tokenizer, file, wrong=0.0):
    config, writer = model.config, gguf.GGUFWriter(str(file), "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    names = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
             "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down",
             "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}  # fmt: skip
    for name, tensor in model.state_dict().items():
        parts, weight = name.split("."), tensor.float().numpy()
        if parts[1] == "layers":
            if parts[-2] in ("q_proj", "k_proj"):
                weight = rows_interleaved(weight, config.num_attention_heads)
            if parts[-2] == "down_proj" and parts[2] == "1":
                weight = weight + wrong
            writer.add_tensor(f"blk.{parts[2]}.{names[parts[-2]]}.weight", weight)
        elif parts[1] in ("embed_tokens", "norm"):
            kept = {"embed_tokens": "token_embd", "norm": "output_norm"}[parts[1]]
            writer.add_tensor(f"{kept}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_says_what_its_model_says_and_a_damaged_one_does_not(tmp_path):
    folder = NANO_CHECKPOINTS["nano"]
    model, tokenizer = load_policy(get_profile("nano"), device="cpu")
    prompts = [render_prompt(sample, tokenizer) for sample in nano_samples("test", 1)[:3]]
    write_gguf(model, tokenizer, tmp_path / "whole.gguf")
    names = {tensor.name for tensor in gguf.GGUFReader(tmp_path / "whole.gguf").tensors}
    assert {"token_embd.weight", "blk.1.attn_q.weight", "output_norm.weight"} <= names and len(names) == 20
    found = compare_gguf(folder, tmp_path / "whole.gguf", prompts)
    assert found["difference"] < 1e-4 and found["same_token"] == pytest.approx(1)
    write_gguf(model, tokenizer, tmp_path / "wrong.gguf", wrong=0.05)
    assert compare_gguf(folder, tmp_path / "wrong.gguf", prompts)["difference"] > 1e-2
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "whole.gguf").read_bytes()[:2000])
    with pytest.raises(ModelError, match="cut.gguf as a model .* convert it again"):
        compare_gguf(folder, tmp_path / "cut.gguf", prompts)
