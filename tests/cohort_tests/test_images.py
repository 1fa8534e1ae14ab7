import errno
import os

import numpy as np
import pytest
from PIL import Image

import cohort.reading.images
from cohort.reading.images import inspect_images, read_image, read_images
from spaces.errors import InputError


def saved(tmp_path, pixels, name="map.png", **options):
    path = tmp_path / name
    Image.fromarray(pixels, **options).save(path)
    return path


@pytest.fixture
def colours():
    return np.random.default_rng(0).integers(0, 256, (20, 20, 3)).astype(np.uint8)


def test_rgb_pixels_come_back_unchanged_channels_first(tmp_path, colours):
    image = read_image(saved(tmp_path, colours), 20)
    assert image.dtype == np.uint8
    assert np.array_equal(image, colours.transpose(2, 0, 1))


def test_grey_becomes_three_equal_channels(tmp_path, colours):
    image = read_image(saved(tmp_path, colours[:, :, 0]), 20)
    assert all(np.array_equal(channel, colours[:, :, 0]) for channel in image)


def test_sixteen_bit_grey_is_scaled_and_not_clipped(tmp_path, colours):
    deep = colours[:, :, 0].astype(np.uint16) * 257
    assert np.array_equal(read_image(saved(tmp_path, deep), 20)[0], colours[:, :, 0])


def test_transparency_is_laid_on_black(tmp_path, colours):
    alpha = np.zeros((20, 20, 1), dtype=np.uint8)
    alpha[:10] = 255
    image = read_image(saved(tmp_path, np.concatenate([colours, alpha], axis=2)), 20)
    assert np.array_equal(image[:, :10], colours[:10].transpose(2, 0, 1))
    assert not image[:, 10:].any()


def test_transparent_palette_is_laid_on_black(tmp_path):
    image = Image.new("P", (20, 20), 0)
    image.putpalette([200, 100, 50] + [0] * 765)
    image.save(tmp_path / "map.png", transparency=0)
    assert not read_image(tmp_path / "map.png", 20).any()


def test_jpeg_is_read(tmp_path):
    flat = np.full((20, 20, 3), 120, dtype=np.uint8)
    image = read_image(saved(tmp_path, flat, "map.jpg"), 20)
    assert np.abs(image.astype(int) - 120).max() <= 2


def test_shrinking_averages_instead_of_skipping_pixels(tmp_path):
    stripes = np.zeros((64, 64, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    inner = read_image(saved(tmp_path, stripes), 16)[:, 2:-2, 2:-2]
    assert np.abs(inner.astype(int) - 127).max() < 20


def test_a_list_is_read_in_its_order(tmp_path, colours):
    paths = [saved(tmp_path, np.roll(colours, k, axis=0), f"{k}.png") for k in range(9)]
    images = read_images(paths, 18)
    assert images.shape == (9, 3, 18, 18)
    assert all(np.array_equal(images[k], read_image(paths[k], 18)) for k in range(9))


def truncated(tmp_path, colours):
    path = saved(tmp_path, colours)
    path.write_bytes(path.read_bytes()[:200])
    return path


def gif(tmp_path, colours):
    path = tmp_path / "map.gif"
    Image.fromarray(colours).save(path)
    return path.rename(tmp_path / "map.png")


def bad_checksum(tmp_path, colours):
    path = saved(tmp_path, colours)
    content = bytearray(path.read_bytes())
    content[100] ^= 255
    path.write_bytes(content)
    return path


def late_header(tmp_path, colours):
    """A PNG whose palette comes before its header, so that Pillow loses the palette."""
    path = tmp_path / "map.png"
    Image.fromarray(colours).convert("P").save(path)
    content = path.read_bytes()
    end = 33 + 12 + int.from_bytes(content[33:37], "big")
    path.write_bytes(content[:8] + content[33:end] + content[8:33] + content[end:])
    return path


def folder(tmp_path, colours):
    (tmp_path / "map.png").mkdir()
    return tmp_path / "map.png"


def pipe(tmp_path, colours):
    os.mkfifo(tmp_path / "map.png")
    return tmp_path / "map.png"


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (truncated, "truncated or damaged"),
        (bad_checksum, "truncated or damaged"),
        (late_header, "truncated or damaged"),
        (gif, "must be an intact PNG or JPEG"),
        (folder, "must be a file"),
        (pipe, "must be a file"),
        (lambda tmp_path, colours: tmp_path / "none.png", "is missing"),
        (lambda tmp_path, colours: saved(tmp_path, colours) / "none.png", "is missing"),
        (lambda tmp_path, colours: saved(tmp_path, colours[:1, :1]), "at least 16.*got 1x1"),
    ],
)
def test_an_unusable_image_is_told_without_its_name(tmp_path, colours, broken, message):
    path = broken(tmp_path, colours)
    with pytest.raises(InputError, match=rf"polar map 2 of 2: .*{message}") as error:
        read_images([saved(tmp_path, colours, "good.png"), path], 20)
    assert path.name not in str(error.value)


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "Permission denied"), OSError(errno.EIO, "I/O error")]
)
def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch, colours, error):
    def fail(_):
        raise error

    monkeypatch.setattr(cohort.reading.images, "is_dicom", fail)
    told = rf"polar map: the image file cannot be read \({error.strerror}\)\. See to its rights"
    with pytest.raises(InputError, match=told):
        read_image(saved(tmp_path, colours), 20)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch, colours):
    path = saved(tmp_path, colours)
    monkeypatch.setattr(cohort.reading.images, "MOST_PIXELS", 399)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("pixels were decoded"))
    with pytest.raises(InputError, match="at most 0 million pixels, got 20x20"):
        read_image(path, 20)


def test_pillows_own_bomb_check_is_told_the_same_way(tmp_path, monkeypatch, colours):
    path = saved(tmp_path, colours)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match="at most 64 million pixels"):
        read_image(path, 20)


def test_equal_pixels_have_equal_digests_whatever_the_compression(tmp_path, colours):
    colours //= 128  # compressible
    other = colours.copy()
    other[0, 0, 0] ^= 1
    paths = [tmp_path / f"{k}.png" for k in range(3)]
    Image.fromarray(colours).save(paths[0], compress_level=0)
    Image.fromarray(colours).save(paths[1], compress_level=9)
    Image.fromarray(other).save(paths[2])
    first, second, third = inspect_images(paths)
    assert first.digest == second.digest != third.digest
    assert first.kind == "PNG RGB 20x20"
    assert first.file_bytes > second.file_bytes
