"""The wording of what users ask: of questions per family, and of the sentences that answer them.

Grammars as in `phrases`. Terse forms stand beside whole sentences because both are typed. The
answers to open questions begin with the decisive word, so that its likelihood tells the choices apart.
"""

from __future__ import annotations

_SEEN = "[here|in this slide|on this slide|in this image|in this region|in this area|]"
_TUMOUR = "[tumour|cancer|carcinoma|malignancy|neoplasm]"

QUESTIONS: dict[str, tuple[str, ...]] = {
    "diagnosis": (
        "diagnosis?",
        "[dx|Dx]?",
        "[what is|what's] the [|histological |likely |most likely |final ]diagnosis?",
        "which diagnosis [fits|is most likely|is correct]?",
        f"what type of {_TUMOUR} is [this|it|shown|present]?",
        f"what kind of {_TUMOUR} is [this|it]?",
        f"{_TUMOUR} type?",
        "[what|which] histological [type|subtype] is [this|shown|present]?",
        "histology?",
        f"what do you [see|diagnose] {_SEEN}?",
        "what is [this|this lesion|shown here]?",
        "how would you [classify|diagnose|call] this [lesion|tumour|tissue|slide]?",
        f"name the {_TUMOUR}.",
        "give the diagnosis.",
        "classify [this lesion|the tumour|the tissue].",
        "which [disease|lesion|entity] is [present|shown]?",
    ),
    "grade": (
        "grade?",
        "[the |]grade",
        f"[{_TUMOUR}|histological] grade?",
        f"what grade is [this|it|the {_TUMOUR}]?",
        f"[what is|what's] the [|histological |{_TUMOUR} ]grade?",
        f"what is the grade of [this|the] {_TUMOUR}?",
        "which grade [is it|applies|would you give]?",
        f"how would you grade [this|it|the {_TUMOUR}]?",
        f"how well differentiated is [this|it|the {_TUMOUR}]?",
        "[degree of |]differentiation?",
        "is [this|it] [low or high grade|well or poorly differentiated]?",
        f"grade [this|the] {_TUMOUR}.",
        "give the [|histological ]grade.",
        f"assign a grade to the {_TUMOUR}.",
    ),
    "necrosis": (
        "necrosis?",
        "[any|is there|is there any] necrosis?",
        f"is necrosis [present|seen|visible] {_SEEN}?",
        f"[how much|what amount of] necrosis is [there|present|seen] {_SEEN}?",
        "how extensive is the necrosis?",
        "[what is|describe|give|assess] the [extent|amount|degree] of necrosis.",
        "extent of necrosis?",
        f"is [the {_TUMOUR}|the tissue|it] necrotic?",
        "are there necrotic [areas|foci]?",
        "do you see [any |]necrosis?",
        "is necrosis absent, focal or extensive?",
        "necrotic [areas|tissue]?",
        "which [degree|extent] of necrosis is [present|seen]?",
        "tumour necrosis?",
    ),
    "lymphocytes": (
        "lymphocytes?",
        "[tils|TILs]?",
        "inflammation?",
        "[how many|how dense are the] lymphocytes?",
        f"how many lymphocytes are [there|seen|present] {_SEEN}?",
        "how [dense|heavy|marked] is the [lymphocytic|inflammatory|immune] infiltrate?",
        "lymphocytic infiltrate?",
        "[what is|assess|give|describe] the [density|degree|amount] of [lymphocytes|inflammation].",
        "lymphocyte density?",
        "are there [many |]lymphocytes?",
        "[is there|any|is there any] [lymphocytic infiltration|inflammation|immune infiltrate]?",
        "how [inflamed|much inflamed] is the [tissue|stroma]?",
        "are lymphocytes sparse, moderate or dense?",
        "tumour-infiltrating lymphocytes?",
        "immune infiltrate?",
    ),
    "mitoses": (
        "mitoses?",
        "[mitosis|mitotic figures|mitotic count|mitotic rate]?",
        "mitotic activity?",
        f"how many mitoses [are there|are seen|] {_SEEN}?",
        "how high is the mitotic [activity|rate|count]?",
        "[what is|give|assess|describe] the mitotic [activity|rate|count].",
        "[how frequent are|how common are] [mitoses|mitotic figures]?",
        "are [mitoses|mitotic figures] [frequent|numerous|seen|present]?",
        "[is there|any] mitotic activity?",
        "how many mitotic figures?",
        "is mitotic activity low, moderate or high?",
        "how [proliferative|fast dividing] is [it|the tumour]?",
        "[proliferation|proliferative activity]?",
        "do you see [mitoses|many mitoses|mitotic figures]?",
        "how mitotically active is [this|it|the tumour]?",
    ),
    "presence": (
        "[is there|any] tumour?",
        f"[is there|any|is there any] {_TUMOUR} {_SEEN}?",
        f"{_TUMOUR}?",
        "tumour present?",
        f"is [a |]{_TUMOUR} [present|seen|visible] {_SEEN}?",
        f"do you see [any |a ]{_TUMOUR} {_SEEN}?",
        f"does [this slide|the slide|the tissue|this region|the image] [contain|show] [any |]{_TUMOUR}?",
        "is [this|it|the tissue|this lesion] [malignant|cancerous|neoplastic]?",
        "malignant?",
        f"is [this|it] [cancer|a {_TUMOUR}]?",
        f"is there [evidence of|any sign of] {_TUMOUR}?",
        f"{_TUMOUR}: yes or no?",
        f"can you [find|see] [any |]{_TUMOUR}?",
        f"has [the tissue|this tissue] [got |]{_TUMOUR}?",
        "are there [malignant|tumour|cancer] cells?",
    ),
}

NECROSIS_PRESENT = (
    "[is there|any|is there any] necrosis?",
    f"is necrosis [present|seen] {_SEEN}?",
    "necrosis: yes or no?",
    "do you see [any |]necrosis?",
    "are there necrotic [areas|foci]?",
)
"""Asked with the options yes and no."""

NATURE = (
    "benign or malignant?",
    "is [this|it|the tissue|the lesion] benign or malignant?",
    "nature of the lesion?",
)
"""Asked with the options benign and malignant."""

IS_TYPE = ("is [this|it] [a |an |]{value}?", "{value}?", "is {value} present?", "could this be {value}?")
"""Asked of any one diagnosis, with the options yes and no."""

DESCRIBE = (
    "describe [the slide|this slide|the image|what you see|the findings|the histology].",
    "report?",
    "[write|give|draft] a [|short |pathology |histology ]report.",
    "what [are the findings|are the main findings|can be seen here|does this show]?",
    "what do you see in this [slide|image|section]?",
    "summarise [the findings|the slide|this slide].",
    "[findings|description|summary]?",
)

ANSWERS: dict[str, str] = {
    "diagnosis": "[{value}.|{value}, {grade}.|{value}, {grade}.]",
    "diagnosis benign": "[benign tissue.|benign tissue, no tumour is seen.|benign tissue only.]",
    "grade": "[{value}.|{value} {diagnosis}.|{value}, {differentiated}.]",
    "grade benign": "[no tumour.|no tumour, so there is no grade.|no tumour to grade.]",
    "necrosis": "[{value}.|{value} necrosis.]",
    "lymphocytes": "[{value}.|{value} lymphocytes.|{value} lymphocytic infiltrate.]",
    "mitoses": "[{value}.|{value} mitotic activity.|{value} mitotic rate.]",
    "presence yes": "[yes.|yes, {diagnosis} is present.|yes, {diagnosis}, {grade}.]",
    "presence no": "[no.|no, the tissue is benign.|no tumour is seen.|no, benign tissue.]",
}

DIFFERENTIATED = {1: "well differentiated", 2: "moderately differentiated", 3: "poorly differentiated"}
