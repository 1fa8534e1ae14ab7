"""Polar maps from DICOM secondary captures; of a file's many tags, only those of its pixels."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from spaces.errors import SHOWN

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

PREAMBLE, MAGIC = 128, b"DICM"
# Secondary Capture Image Storage and its multi-frame kinds (DICOM PS3.4, table B.5-1).
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
# Uncompressed (implicit, explicit) and run lengths. A deflated file is refused unread: inflating
# it has no limit.
_PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5")
# Nothing else is parsed, so that no name or date can come into a warning or an error.
_TAGS = [
    "SOPClassUID", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "BitsAllocated",
    "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration",
    "PhotometricInterpretation", "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
]  # fmt: skip


class DicomError(Exception):
    """A DICOM file breaks a rule; says which, and what to do."""

    def __init__(self, rule: str, remedy: str, value: str | None = None) -> None:
        self.rule = rule
        self.remedy = remedy
        # A damaged file may hold thousands of numbers where one belongs.
        self.value = value if value is None or len(value) <= SHOWN else f"{value[:SHOWN]}..."
        super().__init__(rule, remedy, self.value)


def is_dicom(path: Path) -> bool:
    """Whether the file says of itself that it is DICOM.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return file.read(PREAMBLE + len(MAGIC))[PREAMBLE:] == MAGIC


def read_capture(
    path: Path,
    check_size: Callable[[int, int], None],
    open_jpeg: Callable[[io.BytesIO], Image.Image],
) -> Image.Image:
    """Return the picture of a secondary capture: 8 bits, one frame, grey or colour.

    Args:
        path: a file for which ``is_dicom`` holds.
        check_size: refuses a width and height; called before any pixel is decoded.
        open_jpeg: decodes a JPEG stream, with the same rule for its own width and height.

    Raises:
        DicomError: it breaks a rule, or the package that reads DICOM is not installed.
    """
    try:
        import pydicom
    except ImportError:
        raise DicomError(
            "a DICOM file needs a package that is not installed",
            "Run: pip install 'polartune[dicom]', or export PNG",
        ) from None
    syntax = str(pydicom.filereader.read_file_meta_info(path).TransferSyntaxUID)
    if syntax not in (*_PLAIN, _JPEG_BASELINE):
        raise DicomError(
            "the DICOM image must be uncompressed, run-length or baseline JPEG",
            "Export it again uncompressed, or as PNG",
            f"transfer syntax {syntax}",
        )
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
    check_size(int(header.Columns), int(header.Rows))
    _check_kind(header)
    whole = pydicom.dcmread(path, specific_tags=[*_TAGS, "PixelData"])
    if syntax == _JPEG_BASELINE:
        return open_jpeg(io.BytesIO(pydicom.encaps.get_frame(whole.PixelData, 0)))
    return _as_image(whole)


def _check_kind(header: FileDataset) -> None:
    if not f"{header.SOPClassUID}.".startswith(f"{_CAPTURE}."):
        raise DicomError(
            "the DICOM image must be a secondary capture",
            "Export the polar map as a picture: secondary capture, PNG or JPEG",
        )
    frames = int(header.get("NumberOfFrames") or 1)
    if frames != 1:
        raise DicomError(
            "the DICOM image must have one frame", "Export one map a file", f"{frames}"
        )
    if header.BitsAllocated != 8 or header.PixelRepresentation != 0:
        raise DicomError(
            "the DICOM image must have 8 bits a channel, unsigned",
            "Export the coloured map as it is shown",
            f"{header.BitsAllocated}",
        )


def _as_image(whole: FileDataset) -> Image.Image:
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    pixels = pixel_array(whole)  # (rows, columns) or (rows, columns, 3); YBR becomes RGB
    interpretation = str(whole.PhotometricInterpretation)
    if interpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, whole)
        if pixels.dtype.itemsize == 2:
            pixels = (pixels >> 8).astype("uint8")
    elif interpretation == "MONOCHROME1":  # 0 is white
        pixels = 255 - pixels
    return Image.fromarray(pixels)
