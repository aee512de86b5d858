import pytest

from benchmarks import convert

PLAIN = {"export_s": 4.0, "process_s": 6.0, "peak_bytes": 1000}


def converted(prove_s, own=1500, children=1200):
    return {
        "steps": [
            ["converting with torch", 8.0, 0],
            ["proving rows and numbers", prove_s, 0],
            ["proving it in an empty environment", 0.5, 0],
        ],
        "checks": [],
        "own_bytes": own,
        "children_bytes": children,
    }


@pytest.mark.parametrize(
    ("prove_s", "own", "holds"),
    [
        (1.0, 1500, [True, True, True]),
        (2.0, 2500, [True, False, False]),
        (20.0, 1, [False, False, True]),
    ],
)
def test_total_share_and_memory_are_judged(prove_s, own, holds):
    rows = convert._rows(PLAIN, converted(prove_s, own))
    assert [row.name for row in rows] == ["convert-resnet", "convert-gate", "convert-memory"]
    assert [row.holds for row in rows] == holds
    assert rows[0].value == 8.5 + prove_s
    assert rows[1].value == round(100 * (prove_s + 0.5) / 4.0, 4)


def test_without_torch_nothing_is_claimed(monkeypatch):
    monkeypatch.setattr(convert.importlib.util, "find_spec", lambda _name: None)
    assert [(row.value, row.holds) for row in convert.measure_resnet()] == [(None, None)] * 3
    assert [(row.value, row.holds) for row in convert.measure_int8()] == [(None, None)]


@pytest.mark.parametrize(("float32", "holds"), [([30, 31, 90], True), ([20, 21, 22], False)])
def test_the_gain_of_int8_is_that_of_the_medians(float32, holds):
    row = convert._int8_row({"ms": {"float32": float32, "int8": [8, 10, 30]}}, vnni=True)
    assert (row.name, row.holds) == ("convert-int8", holds)
    assert row.value == float32[1] / 10
    assert row.raw["median_ms"] == {"float32": float32[1], "int8": 10}
    assert row.raw["vnni"] is True


def test_vnni_is_told_from_the_processors_flags(tmp_path):
    (tmp_path / "cpuinfo").write_text("flags\t: avx2 avx512_vnni fma\n")
    assert convert.has_vnni(tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("flags\t: avx2 fma\n")
    assert not convert.has_vnni(tmp_path / "cpuinfo")
    assert not convert.has_vnni(tmp_path / "none")


def test_a_process_that_fails_says_why():
    with pytest.raises(RuntimeError, match="ValueError: no"):
        convert.run("-c", "raise ValueError('no')")
