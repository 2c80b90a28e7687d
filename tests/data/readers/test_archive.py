import importlib.util
import struct
import tarfile
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from sem2ct.data import scans
from sem2ct.runtime.refusal import Refusal

_SPECIFICATION = importlib.util.spec_from_file_location(
    "written", Path(__file__).with_name("written.py")
)
written = importlib.util.module_from_spec(_SPECIFICATION)
_SPECIFICATION.loader.exec_module(written)
VOLUME = written.VOLUME
EVERYTHING = (slice(None), slice(None), slice(None))


@pytest.mark.parametrize("kind", ["png", "tif"])
@pytest.mark.parametrize("name", ["ct.tar", "ct.tar.gz", "ct.zip"])
def test_slices_in_an_archive_are_a_scan(tmp_path, kind, name):
    if name == "ct.zip":
        path = written.zipped(tmp_path, kind=kind)
    else:
        path = written.tarred(tmp_path, kind=kind, name=name)
    scan = scans.open(path)
    assert scan.shape == (5, 20, 26)
    np.testing.assert_array_equal(scan.read(*EVERYTHING), VOLUME)
    assert sorted(tmp_path.iterdir()) == [path]  # nothing was unpacked


def test_an_archive_is_a_folder_of_images(tmp_path):
    path = written.zipped(tmp_path)
    assert scans.find(str(path), setting="sem") == [path]
    inside = scans.images(str(path), setting="sem")
    assert [image.name for image in inside] == [f"s_{k}.png" for k in range(8, 13)]
    np.testing.assert_array_equal(scans.open(inside[3]).slice_at(0), VOLUME[3])


def test_a_file_that_changed_is_opened_again(tmp_path):
    scans.open(written.zipped(tmp_path))
    scan = scans.open(written.zipped(tmp_path, VOLUME[:3] // 2))
    np.testing.assert_array_equal(scan.read(*EVERYTHING), VOLUME[:3] // 2)


@pytest.mark.parametrize(
    "name", ["../s_1.png", "/etc/s_1.png", "a/../../s_1.png", "C:/s_1.png", "a\\..\\..\\s_1.png"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_that_point_outside_are_refused(tmp_path, name, kind):
    path = tmp_path / f"ct.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(name, b"x")
    else:
        with tarfile.open(path, "w") as file:
            file.addfile(tarfile.TarInfo(name), BytesIO())
    with pytest.raises(Refusal, match="points outside the archive"):
        scans.open(path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    entry = tarfile.TarInfo("s_1.png")
    entry.type, entry.linkname = kind, "elsewhere.png"
    with tarfile.open(tmp_path / "ct.tar", "w") as file:
        file.addfile(entry)
    with pytest.raises(Refusal, match=r"s_1\.png' is a link or a device"):
        scans.open(tmp_path / "ct.tar")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    # Many members that share the same packed bytes, as in the "better zip bomb" of 2019.
    path = written.zipped(tmp_path)
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    end = content.rindex(b"PK\x05\x06")
    size = struct.unpack("<H", content[start + 28 : start + 30])[0]
    extra, comment = struct.unpack("<HH", content[start + 30 : start + 34])
    entry = content[start : start + 46 + size + extra + comment]
    many = [entry.replace(b"s_8", f"s{k:02d}".encode()) for k in range(90)]
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 90, 90, 90 * len(entry), start, 0)
    path.write_bytes(content[:start] + b"".join(many) + tail + content[end:end])
    with pytest.raises(Refusal, match="members overlap"):
        scans.open(path)


def test_an_archive_that_claims_too_much_is_refused(tmp_path):
    packed = zlib.compressobj(9, zlib.DEFLATED, 31)
    entry = tarfile.TarInfo("s_1.png")
    entry.size = 2**30
    content = packed.compress(entry.tobuf() + bytes(2**20)) + packed.flush()
    (tmp_path / "ct.tar.gz").write_bytes(content)
    with pytest.raises(Refusal, match="would unpack to 1073741824 or more"):
        scans.open(tmp_path / "ct.tar.gz")


def test_a_png_that_claims_too_much_is_refused(tmp_path):
    path = written.png(tmp_path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 60000, 60000)
    path.write_bytes(content)
    with pytest.raises(Refusal, match=r"claims 7200000000 bytes of pixels"):
        scans.open(path)


def test_a_member_that_is_damaged_is_named(tmp_path):
    path = written.zipped(tmp_path)
    content = bytearray(path.read_bytes())
    place = content.index(b"s_10.png") + 200
    content[place : place + 30] = bytes(30)
    path.write_bytes(content)
    scan = scans.open
    with pytest.raises(Refusal, match=r"ct\.zip.*s_10\.png"):
        scan(path).read(*EVERYTHING)


def test_an_encrypted_or_empty_archive_is_refused(tmp_path):
    path = written.zipped(tmp_path)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(Refusal, match="encrypted"):
        scans.open(path)
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as file:
        file.writestr("notes.txt", "no picture")
    with pytest.raises(Refusal, match=r"holds no picture; looked for .*\.png"):
        scans.open(tmp_path / "empty.zip")


def test_slices_missing_in_an_archive_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "ct.zip", "w") as file:
        for z in (1, 2, 4, 5):
            file.writestr(f"s_{z}.png", written.picture(VOLUME[0], "png"))
    with pytest.raises(Refusal, match=r"slices are missing .*: s_3\.png;"):
        scans.open(tmp_path / "ct.zip")
