"""Where a store may be: what names no place of its own is refused before anything is written."""

from pathlib import Path

import pytest

from drop_ray.errors import UserError
from drop_ray.store import open_store


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "store: it is empty; name a folder"),
        ("  ", "store: it is empty; name a folder"),
        ("s3://key:secret@bucket/runs", "store: it is a URL with a user name or password"),
        ("ftp://bucket/runs", "store: ftp://bucket/runs is neither a local folder nor s3://bucket/prefix"),
        ("s3:///", "store: s3:/// is neither a local folder nor s3://bucket/prefix"),
    ],
)
def test_what_is_no_place_for_a_store(url: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        open_store(url)
    assert not list(tmp_path.iterdir())
