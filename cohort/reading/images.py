"""Polar maps from PNG, JPEG and DICOM files, and what a file reveals before it is used."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image, UnidentifiedImageError

from cohort.reading.dicom import DicomError, is_dicom, read_capture
from spaces.errors import InputError
from spaces.run_files import sha256_of

LEAST_SIDE = 16
MOST_PIXELS = 64_000_000
MOST_BYTES = 256 * 1024**2
"""Of a file: more than 64 million pixels take without compression."""
_LARGE = 4_000_000
"""Pixels from which images are decoded one at a time: 64 million need about a gigabyte."""
_large_turn = Lock()
FORMATS = ("PNG", "JPEG")
THUMBNAIL = 32
"""Side in pixels of the grey thumbnail by which pictures are compared."""
_THREADS = 8
_TOLD_BY_CALLER = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


class UnusableImageError(Exception):
    """An image breaks a rule; says which, never the file's name (often a patient id)."""

    def __init__(self, rule: str, remedy: str, value: str | None = None) -> None:
        self.rule = rule
        self.remedy = remedy
        self.value = value
        super().__init__(rule, remedy, value)

    def as_input_error(self, where: str) -> InputError:
        """Return the error that a user sees."""
        problem = self.rule if self.value is None else f"{self.rule}, got {self.value}"
        return InputError(where, problem, self.remedy)


@dataclass(frozen=True)
class ImageFacts:
    """What one image file reveals.

    Attributes:
        digest: of its pixels.
        kind: format, mode and size: ``PNG RGB 228x228``.
        file_bytes: its size on disk.
        thumbnail: grey means over 32 x 32 equal boxes, 0-255, row by row (1 KB).
    """

    digest: bytes
    kind: str
    file_bytes: int
    thumbnail: bytes


def read_image(path: Path, size: int, *, where: str = "polar map") -> np.ndarray:
    """Return a polar map as uint8 (3, size, size) RGB.

    Grey becomes RGB, transparency is laid on black; resized bilinearly with antialiasing.

    Args:
        path: a PNG or JPEG file, or a DICOM secondary capture (with the extra ``dicom``).
        size: pixels a side.
        where: names the image in an error; the path does not, since it may hold a patient id.

    Raises:
        InputError: the file is missing, damaged, of another format, too small or too large.
    """
    try:
        image, _ = _decode(path)
    except UnusableImageError as error:
        raise error.as_input_error(where) from None
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def read_images(paths: Sequence[Path], size: int) -> np.ndarray:
    """Return polar maps as uint8 (n, 3, size, size); see ``read_image``."""
    images = np.empty((len(paths), 3, size, size), dtype=np.uint8)

    def fill(at: int) -> None:
        images[at] = read_image(paths[at], size, where=f"polar map {at + 1} of {len(paths)}")

    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(fill, range(len(paths))):
            pass
    return images


def inspect_image(path: Path) -> ImageFacts:
    """Decode an image and return its facts.

    Raises:
        UnusableImageError: it breaks a rule.
    """
    image, kind = _decode(path)
    digest = hashlib.sha256(f"{image.size}".encode() + image.tobytes()).digest()
    small = image.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return ImageFacts(digest, kind, path.stat().st_size, small.tobytes())


def inspect_images(paths: Iterable[Path]) -> list[ImageFacts | UnusableImageError]:
    """Return each image's facts, or the rule that it breaks, in the given order."""

    def inspect(path: Path) -> ImageFacts | UnusableImageError:
        try:
            return inspect_image(path)
        except UnusableImageError as error:
            return error

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(inspect, paths))


def _decode(path: Path) -> tuple[Image.Image, str]:
    """Return an 8-bit RGB image and its kind; the size is checked before any pixel is decoded."""
    try:
        _check_file(path.stat())
        if is_dicom(path):
            with _large_turn:  # pydicom copies pixels more than once
                return _decode_dicom(path)
        with Image.open(path, formats=FORMATS) as image:
            _check_size(image.width, image.height)
            is_large = image.width * image.height > _LARGE
            with _large_turn if is_large else nullcontext():
                image.load()
                return _as_rgb(image), _kind(image.format, image)
    except (FileNotFoundError, NotADirectoryError):
        raise UnusableImageError(
            "the image file is missing", "Correct the path or give the row an exclusion_reason"
        ) from None
    except UnidentifiedImageError:
        raise UnusableImageError(
            "the image must be an intact PNG or JPEG",
            "Export it again in one of these formats, or as DICOM secondary capture",
        ) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_large(None) from None
    except (UnusableImageError, MemoryError):
        raise
    except OSError as error:
        if error.errno is None:  # Pillow's own, of the content
            raise _damaged() from None
        raise UnusableImageError(
            f"the image file cannot be read ({error.strerror})",
            "See to its rights, or to the storage that it lies on",
        ) from None
    except Exception:  # noqa: BLE001  a damaged file makes Pillow raise many kinds, even assertions
        raise _damaged() from None


def _damaged() -> UnusableImageError:
    return UnusableImageError("the image file is truncated or damaged", "Export it again")


def _decode_dicom(path: Path) -> tuple[Image.Image, str]:
    try:
        image = read_capture(path, _check_size, _open_jpeg)
    except (*_TOLD_BY_CALLER, UnusableImageError, OSError):
        raise
    except DicomError as error:
        raise UnusableImageError(error.rule, error.remedy, error.value) from None
    except Exception:  # noqa: BLE001  pydicom raises many kinds for a damaged file
        raise UnusableImageError(
            "the DICOM file is truncated or damaged", "Export it again"
        ) from None
    return _as_rgb(image), _kind("DICOM", image)


def _open_jpeg(stream: io.BytesIO) -> Image.Image:
    image = Image.open(stream, formats=("JPEG",))
    _check_size(image.width, image.height)
    image.load()
    return image


def _kind(name: str | None, image: Image.Image) -> str:
    return f"{name} {image.mode} {image.width}x{image.height}"


def _check_file(status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UnusableImageError("the image must be a file", "Correct the path")
    if status.st_size > MOST_BYTES:
        raise UnusableImageError(
            f"the image file must have at most {MOST_BYTES // 1024**2} MB",
            "Export a single polar map",
            f"{status.st_size // 1024**2} MB",
        )


def _check_size(width: int, height: int) -> None:
    if min(width, height) < LEAST_SIDE:
        raise UnusableImageError(
            f"the image must be at least {LEAST_SIDE} pixels a side",
            "Export the polar map again",
            f"{width}x{height}",
        )
    if width * height > MOST_PIXELS:
        raise _too_large(f"{width}x{height}")


def _too_large(value: str | None) -> UnusableImageError:
    return UnusableImageError(
        f"the image must have at most {MOST_PIXELS // 1_000_000} million pixels",
        "Export a single polar map",
        value,
    )


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion clips at 255
        scaled = np.asarray(image).astype(np.float64) / 257.0
        return Image.fromarray(np.rint(scaled).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        coloured = image.convert("RGBA")
        black = Image.new("RGBA", coloured.size, (0, 0, 0, 255))
        return Image.alpha_composite(black, coloured).convert("RGB")
    return image.convert("RGB")


def digest_files(files: Sequence[Path]) -> str:
    """Return one sha256 over the bytes of some polar maps, in their order.

    Raises:
        InputError: a file cannot be read; it is named by its place, never by its name.
    """
    digest = hashlib.sha256()
    for number, path in enumerate(files, start=1):
        try:
            digest.update(sha256_of(path).encode())
        except OSError as error:  # its message would name the file, and so perhaps the patient
            raise InputError(
                f"polar map {number} of {len(files)}",
                f"cannot be read any more ({error.strerror})",
                "Restore the cohort's images",
            ) from None
    return digest.hexdigest()
