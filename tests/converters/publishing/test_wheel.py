import base64
import csv
import email
import hashlib
import io
import zipfile

from converters.publishing.wheel import WHEEL_NAME, make_wheel


def test_every_module_of_the_daemon_and_nothing_else(root):
    with zipfile.ZipFile(io.BytesIO(make_wheel(["cpu"]))) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    info = WHEEL_NAME.replace("-py3-none-any.whl", ".dist-info")
    code = {name: data for name, data in files.items() if not name.startswith(info)}
    assert code == {
        str(path.relative_to(root)): path.read_bytes() for path in (root / "edged").rglob("*.py")
    }
    rows = {name: (digest, size) for name, digest, size in csv.reader(io.StringIO(files.pop(f"{info}/RECORD").decode()))}  # fmt: skip
    assert rows.pop(f"{info}/RECORD") == ("", "")
    assert set(rows) == set(files)
    for name, (digest, size) in rows.items():
        raw = base64.urlsafe_b64decode(digest.removeprefix("sha256=") + "=")
        assert raw == hashlib.sha256(files[name]).digest()
        assert int(size) == len(files[name])
    metadata = email.message_from_bytes(files[f"{info}/METADATA"])
    needs = metadata.get_all("Requires-Dist")
    assert any(need.startswith("onnxruntime<") for need in needs)
    assert any(need.startswith("numpy") for need in needs)
    assert not any("pillow" in need or "rich" in need for need in needs)
    assert metadata.get_all("Provides-Extra") == ["cpu"]


def test_the_same_bytes_every_time():
    assert make_wheel(["cpu", "images"]) == make_wheel(["cpu", "images"])
