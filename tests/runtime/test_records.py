"""Small files of a run are read whole, or named as damaged with what to do about it."""

import pytest

from sem2ct.runtime import records
from sem2ct.runtime.refusal import Refusal

DAMAGED = [b"", b"{", b"[1]", b"3", b"\xff\xfe{}", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"]


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: repr(content[:6]))
def test_a_damaged_json_file_is_named_with_a_remedy(tmp_path, content):
    (tmp_path / "done.json").write_bytes(content)
    with pytest.raises(Refusal, match=r"done\.json is damaged \(.+\); run it again") as refused:
        records.read_json(tmp_path / "done.json", remedy="run it again")
    assert "\n" not in str(refused.value)


MAD = [b"", b"a: [", b"- 1", b"a: !!python/name:os.system", b"!!int ''", b"a: 2001-99-99", b"\x00"]


@pytest.mark.parametrize("content", MAD, ids=repr)
def test_a_damaged_yaml_file_is_named_with_a_remedy(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(Refusal, match=r"config\.yaml is damaged \(.+\); run it again"):
        records.read_yaml(tmp_path / "config.yaml", remedy="run it again")


def test_what_was_written_is_read_back(tmp_path):
    (tmp_path / "a").write_text("{seed: 3, sets: {real: x}}")
    assert records.read_yaml(tmp_path / "a", remedy="") == {"seed": 3, "sets": {"real": "x"}}
    (tmp_path / "a").write_text('{"seed": 3}')
    assert records.read_json(tmp_path / "a", remedy="") == {"seed": 3}


def test_a_row_has_whole_images_and_finite_seconds():
    assert records.row_of('{"images": 8, "seconds": 2.5}') == {"images": 8, "seconds": 2.5}
    spoilt = ['{"images": 8', '{"images": 8.5}', '{"images": true}', '{"seconds": 1}', "[8]"]
    spoilt += ['{"images": 8, "seconds": NaN}', '{"images": 8, "seconds": "2"}']
    assert [records.row_of(line) for line in spoilt] == [None] * len(spoilt)
