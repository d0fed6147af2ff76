"""The words that a small text tower knows: how a text is split, and a vocabulary learnt from real texts."""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

_TOKEN = re.compile(r"(?<![^\W_])[a-g]#|[^\W\d_]+(?:'[^\W\d_]+)*|\d+(?:\.\d+)?")


def split_words(text: str) -> list[str]:
    """Return the words and numbers of `text`, lower case, without accents and punctuation.

    >>> split_words("A café waltz in C#, 92.5BPM; don't stop!")
    ['a', 'cafe', 'waltz', 'in', 'c#', '92.5', 'bpm', "don't", 'stop']
    """
    if not text.isascii():
        text = text.translate({0x2019: "'", 0x266F: "#", 0x266D: "b"})
        text = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text))
        text = "".join(character for character in text if not unicodedata.combining(character))
    return _TOKEN.findall(text.lower())


def word_ngrams(word: str) -> list[str]:
    """Return the character n-grams (n = 1 to 3) of a word between boundary marks, each once, in order of appearance.

    >>> word_ngrams("lo")
    ['l', 'o', '<l', 'lo', 'o>', '<lo', 'lo>']
    """
    marked = f"<{word}>"
    grams = (marked[start : start + n] for n in (1, 2, 3) for start in range(len(marked) - n + 1))
    return [gram for gram in dict.fromkeys(grams) if gram not in "<>"]


@dataclass(frozen=True)
class Vocabulary:
    """The words and character n-grams that a text tower knows, most frequent first."""

    words: list[str]
    ngrams: list[str]

    @classmethod
    def learn(
        cls, texts: Iterable[str], min_count: int = 2, max_words: int | None = None, max_ngrams: int = 5000
    ) -> "Vocabulary":
        """Return the words that stand at least `min_count` times in `texts`, and the most frequent n-grams of all.

        An n-gram counts once for each different word it is in. Ties are in alphabetical order.
        """
        words = Counter(word for text in texts for word in split_words(text) if not word[0].isdecimal())
        ngrams = Counter(gram for word in words for gram in word_ngrams(word))
        by_count = sorted(words, key=lambda word: (-words[word], word))
        frequent = sorted(ngrams, key=lambda gram: (-ngrams[gram], gram))
        return cls([word for word in by_count if words[word] >= min_count][:max_words], frequent[:max_ngrams])

    def to_json(self) -> str:
        """Return the vocabulary as a JSON document."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=0)

    @classmethod
    def from_json(cls, document: str) -> "Vocabulary":
        """Return the vocabulary that `to_json` wrote.

        Raises:
            ValueError: the document is something else, or says something twice, or knows no words.
        """
        content = json.loads(document)
        if not isinstance(content, dict) or content.keys() != {"words", "ngrams"}:
            raise ValueError("a vocabulary has words and ngrams")
        for name, listed in content.items():
            texts = isinstance(listed, list) and all(isinstance(one, str) and one for one in listed)
            if not texts or len(set(listed)) < len(listed):
                raise ValueError(f"{name} of a vocabulary must be texts, each once")
        if not content["words"] and not content["ngrams"]:
            raise ValueError("a vocabulary without words and n-grams tells no texts apart")
        return cls(**content)
