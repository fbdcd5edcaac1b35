"""Contamination: exact and near twins, against counts by hand and against comparing all pairs."""

import random
from pathlib import Path

import pytest

from toolexpander_lite.data.contamination import contamination, question, words
from toolexpander_lite.data.sources import load_samples
from toolexpander_lite.method.samples import ToolSample

SLICES = Path(__file__).resolve().parents[2] / "shared" / "data"
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]


def samples(*texts, name="s"):
    return [ToolSample(f"{name}-{i}", name, [{"role": "user", "content": t}], TOOLS, []) for i, t in enumerate(texts)]


def pairs(found):
    return [(t.trained.id, t.held_out.id, round(t.similarity, 3), t.exact) for t in found.twins]


def test_exact_means_the_same_words():
    trained = samples("What's  the WEATHER in Zürich?", "Sell\u00a0it!", "sell it now", "")
    asked = samples("what s the weather in Zu\u0308rich", "SELL IT", "...", name="q")
    assert pairs(contamination(trained, asked)) == [("s-0", "q-0", 1.0, True), ("s-1", "q-1", 1.0, True)]


def test_near_twins_by_hand():
    # Sequences of three: abc bcd cde def | abc bcd cdx: 2 in common of 5; with bcd cde def: 3 of 4.
    trained = samples("a b c d e f")
    asked = samples("a b c d x", "b c d e f", "f e d c b a", name="q")
    assert pairs(contamination(trained, asked)) == [("s-0", "q-1", 0.75, False)]
    assert pairs(contamination(trained, asked, near=0.4))[1] == ("s-0", "q-0", 0.4, False)
    assert len(contamination(trained, asked, near=0.41).twins) == 1
    # All words again, in another order: never exact, though the sets of single words are equal.
    assert pairs(contamination(trained, asked, near=1.0, gram=1)) == [("s-0", "q-2", 1.0, False)]


def test_rows_are_counted_once_and_exact_before_near():
    trained = samples("a b c d e f", "a b c d e f", "a b c d e g", "z z z z")
    asked = samples("A B C D E F", "a b c d e h", "y", name="q")
    found = contamination(trained, asked)
    # s-0, s-1 = q-0 exactly; s-2 is near q-0 and q-1 (abc bcd cde of 5); q-1 is near s-0, s-1 and s-2.
    assert found.counts() == {"exact": (2, 1), "near": (1, 1)}
    assert len(found.twins) == 6 and [t.exact for t in found.twins] == [True] * 2 + [False] * 4
    text = str(found)
    assert text.startswith("2 of 4 training rows have an exact twin, 1 a near one; of 3 evaluation rows 1 and 1")
    assert text.count("\n") == 9 and "q-0 'A B C D E F'" in text  # three pairs are shown


def test_all_user_turns_count_and_no_others():
    chat = [
        {"role": "system", "content": "a b c d"},
        {"role": "user", "content": "Book it"},
        {"role": "assistant", "content": "For when?"},
        {"role": "user", "content": "Yes."},
    ]
    talk = ToolSample("t", "t", chat, TOOLS, [])
    assert question(talk) == "Book it\nYes."
    assert contamination([talk], samples("a b c d", "Yes.")).twins == []
    assert len(contamination([talk], samples("book it yes")).twins) == 1


def test_text_without_spaces_is_compared_by_characters():
    assert words("今日のGPU 2台、ﾃﾞｰﾀ・人々!") == [*"今日の", "gpu", "2", "台", *"データ", *"人々"]
    assert words("서울 날씨") == ["서울", "날씨"], "Korean has spaces"
    trained = samples("请告诉我明天北京的天气怎么样?", "明日の東京の天気を教えてください")
    others = "请告诉我明天上海的天气怎么样", "明日の大阪の天気を教えてください。"
    asked = samples(*others, "请告诉我 明天北京的天气怎么样", "卖掉我的旧自行车", name="q")
    # The Chinese questions have 12 sequences each, the Japanese 14; two other characters in the middle cost four.
    assert pairs(contamination(trained, asked)) == [
        ("s-0", "q-2", 1.0, True), ("s-1", "q-1", 0.556, False), ("s-0", "q-0", 0.5, False),
    ]  # fmt: skip


def all_pairs(trained, asked, near, gram):
    """Every pair compared, as the definition says."""

    def grams(sample):
        w = words(question(sample))
        return {" ".join(w[i : i + gram]) for i in range(max(1, len(w) - gram + 1))} if w else set()

    result = {}
    for a in trained:
        for b in asked:
            x, y = grams(a), grams(b)
            if x and y and len(x & y) / len(x | y) >= near:
                result[a.id, b.id] = len(x & y) / len(x | y)
    return result


@pytest.mark.parametrize("near", [0.1, 0.3, 0.5, 0.7, 0.9, 1.0])
@pytest.mark.parametrize("gram", [1, 2, 3])
def test_no_pair_is_missed(near, gram):
    rng = random.Random(f"{near}-{gram}")
    texts = [" ".join(rng.choices("abcd", k=rng.randint(0, 14))) for _ in range(160)]
    trained, asked = samples(*texts[:80]), samples(*texts[80:], name="q")
    found = {(t.trained.id, t.held_out.id): t.similarity for t in contamination(trained, asked, near, gram).twins}
    assert found == all_pairs(trained, asked, near, gram)
    assert found or near > 0.5


def test_a_pair_right_at_the_limit_is_found():
    listed = [f"w{n}" for n in range(25)]
    found = contamination(samples(" ".join(listed)), samples(" ".join(listed[:14]), name="q"), near=0.56, gram=1)
    assert pairs(found) == [("s-0", "q-0", 0.56, False)]  # 14 of 25, and 0.56 * 25 is above 14 in floats


def test_nothing_against_nothing():
    found = contamination([], samples("a b c"))
    assert found.twins == [] and found.counts() == {"exact": (0, 0), "near": (0, 0)}
    assert contamination(samples("a b c"), []).twins == []


def test_real_slices_agree_with_all_pairs():
    files = "toolrl/rlla_sft.json", "toolrl/rlla_test.parquet"
    for file in files:
        if not (SLICES / file).is_file():
            pytest.skip(f"no {file} in ../shared/data, the slices of real data kept beside the repository")
    trained, asked = (load_samples("toolrl", SLICES / file).samples for file in files)
    found = contamination(trained, asked, near=0.2)
    assert {(t.trained.id, t.held_out.id): t.similarity for t in found.twins} == all_pairs(trained, asked, 0.2, 3)
    assert contamination(trained, asked).counts()["exact"] == (1, 1)  # one question is in both of ToolRL's files
