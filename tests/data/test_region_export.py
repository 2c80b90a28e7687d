"""Boxes of a volume as files for other programs, read back by those where they are at hand."""

import json
import re
import struct
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile

from sem2ct.data import pyramid, region_export, scans
from sem2ct.runtime import run_folder
from sem2ct.runtime.refusal import Refusal

SHAPE, VOXEL, ORIGIN = (11, 40, 33), (2.0, 0.5, 0.25), (4.0, 1.0, -0.5)
DATA = np.random.default_rng(6).integers(0, 256, SHAPE, dtype=np.uint8)
BOX = ((3, 9), (5, 40), (1, 20))
PART = DATA[3:9, 5:40, 1:20]
# The centre of the box's first voxel: origin + voxel size times (3, 5, 1).
PLACE = (10.0, 3.5, -0.25)


@pytest.fixture(params=["0.5", "0.4"])
def volume(request, tmp_path, monkeypatch):
    monkeypatch.setattr(pyramid, "COARSEST_PX", 16)
    monkeypatch.setattr(pyramid, "SLAB_BYTES", 2 * 40 * 33)
    monkeypatch.setattr(pyramid, "LEAST_SLICES", 1)
    return written(tmp_path / "v.ome.zarr", version=request.param)


def written(path, **changed):
    about = {"shape": SHAPE, "voxel": VOXEL, "unit_um": True, "origin": ORIGIN, "chunk_px": 16}
    writer = pyramid.PyramidWriter(path, **(about | changed))
    for k in range(writer.slabs):
        first, count = writer.slices(k)
        writer.write_slab(k, DATA[first : first + count])
    return writer.finish()


def export(volume, kind, box=BOX):
    return region_export.export_region(volume, volume.parent / "t", kind=kind, box=box)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("vti", "t_z3-9_y5-40_x1-20.vti"),
        ("nrrd", "t_z3-9_y5-40_x1-20.nrrd"),
        ("raw", "t_z3-9_y5-40_x1-20.raw"),
        ("tiff", "t_z3-9_y5-40_x1-20.ome.tif"),
    ],
)
def test_the_box_stands_in_the_name_and_a_whole_volume_needs_none(volume, kind, name):
    assert export(volume, kind).name == name
    assert export(volume, kind, "all").name == "t" + name.removeprefix("t_z3-9_y5-40_x1-20")


def test_raw_bytes_and_what_stands_beside_them_give_the_box(volume):
    path = export(volume, "raw")
    facts = json.loads(path.with_suffix(".json").read_text())
    values = np.fromfile(path, facts["dtype"]).reshape(facts["nz"], facts["ny"], facts["nx"])
    np.testing.assert_array_equal(values, PART)
    assert tuple(facts[f"voxel_{axis}"] for axis in "zyx") == VOXEL
    assert tuple(facts[f"origin_{axis}"] for axis in "zyx") == PLACE
    assert facts["unit"] == "um"


def test_nrrd_is_read_by_its_library_and_by_our_reader(volume):
    nrrd = pytest.importorskip("nrrd", reason="pynrrd is not installed")
    path = export(volume, "nrrd")
    values, header = nrrd.read(str(path), index_order="C")
    np.testing.assert_array_equal(values, PART)
    np.testing.assert_array_equal(header["space directions"], np.diag(VOXEL[::-1]))
    np.testing.assert_array_equal(header["space origin"], PLACE[::-1])
    assert header["space units"] == ["um", "um", "um"]
    scan = scans.open(path)
    assert scan.spacing_um == VOXEL
    np.testing.assert_array_equal(scan.read(*[slice(None)] * 3), PART)


def test_vti_is_the_header_of_its_specification_and_the_bytes(volume):
    content = export(volume, "vti").read_bytes()
    # Raw bytes are no XML: the part before them is closed by hand, as readers do.
    head, _, rest = content.partition(b'<AppendedData encoding="raw">\n_')
    root = ElementTree.fromstring(head + b"</VTKFile>")
    image = root.find("ImageData")
    numbers = {name: [float(n) for n in text.split()] for name, text in image.attrib.items()}
    assert numbers["WholeExtent"] == [0, 18, 0, 34, 0, 5]
    assert numbers["Spacing"] == list(VOXEL[::-1])
    assert numbers["Origin"] == list(PLACE[::-1])
    assert (root.get("header_type"), root.get("byte_order")) == ("UInt64", "LittleEndian")
    (length,) = struct.unpack("<Q", rest[:8])
    values = np.frombuffer(rest[8 : 8 + length], np.uint8).reshape(PART.shape)
    np.testing.assert_array_equal(values, PART)
    assert re.fullmatch(rb"\s*</AppendedData>\s*</VTKFile>\s*", rest[8 + length :])


@pytest.mark.filterwarnings("ignore")
def test_vtk_reads_the_vti(volume):
    pytest.importorskip("vtk", reason="vtk is not installed")
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkIOXML import vtkXMLImageDataReader

    reader = vtkXMLImageDataReader()
    reader.SetFileName(str(export(volume, "vti")))
    reader.Update()
    image = reader.GetOutput()
    assert image.GetSpacing() == VOXEL[::-1]
    assert image.GetOrigin() == PLACE[::-1]
    values = vtk_to_numpy(image.GetPointData().GetArray("grey"))
    np.testing.assert_array_equal(values.reshape(PART.shape), PART)


def test_a_stack_is_read_back(volume):
    with tifffile.TiffFile(export(volume, "tiff")) as file:
        np.testing.assert_array_equal(file.asarray(), PART)
        assert 'PhysicalSizeZ="2.0"' in file.ome_metadata


@pytest.mark.parametrize("kind", ["vti", "nrrd", "raw", "tiff"])
def test_an_unknown_voxel_size_is_called_unstated_or_left_out(tmp_path, kind):
    path = export(written(tmp_path / "v.ome.zarr", unit_um=False), kind)
    said = (path.with_suffix(".json") if kind == "raw" else path).read_bytes()
    assert (b'"unstated"' in said) == (kind == "raw")
    assert b"space units" not in said
    assert b"PhysicalSize" not in said


def test_slabs_are_read_as_thick_as_they_were_written(volume):
    region = region_export.open_region(volume, BOX, setting="export_range")
    # Shards hold two slices, and the box begins in the middle of one.
    assert [len(slab) for slab in region.slabs()] == [1, 2, 2, 1]


@pytest.mark.parametrize(
    ("axis", "span"), [("z", (0, 12)), ("y", (-1, 4)), ("x", (7, 7)), ("x", (9, 3))]
)
def test_a_box_beyond_the_volume_is_refused(volume, axis, span):
    box = dict(zip("zyx", BOX, strict=True)) | {axis: span}
    said = rf"export_range: {axis} from {span[0]} to {span[1]}, .* 0 to {SHAPE['zyx'.index(axis)]}"
    with pytest.raises(Refusal, match=said):
        export(volume, "raw", tuple(box.values()))


def test_a_box_that_the_disk_cannot_hold_is_refused_before_it_is_begun(volume, monkeypatch):
    usage = run_folder.shutil.disk_usage("/")
    monkeypatch.setattr(
        run_folder.shutil, "disk_usage", lambda _: usage._replace(free=PART.size - 1)
    )
    with pytest.raises(Refusal, match=r"export of t_z3-9_y5-40_x1-20\.vti needs"):
        export(volume, "vti")
    assert [path.suffix for path in volume.parent.iterdir() if path.is_file()] == [".jsonl"]


def test_a_file_that_is_there_is_kept(volume):
    path = export(volume, "nrrd")
    path.write_bytes(b"mine")
    assert export(volume, "nrrd").read_bytes() == b"mine"
