"""The words of a text, for comparisons that pass over case, spacing and punctuation."""

import re
import unicodedata

# Kana, the Chinese characters (with those outside the basic plane), and the signs that repeat or stand for one.
_UNSPACED = "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_WORD = re.compile(rf"(?=\w)[{_UNSPACED}]|(?:(?![{_UNSPACED}])\w)+")


def words(text):
    """Words of a text, without case, punctuation and variants of characters -> list of str.

    Chinese and Japanese are written without spaces: each of their characters counts as a word.
    """
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
