"""Notebook 00: a solution of each exercise, and what the checker says to a wrong answer. Try first."""

from toolexpander_lite.method.calls import REASONS
from toolexpander_lite.studies.exercises import Exercise

EXERCISES = {
    # The policy has learnt the format and the tools. It repeats the question's words, and the server wants codes.
    1: Exercise(
        points=3,
        solution='predicted_reason, predicted_executed = "wrong_argument", False',
        right=["wrong_argument", False],
        prediction=True,
        blank="Which part of the call can the model not read off the question or the schema?",
        mistakes=[
            (
                ["ok", True],
                "The schema does not say that codes are wanted, and the model follows the question.",
                lambda v: v[0] == "ok",
            ),
            (
                ["unknown_tool", False],
                "The tool stands in the prompt. To choose between two tools is easy here.",
                lambda v: v[0] in ("unknown_tool", "wrong_name"),
            ),
            (
                ["bad_json", False],
                "The format is what this model writes best: section 3 showed it.",
                lambda v: v[0] in ("bad_json", "bad_call", "truncated", "no_think", "extra_text", "no_call"),
            ),
            (
                ["missing_argument", False],
                "The schema lists the arguments, so all are given. Their values are the trouble.",
                lambda v: v[0] in ("missing_argument", "extra_argument"),
            ),
            (
                ["wrong_argument", True],
                "The code is right. But a server that knows CDG does not know 'paris': it refuses.",
            ),
        ],
        otherwise="Take a reason code from the list in the text, and True or False.",
    ),
    # What is checked first counts: blocks, then thinking, then JSON, then the call.
    2: Exercise(
        points=4,
        solution='codes = "truncated", "no_think", "wrong_argument", "extra_text"',
        right=["truncated", "no_think", "wrong_argument", "extra_text"],
        blank="Four codes of the list above, in the order of the four answers.",
        mistakes=[
            (
                ["bad_json", "no_think", "wrong_argument", "extra_text"],
                "The first: a block that is not closed is not read as JSON at all. It was cut.",
                lambda v: v[0] == "bad_json",
            ),
            (
                ["no_call", "no_think", "wrong_argument", "extra_text"],
                "The first: a call block was opened, so it is not that there is none. It was cut.",
                lambda v: v[0] == "no_call",
            ),
            (
                ["missing_argument", "no_think", "wrong_argument", "extra_text"],
                "The first: arguments are compared only in a call that could be read. This one was cut before its end.",
                lambda v: v[0] in ("missing_argument", "bad_call"),
            ),
            (
                ["too_long", "no_think", "wrong_argument", "extra_text"],
                "The first: it is short. Its end is missing.",
                lambda v: v[0] == "too_long",
            ),
            (
                ["truncated", "extra_text", "wrong_argument", "extra_text"],
                "The second: nothing stands outside the blocks. A block is missing.",
                lambda v: v[1] == "extra_text",
            ),
            (
                ["truncated", "no_call", "wrong_argument", "extra_text"],
                "The second: the call is there. Look at what stands before it in the other answers.",
                lambda v: v[1] == "no_call",
            ),
            (
                ["truncated", "ok", "wrong_argument", "extra_text"],
                "The second: a right call alone is not enough, the format is judged as well.",
                lambda v: v[1] == "ok",
            ),
            (
                ["truncated", "no_think", "bad_json", "extra_text"],
                "The third: 7 is perfectly good JSON. It is the value that is wrong.",
                lambda v: v[2] == "bad_json",
            ),
            (
                ["truncated", "no_think", "bad_call", "extra_text"],
                "The third: name and arguments are there, so it is a call. One value in it is wrong.",
                lambda v: v[2] == "bad_call",
            ),
            (
                ["truncated", "no_think", "missing_argument", "extra_text"],
                "The third: no argument is missing. One has another value, or type, than the gold call.",
                lambda v: v[2] == "missing_argument",
            ),
            (
                ["truncated", "no_think", "wrong_argument", "ok"],
                "The fourth: politeness is outside the blocks. A program that reads the call has no use for it.",
                lambda v: v[3] == "ok",
            ),
            (
                ["truncated", "no_think", "wrong_argument", "extra_call"],
                "The fourth: a sentence is not a call.",
                lambda v: v[3] == "extra_call",
            ),
            (
                ["Truncated", "no_think", "wrong_argument", "extra_text"],
                "One of your codes is not in the list. They are written as there, in small letters.",
                lambda v: any(code not in REASONS for code in v),
            ),
        ],
        otherwise="Which check fails first?",
    ),
    # The new key belongs inside "arguments".
    3: Exercise(
        points=3,
        solution="""answer = right.replace('"arguments": {', '"arguments": {"tip": "big", ')""",
        right="extra_argument",
        blank="Start from `right`, and change it with replace.",
        mistakes=[
            ("ok", "That is still a right answer: no argument was added."),
            ("wrong_argument", "You changed a value. Add an argument, and leave the others as they are."),
            (
                "missing_argument",
                "An argument of the gold call is gone: to rename one is to lose it, and that counts first.",
            ),
            ("bad_json", "The block is no JSON any more: a comma or a brace is missing, or a key is there twice."),
            ("bad_call", 'The new key stands beside "name" and "arguments". It belongs inside "arguments".'),
            ("extra_call", "That is a second call. One call with one argument more is asked for."),
            ("extra_text", "That is text outside the blocks."),
            ("no_think", "The thinking is gone. Start from `right`, which has it."),
            ("truncated", "A block is not closed any more."),
        ],
        otherwise="Its reason code is another one. Start from `right`, and add one argument.",
    ),
}
