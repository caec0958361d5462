"""What claims say, and what they must rest on: a corpus of sentences, and laws of the verdict."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.evidence.check import check_answer, mark
from agent.evidence.claims import judge, judged
from agent.evidence.language import OTHER, SCALES, need, need_of_absence
from agent.evidence.negation import read
from agent.run.records import Action, Answer, Claim, Evidence, SlideFacts, Step
from core_model.slides.box import Box
from tools.records import Observation

BOX = Box(0, 0, 400, 300)
COVERAGE = {"0.5": 0.06, "2.0": 0.55, "8.0": 0.9}

PRESENT, ABSENT, OPEN = "present", "absent", "open"
SENTENCES = [
    # what is there
    ("Sheets of tumour cells infiltrate the muscle.", PRESENT, 0.5),
    ("Mitoses are frequent.", PRESENT, 0.5),
    ("Cribriform glands fill the core.", PRESENT, 2.0),
    ("Grade 3 adenocarcinoma with focal necrosis", PRESENT, 8.0),
    ("squamous cell carcinoma", PRESENT, 8.0),
    ("Non-small cell carcinoma is favoured.", PRESENT, 8.0),
    ("Invasive carcinoma of no special type.", PRESENT, 2.0),
    ("Adenocarcinoma, not otherwise specified.", PRESENT, 8.0),
    ("The carcinoma is HER2-negative.", PRESENT, 8.0),
    ("Not only necrosis but also haemorrhage is seen.", PRESENT, 8.0),
    ("There is no doubt that this is carcinoma.", PRESENT, 8.0),
    ("This is without doubt a metastasis.", PRESENT, 8.0),
    ("No more than 5 mitoses per field were counted.", PRESENT, 0.5),
    ("Normal crypts are seen beside the tumour.", PRESENT, 2.0),
    ("Lymphocytes are not uncommon at the edge.", PRESENT, 2.0),
    ("Core no. 3 shows tumour.", PRESENT, 8.0),
    # what is there, said twice over
    ("Necrosis is not absent.", PRESENT, 8.0),
    ("The tumour is not without necrosis.", PRESENT, 8.0),
    ("The margin is not free of tumour.", PRESENT, 8.0),
    ("The mucosa is not normal.", PRESENT, OTHER),
    ("This lesion is not benign.", PRESENT, 8.0),
    ("It is not true that there are no mitoses.", PRESENT, 0.5),
    ("It isn't the case that no necrosis is present.", PRESENT, 8.0),
    ("There is no field without mitoses.", PRESENT, 0.5),
    ("There is no lack of lymphocytes.", PRESENT, 2.0),
    # what is not there
    ("No mitoses.", ABSENT, 0.5),
    ("No mitotic figures were found in the whole section.", ABSENT, 0.5),
    ("Mitoses are absent.", ABSENT, 0.5),
    ("Mitoses cannot be seen.", ABSENT, 0.5),
    ("There aren't any mitoses visible.", ABSENT, 0.5),
    ("Mitoses and necrosis are absent.", ABSENT, 0.5),
    ("Neither necrosis nor nucleoli were found.", ABSENT, 0.5),
    ("No necrosis, mitoses or vascular invasion.", ABSENT, 0.5),
    ("The nuclei are unremarkable.", ABSENT, 0.5),
    ("No atypical cells.", ABSENT, 0.5),
    ("The tumour lacks gland formation.", ABSENT, 2.0),
    ("Lymphovascular invasion is not identified.", ABSENT, 2.0),
    ("No perineural invasion.", ABSENT, 2.0),
    ("The glands are benign.", ABSENT, 2.0),
    ("Carcinoma without lymphoid stroma.", ABSENT, 2.0),
    ("Hardly any inflammation.", ABSENT, 2.0),
    ("No carcinoma in situ.", ABSENT, 2.0),
    ("No necrosis.", ABSENT, 8.0),
    ("Necrosis: none", ABSENT, 8.0),
    ("There isn’t any necrosis.", ABSENT, 8.0),
    ("The margins are free of tumour.", ABSENT, 8.0),
    ("Margins negative for carcinoma.", ABSENT, 8.0),
    ("No evidence of malignancy in the glands seen.", ABSENT, 8.0),
    ("Nuclei are large and necrosis is absent.", ABSENT, 8.0),
    ("The tumour shows no necrosis and has many mitoses.", ABSENT, 8.0),
    ("No necrosis, many mitoses.", ABSENT, 8.0),
    ("Tumour is present, but no necrosis.", ABSENT, 8.0),
    ("Malignancy is excluded.", ABSENT, 8.0),
    ("Malignancy was ruled out.", ABSENT, 8.0),
    ("This is not adenocarcinoma.", ABSENT, 8.0),
    ("Benign tissue", ABSENT, 8.0),
    ("Non-neoplastic tissue.", ABSENT, 8.0),
    ("The sample is negative for malignancy.", ABSENT, 8.0),
    ("No psammoma bodies.", ABSENT, OTHER),
    ("Tumour cells form glands without mucin.", ABSENT, OTHER),
    ("Absent.", ABSENT, OTHER),
    ("None", ABSENT, OTHER),
    ("Asked “are there no mitoses?”, the answer is: no tumour.", ABSENT, 8.0),
    # what is left open
    ("Necrosis cannot be excluded.", OPEN, None),
    ("Malignancy can't be ruled out.", OPEN, None),
    ("Necrosis has not been excluded.", OPEN, None),
    ("It is unclear whether mitoses are present.", OPEN, None),
    ("It was asked whether mitoses are absent.", OPEN, None),
    ("Mitoses were not assessed.", OPEN, None),
    ("The mitotic rate could not be determined.", OPEN, None),
    ("Invasion is indeterminate.", OPEN, None),
    ("“Are mitoses absent?”", OPEN, None),
]


@pytest.mark.parametrize(("text", "says", "mpp"), SENTENCES, ids=[text[:40] for text, *_ in SENTENCES])
def test_what_a_sentence_says(text: str, says: str, mpp: float | None) -> None:
    reading = read(text)
    assert bool(reading.absent) == (says == ABSENT), reading
    if says == ABSENT:
        assert min(need_of_absence(part).mpp for part in reading.absent) == mpp, reading
    elif says == PRESENT:
        assert min(need(part).mpp for part in reading.present) == mpp, reading
    else:
        assert not any(need(part).word for part in reading.present), reading


def test_every_scale_has_its_reason_and_a_resolution_that_coverage_measures() -> None:
    assert [scale.mpp for scale in SCALES] == sorted(scale.mpp for scale in SCALES)
    assert all(str(scale.mpp) in COVERAGE and scale.why for scale in SCALES)
    assert str(OTHER) in COVERAGE


def step(index: int, mpp: float | None = 0.5, tool: str = "zoom", **seen: Any) -> Step:
    told = {"tool": tool, "text": "t", "box": BOX, "mpp": mpp, "image": "regions/a.jpg"} | seen
    return Step(
        index=index, action=Action(tool=tool), observation=Observation.model_validate(told), finding="f"
    )


STEPS = {
    1: step(1, 10.0, "overview"),
    2: step(2, 2.0),
    3: step(3, 0.25),
    4: step(4, ok=False),
    5: step(5, tool="retrieve", image=None, mpp=None, data={"hits": []}),
    6: step(6, 12.0, "ask_region", data={"answer": "x", "read_mpp": 0.5}),
    7: step(7, 1.0),
    8: step(8, 0.504),
}


def verdict(text: str, *cited: int, coverage: dict[str, float] = COVERAGE) -> Any:
    return judge(Claim(text=text, steps=list(cited)), STEPS, coverage)


@pytest.mark.parametrize(
    ("text", "cited", "why"),
    [
        ("Glands.", (), "cites no step"),
        ("Glands.", (9,), "step 9, which does not exist"),
        ("Glands, see step 12.", (3,), "step 12, which does not exist"),
        ("Glands.", (4,), "showed pixels or a model's answer"),
        ("Glands.", (5,), "showed pixels or a model's answer"),
        ("", (3,), "says nothing"),
        ("Nuclei are large.", (1, 2), "“Nuclei” cannot be told at 2 µm/px"),
        ("No mitoses.", (2,), "“mitoses” needs 0.5 µm/px or finer, and the finest look it cites has 2"),
        ("No mitoses.", (7,), "needs 0.5 µm/px"),
        ("No necrosis.", (1,), "needs 8 µm/px"),
        ("No psammoma bodies.", (1,), "needs 2 µm/px"),
    ],
)
def test_what_a_claim_does_not_rest_on(text: str, cited: tuple[int, ...], why: str) -> None:
    assert why in str(verdict(text, *cited).unsupported)


@pytest.mark.parametrize(
    ("text", "cited"),
    [
        ("Tumour in the left half.", (1,)),
        ("Nuclei are large.", (7,)),
        ("Nuclei are large.", (1, 3)),
        ("Glands.", (3, 4, 5)),
        ("Necrosis cannot be excluded.", (1,)),
        ("No mitoses.", (8,)),
        ("No mitoses.", (6,)),
    ],
)
def test_what_a_claim_may_rest_on(text: str, cited: tuple[int, ...]) -> None:
    assert verdict(text, *cited).unsupported is None


def test_an_absence_says_how_much_was_seen() -> None:
    assert verdict("No mitoses.", 3) == (None, "6 % of the tissue was seen at ≤ 0.5 µm/px", True)
    assert verdict("No glands.", 3) == (None, "55 % of the tissue was seen at ≤ 2 µm/px", False)
    assert verdict("No necrosis.", 2) == (None, "90 % of the tissue was seen at ≤ 8 µm/px", False)
    assert verdict("Necrosis.", 2) == (None, None, False)
    assert "without saying how much" in str(verdict("No necrosis.", 2, coverage={}).unsupported)


def an_answer(claims: list[Claim], evidence: list[int]) -> Answer:
    cited = [
        Evidence(
            step=i,
            tool=STEPS[i].action.tool,
            box=BOX,
            mpp=STEPS[i].observation.mpp,
            finding="f",
            image=STEPS[i].observation.image,
        )
        for i in evidence
    ]
    return Answer(
        question="?",
        answer="Carcinoma; 6 % was seen.",
        confidence=0.5,
        evidence=cited,
        claims=claims,
        coverage=COVERAGE,
        model="m",
        mode="agent",
        slide=SlideFacts(id="s"),
        run_dir="run",
    )


@given(
    st.lists(
        st.tuples(st.sampled_from([text for text, *_ in SENTENCES]), st.lists(st.integers(1, 9), max_size=4)),
        max_size=6,
    ),
    st.permutations([1, 2, 3]),
    st.randoms(use_true_random=False),
)
def test_a_verdict_does_not_depend_on_order(
    told: list[tuple[str, list[int]]], evidence: list[int], chance: random.Random
) -> None:
    claims = [Claim(text=text, steps=steps) for text, steps in told]
    steps = list(STEPS.values())
    before = mark(an_answer(claims, [1, 2, 3]), [], steps).claims
    chance.shuffle(steps)
    shuffled = [
        claim.model_copy(update={"steps": chance.sample(claim.steps, len(claim.steps))}) for claim in claims
    ]
    after = mark(an_answer(shuffled, evidence), [], steps).claims
    assert [claim.model_copy(update={"steps": []}) for claim in after] == [
        claim.model_copy(update={"steps": []}) for claim in before
    ]
    assert check_answer(an_answer(shuffled, evidence), steps) == check_answer(
        an_answer(claims, [1, 2, 3]), list(STEPS.values())
    )
    backwards = judged(claims[::-1], STEPS, COVERAGE)
    assert backwards[::-1] == before


@given(st.text(max_size=200))
def test_any_text_can_be_read(text: str) -> None:
    assert read(text) == read(text)
    judge(Claim(text=text, steps=[1]), STEPS, COVERAGE)


def test_problems_of_claims_are_problems_of_the_answer_and_are_marked_beside_them() -> None:
    claims = [Claim(text="No mitoses.", steps=[1]), Claim(text="Glands.", steps=[2])]
    steps = list(STEPS.values())
    made = an_answer(claims, [2])
    problems = check_answer(made, steps)
    assert len(problems) == 1
    assert problems[0].startswith("Claim 1 (“No mitoses.”) does not stand: the absence of “mitoses” needs")
    marked = mark(made, problems, steps)
    assert marked.claims[0].unsupported
    assert marked.claims[1].unsupported is None
    assert problems[0] in marked.answer
    assert mark(marked, check_answer(marked, steps), steps) == marked, "marking twice changes nothing"
