"""The wording of the phantom cohort: what each fact can sound like, and how users ask for it.

Every entry is a small grammar: `[a|b|c]` stands for one of its alternatives (one may be empty) and
nests. `expand` draws one sentence from it. Words of one fact never serve another value of it, so a
reader can always tell the value from the sentence. British spelling here; `spell` makes the American.
"""

from __future__ import annotations

import re

import numpy as np

from training.phantom.truth import DIAGNOSES, LYMPHOCYTE_LEVELS, MITOSIS_LEVELS, NECROSIS_LEVELS

CATEGORIES: dict[str, tuple[str, ...]] = {
    "diagnosis": DIAGNOSES,
    "grade": ("grade 1", "grade 2", "grade 3", "no tumour"),
    "necrosis": NECROSIS_LEVELS,
    "lymphocytes": LYMPHOCYTE_LEVELS,
    "mitoses": MITOSIS_LEVELS,
    "presence": ("yes", "no"),
}
"""The options of each family of closed questions; the one place that lists them."""

AMERICAN = {
    "tumour": "tumor",
    "haematoxylin": "hematoxylin",
    "keratinis": "keratiniz",
    "summaris": "summariz",
    "centre": "center",
    "harbour": "harbor",
}
"""British stems and their American spelling."""

_CHOICE = re.compile(r"\[([^\[\]]*)\]")


def expand(grammar: str, rng: np.random.Generator) -> str:
    """One sentence of `grammar`: each `[a|b]` replaced by one alternative, innermost first."""
    while match := _CHOICE.search(grammar):
        alternatives = match.group(1).split("|")
        alternative = alternatives[int(rng.integers(len(alternatives)))]
        grammar = grammar[: match.start()] + alternative + grammar[match.end() :]
    return re.sub(r"\s+(?=[.,;:?])", "", re.sub(r"\s+", " ", grammar)).strip()


def spell(text: str, american: bool) -> str:
    """`text` in American spelling, or as it is (British)."""
    if american:
        for british, us_spelling in AMERICAN.items():
            text = text.replace(british, us_spelling).replace(british.capitalize(), us_spelling.capitalize())
    return text


def extent(tumour_share: float) -> str:
    """The share of the tissue that is tumour, as a grammar of words."""
    steps = (
        (0.08, "[a minute part|a tiny fraction]"),
        (0.20, "[a small part|a minor part]"),
        (0.30, "[about a quarter|roughly a quarter]"),
        (0.42, "[about a third|roughly one third]"),
        (0.58, "[about half|around half|roughly half]"),
        (0.72, "[about two thirds|around two thirds]"),
        (0.90, "[most|the greater part|the bulk]"),
    )
    for limit, words in steps:
        if tumour_share < limit:
            return words
    return "[nearly all|almost all|virtually the whole]"


PLACE = {
    "slide": "[the slide|the section|this specimen|the sample|this slide|this section]",
    "region": "[this field|this region|the area|this area|the region shown|this part]",
}

TUMOUR = {
    "adenocarcinoma": "[adenocarcinoma|invasive adenocarcinoma|gland-forming adenocarcinoma]",
    "squamous cell carcinoma": "[|invasive ]squamous cell carcinoma",
    "papillary carcinoma": "[papillary carcinoma|invasive papillary carcinoma]",
    "small cell carcinoma": "[small cell carcinoma|neuroendocrine small cell carcinoma]",
}

GRADE = {
    1: "[grade 1|well differentiated|well-differentiated, grade 1|low-grade (grade 1)]",
    2: "[grade 2|moderately differentiated|moderately differentiated, grade 2|intermediate-grade (grade 2)]",
    3: "[grade 3|poorly differentiated|poorly differentiated, grade 3|high-grade (grade 3)]",
}

GROWTH = {
    "adenocarcinoma": "The tumour [forms|grows as|is made of] irregular [glands|tubules|acini].",
    "squamous cell carcinoma": "The tumour forms [nests|islands] of [polygonal|keratinising] cells.",
    "papillary carcinoma": "The tumour [forms|grows as] [papillae|fronds] with fibrovascular [cores|stalks].",
    "small cell carcinoma": "The tumour forms sheets of small [dark|hyperchromatic] cells.",
    "benign tissue": "[Regular|Orderly|Unremarkable] [glands|ducts] lie in [fibrous|loose] stroma.",
}

MALIGNANT = (
    "{Place} [shows|contains|is involved by] {grade} {tumour}.",
    "[There is|Findings are those of|Sections show] {grade} {tumour}.",
    "[Diagnosis|Impression|Conclusion]: {tumour}, {grade}.",
    "{tumour}, {grade}.",
    "[Microscopy|Histology] [reveals|demonstrates|shows] {tumour}[, which is|; it is] {grade}.",
    "The appearances are [those of|consistent with|diagnostic of] {grade} {tumour}.",
    "{Place} [harbours|shows] [a carcinoma|a malignant tumour]: {tumour}, {grade}.",
)

BENIGN = (
    "{Place} [shows|contains|consists of] benign tissue.",
    "Benign tissue [without|with no evidence of|with no] [tumour|malignancy|carcinoma].",
    "[Diagnosis|Impression|Conclusion]: benign tissue.",
    "Benign tissue[|, no malignancy identified|, no tumour seen|; there is nothing to grade].",
    "No [tumour|carcinoma|malignancy] is [seen|identified|present]; benign tissue [only|throughout].",
    "[Microscopy|Histology] [reveals|demonstrates|shows] only benign tissue.",
    "The appearances are [those of|consistent with] benign tissue, [not of tumour|without malignancy].",
)

EXTENT = (
    "[Tumour|The tumour|Carcinoma] [occupies|makes up|accounts for] {extent} of the [tissue|tissue area].",
    "{extent} of the [tissue|tissue area] is [tumour|carcinoma|involved by tumour].",
)

SENTENCES: dict[str, dict[str, tuple[str, ...]]] = {
    "necrosis": {
        "absent": (
            "Necrosis is [absent|not seen|not identified].",
            "There is no necrosis.",
            "No necrosis is [seen|present|found].",
        ),
        "focal": (
            "Necrosis is focal.",
            "Focal necrosis is [seen|present|noted].",
            "There is [focal|patchy] necrosis.",
            "[Small|Isolated] foci of necrosis are [seen|present].",
        ),
        "extensive": (
            "Necrosis is extensive.",
            "Extensive necrosis is [seen|present|noted].",
            "There is [extensive|widespread|confluent] necrosis.",
            "Large areas [of necrosis are seen|are necrotic].",
        ),
    },
    "lymphocytes": {
        "sparse": (
            "Lymphocytes are [sparse|few|scanty].",
            "There are only sparse lymphocytes.",
            "The lymphocytic infiltrate is [sparse|mild|minimal].",
            "Inflammation is [minimal|sparse].",
        ),
        "moderate": (
            "Lymphocytes are moderate in number.",
            "There is a moderate lymphocytic infiltrate.",
            "The lymphocytic infiltrate is moderate.",
            "Inflammation is moderate.",
        ),
        "dense": (
            "Lymphocytes are [dense|abundant|plentiful].",
            "There is a [dense|heavy|marked] lymphocytic infiltrate.",
            "The lymphocytic infiltrate is [dense|heavy].",
            "Inflammation is [dense|marked].",
        ),
    },
    "mitoses": {
        "low": (
            "Mitoses are [rare|few|infrequent].",
            "Mitotic activity is [low|inconspicuous].",
            "The mitotic rate is low.",
            "Mitotic figures are [rare|hard to find].",
        ),
        "moderate": (
            "Mitoses are moderate in number.",
            "Mitotic activity is [moderate|intermediate].",
            "The mitotic rate is moderate.",
            "There are a moderate number of mitotic figures.",
        ),
        "high": (
            "Mitoses are [frequent|numerous|many].",
            "Mitotic activity is [high|brisk].",
            "The mitotic rate is high.",
            "Mitotic figures are [numerous|easily found].",
        ),
    },
}

NOUNS: dict[str, dict[str, str]] = {
    "necrosis": {
        "absent": "[no|absent] necrosis",
        "focal": "[focal|patchy] necrosis",
        "extensive": "[extensive|widespread|confluent] necrosis",
    },
    "lymphocytes": {
        "sparse": "[sparse|few|scanty] lymphocytes",
        "moderate": "[moderate lymphocytes|a moderate lymphocytic infiltrate]",
        "dense": "[dense lymphocytes|a dense lymphocytic infiltrate|heavy lymphocytic inflammation]",
    },
    "mitoses": {
        "low": "[low mitotic activity|rare mitoses|a low mitotic rate|few mitotic figures]",
        "moderate": "[moderate mitotic activity|a moderate number of mitoses|a moderate mitotic rate]",
        "high": "[high mitotic activity|frequent mitoses|numerous mitoses|a high mitotic rate]",
    },
}

JOINED = (
    "[Findings|The findings] include {all}.",
    "[{Subject}|It|{Place}] [shows|has] {all}.",
    "[Noted are|Also seen:|Other findings:|Further findings are] {all}.",
)

PREAMBLE = (
    "[Haematoxylin and eosin stained|H&E-stained|H&E] [section|slide].",
    "[One|A single] [section|slide] was [examined|reviewed].",
)
