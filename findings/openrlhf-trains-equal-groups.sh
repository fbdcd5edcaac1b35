#!/usr/bin/env bash
# OpenRLHF's GRPO (`group_norm`) pushes groups whose eight rewards are all the same, ten times as hard as any other: 0.9 for all is -10 for all.
#
# Guess before: equal rewards have no advantage; what rounding leaves of it is too small to matter, as in dr_grpo and RLOO.
# What happens: the mean of eight times 0.9 in float32 is not 0.9, off by its last bit. OpenRLHF 0.11.2 divides that by
#   std + 1e-9, and torch's std of equal numbers is exactly 0: 6e-8 becomes 60, and `reward.clip_range`, (-10, 10) by
#   default, makes it 10, for every answer of the group. An ordinary group of 0 and 1 has advantages around 1. Of the
#   rewards 0.1, 0.2 ... 4.0 29 do this in groups of 8 and of 16, 14 upwards and 15 downwards, by the bits alone; whole
#   numbers do not, nor do groups of 4. So a question that is solved every time is pushed away from its answer where right is
#   paid 0.9 (say, for its length), or 1.01 (the paper's 1 and 0.01). A small policy that is trained by OpenRLHF's own
#   advantages and loss then stays near 0.8; with dr_grpo, or with right paid 1, it reaches 1.00. Pull request 1334 (2026)
#   brought a test that equal rewards give zero; its rewards are zeros. (No report was found; NeMo RL had a cousin of this,
#   with a leave-one-out baseline: pull request 4158.)
# So: pay rewards that float32 holds exactly (29/32 for 0.9, as below), or train with dr_grpo.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
pip() { "$folder/venv/bin/pip" install -q --no-compile --disable-pip-version-check "$@" 2>>"$folder/noise" || { tail -3 "$folder/noise"; exit 1; }; }
pip torch==2.13.0 transformers==5.15.0 numpy==2.4.6
pip --no-deps openrlhf==0.11.2
cd "$folder"
OMP_NUM_THREADS=1 TRANSFORMERS_VERBOSITY=error "$folder/venv/bin/python" -W ignore - 2>>noise <<'PY' || { tail -5 noise; exit 1; }
import sys, types
from importlib.metadata import version
from types import SimpleNamespace
import torch
import openrlhf

# ray, deepspeed and what starts actors on GPUs are imported by these modules and not used here: empty ones stand in.
for name in ("ray", "deepspeed", "openrlhf.trainer.ray.launcher"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["openrlhf.trainer.ray.launcher"].RayActorGroup = object
for part in ("models", "utils"):
    bare = types.ModuleType(f"openrlhf.{part}")
    bare.__path__ = [f"{openrlhf.__path__[0]}/{part}"]
    sys.modules[bare.__name__] = bare
from openrlhf.models.loss import PolicyLoss
from openrlhf.trainer.ppo_utils.experience import Experience
from openrlhf.trainer.ppo_utils.experience_maker import RemoteExperienceMaker

print(", ".join(f"{name} {version(name)}" for name in ("openrlhf", "torch")))


def advantages(rewards, estimator, clip=(-10, 10)):
    """OpenRLHF's advantages for rewards of shape (questions, answers); each answer is one token, no KL term."""
    maker = RemoteExperienceMaker.__new__(RemoteExperienceMaker)
    maker.advantage_estimator, maker.kl_ctl = estimator, SimpleNamespace(value=0.0)
    maker.strategy = SimpleNamespace(args=SimpleNamespace(
        rollout=SimpleNamespace(n_samples_per_prompt=rewards.shape[1]), reward=SimpleNamespace(clip_range=clip),
        algo=SimpleNamespace(advantage=SimpleNamespace(estimator=estimator, gamma=1.0, lambd=1.0, no_std_norm=False))))
    made = maker.compute_advantages_and_returns([
        Experience(index=[i], rewards=reward.reshape(1), action_mask=torch.ones(1, 1), kl=torch.zeros(1, 1), info={})
        for i, reward in enumerate(rewards.flatten())])
    return torch.cat([experience.advantages for experience in made]).reshape(rewards.shape)


mixed = [0.0, 1.0] * 4
print(f"eight answers, four right: {', '.join(f'{a:+.2f}' for a in advantages(torch.tensor([mixed, mixed]), 'group_norm')[0, :2].tolist())}")
print("eight answers with one reward, beside that group:")
seen = {}
for reward in (0.3, 0.7, 0.9, 1.0, 1.01, 1.2, 29 / 32):
    batch = torch.tensor([[reward] * 8, mixed])
    seen[reward] = advantages(batch, "group_norm")[0, 0].item()
    print(f"  {reward:<8} group_norm {seen[reward]:+6.1f} (unclipped {advantages(batch, 'group_norm', None)[0, 0].item():+7.1f}),"
          f" dr_grpo {advantages(batch, 'dr_grpo')[0, 0].item():+.1e}, rloo {advantages(batch, 'rloo')[0, 0].item():+.1e}")
counts = {}
for size in (4, 8, 16):
    pushes = [advantages(torch.tensor([[tenth / 10] * size] * 4), "group_norm")[0, 0].item() for tenth in range(1, 41)]
    counts[size] = sum(push > 1 for push in pushes), sum(push < -1 for push in pushes)
    print(f"of the rewards 0.1, 0.2 ... 4.0 groups of {size} equal ones are pushed up for {counts[size][0]}, down for {counts[size][1]}")

loss = PolicyLoss()


def learnt(right, wrong, estimator, questions=8, steps=160):
    """A policy over four answers to each of some questions, the first is right: the mean share of right ones in the last 40 steps."""
    torch.manual_seed(0)
    logits = torch.zeros(questions, 4, requires_grad=True)
    optimizer, shares = torch.optim.Adam([logits], lr=0.1), []
    for _ in range(steps):
        log_probs = logits.log_softmax(-1)
        answers = torch.multinomial(log_probs.detach().exp(), 8, replacement=True)
        rewards = torch.where(answers == 0, right, wrong).float()
        chosen = log_probs.gather(1, answers).reshape(-1, 1)
        objective = loss(chosen, chosen.detach(), advantages(rewards, estimator).reshape(-1, 1), torch.ones_like(chosen))[0]
        optimizer.zero_grad()
        objective.backward()
        optimizer.step()
        shares.append(log_probs.detach().exp()[:, 0].mean().item())
    return sum(shares[-40:]) / 40


final = {}
print("a policy over four answers, 160 steps of 8 samples each: share of right answers at the end")
for right, wrong in ((1.0, 0.0), (0.9, 0.0), (29 / 32, 0.0), (1.01, 0.0)):
    for estimator in ("group_norm", "dr_grpo"):
        final[right, estimator] = learnt(right, wrong, estimator)
    print(f"  right {right}, wrong {wrong}: group_norm {final[right, 'group_norm']:.2f}, dr_grpo {final[right, 'dr_grpo']:.2f}")
sys.exit(0 if seen[0.9] == seen[1.01] == -10 and seen[0.7] == seen[1.2] == 10 and abs(seen[1.0]) + abs(seen[29 / 32]) < 1e-3
         and counts[4] == (0, 0) and sum(counts[8]) == sum(counts[16]) == 29
         and max(final[0.9, "group_norm"], final[1.01, "group_norm"]) < 0.9 and final[1.0, "group_norm"] > 0.98 and final[29 / 32, "group_norm"] > 0.98
         and all(final[right, "dr_grpo"] > 0.98 for right in (1.0, 0.9, 29 / 32, 1.01)) else 1)
PY
