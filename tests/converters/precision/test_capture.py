"""Recorded messages: what mosquitto_sub writes, decoded by the daemon's own decoders."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from converters.errors import ConversionError
from converters.precision import capture as module
from converters.precision.capture import open_capture
from converters.recipe import Capture
from edged.manifest import Manifest, TensorEntry
from edged.specs import FeaturesInput, ImageInput

TABLE = TensorEntry("x", "float32", ("batch", 2))
COLUMNS = {"x": FeaturesInput(("a", "b"))}


def manifest(entries=(TABLE,), works=COLUMNS):
    return Manifest(
        format="edged-bundle-v1", name="m", release=1, version="1", inputs=entries, outputs=entries,
        artefacts=(), members=(), input_processing=works,
    )  # fmt: skip


def text_line(topic, payload: str):
    """As ``mosquitto_sub -F %j`` 2.0 writes it."""
    fields = {"tst": "2026-11-27T16:27:57.691672Z+0000", "topic": topic, "qos": 0, "retain": 0}
    line = {**fields, "payloadlen": len(payload.encode()), "payload": payload}
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"))


def hex_line(topic, payload: bytes):
    return f'{{"topic":"{topic}","payload_hex":"{payload.hex()}"}}'


def rows_of(count, first=0):
    return [{"b": index + 0.5, "a": index} for index in range(first, first + count)]


def write(folder, lines, end="\n"):
    (folder / "c.jsonl").write_text("\n".join(lines) + end, encoding="utf-8")
    return folder / "c.jsonl"


def whole(rows, name="x", at_a_time=4):
    return np.concatenate([part[name] for part in rows.chunks(at_a_time)])


def test_objects_become_rows_of_the_models_columns(tmp_path):
    lines = [text_line("in/ä", json.dumps(row)) for row in rows_of(6)]
    lines.append("")  # mosquitto_sub leaves an empty line where it could not write one
    lines.append(text_line("in/ä", json.dumps(rows_of(7, 6))))
    lines += [text_line("else", "hello"), text_line("$SYS/broker/uptime", "7 seconds")]
    rows = open_capture(write(tmp_path, lines), manifest(), Capture(topic="in/{site}"))
    expected = np.array([[row["a"], row["b"]] for row in rows_of(13)], "f4")
    np.testing.assert_array_equal(whole(rows), expected)
    assert [len(part["x"]) for part in rows.chunks(4)] == [4, 4, 4, 1]
    assert rows.told() == "13 rows in 7 of 7 messages, 2 on other topics"
    assert rows.facts() == {
        "kind": "capture", "messages": 7, "messages_used": 7, "rows_used": 13, "left_out": 0,
    }  # fmt: skip
    assert rows.row_bytes == 8


def test_fields_of_a_binding_are_found(tmp_path):
    lines = [text_line("t", json.dumps({"imu": {"ax": i}, "v": 1})) for i in range(8)]
    fields = Capture(fields=("imu.ax", "v"))
    rows = open_capture(write(tmp_path, lines), manifest(works={}), fields)
    np.testing.assert_array_equal(whole(rows), [[i, 1] for i in range(8)])


def test_bytes_come_in_hex(tmp_path):
    table = np.arange(24, dtype="f4").reshape(12, 2)
    lines = [hex_line("t", part.tobytes()) for part in np.split(table, 4)]
    rows = open_capture(write(tmp_path, lines), manifest(), Capture(codec="raw"))
    np.testing.assert_array_equal(whole(rows), table)


def test_pictures_are_pictures_without_being_told(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 4, 5), dtype=np.uint8)
    lines = []
    for picture in pixels:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG")
        lines.append(hex_line("cam", buffer.getvalue()))
    entry = TensorEntry("x", "float32", ("batch", 1, 4, 5))
    works = {"x": ImageInput(5, 4, mode="L", scale=0.5)}
    rows = open_capture(write(tmp_path, lines), manifest((entry,), works), Capture())
    np.testing.assert_array_equal(whole(rows), pixels[:, np.newaxis] * np.float32(0.5))


def test_json_in_the_line_as_it_is(tmp_path):
    """``%J``."""
    lines = [f'{{"topic":"t","payload":{json.dumps(row)}}}' for row in rows_of(8)]
    rows = open_capture(write(tmp_path, lines), manifest(), Capture())
    assert len(whole(rows)) == 8


def test_rows_of_another_length_run_apart(tmp_path):
    entry = TensorEntry("x", "int64", ("batch", "time"))
    lengths = (2, 2, 3, 3, 3, 1, 2, 2)
    lines = [text_line("t", json.dumps({"inputs": {"x": [[7] * size]}})) for size in lengths]
    rows = open_capture(write(tmp_path, lines), manifest((entry,), {}), Capture())
    shapes = [part["x"].shape for part in rows.chunks(8)]
    assert shapes == [(2, 2), (3, 3), (1, 1), (2, 2)]


def test_of_many_messages_an_even_part_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_ROWS", 9)
    lines = [text_line("t", json.dumps(row)) for row in rows_of(17)]
    rows = open_capture(write(tmp_path, lines), manifest(), Capture())
    assert whole(rows)[:, 0].tolist() == list(range(0, 17, 2))
    assert rows.told() == "9 rows in 9 of 17 messages"


class TestRefused:
    def test_payloads_of_another_topic(self, tmp_path):
        lines = [text_line("plant/temp", '{"celsius":20}') for _ in range(9)]
        rows = open_capture(write(tmp_path, lines), manifest(), Capture())
        with pytest.raises(
            ConversionError,
            match=r'the first, line 1: row 0, field "a": is missing .*came on "plant/temp": say',
        ):
            list(rows.chunks(4))

    def test_no_message_on_that_topic(self, tmp_path):
        path = write(tmp_path, [text_line("a/b", "{}"), text_line("c", "{}")])
        with pytest.raises(ConversionError, match=r'messages on "in/\+", got "a/b", "c"'):
            open_capture(path, manifest(), Capture(topic="in/+"))
        (tmp_path / "e.jsonl").touch()
        with pytest.raises(ConversionError, match='messages on "#", got no whole message'):
            open_capture(tmp_path / "e.jsonl", manifest(), Capture())

    def test_a_line_that_is_no_message(self, tmp_path):
        lines = [text_line("t", json.dumps(row)) for row in rows_of(9)]
        cut = [*lines[:4], lines[4][:50] + lines[5], *lines[6:]]
        with pytest.raises(ConversionError, match=r'"c.jsonl", line 5: expected a message as mosq'):
            open_capture(write(tmp_path, cut), manifest(), Capture())
        with pytest.raises(ConversionError, match="line 1: expected a message"):
            open_capture(write(tmp_path, ['{"a":1}']), manifest(), Capture())

    def test_too_few_rows(self, tmp_path):
        lines = [text_line("t", json.dumps(row)) for row in rows_of(7)]
        rows = open_capture(write(tmp_path, lines), manifest(), Capture())
        with pytest.raises(ConversionError, match="at least 8 rows, got 7 of 7 messages"):
            list(rows.chunks(4))

    def test_bytes_that_a_text_has_lost(self, tmp_path):
        line = '{"topic":"t","payloadlen":12,"payload":"\ufffdPNG\\r\\n\\u001a\\n"}'
        rows = open_capture(write(tmp_path, [line] * 9), manifest(), Capture(codec="raw"))
        with pytest.raises(ConversionError, match=r"had 12 bytes and is 10 here.*payload_hex"):
            list(rows.chunks(4))

    def test_what_no_binding_could_do(self, tmp_path):
        path = write(tmp_path, [text_line("t", "{}")])
        with pytest.raises(ConversionError, match='capture: codec: the bundle of model "m" does'):
            open_capture(path, manifest(), Capture(codec="image"))
        with pytest.raises(ConversionError, match="capture: topic: "):
            open_capture(path, manifest(), Capture(topic="a/#/b"))

    def test_a_line_without_end(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "LINE_CAP_BYTES", 100)
        path = write(tmp_path, [text_line("t", "x" * 200)])
        with pytest.raises(ConversionError, match="line 1: over 100 bytes"):
            open_capture(path, manifest(), Capture())


@pytest.mark.parametrize("cut", [5, 60, 110])
def test_a_last_line_that_was_cut_is_left_out_and_said(tmp_path, cut):
    lines = [text_line("t", json.dumps(row)) for row in rows_of(9)]
    rows = open_capture(write(tmp_path, [*lines, lines[0][:cut]], end=""), manifest(), Capture())
    assert len(whole(rows)) == 9
    assert rows.told().endswith("the last line is cut short and was left out")
    assert rows.facts()["left_out"] == 1
    rows = open_capture(write(tmp_path, lines, end=""), manifest(), Capture())
    assert len(whole(rows)) == 9, "only the line's end is missing"


def test_messages_that_do_not_decode_are_left_out_and_named(tmp_path):
    lines = [text_line("t", json.dumps(row)) for row in rows_of(19)]
    rows = open_capture(write(tmp_path, ["", '{"topic":"t"}', *lines]), manifest(), Capture())
    assert len(whole(rows)) == 19
    assert "1 left out (line 2: has neither payload nor payload_hex)" in rows.told()


def test_a_number_that_is_none_is_left_out(tmp_path):
    table = np.ones((12, 2), "f4")
    table[3, 1] = np.nan
    lines = [hex_line("t", row.tobytes()) for row in table]
    rows = open_capture(write(tmp_path, lines), manifest(), Capture(codec="raw"))
    assert len(whole(rows)) == 11
    assert 'line 4: input "x": holds NaN or infinity' in rows.told()
