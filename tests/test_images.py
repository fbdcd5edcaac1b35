"""A picture in the question: own tools through TRL's own path for models that see. Shown is that it runs, no more."""

import json
from pathlib import Path

import pytest
import torch
import trl
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from toolexpander_lite.base.errors import DataError, ModelError
from toolexpander_lite.data.own_turns import own_tasks
from toolexpander_lite.data.sources import load_samples
from toolexpander_lite.method.hard_pool import HardSamplePool
from toolexpander_lite.method.hard_sampling import PoolReward, PromptServer
from toolexpander_lite.method.samples import training_columns
from toolexpander_lite.training.dialogues import DialogueReward, DialogueServer, check_template, dialogues_of
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.variants.other_demonstrations import VariantBank

TOOLS = '''
SEEN = []


def report(colour: str) -> str:
    """Say what colour a picture has.

    Args:
        colour: in a word
    """
    SEEN.append(colour)
    return "noted"


ROWS = [
    {"question": f"What colour is card {n}?", "call": f"report(colour='{c}')", "image": f"{c}.png", "split": "train"}
    for n, c in enumerate(["red", "green", "blue"])
]
'''
MARKS = ["<|im_start|>", "<|im_end|>", "<|pad|>", "<|image_pad|>", "<|vision_start|>", "<|vision_end|>"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("tools") / "cards.py"
    path.write_text(TOOLS)
    for colour in ("red", "green", "blue"):
        Image.new("RGB", (20, 16), colour).save(path.with_name(f"{colour}.png"))
    return path


@pytest.fixture(scope="module")
def talks(file):
    tasks = own_tasks(file, load_samples("own-turns", file).samples)
    return dialogues_of(get_profile("nano", data="own-turns", data_path=str(file)), tasks, "native")


@pytest.fixture(scope="module")
def processor():
    """A LLaVA processor for pictures of 2 x 2 patches, with the chat template of Qwen3-VL, which has tools."""
    template = Path(trl.__file__).with_name("chat_templates").joinpath("qwen3_vl.jinja").read_text(encoding="utf-8")
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    plain.train_from_iterator(
        [template], trainers.BpeTrainer(vocab_size=500, special_tokens=MARKS, initial_alphabet=alphabet)
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain, eos_token=MARKS[1], pad_token=MARKS[2], additional_special_tokens=MARKS,
        extra_special_tokens={"image_token": MARKS[3]}, padding_side="left", chat_template=template,
    )  # fmt: skip
    pictures = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    return LlavaProcessor(pictures, tokenizer, patch_size=8, vision_feature_select_strategy="default",
                          chat_template=template, num_additional_image_tokens=1)  # fmt: skip


@pytest.fixture
def model(processor):
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    tokenizer = processor.tokenizer
    vision = CLIPVisionConfig(**small, image_size=16, patch_size=8, projection_dim=32)
    text = LlamaConfig(**small, vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=2048,
                       eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)  # fmt: skip
    picture = tokenizer.convert_tokens_to_ids(MARKS[3])
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_id=picture, vision_feature_layer=-1)
    )


def test_the_picture_comes_with_the_question_and_not_with_a_demonstration(talks):
    environment, (id, *_) = talks.environment(), talks.tasks
    [part] = environment.reset(sample_id=id)
    assert part["type"] == "image" and part["image"].getpixel((0, 0)) == (255, 0, 0)
    shown = [m for m in talks.solved(talks.tasks[id]) if m["role"] == "user"]
    assert shown == [{"role": "user", "content": "What colour is card 0?"}], "a demonstration is text"


def test_a_missing_picture_and_a_model_that_does_not_see_are_told(file, talks, processor):
    missing = file.with_name("missing.py")
    missing.write_text(TOOLS.replace('f"{c}.png"', '"none.png"'))
    profile = get_profile("nano", data="own-turns", data_path=str(missing))
    tasks = own_tasks(missing, load_samples("own-turns", missing).samples)
    with pytest.raises(DataError, match="cannot read the picture .*none.png"):
        dialogues_of(profile, tasks)
    missing.with_name("none.png").write_text("no picture")
    with pytest.raises(DataError, match="cannot read the picture .*none.png .*name a PNG or JPEG"):
        dialogues_of(profile, tasks).environment().reset(sample_id="own-turns-000000")
    with pytest.raises(ModelError, match="3 rows have a picture, and `train` loads models that read text"):
        check_template(processor.tokenizer, talks.images)


@pytest.mark.parametrize("hard", [False, True])
def test_the_stock_trainer_takes_pictures_tools_and_demonstrations(tmp_path, talks, processor, model, hard):
    samples = [task.sample for task in talks.tasks.values()]
    pool = HardSamplePool([s.id for s in samples])
    if hard:
        pool.take_scan(dict.fromkeys(pool, 0), 10, 1)
        pool.draws = dict.fromkeys(pool, 0)
    server = DialogueServer(talks, pool, VariantBank(samples, "gold"), samples, processor.tokenizer, 1, 1200)
    assert isinstance(server, PromptServer)
    reward, seen = PoolReward(DialogueReward(talks.tasks, processor.tokenizer), pool), []

    def length(prompts, completions, **columns):  # something to learn from
        seen.extend(prompts)
        return [float(len(str(completion))) for completion in completions]

    config = trl.GRPOConfig(
        output_dir=str(tmp_path), max_steps=1, num_generations=2, per_device_train_batch_size=4, report_to="none",
        max_completion_length=8, save_strategy="no", logging_steps=1, disable_tqdm=True, use_cpu=True, bf16=False,
        max_tool_calling_iterations=2, learning_rate=1e-2, beta=0.0,
    )  # fmt: skip
    trainer = trl.GRPOTrainer(
        model=model, reward_funcs=[reward, length], args=config, processing_class=processor,
        train_dataset=training_columns(samples).with_transform(server), environment_factory=talks.environment,
    )  # fmt: skip
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    trainer.train()
    assert trainer.state.log_history[0]["tools/call_frequency"] == 0, "random weights call nothing"
    changed = {name for name, weight in model.named_parameters() if not torch.equal(weight, before[name])}
    assert any("vision" in name for name in changed), "what is seen reaches the loss"
    for prompt in seen:
        users = [message["content"] for message in prompt if message["role"] == "user"]
        assert len(users) == 1 + hard and users[-1][-1]["type"] == "image"
        assert not any("image" in json.dumps(content, default=str) for content in users[:-1])
