"""In which language a text seems to be written, for saying so where it is one that nobody reads.

A false alarm is worse than a miss: a prompt in English is full of words that are not ("lo-fi bossa nova, pizzicato"). So
a short text in Latin letters counts as foreign only where it looks much less like English than like one other language,
and has small words of that, such as "und" and "mit", or is a whole sentence of it. The letters of other scripts tell by
themselves.

**Conventions**: languages by their ISO 639-1 codes.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier


def _listed(words: str) -> frozenset[str]:
    return frozenset(words.split())


NAMES = {
    "de": "German", "fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese", "nl": "Dutch", "sv": "Swedish",
    "da": "Danish", "no": "Norwegian", "fi": "Finnish", "pl": "Polish", "cs": "Czech", "hu": "Hungarian",
    "ro": "Romanian", "tr": "Turkish", "id": "Indonesian", "ru": "Russian", "uk": "Ukrainian", "be": "Belarusian",
    "bg": "Bulgarian", "sr": "Serbian", "ar": "Arabic", "fa": "Persian", "ur": "Urdu", "ja": "Japanese",
    "zh": "Chinese", "ko": "Korean", "el": "Greek", "he": "Hebrew", "hi": "Hindi", "th": "Thai", "en": "English",
}  # fmt: skip
"""What the languages are called that are told apart."""

_SCRIPTS = {
    "HIRAGANA": ("ja",), "KATAKANA": ("ja",), "CJK": ("zh",), "HANGUL": ("ko",), "GREEK": ("el",), "HEBREW": ("he",),
    "DEVANAGARI": ("hi",), "THAI": ("th",), "CYRILLIC": ("ru", "uk", "be", "bg", "sr"), "ARABIC": ("ar", "fa", "ur"),
}  # fmt: skip
"""The languages of a script, by the first word of what Unicode calls its letters."""

_SMALL_WORDS = {
    code: _listed(words)
    for code, words in {
        "de": "und mit ohne für ein eine einen einem einer zum zur vom beim im nicht sehr wie ist "
        "musik klavier gitarre geige schlagzeug gesang",
        "fr": "et avec sans pour une dans très qui sur au aux guitare batterie violon",
        "es": "y con sin para una muy los como guitarra batería canción violín",
        "it": "e con senza una di molto che il chitarra batteria pianoforte violino",
        "pt": "e com sem uma muito muita para os violão bateria canção violino",
        "nl": "en met een zonder voor het muziek gitaar viool",
        "sv": "och med ett utan för musik gitarr trummor",
        "da": "og med uden til",
        "no": "og med uten til",
        "fi": "ja ilman joka",
        "pl": "i z bez dla oraz muzyka gitara pianino skrzypce",
        "cs": "a s bez pro",
        "hu": "és egy nélkül",
        "ro": "și si cu fără pentru",
        "tr": "ve ile için bir müzik gitar piyano keman",
        "id": "dan dengan untuk tanpa yang",
    }.items()
}
"""Words that a text has whatever it is about, and those of instruments; none that titles and names carry into English, such
as "de" and "la"."""

_ENGLISH = _listed(
    "the and with of for without that this is are it on by from like to slow sad soft loud drums strings guitar"
)
_TERMS = _listed(
    "a adagio allegro allegretto andante andantino arco assai brio cantabile capo col con crescendo da diminuendo dolce "
    "e espressivo forte fortissimo fuoco grave grazioso largo legato legno lento ma marcato mesto mezzo moderato molto "
    "mosso non pianissimo piano più pizzicato poco ponticello presto ritardando rubato scherzo sforzando sostenuto "
    "sotto staccato sul tasto tempo tremolo troppo vivace voce"
)
"""Italian that every score is written in."""

_WORDS_WITH, _WORDS_WITHOUT = 3, 4
"""So many words, with and without small ones, tell a language."""

_LIKELY = 0.8
"""How likely one of the languages of a script must be to be named."""

_ENGLISH_WITH, _ENGLISH_WITH_ONE, _ENGLISH_WITHOUT, _SURE = 0.06, 0.01, 0.02, 0.97
"""How likely English may be, with several small words, with one (many a title has one: "Ballade pour Adeline") and without,
and how likely another language must be without them."""


def foreign(text: str, languages: Collection[str]) -> str | None:
    """Return what a text seems to be written in, where that is none of these languages; None where it can be read.

    Args:
        text: of a prompt, or lyrics; parts in square brackets are none of it.
        languages: that are read; where there are none, nothing is known of it.

    Returns:
        "German" and the like, or "in Ethiopic letters" where only the script is known.

    >>> foreign("langsames, trauriges Klavier mit Geige", ["en"]), foreign("lo-fi bossa nova with piano", ["en"])
    ('German', None)
    >>> foreign("медленное грустное пианино", ["en", "zh"]), foreign("缓慢悲伤的钢琴", ["en", "zh"])
    ('Russian', None)
    """
    plain = re.sub(r"\[[^\]]*\]", " ", unicodedata.normalize("NFKC", text))
    if not languages or not plain.strip():
        return None
    script = _script(plain)
    if script == "LATIN":
        code = _latin(plain)
    elif script not in _SCRIPTS:
        return None if script is None else f"in {script.capitalize()} letters"
    else:
        code = _likeliest(plain, _SCRIPTS[script])
        if code is None:
            return None if set(languages).intersection(_SCRIPTS[script]) else f"in {script.capitalize()} letters"
    return None if code is None or code in languages else NAMES[code]


def _script(text: str) -> str | None:
    """Return the script that most of a text is written in; None where it has no letters.

    A letter of Chinese, Japanese or Korean says as much as a few of another script; in Japanese, kana is what tells.
    """
    scripts = Counter(unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha())
    if "CJK" in scripts and scripts["HIRAGANA"] + scripts["KATAKANA"] > 0:
        scripts["HIRAGANA"] += scripts.pop("CJK") + scripts.pop("KATAKANA", 0)
    for script in ("CJK", "HIRAGANA", "KATAKANA", "HANGUL"):
        scripts[script] *= 2
    return max(scripts, key=scripts.__getitem__) if scripts.total() else None


def _latin(text: str) -> str | None:
    """Return the language of a text in Latin letters, where it clearly is another one than English."""
    words = set(re.findall(r"[^\W\d_]+", text.lower()))
    if len(words) < _WORDS_WITH or words <= _TERMS:
        return None
    small = {code: words & listed for code, listed in _SMALL_WORDS.items()}
    if len(words & _ENGLISH) >= max(1, *map(len, small.values())):
        return None
    shares = _shares(text, ("en", *_SMALL_WORDS))
    code = max(shares, key=shares.__getitem__)
    if code == "en":
        return None
    if small[code] and shares["en"] < (_ENGLISH_WITH if len(small[code]) > 1 else _ENGLISH_WITH_ONE):
        return code
    sure = len(words) >= _WORDS_WITHOUT and shares["en"] < _ENGLISH_WITHOUT and shares[code] > _SURE
    return code if sure else None


def _likeliest(text: str, codes: Collection[str]) -> str | None:
    """Return the language of a text that is written in one of these; None where it is too short to tell."""
    if len(codes) == 1:
        return next(iter(codes))
    shares = _shares(text, codes)
    code = max(shares, key=shares.__getitem__)
    return code if shares[code] > _LIKELY else None


def _shares(text: str, codes: Collection[str]) -> dict[str, float]:
    """Return how likely each of these languages is, if it is one of them."""
    found = {code: share for code, share in _identifier().rank(text) if code in codes}
    whole = sum(found.values())
    return {code: share / whole for code, share in found.items()}


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
