"""Which kind of hint at a patient a named value is, judged by its name and its form; it is never repeated."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal
from xml.etree import ElementTree

Kind = Literal[
    "label or macro image", "barcode", "person", "case", "date or time", "place or device", "identifier",
    "free text", "name of a file",
]  # fmt: skip
"""What could identify a patient."""

_NAMES: tuple[tuple[Kind, str], ...] = (
    ("barcode", r"barcode"),
    ("person", r"patient|physician|operator|user|author|artist|experimenter|observer|technician|pathologist"
               r"|person|birth|sex$|firstname|lastname|middlename"),
    ("case", r"accession|study|specimen|container|medicalrecord|slide_?name|sample(name|id)|block(id|name)"
             r"|reference$"),
    ("date or time", r"date|time|acquired|timestamp"),
    ("identifier", r"uuid|guid|uid$|serial|image_?id$|slide_?id$|scanscopeid"),
    ("place or device", r"institution|hospital|department|station|hostcomputer|address|gps"),
    ("free text", r"comment|description|title|note|remark|filename|file_?path|documentname|pagename|label"
                  r"|keyword|copyright|text|xmp|exif|iptc"),
)  # fmt: skip
"""Parts of names without spaces, the most telling first."""

_HARMLESS = re.compile(
    r"exposure|lapse|interval|increment|duration|timecapac|timezone|color|colour|format|update|validate"
    r"|typeuid|classuid|syntaxuid|schemeuid|runtime",
    re.IGNORECASE,
)
_DATE = re.compile(
    r"(?<!\d)(?:19|20)\d\d[-/.:]?(?:0[1-9]|1[0-2])[-/.:]?(?:0[1-9]|[12]\d|3[01])(?!\d)"
    r"|(?<!\d)\d{1,2}[./]\d{1,2}[./](?:19|20)?\d\d(?!\d)"
)
_NUMBERED = re.compile(
    r"\d{4,}"  # a number of a patient or a case, a date
    r"|[A-Za-z]{1,4}[-_ ]?\d{2}[-_ ]\d{2,}"  # S23-1234
    r"|[^\W\d_]{3,}[-_,. ^]+[^\W\d_]{3,}"  # Mueller_Erika
)


def kind_of(name: str, value: str) -> Kind | None:
    """The kind of a value that a file holds under that name; None where it says nothing of a patient."""
    if not value.strip(" \0\r\n\t"):
        return None
    plain = re.sub(r"[\s\-]", "", name)
    if not _HARMLESS.search(plain):
        for kind, pattern in _NAMES:
            if re.search(pattern, plain, re.IGNORECASE):
                return None if kind == "date or time" and not re.search(r"\d", value) else kind
    return "date or time" if _DATE.search(value) and not plain.lower().endswith("uid") else None


def is_telling(name: str) -> bool:
    """Whether a name of a file or folder has the form of a case's number, a date or a person's name."""
    return bool(_NUMBERED.search(name) or _DATE.search(name))


def in_xml(text: str) -> Iterator[tuple[str, str]]:
    """Names and values of the elements and attributes of an XML text; nothing where it is none."""
    try:
        root = ElementTree.fromstring(text.strip().encode())
    except ElementTree.ParseError:
        return
    for element in root.iter():
        tag = element.tag.rsplit("}")[-1]
        yield (element.get("Name", tag) if tag == "Attribute" else tag), element.text or ""  # Philips
        for name, value in element.attrib.items():
            yield f"{tag} {name.rsplit('}')[-1]}", value
