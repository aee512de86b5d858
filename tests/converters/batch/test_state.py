"""What is done stays done only while the bundle and everything that decided it are the same."""

import msgspec
import pytest

from converters.batch.job import Outcome
from converters.batch.plan import Wish, read_batch
from converters.batch.state import STATE, is_done, opened_folder, read_state, write_state
from converters.errors import ConversionError

SHA256_OF_X = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"


@pytest.fixture
def job(two, tmp_path):
    (tmp_path / "out").mkdir()
    job = read_batch(two, Wish(output=tmp_path / "out"))[0]
    (tmp_path / "out" / job.name).write_bytes(b"x")
    return job


@pytest.mark.parametrize(
    ("changed", "done"),
    [
        ({}, True),
        ({"status": "failed"}, False),
        ({"fingerprint": "other"}, False),
        ({"sha256": "0" * 64}, False),
    ],
)
def test_done_is_the_same_file_from_the_same_inputs(job, changed, done):
    fields = {"name": job.name, "status": "done", "fingerprint": job.fingerprint}
    before = Outcome(**{**fields, "sha256": SHA256_OF_X, **changed})
    assert is_done(job, before) is done


def test_not_done_without_file_record_or_fingerprint(job, tmp_path):
    before = Outcome(name=job.name, status="done", fingerprint=job.fingerprint, sha256=SHA256_OF_X)
    assert not is_done(job, None)
    unknown = msgspec.structs.replace(before, fingerprint="")
    assert not is_done(msgspec.structs.replace(job, fingerprint=""), unknown)
    (tmp_path / "out" / job.name).unlink()
    assert not is_done(job, before)


def test_it_is_read_as_it_was_written_and_nothing_else_is(tmp_path):
    assert read_state(tmp_path) == {}
    outcome = Outcome(name="a.edgb", status="failed", error="no", exit=65)
    write_state(tmp_path, [outcome])
    assert read_state(tmp_path) == {"a.edgb": outcome}
    assert [path.name for path in tmp_path.iterdir()] == [STATE]
    (tmp_path / STATE).write_text('{"format": "other"}')
    with pytest.raises(ConversionError, match="not a batch's state"):
        read_state(tmp_path)


def test_a_folder_belongs_to_one_batch_and_is_swept(job, tmp_path):
    out = tmp_path / "out"
    (out / f".{job.name}.abc").write_bytes(b"half")
    (out / ".other.edgb.abc").write_bytes(b"not ours")
    with opened_folder(out, [job]):
        assert sorted(path.name for path in out.iterdir()) == [".other.edgb.abc", job.name]
        with pytest.raises(ConversionError, match="another batch"), opened_folder(out, []):
            pass
    with opened_folder(out, []):
        pass
    with (
        pytest.raises(ConversionError, match="cannot be written"),
        opened_folder(out / job.name, []),
    ):
        pass
