"""File formats, identified by the first bytes: which are read, which are left out, and what to do about those.

Needs no image library: an existing store is found without one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

HEAD = 1024  # bytes at the beginning of a file that `kind` examines

# Pillow's names of the supported formats. Each is decoded by Pillow or a codec that is part of it; none runs another
# program or library on the file, as EPS (Ghostscript) or WMF (the system's) would.
PILLOW = {"JPEG": "JPEG", "PNG": "PNG", "WebP": "WEBP", "BMP": "BMP", "TIFF": "TIFF", "GIF": "GIF", "PPM": "PPM",
          "AVIF": "AVIF", "JPEG 2000": "JPEG2000"}
OPTIONAL = {"AVIF": "avif", "JPEG 2000": "jpg_2000"}  # Pillow's names of features that an installation may lack
PLAIN = ("JPEG", "PNG")  # supported from the first version of stores on

# Suffixes of images. Such a file counts as a damaged image even if its first bytes have no known format.
EXTENSIONS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff")
_MORE = (".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".jp2", ".j2k", ".jpx", ".jpf", ".heic", ".heif")  # in sketches only
_RAW = (".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".iiq", ".kdc", ".mef", ".nef", ".nrw", ".orf", ".pef", ".raf",
        ".rw2", ".sr2", ".srw")

PLACES = ("not in a class folder", "in the list and not there", "not named by a list")  # other reasons for leaving out
UNKNOWN = "damaged"  # an image by its name: decoding is tried, and its failure reported with the reason

_REMEDIES = {
    "HEIC": "convert them to JPEG or PNG",
    "camera raw": "convert them to JPEG or PNG",
    "JPEG XL": "convert them to JPEG or PNG",
    "AVIF": "install a Pillow with AVIF, or convert them",
    "JPEG 2000": "install a Pillow with JPEG 2000, or convert them",
    "archive": "unpack them",
}

_MAGIC = (
    (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG 2000"), (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"II*\x00", "TIFF"), (b"MM\x00*", "TIFF"), (b"II+\x00\x08\x00", "TIFF"), (b"MM\x00+\x00\x08", "TIFF"),
    (b"\xff\x0a", "JPEG XL"), (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JPEG XL"),
    (b"8BPS", "PSD"), (b"%!PS", "EPS"), (b"\xc5\xd0\xd3\xc6", "EPS"), (b"%PDF", "PDF"), (b"\xd7\xcd\xc6\x9a", "WMF"),
    (b"\x00\x00\x01\x00", "icon"), (b"gimp xcf", "XCF"), (b"\x93NUMPY", "NumPy"), (b"\x89HDF", "HDF5"),
    (b"MATLAB", "MATLAB"), (b"FUJIFILMCCD-RAW", "camera raw"), (b"IIRO", "camera raw"), (b"IIU\x00", "camera raw"),
    (b"PK\x03\x04", "archive"), (b"\x1f\x8b", "archive"), (b"BZh", "archive"), (b"\xfd7zXZ\x00", "archive"),
    (b"7z\xbc\xaf\x27\x1c", "archive"), (b"Rar!", "archive"), (b"\x1aE\xdf\xa3", "video"),
    (b"SQLite format 3", "database"),
)
_SPACE = rb"(?:\s|#[^\n\r]*[\n\r])+"
_PBM = re.compile(rb"P[14]" + _SPACE + rb"\d+" + _SPACE + rb"\d+\s")
_PPM = re.compile(rb"P[2356]" + _SPACE + rb"\d+" + _SPACE + rb"\d+" + _SPACE + rb"\d+\s")
_BMP_HEADERS = (12, 16, 40, 52, 56, 64, 108, 124)


def kind(head: bytes, name: str) -> str:
    """The format of the file `name` with the first bytes `head` (`HEAD` of them).

    One of `PILLOW`'s keys if it is supported; `UNKNOWN` if only its name says that it is an image; else a description.
    """
    found = _by_content(head)
    if found == "TIFF" and (name.lower().endswith(_RAW) or head[8:10] == b"CR"):
        return "camera raw"  # Pillow would read the small preview at the beginning
    if found in PILLOW:
        return found
    if found in ("", "text") and name.lower().endswith(EXTENSIONS):
        return UNKNOWN
    return found or ("empty" if not head else _by_name(name))


def _by_content(head: bytes) -> str:
    for magic, found in _MAGIC:
        if head.startswith(magic):
            return found
    if head[:4] == b"RIFF":
        return {b"WEBP": "WebP", b"AVI ": "video", b"WAVE": "sound"}.get(head[8:12], "")
    if head[4:8] == b"ftyp":
        return _by_brand(head)
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    if head[:1] == b"P" and (_PBM.match(head) or _PPM.match(head)):
        return "PPM"
    if head[128:132] == b"DICM":
        return "DICOM"
    if head and b"\x00" not in head:
        start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:512].lower()
        if start.startswith((b"<svg", b"<?xml", b"<!--", b"<!doctype svg")) and b"<svg" in head.lower():
            return "SVG"
        try:
            head.decode("utf-8")
        except UnicodeDecodeError as error:
            if error.start < len(head) - 3 or len(head) < HEAD:  # else the head ends within a character
                return ""
        return "text"
    return ""


def _by_brand(head: bytes) -> str:
    """The format of an ISO media file, which begins with a `ftyp` box."""
    box = head[8:max(16, int.from_bytes(head[:4], "big"))]
    brands = {box[:4], *(box[i:i + 4] for i in range(8, len(box) - 3, 4))}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"}:
        return "HEIC"
    if b"crx " in brands:
        return "camera raw"
    return "JPEG 2000" if brands & {b"jp2 ", b"jpx "} else "video"


def _by_name(name: str) -> str:
    stem, dot, ending = name.rpartition("/")[2].rpartition(".")
    if f".{ending.lower()}" in _RAW:
        return "camera raw"
    return f".{ending.lower()}" if dot and stem and ending.isalnum() and len(ending) < 9 else "other"


def readable(kind: str | None) -> bool:
    """Should a file of this kind be decoded? It may turn out to be damaged."""
    return kind in PILLOW or kind == UNKNOWN


def looks_like_image(name: str) -> bool:
    """Is it an image, judging by its name alone?"""
    return name.lower().endswith((*EXTENSIONS, *_MORE, *_RAW))


def lacking(kinds: set[str]) -> set[str]:
    """Those of `kinds` that the installed Pillow can't read; none if Pillow is missing, as nothing is decoded then."""
    wanted = kinds & set(OPTIONAL)
    if not wanted:
        return set()
    try:
        from PIL import features
    except ImportError:
        return set()
    return {k for k in wanted if OPTIONAL[k] not in features.get_supported()}


def words(left_out: Mapping[str, int]) -> str:
    """'12 HEIC (convert them to JPEG or PNG), 3 SVG, 2 text files'."""
    kinds, places = [], []
    for what, number in sorted(left_out.items(), key=lambda item: (-item[1], item[0])):
        remedy = f" ({_REMEDIES[what]})" if what in _REMEDIES else ""
        if what in PLACES:
            places.append(f"{number:,} {what}")
        else:
            kinds.append(f"{number:,} {what}{remedy}")
    if kinds:
        kinds[-1] += " file" if len(kinds) == 1 and kinds[0].startswith("1 ") else " files"
    return ", ".join(kinds + places) or "no files"
