"""What each genre sounds like: usual tempo, chords, who plays what and how, and the drum patterns.

Chord progressions are written in numerals relative to the key (capital: major, small: minor; `b` before: a semitone
lower; after: `7`, `maj7`, `5` for a power chord, `dim`). Drum patterns are 16 steps of one bar in 4/4: `x` a hit,
`o` an accent, `.` a rest.

**Conventions**: tempo in beats per minute; swing as the share of a beat that its first half takes (0.5 is straight).
"""

from collections.abc import Mapping
from dataclasses import dataclass

Pattern = Mapping[str, str]

PATTERNS: dict[str, Pattern] = {
    "rock": {"kick": "o.....x.o.......", "snare": "....o.......o...", "hat": "x.x.x.x.x.x.x.x."},
    "metal": {"kick": "oxxxoxxxoxxxoxxx", "snare": "....o.......o...", "crash": "o...x...o...x..."},
    "punk": {"kick": "o...o...o...o...", "snare": "..o...o...o...o.", "open hat": "x.x.x.x.x.x.x.x."},
    "pop": {
        "kick": "o...x...o..x....",
        "snare": "....o.......o...",
        "clap": "....x.......x...",
        "hat": "x.x.x.x.x.x.x.xx",
    },
    "swing": {
        "ride": "o...x..xo...x..x",
        "hat": "....x.......x...",
        "kick": "x.......x.......",
        "rim": "...........x....",
    },
    "brushes": {"rim": "....x.......x...", "hat": "x...x...x...x...", "kick": "x.......x......."},
    "house": {
        "kick": "o...o...o...o...",
        "open hat": "..x...x...x...x.",
        "clap": "....o.......o...",
        "hat": "xxxxxxxxxxxxxxxx",
    },
    "boom bap": {"kick": "o..x......o..x..", "snare": "....o.......o...", "hat": "x.x.x.x.x.x.x.x."},
    "trap": {"kick": "o.....x....x....", "clap": "........o.......", "hat": "x.x.xxx.x.x.xxxx"},
    "lo-fi": {"kick": "o......x.x......", "snare": "....x.......x...", "hat": "x.x.x.x.x.x.x.x."},
    "one drop": {"kick": "........o.......", "rim": "........x.....x.", "hat": "x.xxx.xxx.xxx.xx"},
    "shuffle": {"kick": "o.....x.o.....x.", "snare": "....o.......o...", "ride": "x..xx..xx..xx..x"},
    "funk": {"kick": "o..x..x...o..x..", "snare": "....o..x.x..o..x", "hat": "xxxxxxxxxxxxxxox"},
    "latin": {"kick": "o..xo..xo..xo..x", "rim": "o..x..x...x.x...", "ride": "x.x.x.x.x.x.x.x."},
    "train": {"kick": "o...x...o...x...", "snare": "x.xxx.xxx.xxx.xo"},
    "march": {"tom": "o.....x.o...x.x.", "kick": "o.......o.......", "crash": "o..............."},
    "gospel": {
        "kick": "o.....x.x.......",
        "snare": "....o.......o...",
        "clap": "....x.......x...",
        "ride": "x.x.x.x.x.x.x.x.",
    },
    "sparse": {"kick": "x...............", "hat": "....x.......x..."},
    "hands": {
        "conga low": "o..x......o.x...",
        "conga high": "..x...x.x.....x.",
        "shaker": "x.x.x.x.x.x.x.x.",
        "tambourine": "....o.......o...",
    },
    "hands calm": {"conga low": "o.....x.........", "bongo": "........x.....x.", "shaker": "x...x...x...x..."},
}

MAJOR = ("I V vi IV", "I IV vi V", "I vi IV V", "vi IV I V", "I IV I V")
MINOR = ("i bVI bIII bVII", "i iv bVI v", "i bVII bVI bVII", "i bVI iv v", "i iv i v")


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a genre is played.

    Attributes:
        tempo: usual slowest and fastest tempo.
        mood: usual (valence, energy).
        harmony: instruments to choose the accompaniment from.
        lead: instruments to choose the melody from.
        bass: the usual bass; None where there is none.
        kit: the usual drum kit; None where there is none.
        drums: name in `PATTERNS`.
        comping: how the accompaniment is played (see `compose`).
        walking: how the bass is played (see `compose`).
        swing: share of a beat that its first half takes.
        major, minor: chord progressions.
        sevenths: whether chords carry a seventh.
        pentatonic: whether the melody keeps to five notes.
    """

    tempo: tuple[float, float]
    mood: tuple[float, float]
    harmony: tuple[str, ...]
    lead: tuple[str, ...]
    bass: str | None
    kit: str | None
    drums: str
    comping: str
    walking: str
    swing: float = 0.5
    major: tuple[str, ...] = MAJOR
    minor: tuple[str, ...] = MINOR
    sevenths: bool = False
    pentatonic: bool = False


STYLES: dict[str, Style] = {
    "rock": Style(
        tempo=(105, 145), mood=(0.6, 0.75), harmony=("electric guitar", "distorted guitar"), lead=("electric guitar",),
        bass="bass guitar", kit="acoustic kit", drums="rock", comping="eighths", walking="eighths", pentatonic=True,
        major=("I bVII IV I", "I IV V IV", "I V IV IV"),
    ),
    "metal": Style(
        tempo=(120, 180), mood=(0.15, 1.0), harmony=("distorted guitar",), lead=("distorted guitar",),
        bass="bass guitar", kit="acoustic kit", drums="metal", comping="chug", walking="eighths", pentatonic=True,
        major=("I5 bVII5 IV5 I5",), minor=("i5 bVI5 bVII5 i5", "i5 bII5 i5 bVII5", "i5 iv5 bVI5 v5"),
    ),
    "punk": Style(
        tempo=(160, 200), mood=(0.5, 1.0), harmony=("distorted guitar",), lead=("distorted guitar",),
        bass="bass guitar", kit="acoustic kit", drums="punk", comping="power", walking="eighths", pentatonic=True,
        major=("I5 IV5 V5 IV5", "I5 V5 vi5 IV5"), minor=("i5 bVI5 bVII5 i5",),
    ),
    "pop": Style(
        tempo=(95, 128), mood=(0.8, 0.6), harmony=("piano", "electric piano", "pad"), lead=("synth lead", "electric guitar"),
        bass="synth bass", kit="electronic kit", drums="pop", comping="quarters", walking="pulse", pentatonic=True,
    ),
    "jazz": Style(
        tempo=(90, 170), mood=(0.65, 0.5), harmony=("piano", "electric guitar"), lead=("saxophone", "trumpet"),
        bass="upright bass", kit="acoustic kit", drums="swing", comping="jazz", walking="walk", swing=0.66, sevenths=True,
        major=("ii7 V7 Imaj7 vi7", "Imaj7 vi7 ii7 V7"), minor=("ii7 V7 i7 i7", "i7 iv7 bVII7 bIIImaj7"),
    ),
    "classical": Style(
        tempo=(70, 130), mood=(0.6, 0.35), harmony=("piano", "strings"), lead=("violin", "flute", "clarinet"),
        bass="cello", kit=None, drums="sparse", comping="alberti", walking="halves",
        major=("I IV V I", "I vi ii V", "I V vi iii"), minor=("i iv V i", "i bVI iv V"),
    ),
    "orchestral": Style(
        tempo=(70, 120), mood=(0.45, 0.8), harmony=("strings",), lead=("trumpet", "violin", "strings"),
        bass="cello", kit="acoustic kit", drums="march", comping="swells", walking="halves",
        major=("I bVI IV V", "I IV bVII I"), minor=("i bVI bIII bVII", "i iv bVI V"),
    ),
    "electronic": Style(
        tempo=(118, 140), mood=(0.65, 0.9), harmony=("pad", "synth lead"), lead=("synth lead",),
        bass="synth bass", kit="electronic kit", drums="house", comping="stabs", walking="offbeat",
    ),
    "ambient": Style(
        tempo=(55, 85), mood=(0.55, 0.08), harmony=("pad",), lead=("bells", "flute"),
        bass=None, kit=None, drums="sparse", comping="swells", walking="whole", sevenths=True,
        major=("Imaj7 IVmaj7", "Imaj7 iii7 IVmaj7 IVmaj7"), minor=("i7 bVImaj7", "i7 iv7 bVImaj7 i7"),
    ),
    "hip hop": Style(
        tempo=(75, 98), mood=(0.4, 0.6), harmony=("electric piano", "piano"), lead=("bells", "synth lead"),
        bass="synth bass", kit="electronic kit", drums="boom bap", comping="halves", walking="syncopated", pentatonic=True,
        major=("I vi IV V",), minor=("i bVI i v", "i bVI bIII bVII", "i iv i bVI"),
    ),
    "lo-fi": Style(
        tempo=(68, 88), mood=(0.6, 0.2), harmony=("electric piano",), lead=("bells", "electric guitar"),
        bass="bass guitar", kit="electronic kit", drums="lo-fi", comping="halves", walking="syncopated", swing=0.58,
        sevenths=True, pentatonic=True, major=("IVmaj7 iii7 ii7 Imaj7", "ii7 V7 Imaj7 vi7"), minor=("i7 iv7 bVImaj7 v7",),
    ),
    "folk": Style(
        tempo=(85, 125), mood=(0.65, 0.4), harmony=("acoustic guitar",), lead=("violin", "flute", "accordion"),
        bass=None, kit=None, drums="hands calm", comping="strum", walking="halves", pentatonic=True,
        major=("I IV I V", "I V vi IV", "I bVII IV I"), minor=("i bVII i v", "i bVII bVI bVII"),
    ),
    "country": Style(
        tempo=(100, 140), mood=(0.8, 0.6), harmony=("acoustic guitar", "banjo"), lead=("violin", "electric guitar", "banjo"),
        bass="upright bass", kit="acoustic kit", drums="train", comping="boom chick", walking="two beat", pentatonic=True,
        major=("I I IV V", "I IV I V"),
    ),
    "reggae": Style(
        tempo=(70, 92), mood=(0.75, 0.45), harmony=("electric guitar", "organ"), lead=("organ", "trumpet"),
        bass="bass guitar", kit="acoustic kit", drums="one drop", comping="skank", walking="reggae", pentatonic=True,
        major=("I IV I V", "I V IV IV"), minor=("i bVII i bVII", "i iv i v"),
    ),
    "blues": Style(
        tempo=(70, 120), mood=(0.4, 0.45), harmony=("electric guitar", "piano"), lead=("electric guitar", "accordion"),
        bass="bass guitar", kit="acoustic kit", drums="shuffle", comping="shuffle", walking="walk", swing=0.66, sevenths=True,
        pentatonic=True, major=("I7 IV7 I7 V7", "I7 I7 IV7 I7", "V7 IV7 I7 V7"), minor=("i7 iv7 i7 v7",),
    ),
    "funk": Style(
        tempo=(98, 118), mood=(0.75, 0.8), harmony=("electric guitar", "electric piano"), lead=("saxophone", "trumpet"),
        bass="bass guitar", kit="acoustic kit", drums="funk", comping="sixteenths", walking="funk", sevenths=True,
        pentatonic=True, major=("I7 I7 IV7 I7", "I7 bVII7"), minor=("i7 IV7", "i7 i7 iv7 i7"),
    ),
    "latin": Style(
        tempo=(95, 130), mood=(0.8, 0.7), harmony=("piano", "acoustic guitar"), lead=("trumpet", "flute"),
        bass="upright bass", kit="hand percussion", drums="latin", comping="montuno", walking="tumbao", sevenths=True,
        major=("Imaj7 ii7 V7 Imaj7", "I IV V IV"), minor=("i iv V i", "i bVII bVI V"),
    ),
    "gospel": Style(
        tempo=(70, 110), mood=(0.75, 0.55), harmony=("organ", "piano"), lead=("piano", "organ"),
        bass="bass guitar", kit="acoustic kit", drums="gospel", comping="quarters", walking="quarters", sevenths=True,
        major=("I IV I V7", "Imaj7 vi7 ii7 V7", "I iii7 IV V7"), minor=("i iv bVII bIII",),
    ),
}  # fmt: skip

RELATED: tuple[frozenset[str], ...] = (
    frozenset({"rock", "metal", "punk"}),
    frozenset({"classical", "orchestral"}),
    frozenset({"hip hop", "lo-fi"}),
    frozenset({"folk", "country"}),
    frozenset({"blues", "jazz"}),
    frozenset({"pop", "electronic"}),
    frozenset({"funk", "gospel"}),
)
"""Genres that count as half right for each other."""
