"""Lists of whatever tool."""

from __future__ import annotations

import pytest

from pipelines.prepare.faults import Unusable
from pipelines.prepare.lists import lines

NAMES = ["straße_1", "x 2", "im/a.png\tan/a b.png"]


def read(tmp_path, content: bytes, known=("x 2",)) -> list[list[str]]:
    (tmp_path / "l.txt").write_bytes(content)
    return [words for _, words in lines(tmp_path, "l.txt", None, set(known).__contains__)]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le with its mark"]
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings_that_say_what_they_are(tmp_path, encoding, end):
    name, _, mark = encoding.partition(" ")
    text = ("\ufeff" if mark else "") + end.join(NAMES) + end
    expected = [["straße_1"], ["x 2"], ["im/a.png", "an/a b.png"]]
    assert read(tmp_path, text.encode(name)) == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a\nstraße\n".encode("latin-1"), "byte 0xdf in line 2.*iconv -f latin1 -t utf-8 l.txt"),
        ("a\nb\n".encode("utf-16-le"), "zero bytes, perhaps UTF-16 without its mark"),
        ("\ufeffa\n".encode("utf-16")[:-1], "is not UTF-8"),
    ],
)
def test_others_are_refused_with_the_remedy(tmp_path, content, reason):
    with pytest.raises(Unusable, match=reason):
        read(tmp_path, content)
