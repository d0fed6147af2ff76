"""The vowels of written English, one per syllable, guessed from spelling.

Conventions:
    A vowel is one of `VOWELS`, named as singers spell it: ah (father), eh (bed), ee (see), ih (bit), oh (go),
    oo (too), uh (cup), aw (law). Of a diphthong only the first, longer part counts: night is ah, day is eh.
    The rules are rough: they get nearly every count of syllables and most vowels of song lyrics right.
"""

import re
import unicodedata
from collections.abc import Mapping

VOWELS: tuple[str, ...] = ("ah", "eh", "ee", "ih", "oh", "oo", "uh", "aw")

_SPELT: Mapping[str, str] = {  # words that break the rules, by their vowels
    "ah": "i my by are heart have how now down town wow eye eyes hour sound",
    "ah ee": "party",
    "ah eh": "quiet",
    "ah uh": "our fire power flower shower tower hours flowers desire higher",
    "aw": "your you're four for gone floor door pour soft",
    "ee": "me he she we be these",
    "ee ih": "being",
    "ee uh": "people",
    "eh": "said says there where they their head dead bread read friend yeah",
    "eh ee": "every many any heavy ready very",
    "eh ee ih": "everything anything",
    "eh uh": "heaven weather feather never ever weapon",
    "ih": "give live been his is it in",
    "ih oo": "into",
    "ih uh": "didn't isn't women river",
    "oh": "no so go don't won't though soul home oh",
    "oh ee": "only",
    "oh uh": "over open ocean",
    "oo": "you to do who two move lose could would should through blue",
    "oo ah": "goodbye",
    "oo ee": "beauty movie",
    "oo ih uh": "beautiful",
    "oo uh": "woman couldn't wouldn't shouldn't",
    "uh": "a the of was what from some come love one done none were young touch earth her blood",
    "uh ah": "sometimes",
    "uh ee": "money honey lovely",
    "uh eh": "again",
    "uh ih": "something loving",
    "uh uh": "above lover under mother brother someone other",
    "uh uh uh": "another",
}
_WORDS: Mapping[str, tuple[str, ...]] = {
    word: tuple(vowels.split()) for vowels, words in _SPELT.items() for word in words.split()
}
_GROUPS: Mapping[str, str] = {
    "ee": "ee", "ea": "ee", "ie": "ee", "ei": "eh", "ey": "ee", "oo": "oo", "ou": "ah", "ow": "oh", "oa": "oh",
    "oe": "oh", "oi": "aw", "oy": "aw", "ai": "eh", "ay": "eh", "au": "aw", "aw": "aw", "ew": "oo", "ue": "oo",
    "ui": "oo", "eu": "oo", "igh": "ah", "eigh": "eh", "ough": "aw", "augh": "aw", "eau": "oo",
}  # fmt: skip
_OPEN: Mapping[str, str] = {"a": "eh", "e": "ee", "i": "ah", "o": "oh", "u": "oo", "y": "ah"}  # made, mine, hope
_SHORT: Mapping[str, str] = {"a": "ah", "e": "eh", "i": "ih", "o": "aw", "u": "uh", "y": "ih"}
_LAST: Mapping[str, str] = {"a": "uh", "e": "ee", "i": "ee", "o": "oh", "u": "oo", "y": "ee"}  # at the end of a word
_GROUP = re.compile("|".join(sorted(_GROUPS, key=len, reverse=True)) + "|[aeiouy]")


def vowels_of(text: str) -> list[str]:
    """Return the sung vowels of English lyrics, one per syllable, by spelling rules.

    Args:
        text: any text; accents are stripped, words without a vowel letter are silent.

    Returns:
        Names from `VOWELS`, in order.

    >>> vowels_of("Sing me the moonlight, stay tonight")
    ['ih', 'ee', 'uh', 'oo', 'ah', 'eh', 'oo', 'ah']
    >>> vowels_of("hope made of blue"), vowels_of("...")
    (['oh', 'eh', 'uh', 'oo'], [])
    """
    plain = unicodedata.normalize("NFKD", text.lower().replace("’", "'").replace("é", "ay"))
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return [vowel for word in re.findall(r"[a-z]+(?:'[a-z]+)*", plain) for vowel in _vowels(word)]


_LONGEST = 30
"""Letters of the longest word whose endings are looked at; what is longer is no word."""


def _vowels(word: str) -> tuple[str, ...]:
    """Return the vowels of one word in small plain letters, with or without an apostrophe."""
    if word in _WORDS:
        return _WORDS[word]
    if "'" in word:
        return _vowels(word.split("'")[0])
    if len(word) > 3 and word[-2:] in ("ed", "es") and word[:-1] in _WORDS:
        return _WORDS[word[:-1]]
    if len(word) <= _LONGEST and word.endswith("ing") and re.search("[aeiouy]", word[:-3]):
        stem = word[:-3]
        dropped = re.search(r"(^|[^aeiou])[aeiou][^aeiouwxy]$", stem) or stem[-1] in "vz"
        return (*_vowels(stem + "e" if dropped and stem not in _WORDS else stem), "ih")
    return _by_rule(word)


def _silenced(word: str) -> str:
    """Write - for a consonantal letter and _ for a silent e, so that what is left of the vowels is sung."""
    stem = re.sub(r"^y(?=[aeiou])|(?<=[aeo])y(?=[aeiou])|(?<=q)u(?=[aeiou])", "-", word)
    stem = re.sub(r"(?<=[tsc])i(?=on|ou|al|an)", "-", stem)
    stem = re.sub(r"^to(?=night|day|geth|morr)", "too", stem)
    stem = re.sub(r"thm(s?)$", r"thum\1", stem)
    if len(re.findall(r"[aeiouy]+", stem)) > 1:
        stem = re.sub(r"(?<=[^aeiouytd-])ed$|(?<=[^aeiouysxzcgh-])es$", "_", stem)
        stem = re.sub(r"(?<=[^aeiouy-])e$", "_", stem)
        stem = re.sub(r"(?<=[aeiou][^aeiouy])e(?=(ly|less|ful|ness|ment)s?$)", "_", stem)
    return re.sub(r"(?<=[^aeiouylrw_-])l_$", "_ul", stem)


def _by_rule(word: str) -> tuple[str, ...]:
    stem = _silenced(word)
    found = list(_GROUP.finditer(stem))
    vowels = []
    for place, match in enumerate(found):
        group, rest = match.group(), stem[match.end() :]
        if group == "ea" and re.match(r"d(y|$)|lth|ther|v[ey]|sur", rest):
            vowel = "eh"
        elif group == "ea" and re.match(r"r[nl]", rest):
            vowel = "uh"
        elif group in ("ie", "ye") and not rest.strip("ds") and len(found) == 1:
            vowel = "ah"
        elif len(group) > 1:
            vowel = _GROUPS[group]
        elif not rest.strip("s"):
            vowel = _SHORT[group] if rest else (_OPEN if len(found) == 1 and group != "a" else _LAST)[group]
            if group in "ay" and place == 0:
                vowel = "ah"
            elif group == "y":
                vowel = "ee"
        elif re.match(r"[^aeiouy][_-]|[szcg]es$", rest):
            vowel = _OPEN[group]
        elif rest[0] in "aeiou":
            vowel = "ee" if group in "iy" and place else _OPEN[group]
        elif (group == "i" and re.match(r"ld$|nd$|gn", rest)) or (group == "o" and re.match(r"l[dl]", rest)):
            vowel = _OPEN[group]
        elif rest[0] == "r" and group in "eiu":
            vowel = "uh"
        elif group == "a" and re.match(r"l(l$|l_|k|t)|w", rest):
            vowel = "aw"
        else:
            vowel = _SHORT[group]
        vowels.append(vowel)
    return tuple(vowels)
