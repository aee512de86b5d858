import json
import threading
from pathlib import Path

import pytest

from converters.errors import ConversionError
from converters.publishing.layout import INDEX_TYPE, Layout, parse_place


def test_places():
    assert parse_place("out") == (Path("out"), None)
    assert parse_place("a/out:1.0") == (Path("a/out"), "1.0")
    for text in ("", ":x", "a:", "a:b:c", "a:-x", "a:b/c", "a:" + "x" * 129):
        with pytest.raises(ConversionError, match="expected FOLDER"):
            parse_place(text)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"notes.txt": "x"}, "holds files but is no OCI"),
        ({"oci-layout": "{"}, "not JSON"),
        ({"oci-layout": "[" * 100_000}, "not JSON"),
        ({"oci-layout": "[]"}, "JSON object"),
        ({"oci-layout": '{"imageLayoutVersion": "2.0.0"}'}, "version '2.0.0'"),
        ({"oci-layout": '{"imageLayoutVersion": "1.0.0"}', "index.json": "{}"}, "no OCI image"),
        (
            {
                "oci-layout": '{"imageLayoutVersion": "1.0.0"}',
                "index.json": '{"schemaVersion": 2, "manifests": [1]}',
            },
            "no OCI image",
        ),
    ],
)
def test_what_is_no_layout_is_left_as_it_is(tmp_path, files, message):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConversionError, match=message), Layout.changed(tmp_path):
        raise AssertionError("was opened")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == files


def test_a_file_or_a_missing_parent_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "no/where"):
        with pytest.raises(ConversionError, match=str(place)), Layout.changed(place):
            raise AssertionError("was opened")
    with pytest.raises(ConversionError, match="not an OCI image layout"):
        Layout.opened(tmp_path)


def test_fields_and_tags_of_other_tools_stay(tmp_path):
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0", "x": 1}')
    theirs = {"mediaType": "x/y", "digest": "sha512:00", "size": 1, "annotations": None}
    index = {"schemaVersion": 2, "manifests": [theirs], "annotations": {"a": "b"}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    with Layout.changed(tmp_path) as layout:
        layout.set_tag("ours", layout.add(b"{}", INDEX_TYPE))
    after = json.loads((tmp_path / "index.json").read_text())
    assert after["manifests"][0] == theirs
    assert after["annotations"] == {"a": "b"}
    assert layout.tagged("ours")["size"] == 2
    with pytest.raises(ConversionError, match=r'no tag "x" \(tags: ours\)'):
        layout.tagged("x")
    with pytest.raises(ConversionError, match="2 images; name one"):
        layout.tagged(None)


def test_two_writers_take_turns(tmp_path):
    """Each adds its own tag; without the lock one would overwrite the other's index."""
    first_in, second_done = threading.Event(), threading.Event()

    def second():
        first_in.wait(10)
        with Layout.changed(tmp_path / "out") as layout:
            layout.set_tag("b", layout.add(b"{ }", INDEX_TYPE))
        second_done.set()

    thread = threading.Thread(target=second)
    thread.start()
    with Layout.changed(tmp_path / "out") as layout:
        index = layout.index()
        first_in.set()
        assert not second_done.wait(0.2)
        assert layout.index() == index
        layout.set_tag("a", layout.add(b"{}", INDEX_TYPE))
    thread.join(10)
    assert {"a", "b"} == {one["annotations"]["org.opencontainers.image.ref.name"] for one in layout.index()["manifests"]}  # fmt: skip
