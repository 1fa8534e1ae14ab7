"""A map in a DICOM secondary capture is the same map; whatever else a DICOM file may be is told."""

import sys

import numpy as np
import pytest
from PIL import Image

import cohort.reading.images
from cohort.reading.images import inspect_image, read_image
from spaces.errors import InputError

CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
NAME = "Secret^Name"


@pytest.fixture
def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 24, 3)).astype(np.uint8)


def resized(grey: np.ndarray, size: int) -> Image.Image:
    return Image.fromarray(grey).resize((size, size), Image.Resampling.BILINEAR)


@pytest.fixture
def save(need, tmp_path):
    """Return a function that writes pixels as a capture, with tags changed."""
    need("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    def write(pixels: np.ndarray, *, kind=CAPTURE, compress=None, **tags):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = kind, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        file = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        file.SOPClassUID, file.SOPInstanceUID = kind, meta.MediaStorageSOPInstanceUID
        file.PatientName, file.PatientID = NAME, "4711"
        file.Rows, file.Columns = pixels.shape[:2]
        file.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
        file.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
        if pixels.ndim == 3:
            file.PlanarConfiguration = 0
        file.BitsAllocated = file.BitsStored = 8 * pixels.dtype.itemsize
        file.HighBit, file.PixelRepresentation = file.BitsStored - 1, 0
        file.PixelData = pixels.tobytes()
        for name, value in tags.items():
            setattr(file, name, value)
        if compress is not None:
            file.compress(compress)
        path = tmp_path / "map.dcm"
        file.save_as(path, enforce_file_format=True)
        return path

    return write


def test_the_pixels_are_those_of_the_png(save, tmp_path, colours) -> None:
    Image.fromarray(colours).save(tmp_path / "map.png")
    path = save(colours)
    for size in (20, 32):
        assert np.array_equal(read_image(path, size), read_image(tmp_path / "map.png", size))
    facts = inspect_image(path)
    assert facts.kind == "DICOM RGB 24x20"
    assert facts.digest == inspect_image(tmp_path / "map.png").digest


def test_run_lengths_are_undone(save, colours) -> None:
    from pydicom.uid import RLELossless

    plain = read_image(save(colours), 20)
    assert np.array_equal(read_image(save(colours, compress=RLELossless), 20), plain)


def test_a_jpeg_inside_is_decoded_as_any_jpeg(save, tmp_path) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    flat = np.full((24, 24, 3), (200, 100, 50), dtype=np.uint8)
    Image.fromarray(flat).save(tmp_path / "map.jpg")
    path = save(flat, PhotometricInterpretation="YBR_FULL_422")
    from pydicom import dcmread

    file = dcmread(path)
    file.PixelData = encapsulate([(tmp_path / "map.jpg").read_bytes()])
    file["PixelData"].VR = "OB"
    file.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    file.save_as(path)
    assert np.array_equal(read_image(path, 24), read_image(tmp_path / "map.jpg", 24))


def test_grey_palette_and_inverted_grey_become_what_is_shown(save, colours) -> None:
    grey = colours[:, :, 0]
    shown = read_image(save(grey), 20)[0]
    assert np.array_equal(read_image(save(grey), 24)[2], np.asarray(resized(grey, 24)))
    inverted = read_image(save(grey, PhotometricInterpretation="MONOCHROME1"), 20)[0]
    assert np.abs(255 - shown.astype(int) - inverted).max() <= 1
    tables = {}
    for at, name in enumerate(("Red", "Green", "Blue")):
        table = (np.arange(256, dtype=np.uint16) * (at + 1) // 3) << 8
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tables[f"{name}PaletteColorLookupTableData"] = table.tobytes()
    coloured = read_image(save(grey, PhotometricInterpretation="PALETTE COLOR", **tables), 20)
    assert np.abs(coloured[2].astype(int) - shown).max() <= 1
    assert np.abs(coloured[0].astype(int) - shown / 3).max() <= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "1.2.840.10008.5.1.4.1.1.128"}, "must be a secondary capture"),
        ({"NumberOfFrames": 2}, "must have one frame, got 2"),
        ({"Rows": 9000, "Columns": 9000}, "at most 64 million pixels, got 9000x9000"),
        ({"Rows": 4, "Columns": 4}, "at least 16 pixels a side, got 4x4"),
        ({"Rows": 40}, "truncated or damaged"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "truncated or damaged"),
    ],
)
def test_what_is_no_picture_of_one_map_is_told_without_names(
    save, colours, change, message, recwarn
) -> None:
    with pytest.raises(InputError, match=message) as error:
        read_image(save(colours, **change), 20)
    said = str(error.value) + "".join(str(warning.message) for warning in recwarn)
    assert "map.dcm" not in said
    assert NAME not in said


def test_deep_pixels_and_unread_compressions_are_refused(save, colours) -> None:
    with pytest.raises(InputError, match="8 bits a channel, unsigned, got 16"):
        read_image(save(colours[:, :, 0].astype(np.uint16)), 20)
    from pydicom import dcmread
    from pydicom.uid import DeflatedExplicitVRLittleEndian

    path = save(colours)
    file = dcmread(path)
    file.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    file.save_as(path)
    with pytest.raises(InputError, match=r"run-length or baseline JPEG, got .*1\.99"):
        read_image(path, 20)


def test_a_large_one_is_refused_before_its_pixels_are_read(save, colours, monkeypatch) -> None:
    path = save(colours)
    monkeypatch.setattr(cohort.reading.images, "MOST_PIXELS", 479)
    monkeypatch.setattr(
        "pydicom.pixels.utils.pixel_array", lambda _: pytest.fail("pixels were decoded")
    )
    with pytest.raises(InputError, match="at most 0 million pixels, got 24x20"):
        read_image(path, 20)


def test_a_small_header_hides_no_large_jpeg(save, tmp_path, colours, monkeypatch) -> None:
    from pydicom import dcmread
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    Image.new("RGB", (64, 64)).save(tmp_path / "large.jpg")
    path = save(colours)
    file = dcmread(path)
    file.PixelData = encapsulate([(tmp_path / "large.jpg").read_bytes()])
    file["PixelData"].VR = "OB"
    file.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    file.save_as(path)
    monkeypatch.setattr(cohort.reading.images, "MOST_PIXELS", 600)
    with pytest.raises(InputError, match="at most 0 million pixels, got 64x64"):
        read_image(path, 20)


def test_without_the_package_the_extra_is_named(save, colours, monkeypatch) -> None:
    path = save(colours)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(InputError, match=r"not installed.*polartune\[dicom\]"):
        read_image(path, 20)
