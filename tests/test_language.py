"""In which language a text seems to be: few misses, and no false alarm."""

import ast
import csv
import subprocess
import sys

import pytest

from rerank.language import NAMES, foreign
from tests.conftest import ROOT

TAGS = """
lo-fi bossa nova; reggaeton perreo 95 bpm; cumbia villera; Kölsch rock ballad; K-pop; chanson with accordion; Italo disco
Rammstein style Neue Deutsche Härte industrial metal; flamenco guitar; mariachi trumpets, festive; samba batucada
forró with accordion and zabumba; J-pop city pop, 80s; bolero romantic; tango nuevo, bandoneon; Schlager party hit
fado, Portuguese guitar; allegro con brio, string quartet; andante cantabile; dembow beat; trap latino; salsa montuno
merengue tipico; son cubano; bachata, bongos, guira; opera aria, soprano; a cappella choir; oud and darbuka, Arabic maqam
Balkan brass band, fast; polka accordion oompah; yodel alpine folk; kuduro; zouk love; shakuhachi and koto; enka ballad
mezzo soprano lied; baroque harpsichord sonata; Für Elise style piano; Clair de lune style impressionist piano; norteño
Ennio Morricone spaghetti western; Björk style vocals; Sigur Rós ambient; Beyoncé style R&B; Motörhead style heavy metal
música popular brasileira (MPB) guitar; Café del Mar chillout; musique concrète; Sturm und Drang symphony; bel canto
Les Misérables style musical theatre; La Vie en Rose style chanson; El Condor Pasa pan flute; Das Boot soundtrack style
Der Ring des Nibelungen, Wagner opera; Die Toten Hosen style punk; Concierto de Aranjuez guitar; choro, cavaquinho
sertanejo universitário party; corridos tumbados, requinto; reggaetón romántico 88 bpm; chicha psicodélica guitar
Adagio molto e cantabile; Largo e mesto piano; Vivace ma non troppo; Allegretto grazioso; col legno battuto; da capo aria
viola da gamba; sonata da chiesa; Stabat Mater; Feliz Navidad style Christmas song; cha cha cha; la la la; hava nagila
raï, chaabi, gnawa; cải lương; čoček brass; csárdás violin; türkü saz; manele; dangdut koplo; drum and bass; no drums
musique concrète tape loops; Ballade pour Adeline piano; Schlager mit Herz, accordion; plena y bomba
slow sad piano; 120 bpm; techno 140 bpm; warm lo-fi piano, slow, vinyl crackle; epic trailer, crescendo; 8-bit chiptune
"""

FOREIGN = {
    "de": "langsames trauriges Klavier; fröhliche Musik mit Gitarre und Schlagzeug; ein ruhiges Lied zum Einschlafen; "
    "schneller Techno mit hartem Bass; traurige Ballade mit Geige; entspannte Musik für den Abend, leise und warm; "
    "romantischer Walzer",
    "fr": "piano lent et triste; musique joyeuse avec guitare et batterie; une chanson douce pour dormir; "
    "techno rapide avec une basse lourde; ballade triste au violon; musique de film épique avec orchestre",
    "es": "piano lento y triste; música alegre con guitarra y batería; una canción suave para dormir; "
    "techno rápido con un bajo fuerte; balada triste con violín; reguetón para bailar toda la noche",
    "it": "pianoforte lento e triste; musica allegra con chitarra e batteria; una canzone dolce per dormire; "
    "techno veloce con un basso pesante; ballata triste con violino; musica da film epica con orchestra",
    "pt": "música alegre com violão e bateria; uma canção suave para dormir; samba rápido com muita percussão; "
    "balada triste com violino; música de filme épica com orquestra",
    "ja": "ゆっくりした悲しいピアノ; 明るくて速いロック; 夜のジャズ、サックス; 癒しの音楽",
    "zh": "缓慢悲伤的钢琴; 欢快的吉他和鼓; 适合睡觉的安静音乐; 快节奏的电子音乐",
    "ru": "медленное грустное пианино; весёлая музыка с гитарой и барабанами; спокойная песня на ночь; быстрое техно",
    "ko": "느리고 슬픈 피아노; 신나는 기타와 드럼; 잠자기 좋은 조용한 음악; 빠른 테크노",
    "ar": "بيانو بطيء وحزين; موسيقى سعيدة مع الغيتار والطبول; أغنية هادئة للنوم; تكنو سريع",
    "nl": "langzame droevige piano; vrolijke muziek met gitaar en drums",
    "pl": "powolne smutne pianino; wesoła muzyka z gitarą i perkusją",
    "tr": "yavaş hüzünlü piyano; gitar ve davullu neşeli müzik",
}


def listed(text: str) -> list[str]:
    return [one.strip() for line in text.strip().splitlines() for one in line.split(";") if one.strip()]


def test_tags_in_english_are_english_whatever_words_they_borrow() -> None:
    tags = listed(TAGS)
    assert len(tags) >= 90
    assert {tag: language for tag in tags if (language := foreign(tag, ["en"]))} == {}


def test_captions_and_aspects_in_english_are_english() -> None:
    with (ROOT / "rerank" / "corpus" / "musiccaps.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    texts = [row["caption"] for row in rows] + [", ".join(ast.literal_eval(row["aspects"])) for row in rows]
    assert len(texts) > 10_000
    assert sum(foreign(text, ["en"]) is not None for text in texts) <= len(texts) / 500


def test_most_prompts_in_other_languages_are_found() -> None:
    found = {text: foreign(text, ["en"]) for texts in FOREIGN.values() for text in listed(texts)}
    right = [foreign(text, ["en"]) == NAMES[code] for code, texts in FOREIGN.items() for text in listed(texts)]
    assert len(found) >= 50
    assert sum(language is not None for language in found.values()) >= 0.9 * len(found)
    assert sum(right) >= 0.85 * len(right)


@pytest.mark.parametrize(
    ("text", "languages", "language"),
    [
        ("缓慢悲伤的钢琴", ["en", "zh"], None),
        ("癒しの音楽", ["en", "zh"], "Japanese"),
        ("αργό λυπημένο πιάνο", ["en"], "Greek"),
        ("ნელი სევდიანი ფორტეპიანო", ["en"], "in Georgian letters"),
        ("я люблю тебя", ["en"], "in Cyrillic letters"),  # too short to tell which language
        ("я люблю тебя", ["ru"], None),
        ("cover of 夜に駆ける, female vocals", ["en"], None),
        ("ＬＯＵＤ　ｐｉａｎｏ", ["en"], None),
        ("fröhliche Musik mit Gitarre und Schlagzeug", ["en", "de"], None),
        ("fröhliche Musik mit Gitarre und Schlagzeug", [], None),
        ("[verse]\nDer Mond ist aufgegangen\n[chorus]\nDie goldnen Sternlein prangen", ["en"], "German"),
        ("120 / 4 ♪♪♪", ["en"], None),
        ("", ["en"], None),
    ],
)
def test_what_is_read_and_what_is_not(text: str, languages: list[str], language: str | None) -> None:
    assert foreign(text, languages) == language


def test_nothing_is_loaded_for_what_is_plainly_english() -> None:
    code = (
        "import sys, rerank; from rerank.language import foreign; foreign('slow piano with a soft voice', ['en']); "
        "assert not {name for name in sys.modules if name.startswith('py3langid')}; foreign('piano lento y triste', ['en']);"
        "assert 'py3langid' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
