"""Names that become paths: what would lead out of a folder, or be taken for another name, is refused."""

import pytest

from drop_ray.text.path_names import LONGEST_NAME, file_name, inner_path, path_or_url

# Nothing of this is a path inside a folder.
OUTSIDE = [
    "",
    ".",
    "..",
    "../x",
    "../../../../outside/settings",
    "a/../../x",
    "a/..",
    "/etc/passwd",
    "a//b",
    "a/",
    "./a",
    "..\\x",
    "a\x00b",
    "a\nb",
    "\x1b[2Ja",
    "a\u202eb",  # from here on, terminals write from right to left
    "\uff0e\uff0e/x",  # full-width full stops
    "\u2025/x",  # two dot leader
    "..\uff0fx",  # full-width solidus
    "x" * 300,
    "\udcff",
    None,
    7,
    ["a"],
]
# And this is one, but not a name as people give them.
NO_NAME = ["a/b", ".hidden", "-rf", "_a", " a", "a b", "a+b", "b\u0430se", "na\u00efve", "\uff41", "x" * 121, "a\n"]


@pytest.mark.parametrize("text", ["a", "attention-4", "A.b_c-1", "0", "a..b", "base", "x" * LONGEST_NAME])
def test_plain_names_are_names(text):
    assert file_name(text) == text
    assert inner_path(text) == text


@pytest.mark.parametrize("text", OUTSIDE + NO_NAME, ids=ascii)
def test_what_is_no_name_is_refused_with_a_remedy(text):
    with pytest.raises(ValueError, match=r"; (use letters, digits|give a name)") as caught:
        file_name(text)
    assert str(caught.value).isascii()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "text",
    ["main", "refs/pr/1", "v1.0+cpu", "step 1000", "...", "checkpoint/model.safetensors", "許可（1）.pdf", "x" * 255],
)
def test_paths_inside_a_folder_are_taken_as_they_are(text):
    assert inner_path(text) == text


@pytest.mark.parametrize("text", OUTSIDE, ids=ascii)
def test_what_leads_out_of_its_folder_is_refused(text):
    with pytest.raises(ValueError, match="is not a path inside its folder; it must be relative"):
        inner_path(text)


@pytest.mark.parametrize("text", [".", "/data/a b", "~/x", "s3://bucket/prefix", "org/model", "file:///a@b", "a@b/c"])
def test_places_that_users_name(text):
    assert path_or_url(text) == text


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is empty"),
        (" ", "is empty"),
        ("a\x00", "control characters"),
        ("a\n", "control characters"),
        ("s3://key:hunter2@bucket/prefix", "user name or password"),
        ("https://me@example.org/model", "user name or password"),
    ],
)
def test_places_that_are_none(text, fault):
    with pytest.raises(ValueError, match=fault) as caught:
        path_or_url(text)
    assert "hunter2" not in str(caught.value)
