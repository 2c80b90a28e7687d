"""The same small volume as each kind of scan file, written by the library of that kind.

Also used by scripts/dev/fuzz_readers.py.
"""

import struct
import tarfile
import zipfile
from io import BytesIO

import imagecodecs
import numpy as np
import tifffile

VOLUME = np.random.default_rng(3).integers(0, 60000, (5, 20, 26)).astype(np.uint16)
PIXEL_UM = 2.5
SERIES = "1.2.826.0.1.3680043.8.498.1"


def hdf5(folder, volume=VOLUME):
    import h5py

    with h5py.File(folder / "ct.h5", "w") as file:
        entry = file.create_dataset("entry/data/data", data=volume, chunks=True, compression="gzip")
        entry.attrs["element_size_um"] = [3.0, PIXEL_UM, PIXEL_UM]
        file["entry/angles"] = np.arange(7.0)
    return folder / "ct.h5"


def nexus(folder, volume=VOLUME):
    import h5py

    with h5py.File(folder / "ct.nxs", "w") as file:
        file["entry/data/data"] = volume
        for axis in "xy":
            file[f"entry/data/{axis}_pixel_size"] = PIXEL_UM / 1000
            file[f"entry/data/{axis}_pixel_size"].attrs["units"] = "mm"
    return folder / "ct.nxs"


def netcdf3(folder, volume=VOLUME, name="ct.nc"):
    from scipy.io import netcdf_file

    with netcdf_file(folder / name, "w", version=2) as file:
        for axis, side in zip("zyx", volume.shape, strict=True):
            file.createDimension(f"tomo_{axis}dim", side)
        stored = "h" if volume.dtype.itemsize == 2 else volume.dtype.char
        tomo = file.createVariable("tomo", stored, ("tomo_zdim", "tomo_ydim", "tomo_xdim"))
        tomo[:] = volume.view(np.int16) if volume.dtype == np.uint16 else volume
        file.voxel_size_xyz = np.array([PIXEL_UM, PIXEL_UM, 3.0]) / 1000
        file.voxel_unit = "mm"
    return folder / name


def nrrd(folder, volume=VOLUME, encoding="raw", name="ct.nrrd"):
    import nrrd as library

    header = {
        "encoding": encoding,
        "space dimension": 3,
        "space directions": np.diag([PIXEL_UM, PIXEL_UM, 3.0]),
        "space units": ["um", "um", "um"],
    }
    library.write(str(folder / name), volume, header, index_order="C")
    return folder / name


def nrrd_gzip(folder, volume=VOLUME):
    return nrrd(folder, volume, "gzip")


def nrrd_beside(folder, volume=VOLUME):
    return nrrd(folder, volume, "raw", "ct.nhdr")


def nifti(folder, volume=VOLUME, name="ct.nii"):
    import nibabel

    image = nibabel.Nifti1Image(volume.T, np.diag([PIXEL_UM, PIXEL_UM, 3.0, 1]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, folder / name)
    return folder / name


def nifti_gzip(folder, volume=VOLUME):
    return nifti(folder, volume, "ct.nii.gz")


def mrc(folder, volume=VOLUME):
    import mrcfile

    with mrcfile.new(folder / "ct.mrc") as file:
        file.set_data(volume)
        file.voxel_size = PIXEL_UM * 1e4
    return folder / "ct.mrc"


def dicom_slice(path, grey, z, step_mm=0.003):
    import pydicom
    from pydicom.dataset import FileDataset, FileMetaDataset

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = f"{SERIES}.{z + 1}"
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    header = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    header.SOPClassUID, header.SOPInstanceUID = meta.MediaStorageSOPClassUID, f"{SERIES}.{z + 1}"
    header.SeriesInstanceUID = SERIES
    header.Rows, header.Columns = grey.shape
    header.BitsAllocated = header.BitsStored = 8 * grey.itemsize
    header.HighBit = header.BitsStored - 1
    header.PixelRepresentation = int(grey.dtype.kind == "i")
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.PixelSpacing = [PIXEL_UM / 1000, PIXEL_UM / 1000]
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    header.ImagePositionPatient = [0, 0, z * step_mm]
    header.PixelData = grey.tobytes()
    header.save_as(path, enforce_file_format=True)
    return path


def dicom(folder, volume=VOLUME):
    (folder / "series").mkdir()
    for z, grey in enumerate(volume):  # names run against the order of the slices
        dicom_slice(folder / "series" / f"image_{len(volume) - z}.dcm", grey, z)
    return folder / "series"


def ome_zarr(folder, volume=VOLUME):
    import zarr

    group = zarr.open_group(folder / "ct.zarr", mode="w", zarr_format=2)
    array = group.create_array("0", shape=volume.shape, chunks=(2, 16, 16), dtype=volume.dtype)
    array[:] = volume
    axes = [{"name": axis, "type": "space", "unit": "micrometer"} for axis in "zyx"]
    scale = {"type": "scale", "scale": [3.0, PIXEL_UM, PIXEL_UM]}
    level = {"path": "0", "coordinateTransformations": [scale]}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [level]}]
    return folder / "ct.zarr"


def zeiss(folder, volume=VOLUME):
    """An OLE file by hand: header, sectors of 512 bytes, one table of sectors, a directory."""
    facts = {"ImageWidth": volume.shape[2], "ImageHeight": volume.shape[1]}
    facts |= {"NoOfImages": volume.shape[0], "DataType": {1: 3, 2: 5, 4: 10}[volume.itemsize]}
    streams = {("ImageInfo", name): struct.pack("<i", value) for name, value in facts.items()}
    streams["ImageInfo", "PixelSize"] = struct.pack("<f", PIXEL_UM)
    streams |= {("ImageData1", f"Image{z + 1}"): grey.tobytes() for z, grey in enumerate(volume)}
    (folder / "ct.txm").write_bytes(ole(streams))
    return folder / "ct.txm"


def ole(streams):
    """Two levels of names to bytes; each stream is padded to the 4096 bytes of a large one."""
    folders = list(dict.fromkeys(place for place, _ in streams))
    chain, sectors, starts = [], [], {}
    for key, content in streams.items():
        padded = content.ljust(max(4096, -(-len(content) // 512) * 512), b"\0")
        starts[key] = len(sectors), len(padded)
        sectors += [padded[k : k + 512] for k in range(0, len(padded), 512)]
        chain += [*range(len(chain) + 1, len(sectors)), 0xFFFFFFFE]
    none = 0xFFFFFFFF

    def entry(name, kind, right, child, start, size):
        text = (name + "\0").encode("utf-16le")
        head = text.ljust(64, b"\0") + struct.pack("<HBB", len(text), kind, 1)
        links = struct.pack("<III", none, right, child)
        return head + links + bytes(36) + struct.pack("<IQ", start, size)

    # Ids: the root, then the folders, then the streams folder by folder.
    ids = {key: k for k, key in enumerate(sorted(streams), start=1 + len(folders))}
    rows = [entry("Root Entry", 5, none, 1, 0xFFFFFFFE, 0)]
    for k, place in enumerate(folders, start=1):
        inside = [number for key, number in ids.items() if key[0] == place]
        rows.append(entry(place, 1, k + 1 if k < len(folders) else none, min(inside), 0, 0))
    for key, number in ids.items():
        after = (
            number + 1 if any(k[0] == key[0] for k, n in ids.items() if n == number + 1) else none
        )
        rows.append(entry(key[1], 2, after, none, *starts[key]))
    directory = b"".join(rows)
    directory = directory.ljust(-(-len(directory) // 512) * 512, b"\0")
    first = len(sectors)
    sectors += [directory[k : k + 512] for k in range(0, len(directory), 512)]
    chain += [*range(first + 1, len(sectors)), 0xFFFFFFFE]
    tables = -(-(len(sectors) + 8) // 128)
    where = list(range(len(sectors), len(sectors) + tables))
    chain += [0xFFFFFFFD] * tables
    table = struct.pack(f"<{len(chain)}I", *chain).ljust(512 * tables, b"\xff")
    head = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16)
    head += struct.pack("<HHHHH6xII", 0x3E, 3, 0xFFFE, 9, 6, 0, tables)
    head += struct.pack("<IIIIIII", first, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0)
    head += struct.pack("<109I", *(where + [none] * (109 - len(where))))
    return head + b"".join(sectors) + table


def picture(grey, kind):
    if kind == "png":
        return imagecodecs.png_encode(grey)
    file = BytesIO()
    tifffile.imwrite(file, grey, compression="zlib")
    return file.getvalue()


def zipped(folder, volume=VOLUME, kind="png"):
    with zipfile.ZipFile(folder / "ct.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for z, grey in enumerate(volume):
            file.writestr(f"slices/s_{z + 8}.{kind}", picture(grey, kind))
        file.writestr("slices/readme.txt", "no picture")
    return folder / "ct.zip"


def tarred(folder, volume=VOLUME, kind="png", name="ct.tar.gz"):
    mode = "w:gz" if name.endswith("gz") else "w"
    with tarfile.open(folder / name, mode) as file:
        for z, grey in enumerate(volume):
            content = picture(grey, kind)
            entry = tarfile.TarInfo(f"slices/s_{z + 8}.{kind}")
            entry.size = len(content)
            file.addfile(entry, BytesIO(content))
    return folder / name


def tiff_tiles(folder, volume=VOLUME):
    path = folder / "ct.tif"
    tifffile.imwrite(path, volume, tile=(16, 16), compression="zlib", predictor=True)
    return path


def tiff_strips(folder, volume=VOLUME):
    path = folder / "ct.tif"
    tifffile.imwrite(path, volume, rowsperstrip=3, compression="lzw", byteorder=">")
    return path


def png(folder, volume=VOLUME):
    (folder / "sem.png").write_bytes(imagecodecs.png_encode(volume[0]))
    return folder / "sem.png"


def raw(folder, volume=VOLUME):
    (folder / "ct.raw").write_bytes(volume.tobytes())
    return folder / "ct.raw"
