"""The command line: fields of a profile can be set, a wrong one is a line, own rows go all the way."""

import json
import os
import re
import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest

from toolexpander_lite.__main__ import COMMANDS, _parser, main
from toolexpander_lite.base.runs import REPOSITORY, read_log
from toolexpander_lite.data.row_formats import to_hermes
from toolexpander_lite.training.profiles import get_profile
from toolexpander_lite.worlds.nano_world import nano_samples


@pytest.mark.parametrize(
    "command", ["train", "preflight", "evaluate", "warm-start", "bfcl", "api-bank", "executed"]
)
@pytest.mark.parametrize(
    "text, words",
    [
        ("max_tokens=9", "'max_tokens=9' is not NAME=VALUE with a NAME of .*max_prompt_tokens"),
        ("max_prompt_tokens=many", "max_prompt_tokens takes a whole number, not 'many'"),
        ("max_prompt_tokens=0", "max_prompt_tokens is 0; it must be a whole number from 1"),
        ("lora_rank=-1", "lora_rank is -1; it must be a whole number from 0"),
        ("dtype=fp16", "dtype is 'fp16'; choose one of float32, float16, bfloat16"),
    ],
)
def test_a_profile_field_that_cannot_be_is_one_line(command, text, words, tmp_path, capsys):
    assert main([command, "--profile-set", text, *([] if command == "evaluate" else ["--out", str(tmp_path)])]) == 2
    error = capsys.readouterr().err
    assert re.search(words, error) and error.startswith("error: ") and error.count("\n") == 1


def test_a_profile_field_given_twice_is_one_line(capsys):
    assert main(["train", "--steps", "2", "--profile-set", "steps=3"]) == 2
    assert "steps: given both as an option and with --profile-set" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "preflight", "evaluate", "warm-start"])
@pytest.mark.parametrize("option", [["--data-path", "my.jsonl"], ["--profile-set", "data_path=my.jsonl"]])
def test_a_file_that_would_be_passed_over_is_refused(command, option, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([command, *option, *([] if command == "evaluate" else ["--out", str(tmp_path / "out")])]) == 2
    error = capsys.readouterr().err
    assert "my.jsonl would be passed over; say whose form its rows have with --data" in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_own_rows_go_all_the_way(tmp_path, capsys):
    """Notebook 05's commands for tools of one's own, one step each, with the nano model (which a preflight refuses)."""
    samples = nano_samples("train", 20, families=["send_note"])  # in words that the nano policy knows
    rows = [to_hermes(s.messages[-1]["content"], s.tools, s.calls) for s in samples]
    file, run = tmp_path / "rows.jsonl", tmp_path / "run"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = ["--data", "hermes", "--data-path", str(file)]
    sizes = {"max_prompt_tokens": 440, "max_completion_length": 64, "prompts_per_step": 1, "train_prompts": 8}
    for name, value in (sizes | {"eval_prompts": 2}).items():
        own += ["--profile-set", f"{name}={value}"]
    assert main(["warm-start", *own, "--warm-start-steps", "1", "--out", str(tmp_path / "warm")]) == 0
    model = ["--model", str(tmp_path / "warm" / "final")]
    train = ["train", "--recipe", "hard_sampling_decay", *own, *model, "--out", str(run), "--steps", "1", "--resume"]
    assert main(train) == 0
    config = json.loads((run / "config.json").read_text())
    assert config["profile"] == json.loads(json.dumps(vars(get_profile(
        "nano", data="hermes", data_path=str(file), model=model[1], steps=1, **sizes, eval_prompts=2
    ))))  # fmt: skip
    assert [row["step"] for row in read_log(run)] == [0, 1] and read_log(run)[-1]["rollouts"] == 10
    capsys.readouterr()
    assert main(["evaluate", *own, "--model", str(run / "final")]) == 0
    assert 0 <= json.loads(capsys.readouterr().out)["zero_shot"] <= 1


def test_the_preflight_looks_at_the_recipe_that_train_is_given(monkeypatch):
    """A run's own fields, with `--set`, reach the trial as they reach the run."""
    looked_at = []
    monkeypatch.setattr(
        "toolexpander_lite.training.preflight.preflight",
        lambda profile, recipe, *rest: looked_at.append(recipe) or SimpleNamespace(refused=[]),
    )
    assert main(["preflight", "--recipe", "hard_sampling", "--set", "num_generations=12", "--set", "beta=0"]) == 0
    assert (looked_at[0].name, looked_at[0].num_generations, looked_at[0].beta) == ("hard_sampling", 12, 0.0)


WRONG_NAMES = {
    "trian": r"invalid choice: 'trian'.*; did you mean train\?",
    "train --recipe gpro": r"unknown recipe 'gpro'; did you mean grpo\? choose one of paper_grpo",
    "train --profile nono": "unknown profile 'nono'; choose one of",
    "train --set betta=1": r"did you mean beta\? 'betta=1' is not NAME=VALUE",
    "train --sed 1": r"train knows no --sed 1; did you mean --seed\? python -m toolexpander_lite train --help",
    "train --limit 3": "train knows no --limit 3; python -m",
    "train --data toolrll": r"unknown data source 'toolrll'; did you mean toolrl\? choose one of nano, graded",
    "train --data toolrl --data-path no.json": "there is no file no.json; see --data-path",
    "train --steps two": "--steps takes a whole number, not 'two'",
    "preflight --recipe gpro": "unknown recipe",
    "preflight --set betta=1": r"did you mean beta\?",
    "scan --recipe gpro": "unknown recipe",
    "evaluate --profile nono": "unknown profile",
    "warm-start --profile nono --out x": "unknown profile",
    "bfcl --categories simple_pyton --out x": "simple_pyton",
    "bfcl --limit 0 --out x": "limit is 0; it must be a whole number from 1",
    "api-bank --levels 3 --out x": "no API-Bank level 3",
    "api-bank --publisher me --out x": "no API-Bank level 1 by 'me'",
    "executed --profile nono": "unknown profile",
    "data toolrll": r"unknown data source 'toolrll'; did you mean toolrl\? choose one of",
    "study nano-basline --dry-run": r"unknown study 'nano-basline'; did you mean nano-baseline\? choose one of",
    "data toolrl --against bfcl:simple_pythn": r"did you mean simple_python\?",
    "pack no-such-folder": "there is no folder no-such-folder",
    "study no.toml": "there is no plan no.toml; studies of the kit go by their name",
    "study zzz --dry-run": "unknown study 'zzz'; choose one of",
    "nano-policy --graded week --out x": r"invalid choice: 'week'.*; did you mean weak\? ",
}


def test_a_wrong_name_is_one_line_and_nothing_slow_is_imported(tmp_path):
    """Where torch and the libraries around it cannot be imported at all."""
    code = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({['torch', 'transformers', 'trl', 'datasets', 'peft', 'scipy.stats']!r}))\n"
        "from toolexpander_lite.__main__ import main\n"
        f"for line in {list(WRONG_NAMES)!r}:\n"
        "    try: status = main(line.split())\n"
        "    except SystemExit as ended: status = ended.code\n"
        "    assert status == 2, line\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True,
                          env=os.environ | {"PYTHONPATH": str(REPOSITORY)})  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(WRONG_NAMES) and all(line.startswith("error: ") for line in lines), lines
    for (command, words), line in zip(WRONG_NAMES.items(), lines):
        assert re.search(words, line), command


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_examples_that_parse_and_defaults(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    text = capsys.readouterr().out
    examples = re.findall(r"^  python -m toolexpander_lite (.+)$", text, re.M)
    assert examples
    for example in examples:
        assert example.split()[0] == command and vars(_parser().parse_args(shlex.split(example)))["function"]
    text = " ".join(text.split())
    if "--profile PROFILE" in text:
        assert f"(default {'smol' if command in ('bfcl', 'api-bank', 'executed') else 'nano'})" in text
    if "--seed SEED" in text:
        assert "rollouts (default 0)" in text
    assert "(default None)" not in text and "(default False)" not in text


def test_a_reader_that_has_enough_is_no_error():
    command = [sys.executable, "-m", "toolexpander_lite", "doctor", "assets/doctor/solved_already.jsonl"]
    done = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    done.stdout.close()  # as `| head` does
    assert done.stderr.read() == "" and done.wait() == 1


def test_the_data_of_the_help_are_those_that_can_be_loaded():
    from toolexpander_lite import __main__ as command_line
    from toolexpander_lite.data.sources import SOURCES
    from toolexpander_lite.training.profiles import PROFILES

    assert set(command_line.SOURCES) == set(SOURCES)
    assert {profile.data for profile in PROFILES.values()} <= set(command_line.DATA)
