"""Finds words in files, also inside archives, columns and data URIs."""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import io
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image

_DATA_URI = re.compile(rb"base64,([A-Za-z0-9+/=\s]{40,})")


def layers(content: bytes) -> Iterator[bytes]:
    """The bytes of a file, and everything packed inside them."""
    yield content
    for inner in packed(content):
        yield from layers(inner)


def packed(content: bytes) -> Iterator[bytes]:
    """What a file holds in compressed or encoded form, one level down."""
    if content[:4] == b"PK\x03\x04":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield name.encode() + b"\n" + archive.read(name)
    elif content[:2] == b"\x1f\x8b":
        yield gzip.decompress(content)
    elif content[:4] == b"PAR1":
        table = pq.read_table(io.BytesIO(content))
        yield repr(table.schema).encode()
        yield from ("\n".join(map(str, column.to_pylist())).encode() for column in table.columns)
    elif content[:4] == b"\x89PNG":
        with Image.open(io.BytesIO(content)) as image:
            yield repr(image.info).encode()
    for match in _DATA_URI.finditer(content):
        with suppress(binascii.Error):
            yield base64.b64decode(match[1])


def forms(word: str) -> list[bytes]:
    """How a word may be written: plain, UTF-16, base64, and as a digest without a key."""
    text = word.encode()
    digests = [hashlib.new(kind, text).hexdigest().encode() for kind in ("md5", "sha1", "sha256")]
    return [text, word.encode("utf-16-le"), base64.b64encode(text).rstrip(b"="), *digests]


def forms_of_bytes(key: bytes) -> list[bytes]:
    """How bytes may be written: raw, in hex, in either base64, at any place of a longer one."""
    texts = [key.hex(), key.hex().upper()]
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            whole = encode(bytes(before) + key)
            # The first characters hold bits of what stands before, the last of what follows.
            texts.append(whole[-(-before * 4 // 3) : len(key) * 4 // 3].decode())
    return [key, *(text.encode() for text in texts)]


def finds(words: list[str], files: Mapping[str, bytes], keys: Sequence[bytes] = ()) -> list[str]:
    """Which file holds which word or key, in any form; names of files are looked at too."""
    needles = {form: word for word in words for form in forms(word)}
    needles |= {form: "a key" for key in keys for form in forms_of_bytes(key)}
    pattern = re.compile(b"|".join(map(re.escape, needles)))
    return [
        f"{name}: {needles[match.group()]}"
        for name, content in files.items()
        for layer in [name.encode(), *layers(content)]
        for match in [pattern.search(layer)]
        if match
    ]


def contents(folder: Path) -> dict[str, bytes]:
    """Every regular file below a folder."""
    return {
        str(path): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }
