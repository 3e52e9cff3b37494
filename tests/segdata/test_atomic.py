"""Files and folders appear whole or not at all."""

import errno

import pytest

from segdata.atomic import link_or_copy, new_file, new_folder, refuse_existing_file, write_text
from segdata.errors import InputError


def test_a_folder_appears_at_the_end_with_what_was_written(tmp_path):
    with new_folder(tmp_path / "deep" / "out") as folder:
        (folder / "a").write_text("1")
        assert not (tmp_path / "deep" / "out").exists()
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    assert (tmp_path / "deep" / "out" / "a").read_text() == "1"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_or_ctrl_c_leaves_nothing_not_even_parents(tmp_path, error):
    with pytest.raises(error), new_folder(tmp_path / "deep" / "er" / "out") as folder:
        (folder / "a").write_text("1")
        raise error
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_may_be_filled_but_a_full_one_or_a_file_not(tmp_path):
    (tmp_path / "out").mkdir()
    with new_folder(tmp_path / "out") as folder:
        (folder / "a").touch()
    with pytest.raises(InputError, match="but got a folder with files in it"), new_folder(tmp_path / "out"):
        pass
    with pytest.raises(InputError, match="but got a file"), new_folder(tmp_path / "out" / "a"):
        pass


def test_a_place_that_can_not_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="file/out: expected a place to write to"),
        new_folder(tmp_path / "file" / "out"),
    ):
        pass
    with pytest.raises(InputError, match=r"file/out\.json: expected a place to write to"):
        write_text(tmp_path / "file" / "out.json", "x")


def test_a_file_appears_at_the_end_and_an_error_leaves_nothing_not_even_parents(tmp_path):
    path = tmp_path / "deep" / "out.txt"
    with pytest.raises(KeyboardInterrupt), new_file(path) as stream:
        stream.write("half")
        assert not path.exists()
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with new_file(path) as stream:
        stream.write("a\r\nb")
    assert path.read_bytes() == b"a\r\nb" and [entry.name for entry in path.parent.iterdir()] == ["out.txt"]
    with pytest.raises(InputError, match="expected a new file, but got one that is there already"), new_file(path):
        pass
    with pytest.raises(InputError, match="expected a place to write to"), new_file(path / "inside"):
        pass


def test_a_disk_that_fills_up_is_told_and_leaves_nothing(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device")
    told = "out: expected a place to write to, but got: No space left on device"
    with pytest.raises(InputError, match=told), new_file(tmp_path / "deep" / "out") as stream:
        stream.write("half")
        raise full
    with pytest.raises(InputError, match=told), new_folder(tmp_path / "deep" / "out") as folder:
        (folder / "a").write_text("1")
        raise full
    with pytest.raises(InputError, match="out: expected a place to write to"), new_folder(tmp_path / "out") as folder:
        (folder / "not-there" / "a").write_text("1")
    assert list(tmp_path.iterdir()) == []


def test_what_can_not_be_read_meanwhile_is_not_blamed_on_the_place(tmp_path):
    with pytest.raises(FileNotFoundError, match="source"), new_folder(tmp_path / "out"):
        (tmp_path / "source").read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_second_name_is_a_copy_where_there_are_no_links(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("text")
    link_or_copy(tmp_path / "a", tmp_path / "linked")
    assert (tmp_path / "linked").samefile(tmp_path / "a")

    def no_links(source, target):
        raise OSError("no links here")

    monkeypatch.setattr("os.link", no_links)
    link_or_copy(tmp_path / "a", tmp_path / "copied")
    assert (tmp_path / "copied").read_text() == "text" and not (tmp_path / "copied").samefile(tmp_path / "a")


def test_writing_text_replaces_the_old_text_and_leaves_no_other_file(tmp_path):
    write_text(tmp_path / "new" / "a.json", "old")
    write_text(tmp_path / "new" / "a.json", "neü")
    assert (tmp_path / "new" / "a.json").read_text(encoding="utf-8") == "neü"
    assert len(list((tmp_path / "new").iterdir())) == 1
    with pytest.raises(InputError, match="expected a new file"):
        refuse_existing_file(tmp_path / "new" / "a.json")
