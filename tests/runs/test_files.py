from pathlib import Path

import pytest

from vegtts_core.runs.files import append_line, canonical_json, read_lines, write_atomically, write_json


def test_a_torn_last_line_is_dropped_and_the_file_can_grow_again(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    append_line(path, {"n": 1})
    with path.open("a") as file:
        file.write('{"n": 2, "half')
    assert read_lines(path) == [{"n": 1}]
    append_line(path, {"n": 3})
    assert read_lines(path) == [{"n": 1}, {"n": 3}]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"old": True})

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert path.read_text() == '{\n  "old": true\n}\n'
    assert [file.name for file in tmp_path.iterdir()] == ["value.json"]


def test_canonical_json_knows_sets() -> None:
    assert canonical_json({"b": {"y", "x"}, "a": 1}) == '{"a":1,"b":["x","y"]}'
