"""Files, folders and manifests become takes; files of prompts become prompts; nothing wrong goes through."""

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from rerank.errors import InvalidInput
from rerank.manifest import PromptEntry, PromptParts, Take, prompts, takes
from tests.test_records import written


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three takes in a folder, one below it, and what is none."""
    for name in ("take10.wav", "Take2.FLAC", "take1.mp3", "b/take3.ogg", ".hidden.wav", ".git/x.wav", "notes.txt"):
        (tmp_path / "takes" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "takes" / name).write_bytes(b"sound")
    return tmp_path / "takes"


def test_files_stand_for_themselves_in_the_order_given(folder: Path) -> None:
    files = [folder / "take10.wav", folder / "take1.mp3", folder / "notes.txt"]
    assert takes(map(str, files)) == [Take(file) for file in files]


def test_a_folder_stands_for_the_audio_in_it_in_natural_order(folder: Path) -> None:
    names = [take.path.relative_to(folder).as_posix() for take in takes([folder])]
    assert names == ["b/take3.ogg", "take1.mp3", "Take2.FLAC", "take10.wav"]


@pytest.mark.parametrize("names", [["a1", "a2", "a010", "a10", "b"], ["1", "a", "a1", "a1b", "ab"], ["ß9", "ß10"]])
def test_numbers_in_names_are_sorted_by_their_value(names: list[str], tmp_path: Path) -> None:
    for name in names[::-1]:
        (tmp_path / f"{name}.wav").touch()
    assert [take.path.stem for take in takes([tmp_path])] == names


def test_links_are_followed_once(folder: Path) -> None:
    (folder / "b" / "up").symlink_to(folder)
    (folder.parent / "elsewhere").mkdir()
    (folder.parent / "elsewhere" / "far.wav").write_bytes(b"sound")
    (folder / "link").symlink_to(folder.parent / "elsewhere")
    names = [take.path.relative_to(folder).as_posix() for take in takes([folder])]
    assert names == ["b/take3.ogg", "link/far.wav", "take1.mp3", "Take2.FLAC", "take10.wav"]


def test_audio_that_cannot_be_read_is_not_passed_over_silently(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "song.m4a").write_bytes(b"sound")
    with caplog.at_level(logging.WARNING, "rerank"):
        assert len(takes([folder])) == 4
    assert "passed over 1 .m4a; only WAV, FLAC, MP3 and OGG files are read" in caplog.text


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl"])
def test_a_manifest_gives_each_take_its_prompt(folder: Path, name: str) -> None:
    rows = [("take1.mp3", "slow", "la\nla", "b/take3.ogg"), ("b/take3.ogg", "", "", "")]
    if name.endswith("csv"):
        content = "path,prompt,lyrics,reference\n" + "".join(
            ",".join(f'"{cell}"' for cell in row) + "\n" for row in rows
        )
    else:
        content = (
            '{"path": "take1.mp3", "text": "slow", "lyrics": "la\\nla", "reference": "b/take3.ogg"}\n'
            '{"path": "b/take3.ogg"}\n'
        )
    manifest = written(folder, name, content)
    first, second = takes([manifest])
    assert first == Take(folder / "take1.mp3", PromptParts("slow", "la\nla", folder / "b" / "take3.ogg"))
    assert second == Take(folder / "b" / "take3.ogg", None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path\ngone.wav\n", ":2: no such audio file: .*gone.wav; paths are relative to the folder of this file"),
        ("path,prompt\n,slow\n", ":2: path is missing"),
        ("prompt\nslow\n", ":2: path is missing"),
        ("path\nb\n", ":2: .* is a folder"),
        ("path,prompt,text\ntake1.mp3,a,b\n", ":2: prompt and text are given, which mean the same"),
        ("path,reference\ntake1.mp3,gone.wav\n", ":2: no such audio file"),
        (f"path,prompt\ntake1.mp3,{'a' * 4_001}\n", ":2: text has 4001 characters, the limit is 4000"),
        ("path\ntake1\x00.wav\n", ":2: no such audio file"),
        ("path\ngone.wav\nlost.wav\n", ":2: no such audio file: .*gone.wav"),
        ("path,rank\ntake1.mp3,1\n", ":1: unknown column 'rank'"),
    ],
)
def test_a_wrong_manifest_is_told_with_file_and_line(folder: Path, content: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=f"list.csv{message}"):
        takes([written(folder, "list.csv", content)])


def test_a_file_that_is_missing_is_a_take_beside_others(folder: Path) -> None:
    manifest = written(folder, "list.csv", "path,prompt\ngone.wav,slow\n")
    assert takes([folder / "take1.mp3", folder / "lost.wav", manifest]) == [
        Take(folder / "take1.mp3"),
        Take(folder / "lost.wav"),
        Take(folder / "gone.wav", PromptParts("slow")),
    ]
    with pytest.raises(InvalidInput, match="none of the 2 files is there; the first: no such audio file: .*lost.wav"):
        takes([folder / "lost.wav", manifest])


def test_what_is_no_audio_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such audio file: .*gone.wav"):
        takes([tmp_path / "gone.wav"])
    with pytest.raises(InvalidInput, match="holds no WAV, FLAC, MP3 or OGG file"):
        takes([tmp_path])


def test_a_folder_that_is_closed_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scan = os.scandir

    def closed(path: str) -> Any:  # as for anybody but root, who may read every folder
        if Path(path) == folder / "b":
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(InvalidInput, match="cannot read the folder .*/b: permission denied"):
        takes([folder])


def test_each_line_is_a_prompt(tmp_path: Path) -> None:
    path = written(tmp_path, "all.txt", "slow piano\nfast, loud ska\n")
    assert prompts(path) == [
        PromptEntry("001", PromptParts("slow piano")),
        PromptEntry("002", PromptParts("fast, loud ska")),
    ]
    assert prompts(written(tmp_path, "many.txt", "a\n" * 1_000))[0].id == "0001"


def test_a_prompt_may_have_a_name_and_all_its_parts(folder: Path) -> None:
    entries = prompts(written(folder, "all.csv", "id,prompt,lyrics,reference\nska,fast,la,take1.mp3\nПесня-2,,la,\n"))
    assert entries == [
        PromptEntry("ska", PromptParts("fast", "la", folder / "take1.mp3")),
        PromptEntry("Песня-2", PromptParts("", "la")),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("all.csv", "id,prompt\na,one\nA,two\n", "all.csv:3: id 'A' is there already"),
        ("all.csv", "id,prompt\n002,one\n,two\n", "all.csv:3: id '002' is there already"),
        ("all.csv", "id,prompt\n../up,one\n", "all.csv:2: id '../up' cannot name a folder"),
        ("all.csv", "id,prompt\n.hidden,one\n", "all.csv:2: id '.hidden' cannot name a folder"),
        ("all.csv", "id,prompt\nindex.json,one\n", "all.csv:2: id 'index.json' cannot name a folder"),
        ("all.csv", "id,prompt\na,\n", "all.csv:2: there is no prompt; give a text, lyrics or a reference"),
        ("all.csv", "path,prompt\na,one\n", "all.csv:1: unknown column 'path'"),
        ("all.jsonl", '{"prompt": "\\ud800"}\n', "all.jsonl:1: text is not valid Unicode"),
        ("all.txt", "one\n\n", "all.txt:2: the line is empty"),
        ("all.txt", "a" * 4_001, "all.txt:1: text has 4001 characters"),
        ("all.json", "[]", "must be a .txt file with a prompt on each line, or a .csv or .jsonl file"),
    ],
)
def test_a_wrong_file_of_prompts_is_told_with_file_and_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        prompts(written(tmp_path, name, content))


def test_the_reference_is_read_when_the_prompt_is_needed(folder: Path) -> None:
    (entry,) = prompts(written(folder, "all.csv", "prompt,reference\nfast,take1.mp3\n"))
    with pytest.raises(InvalidInput, match="reference: cannot read"):
        entry.prompt.read()
    assert PromptParts("slow", "la").read().lyrics == "la"
