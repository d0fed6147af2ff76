"""Records come with their place, and what is wrong is told with it."""

from pathlib import Path

import pytest

from rerank import records
from rerank.errors import InvalidInput, UnknownName
from rerank.records import read_lines, read_rows

COLUMNS = ("path", "prompt")


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'path,prompt\na.wav,"slow, sad"\nb.wav,\n'),
        ("a.CSV", '\ufeffprompt,path\r\n"slow, sad",a.wav\r\n,b.wav'),
        ("a.jsonl", '{"path": "a.wav", "prompt": "slow, sad"}\n{"path": "b.wav", "prompt": null}\n'),
        ("a.jsonl", '{"prompt": "slow, sad", "path": "a.wav"}\r\n{"path": "b.wav", "prompt": " "}'),
    ],
)
def test_the_same_records_however_they_are_written(tmp_path: Path, name: str, content: str) -> None:
    rows = read_rows(written(tmp_path, name, content), COLUMNS)
    assert [row.values for row in rows] == [{"path": "a.wav", "prompt": "slow, sad"}, {"path": "b.wav"}]


def test_a_record_of_several_lines_is_named_by_its_first(tmp_path: Path) -> None:
    path = written(tmp_path, "a.csv", 'path,prompt\na.wav,"one\ntwo\nthree"\nb.wav,four\n')
    assert [row.place for row in read_rows(path, COLUMNS)] == [f"{path}:2", f"{path}:5"]
    assert read_rows(path, COLUMNS)[0].values["prompt"] == "one\ntwo\nthree"
    assert str(read_rows(path, COLUMNS)[1].wrong("no")) == f"{path}:5: no"


def test_a_line_separator_inside_a_text_ends_no_line(tmp_path: Path) -> None:
    assert len(read_lines(written(tmp_path, "a.txt", "one\u2028still one\x0bstill\ntwo\n"))) == 2
    assert len(read_rows(written(tmp_path, "a.jsonl", '{"path": "one\u2028still one"}\n'), COLUMNS)) == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "a.csv is empty"),
        ("a.csv", "path,prompt\n", "a.csv holds no line below its header"),
        ("a.csv", "path\n\na.wav\n", "a.csv:2: the line is empty; remove it"),
        ("a.csv", "path\na.wav\n\n", "a.csv:3: the line is empty"),
        ("a.csv", "path\na.wav,slow\n", r"a.csv:2: expected 1 cells \(path\), got 2"),
        ("a.csv", "path,prompt\na.wav\n", r"a.csv:2: expected 2 cells \(path,prompt\), got 1"),
        ("a.csv", "path,promt\na.wav,slow\n", "a.csv:1: unknown column 'promt'; did you mean 'prompt'"),
        ("a.csv", "path,path\na.wav,b.wav\n", "a.csv:1: the column 'path' is there twice"),
        ("a.csv", "path;prompt\na.wav;slow\n", "a.csv:1: expected columns with commas between them"),
        ("a.csv", 'path\na.wav\n"b"c\n', "a.csv:3: this is no CSV"),
        ("a.csv", 'path\na.wav\n"b\n\n', "a.csv:3: this is no CSV"),
        ("a.csv", b"path\na.wav\n\xff.wav\n", "a.csv:3: this is not UTF-8 text"),
        ("a.jsonl", "[1]\n", "a.jsonl:1: expected a JSON object"),
        ("a.jsonl", '{"path": "a"}\n{"path": }\n', r"a.jsonl:2: this is no JSON \(Expecting value\)"),
        ("a.jsonl", '{"path": "a"}\n\n{"path": "b"}\n', "a.jsonl:2: the line is empty"),
        ("a.jsonl", '{"path": "a", "path": "b"}\n', "a.jsonl:1: 'path' is given twice"),
        ("a.jsonl", '{"path": 3}\n', "a.jsonl:1: path must be a text in double quotes, got 3"),
        ("a.jsonl", '{"pat": "a"}\n', "a.jsonl:1: unknown column 'pat'; did you mean 'path'"),
        ("a.jsonl", "[" * 100_000 + "\n", "a.jsonl:1: this is no JSON"),
        ("a.jsonl", '{"path": 1' + "0" * 5_000 + "}", "a.jsonl:1: this is no JSON"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        read_rows(written(tmp_path, name, content), COLUMNS)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, UnknownName) == ("unknown" in message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("one\n\ntwo\n", "a.txt:2: the line is empty"),
        ("one\n\n", "a.txt:2"),
        ("", "empty"),
        (b"a\n\xe4", "a.txt:2: .*UTF-8"),
    ],
)
def test_lines_are_checked_too(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_lines(written(tmp_path, "a.txt", content))


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot read .*gone.csv: no such file"):
        read_rows(tmp_path / "gone.csv", COLUMNS)
    with pytest.raises(InvalidInput, match="not a file"):
        read_lines(tmp_path)


def test_size_has_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = written(tmp_path, "a.csv", "path\n" + "a\n" * (records.MAX_ROWS + 1))
    with pytest.raises(InvalidInput, match="10001 lines, the limit is 10000; split it"):
        read_rows(many, COLUMNS)
    with pytest.raises(InvalidInput, match="10002 lines, the limit is 10000"):
        read_lines(many)
    monkeypatch.setattr(records, "MAX_BYTES", 2**20)
    with pytest.raises(InvalidInput, match="larger than 1 MiB"):
        read_lines(written(tmp_path, "a.txt", "a" * (2**20 + 1)))
