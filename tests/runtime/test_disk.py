import errno
import os

import pytest

from sem2ct.runtime.disk import refusing_all
from sem2ct.runtime.refusal import Refusal


def fail(code, *path):
    raise OSError(code, os.strerror(code), *map(str, path))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_what_a_disk_says_of_a_file_of_the_run_is_one_line_with_its_name(tmp_path, code):
    with pytest.raises(Refusal, match=r"figures could not be written: .*run_root="):  # noqa: SIM117
        with refusing_all(tmp_path):
            fail(code, tmp_path / "figures")


def test_a_full_disk_that_names_no_file_is_the_folders(tmp_path):
    with pytest.raises(Refusal, match=rf"{tmp_path.name} could not be written: no space left"):  # noqa: SIM117
        with refusing_all(tmp_path):
            fail(errno.ENOSPC)


@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOENT, errno.EIO])
def test_an_input_that_cannot_be_read_is_not_blamed_on_the_run(tmp_path, code):
    with pytest.raises(OSError, match=r"ct\.tif"), refusing_all(tmp_path / "run"):
        fail(code, tmp_path / "ct.tif")
