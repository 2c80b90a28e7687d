"""Our OME-Zarr opened by programs that are not ours; skipped where they are not installed.

pip install ome-zarr ome-zarr-models napari-ome-zarr tensorstore
"""

import numpy as np
import pytest
import zarr

from sem2ct.data import pyramid

VERSIONS = ["0.4", "0.5"]
VOXEL, ORIGIN = (0.5, 0.25, 0.25), (4.0, 1.0, -0.5)
DATA = np.random.default_rng(0).integers(0, 256, (24, 150, 130), dtype=np.uint8)
SHAPES = [(24, 150, 130), (12, 75, 65), (6, 38, 33)]

# What others warn of is theirs.
pytestmark = pytest.mark.filterwarnings("ignore")


def opened_by(name: str):
    return pytest.mark.parametrize("reader", [name], indirect=True)


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture
def reader(request):
    """The program under test, imported; asked for first, so that nothing is written in vain."""
    return pytest.importorskip(request.param, reason=f"{request.param} is not installed")


@pytest.fixture
def path(reader, version, tmp_path, monkeypatch):
    monkeypatch.setattr(pyramid, "COARSEST_PX", 64)
    writer = pyramid.PyramidWriter(
        tmp_path / f"core.{version}.ome.zarr",
        shape=DATA.shape,
        voxel=VOXEL,
        unit_um=True,
        origin=ORIGIN,
        version=version,
        chunk_px=32,
        facts={"note": "here"},
    )
    for k in range(writer.slabs):
        first, count = writer.slices(k)
        writer.write_slab(k, DATA[first : first + count])
    return writer.finish()


def placed(level: int) -> tuple[list[float], list[float]]:
    """Voxel size of a level, and the centre of its first voxel: the mean of those it covers."""
    size = [v * 2**level for v in VOXEL]
    covered = [[o + v * k for k in range(2**level)] for o, v in zip(ORIGIN, VOXEL, strict=True)]
    return size, [float(np.mean(centres)) for centres in covered]


@opened_by("ome_zarr_models")
def test_the_metadata_and_arrays_keep_to_the_specification(reader, path, version):
    image = reader.open_ome_zarr(zarr.open_group(path, mode="r"))
    assert type(image).__name__ == "Image"
    assert image.ome_zarr_version == version
    facts = image.attributes.ome if version == "0.5" else image.attributes
    (multiscale,) = facts.multiscales
    described = [(axis.name, axis.type, axis.unit) for axis in multiscale.axes]
    assert described == [(axis, "space", "micrometer") for axis in "zyx"]
    assert len(multiscale.datasets) == len(SHAPES)
    for level, dataset in enumerate(multiscale.datasets):
        scale, translation = dataset.coordinateTransformations
        assert (list(scale.scale), list(translation.translation)) == placed(level)


@opened_by("ome_zarr.reader")
def test_ome_zarr_py_reads_every_level(reader, path, version):
    from ome_zarr.io import parse_url

    location = parse_url(path)
    assert location.fmt.version == version
    (node,) = reader.Reader(location)()
    assert [level.shape for level in node.data] == SHAPES
    assert all(level.dtype == np.uint8 for level in node.data)
    np.testing.assert_array_equal(node.data[0], DATA)
    for level, changes in enumerate(node.metadata["coordinateTransformations"]):
        assert [changes[0]["scale"], changes[1]["translation"]] == list(placed(level))


@opened_by("napari_ome_zarr")
def test_napari_shows_it_in_its_unit(reader, path):
    (layer,) = reader.napari_get_reader(str(path))(str(path))
    levels, about, kind = layer
    assert kind == "image"
    assert [level.shape for level in levels] == SHAPES
    np.testing.assert_array_equal(levels[0], DATA)
    assert about["axis_labels"] == ("z", "y", "x")
    assert about["units"] == ("micrometer",) * 3
    # Of the translation the plugin (0.10) takes no notice.
    assert about["scale"] == list(VOXEL)


@opened_by("tensorstore")
def test_another_implementation_of_zarr_reads_the_same_bytes(reader, path, version):
    driver = "zarr3" if version == "0.5" else "zarr"
    for level, shape in enumerate(SHAPES):
        place = {"driver": "file", "path": str(path / str(level))}
        array = reader.open({"driver": driver, "kvstore": place}).result()
        assert array.shape == shape
        assert array.dtype.numpy_dtype == np.uint8
        ours = zarr.open_group(path, mode="r")[str(level)][:]
        np.testing.assert_array_equal(array.read().result(), ours)
    assert ours.mean() == pytest.approx(DATA.mean(), abs=0.5)
