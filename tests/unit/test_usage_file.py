"""A file of usage records: what it may hold, and what is said of a line that is wrong."""

import json
from pathlib import Path

import pytest

from marketplace_saas_cli import usage_file
from marketplace_saas_cli.exits import RefusedError
from marketplace_saas_cli.usage_file import MAX_LINE, SHOWN, UsageFile

SUB = "sub-" + "a" * 26
HEAD = "id,subscription_id,dimension,quantity,timestamp,tag:team\n"
ROW = f"r1,{SUB},calls,5,2026-11-27T10:00:00Z,ads\n"


def file(folder: Path, text: str | bytes, name: str = "usage.csv") -> UsageFile:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return UsageFile(path)


def complaint(folder: Path, text: str | bytes, name: str = "usage.csv") -> str:
    with pytest.raises(RefusedError) as refused:
        file(folder, text, name).checked()
    return str(refused.value)


def test_a_line_of_csv_is_the_record_that_the_api_takes(tmp_path: Path) -> None:
    (line,) = file(tmp_path, HEAD + ROW).lines()
    assert line.number == 2
    assert line.record == {
        "id": "r1",
        "subscription_id": SUB,
        "dimension": "calls",
        "quantity": 5,
        "timestamp": "2026-11-27T10:00:00Z",
        "tags": {"team": "ads"},
    }


@pytest.mark.parametrize(
    "text",
    [HEAD + ROW.replace("\n", "\r\n"), "\ufeff" + HEAD + ROW, HEAD + "\n" + ROW + "\n\n", HEAD + ROW.rstrip()],
    ids=["CRLF", "byte order mark", "empty lines", "no end of line"],
)
def test_files_of_spreadsheets_are_read(tmp_path: Path, text: str) -> None:
    contents = file(tmp_path, text).checked()
    assert (contents.records, contents.units, contents.subscriptions) == (1, {"calls": 5}, {SUB})


def test_an_empty_cell_is_left_out(tmp_path: Path) -> None:
    (line,) = file(tmp_path, HEAD + f"r1,{SUB},calls,5,,\n").lines()
    assert set(line.record) == {"id", "subscription_id", "dimension", "quantity"}


def test_json_lines_are_sent_as_they_are(tmp_path: Path) -> None:
    record = {"id": "r1", "license_arn": "arn:aws:license-manager::1:license:l-1", "dimension": "calls", "quantity": 0}
    (line,) = file(tmp_path, json.dumps(record) + "\n", "usage.jsonl").lines()
    assert line.record == record


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD + ROW.replace(",5,", ",5.0,"), "line 2: the quantity '5.0' is not a whole number"),
        (HEAD + ROW.replace(",5,", ",-5,"), "line 2: the quantity '-5' is not a whole number"),
        (HEAD + ROW.replace(",5,", ",\N{ARABIC-INDIC DIGIT FIVE},"), "is not a whole number"),
        (HEAD + ROW.replace(",5,", ",2147483648,"), "line 2: quantity: "),
        (HEAD + ROW.replace("r1", "r 1"), "line 2: id: "),
        (HEAD + ROW.replace(SUB, ""), "line 2: record: give either subscription_id or license_arn"),
        (HEAD + ROW.replace("2026-11-27T10:00:00Z", "27.11.2026"), "line 2: timestamp: "),
        (HEAD + ROW.replace(",ads", ""), "line 2: 5 values for 6 columns"),
        (HEAD + ROW + ROW, "line 3: the id r1 of line 2 again"),
        (HEAD + '"r1\n",a\n', "line 2: it is not CSV"),
        (HEAD, "the file holds no record"),
        ("", "the file holds no record"),
        ("id,subscription_id,dimension,units\n" + ROW, "line 1: there is no column 'units'"),
        ("id,subscription_id,dimension\n" + ROW, "line 1: the column quantity is missing"),
        ("id,id,dimension,quantity\n" + ROW, "line 1: a column is there twice"),
        (HEAD.encode() + b"\xff\xfe\n", "line 2: it is not UTF-8"),
    ],
)
def test_a_wrong_line_of_csv_is_named(tmp_path: Path, text: str | bytes, words: str) -> None:
    assert words in complaint(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}\nnot json\n", "line 2: it is not JSON"),
        ("[1]\n", "line 1: it is no JSON object"),
        ("[" * 5000 + "\n", "line 1: it is not JSON"),
        (json.dumps({"id": "r1", "subscription_id": SUB, "dimension": "c", "quantity": 1.5}), "line 1: quantity: "),
        (json.dumps({"id": "r1", "subscription_id": SUB, "dimension": "c", "quantity": True}), "line 1: quantity: "),
        ('{"id": "r1", "x": 1}\n', "line 1: "),
    ],
)
def test_a_wrong_line_of_json_is_named(tmp_path: Path, text: str, words: str) -> None:
    assert words in complaint(tmp_path, text, "usage.jsonl")


def test_a_line_without_an_end_is_not_read_into_memory(tmp_path: Path) -> None:
    said = complaint(tmp_path, HEAD + "x" * (3 * MAX_LINE) + "\n" + ROW.replace(",5,", ",?,"))
    assert f"line 2: it is longer than {MAX_LINE:,} bytes" in said
    assert "line 3: the quantity" in said  # the next line keeps its number


def test_the_first_mistakes_are_named_and_the_rest_counted(tmp_path: Path) -> None:
    said = complaint(tmp_path, HEAD + "wrong\n" * (SHOWN + 5))
    assert said.count("line ") == SHOWN
    assert said.endswith("and 5 more lines")


def test_a_file_of_too_many_records_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_file, "MAX_RECORDS", 2)
    rows = "".join(ROW.replace("r1", f"r{number}") for number in range(3))
    assert "more than 2 records" in complaint(tmp_path, HEAD + rows)


def test_a_file_of_another_kind_or_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="neither"):
        UsageFile(tmp_path / "usage.xlsx")
    with pytest.raises(RefusedError, match="can't be read"):
        UsageFile(tmp_path / "nowhere.csv").checked()
