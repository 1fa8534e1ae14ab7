"""Sound files, damaged: byte by byte, value by value, chunk by chunk."""

from __future__ import annotations

import copy
import signal
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hypothesis import strategies as st

from spaces.errors import UserError

SECONDS = 60
"""In which every input must be answered."""
PNG = b"\x89PNG\r\n\x1a\n"
TOKENS = (
    b"\x00",
    b"\n",
    b"\xff\xfe",
    b'"',
    b"&a [*a]",
    b"!!python/object/apply:os._exit [77]",
    b"!!int x",
    b"2001-99-99",
    b'"\\ud800"',
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b"[" * 500,
    b"{" * 500,
    b"../../etc/passwd",
    b"=cmd|' /C calc'!A0",
    "\N{RIGHT-TO-LEFT OVERRIDE}é".encode(),
)
WORDS = (
    "",
    "\x00",
    "..",
    "/dev/zero",
    "~",
    "x" * 500,
    "1e-3",
    "NaN",
    "[/red]",
    "=1+1",
    "é\N{RIGHT-TO-LEFT OVERRIDE}",
)
numbers = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, -1, 2**31, 10**30])
plain = st.none() | st.booleans() | numbers | st.sampled_from(WORDS) | st.text(max_size=12)
values = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


answered = [0]
"""How many inputs were."""


class HangError(Exception):
    """An input was not answered in time."""


@contextmanager
def in_time() -> Iterator[None]:
    """End what hangs; around everything that is done with one input, which is counted."""
    answered[0] += 1

    def stop(*_: object) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def answer(call: Callable[[], Any]) -> Any:
    """What ``call`` returns, or None where it refuses with one line; anything else is raised."""
    try:
        return call()
    except UserError as error:
        said = str(error)
        assert said
        assert all(sign.isprintable() or sign in "\xa0\u202f" for sign in said)
        assert len(said) < 3000
        return None


@st.composite
def damaged_bytes(draw: st.DrawFn, sound: bytes) -> bytes:
    """One to four cuts, insertions, repetitions and flips."""
    content = sound
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        to = min(len(content), at + draw(st.integers(0, 40)))
        new = draw(st.sampled_from(TOKENS) | st.binary(max_size=6))
        kinds = ["replace", "insert", "cut", "end", "repeat", "flip", "value"]
        kind = draw(st.sampled_from(kinds))
        if kind == "value" and (colon := content.find(b": ", at)) >= 0:
            line_end = content.find(b"\n", colon) % (len(content) + 1)
            content = content[: colon + 2] + new + content[line_end:]
        elif kind == "flip" and at < len(content):
            flipped = content[at] ^ (1 << draw(st.integers(0, 7)))
            content = content[:at] + bytes([flipped]) + content[at + 1 :]
        else:
            middle = {
                "replace": new,
                "insert": new + content[at:to],
                "repeat": content[at:to] * 3,
            }
            after = b"" if kind == "end" else content[to:]
            content = content[:at] + middle.get(kind, b"") + after
    return content


def places(tree: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The keys that lead to every value inside a tree."""
    pairs: Sequence[tuple[Any, Any]] = ()
    if isinstance(tree, dict):
        pairs = list(tree.items())
    elif isinstance(tree, list):
        pairs = list(enumerate(tree))
    return [
        place for key, value in pairs for place in [(*above, key), *places(value, (*above, key))]
    ]


@st.composite
def damaged_tree(draw: st.DrawFn, sound: Any) -> Any:
    """One to three values replaced, removed, or under another name."""
    tree = copy.deepcopy(sound)
    for _ in range(draw(st.integers(1, 3))):
        known = places(tree)
        if not known:
            break
        *way, last = draw(st.sampled_from(known))
        holder = tree
        for key in way:
            holder = holder[key]
        kind = draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename"]))
        if kind == "replace":
            holder[last] = draw(values)
        else:
            value = holder.pop(last)
            if kind == "rename" and isinstance(holder, dict):
                holder[draw(st.text(max_size=10) | st.just(f"{last}s"))] = value
    return tree


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """(type, data) of each chunk of a PNG file."""
    found, at = [], len(PNG)
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        found.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def as_png(parts: Sequence[tuple[bytes, bytes]]) -> bytes:
    return PNG + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )


@st.composite
def damaged_png(draw: st.DrawFn, sound: bytes) -> bytes:
    """Damage inside a chunk, under a checksum that is right; sizes of the header among it."""
    parts = chunks(sound)
    at = draw(st.integers(0, len(parts) - 1))
    kind, data = parts[at]
    if kind == b"IHDR" and draw(st.booleans()):
        sides = st.sampled_from([0, 1, 15, 16, 7999, 8001, 65535, 2**31 - 1, 2**32 - 1])
        data = struct.pack(">II", draw(sides), draw(sides)) + data[8:]
    else:
        data = draw(damaged_bytes(data))
    parts[at] = (kind, data)
    if draw(st.booleans()):
        order = draw(st.permutations(range(len(parts))))
        parts = [parts[number] for number in order]
    return as_png(parts)
