"""Every way of saying that a thing is not there is read as an absence, and no way of saying that it is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from agent.evidence.claims import judge, said
from agent.evidence.language import SCALES, language_of, names_any, need_of_absence
from agent.evidence.negation import read
from agent.run.records import Action, Claim, Step
from core_model.slides.box import Box
from tools.records import Observation

THINGS = {
    "mitoses": 0.5,
    "mitotic figures": 0.5,
    "atypical nuclei": 0.5,
    "nucleoli": 0.5,
    "pleomorphism": 0.5,
    "atypia": 0.5,
    "apoptosis": 0.5,
    "eosinophils": 0.5,
    "koilocytes": 0.5,
    "fungi": 0.5,
    "atypical cells": 0.5,
    "glands": 2.0,
    "papillae": 2.0,
    "lymphocytes": 2.0,
    "inflammation": 2.0,
    "vascular invasion": 2.0,
    "granulomas": 2.0,
    "dysplasia": 2.0,
    "carcinoma in situ": 2.0,
    "ulceration": 2.0,
    "keratin": 2.0,
    "tumour": 8.0,
    "carcinoma": 8.0,
    "malignancy": 8.0,
    "metastases": 8.0,
    "necrosis": 8.0,
    "haemorrhage": 8.0,
    "abscesses": 8.0,
    "fibrosis": 8.0,
    "psammoma bodies": 2.0,
}

ABSENT = [
    "No {x}.",
    "No {x} seen.",
    "There is no {x}.",
    "There are no {x} in this slide.",
    "{x}: none",
    "{x}: none seen",
    "{x}: no.",
    "{x}: nil",
    "{x}: absent",
    "{x}: negative",
    "{x}: 0",
    "{x}: zero",
    "{x}: 0 %",
    "{x}: 0/10 HPF",
    "{x} (0 per 10 HPF)",
    "{x} = 0",
    "{x}: <1 per 10 HPF",
    "{x} (-)",
    "{x} count: 0 per 10 HPF.",
    "{x}: 0.0 per mm2",
    "Zero {x}.",
    "Zero {x} were counted in 10 fields.",
    "0 {x} per 10 HPF.",
    "0 {x} were found.",
    "0 % {x}.",
    "Fewer than one of the {x} per 10 HPF",
    "None of the {x} that were sought is there.",
    "Nil {x}.",
    "Absence of {x}.",
    "Absent {x}.",
    "In the absence of {x}, all is blue.",
    "{x} absent.",
    "{x} are absent.",
    "{x} is entirely absent here.",
    "{x} not seen.",
    "{x} not clearly identified.",
    "{x} are not a feature.",
    "{x} do not occur here.",
    "{x} was not found.",
    "{x} could not be found.",
    "{x} cannot be seen.",
    "{x} has not been detected.",
    "{x} is nowhere to be seen.",
    "{x} are missing.",
    "{x} is undetectable.",
    "{x} was ruled out.",
    "We did not see {x}.",
    "The slide does not show {x}.",
    "The slide doesn't show any {x}.",
    "The slide fails to show {x}.",
    "The slide failed to reveal {x}.",
    "The slide lacks {x}.",
    "The slide is lacking {x}.",
    "It has a complete lack of {x}.",
    "Free of {x}.",
    "The slide is free from {x}.",
    "The slide is devoid of {x}.",
    "The slide is negative for {x}.",
    "The slide is clear of {x}.",
    "Negative for {x}",
    "Without {x}.",
    "Without any {x}",
    "W/o {x}",
    "Never any {x}.",
    "Neither {x} nor oedema.",
    "Nothing that would be {x}.",
    "Hardly any {x}.",
    "Virtually no {x}.",
    "Few, if any, {x}.",
    "Not a single one of the {x}.",
    "Excludes {x}.",
    "Oedema rather than {x}.",
    "No evidence of {x}.",
    "No sign of {x} at all.",
    "Probably no {x}.",
    "Oedema, but no {x}.",
    "Oedema with 0 {x}.",
]

PRESENT = [
    "{x}.",
    "{x} present.",
    "{x} are seen.",
    "{x} is extensive.",
    "Not only {x}.",
    "Not only {x} but also oedema is seen.",
    "There is no doubt that {x} is present.",
    "No doubt there is {x}.",
    "Without doubt {x}.",
    "Without any doubt there is {x}.",
    "Beyond doubt {x}.",
    "{x}: yes",
    "{x}: 5 per 10 HPF",
    "{x}: 10 per 10 HPF",
    "{x}: 100 %",
    "{x}: 1-2 per field",
    "{x}: 0-2 per field",
    "{x}: 0.5 per field",
    "{x}: not 0",
    "{x} in box (0, 0, 400, 300)",
    "{x}, see step 10",
    "{x} at level 0",
    "More than 0 {x} per field",
    "A non-zero number of {x}",
    "{x} is not absent.",
    "{x} is not entirely absent.",
    "{x} is far from absent.",
    "{x} is not negative.",
    "The slide is not without {x}.",
    "The slide is not free of {x}.",
    "The slide is not devoid of {x}.",
    "The slide does not lack {x}.",
    "There is no lack of {x}.",
    "There is no absence of {x}.",
    "No field is free of {x}.",
    "No region without {x}.",
    "{x} cannot be overlooked.",
    "{x} cannot be denied.",
    "{x} is not to be missed.",
    "{x} is not limited to the left half.",
    "{x} is not rare.",
    "{x} is not uncommon.",
    "Not a few {x}",
    "No fewer than 5 {x}.",
    "Nothing but {x}.",
    "Nothing other than {x}.",
    "It is wrong that there is no {x}.",
    "It is not true that there is no {x}.",
    "{x} is present, not absent.",
    "Core no. 3 shows {x}.",
    "The slide never fails to show {x}.",
]

OPEN = [
    "{x} cannot be excluded.",
    "{x} cannot be ruled out.",
    "{x}: not assessed",
    "{x}: not applicable",
    "{x} not evaluable.",
    "{x} could not be assessed.",
    "It is unclear whether {x} is there.",
    "{x} may or may not be there.",
    "Is there no {x}?",
    "No information on {x}.",
    "It is impossible to exclude {x}.",
]


@pytest.mark.parametrize("phrase", ABSENT)
def test_an_absence_is_read_as_one_of_that_thing(phrase: str) -> None:
    for thing, mpp in THINGS.items():
        for text in (phrase.format(x=thing), phrase.format(x=thing.capitalize())):
            reading = read(text)
            assert reading.absent, (text, reading)
            assert min(need_of_absence(part).mpp for part in reading.absent) <= mpp, (text, reading)
            assert not any(thing in part.lower() for part in reading.present), (text, reading)


@pytest.mark.parametrize("phrase", PRESENT)
def test_a_presence_is_not_read_as_an_absence(phrase: str) -> None:
    for thing in THINGS:
        reading = read(phrase.format(x=thing))
        assert not reading.absent, (phrase.format(x=thing), reading)
        assert any(thing in part for part in reading.present), (phrase.format(x=thing), reading)


@pytest.mark.parametrize("phrase", OPEN)
def test_what_is_left_open_is_neither(phrase: str) -> None:
    for thing in THINGS:
        reading = read(phrase.format(x=thing))
        assert not reading.absent, (phrase.format(x=thing), reading)
        assert not any(names_any(part) for part in reading.present), (phrase.format(x=thing), reading)


@pytest.mark.parametrize(
    "text",
    [
        "Tumour-free margins.",
        "The margins are tumour-free.",
        "Negative margins.",
        "Margins: negative.",
        "The margins are clear.",
        "Clear surgical margins.",
        "Non-necrotic tumour.",
        "The muscle is uninvolved.",
        "Non-malignant tissue.",
    ],
)
def test_words_that_hold_their_own_denial(text: str) -> None:
    assert read(text).absent


@pytest.mark.parametrize(
    "text",
    [
        "Clear cell carcinoma.",
        "Triple-negative carcinoma.",
        "Free-lying tumour cells.",
        "Non-keratinizing squamous cell carcinoma.",
        "The margin is <1 mm from the tumour.",
        "Tumour at 0.25 µm/px.",
        "pT2 N0 M0 carcinoma.",
        "No field is tumour-free.",
    ],
)
def test_words_that_only_look_like_a_denial(text: str) -> None:
    assert not read(text).absent


def _verdict(text: str, mpp: float) -> str | None:
    seen = Observation(tool="zoom", text="Seen.", box=Box(0, 0, 9, 9), mpp=mpp, image="regions/a.jpg")
    steps = {1: Step(index=1, action=Action(tool="zoom"), observation=seen, finding="f")}
    return judge(Claim(text=text, steps=[1]), steps, {}).unsupported


@pytest.mark.parametrize("phrase", ABSENT)
def test_an_absence_never_stands_on_a_look_that_is_too_coarse_nor_without_coverage(phrase: str) -> None:
    for thing, mpp in THINGS.items():
        text = phrase.format(x=thing)
        assert "needs" in str(_verdict(text, mpp * 1.2)), text
        assert _verdict(text, 0.25) is not None, f"{text}: coverage is not known"


SAID_ABSENT = """
Mitotic count: 0 per 10 HPF.
Zero mitoses per 10 high-power fields.
Mitotic activity is nil.
Mitotic figures: none identified
Mitoses 0/50 HPF
Mitotic rate 0/mm²
Mitotic rate: 0 mitoses/mm2
The mitotic count is zero.
The mitotic count was 0 in 10 fields.
A mitotic count of 0 was obtained.
A count of zero mitoses
Necrosis 0 %
Necrosis: 0%
0% necrosis
Tumour cellularity 0 %
zero percent necrosis
No mitosis was observed
Not one mitosis was seen.
Not a single mitotic figure
Mitoses were sought but not found.
Mitoses were searched for without success.
Mitoses are conspicuously absent.
Mitoses are conspicuous by their absence.
Nowhere are mitoses seen.
There was a total absence of necrosis.
Necrosis-free tumour
The tumour is necrosis free.
Devoid of any necrosis
Bereft of glands
Glands are lacking.
The tumour is lacking in glands.
Gland formation is wanting.
The sections fail to demonstrate invasion.
The sections failed to disclose malignancy.
Failure to identify mitoses
I did not find any mitotic figures.
We found no lymphovascular invasion.
Lymphovascular invasion: not identified
Lymphovascular invasion: Absent.
Perineural invasion (-)
LVI: none; necrosis: none; mitoses: 0.
Neither mitoses nor necrosis is present.
Neither necrosis, nor mitoses.
Without evidence of necrosis
sans necrosis
Nil mitoses
Mitoses - nil
Mitoses – none
Mitoses: -
Mitoses = 0.
mitoses (0)
mitoses (none)
mitoses: n=0
0 of 10 fields contain mitoses.
0 out of 10 HPF with mitoses
None of 10 HPF has mitoses.
No more mitoses are seen.
Mitotic figures are hardly ever seen.
There is nothing to suggest malignancy.
Nothing malignant.
Malignancy is not suspected.
Unremarkable nuclei
Nuclei without atypia
Cytologically bland nuclei
Bland cytology without mitoses
amitotic
Mitoses not present.
Mitoses non-existent
Mitoses were undetectable
Mitosis: No
Mitoses? No.
Are there mitoses? None.
Fewer than 1 mitosis per 10 HPF
<1 mitosis/10 HPF
less than one mitotic figure per HPF
Mitoses 0–0 per HPF
The specimen is tumor-free.
Tumor negative
Lymph node negative for tumour (0/12).
0/12 lymph nodes with metastasis
0 of 12 nodes positive for metastases
The absence of mitoses is notable.
Mitoses, necrosis and atypia are all absent.
Absent are mitoses and necrosis.
Lack of glandular differentiation.
Mitotically inactive.
Never seen: mitoses.
No: mitoses, necrosis, invasion.
It is free of any mitoses, and so benign.
Mitoses cannot be demonstrated.
Mitoses couldn’t be seen.
Mitoses can't be found
Mitoses weren't seen
Mitoses have not been observed
Mitoses haven't been found here
Mitoses are not at all evident
Mitoses do not seem to be present
Mitoses do not appear to be present.
Mitoses seem absent.
Mitoses appear to be absent
Mitoses are presumably absent
Mitoses may be absent
Absence of any convincing mitoses
No convincing or definite mitoses
No obvious mitoses in the field
No unequivocal mitosis
There is little or no necrosis.
There is little to no necrosis.
Invasion is excluded
Excluded: invasion
Malignancy ruled out
"""
SAID_PRESENT = """
Not only necrosis
There's no doubt that necrosis is present
Undoubtedly necrosis.
No question: necrosis.
Without question necrosis is present.
Necrosis is unquestionably present.
Necrosis is undeniable.
Necrosis is impossible to overlook.
Necrosis can't be missed.
Necrosis, no doubt.
No doubt necrosis.
Mitoses are not absent.
Mitoses are never absent.
Mitoses are by no means absent
It would be wrong to say there are no mitoses.
There are no fewer than 3 mitoses.
Not fewer than 3 mitoses.
No less than 20 mitoses per 10 HPF.
At least 10 mitoses per 10 HPF
Mitoses: 20/10 HPF
Mitoses: 10
Mitoses: 100 per 10 HPF
Necrosis 50 %
Necrosis 10%
Necrosis (20 %)
30 of 100 nuclei are atypical
Mitoses not infrequent.
Mitoses not hard to find
Mitoses are not difficult to find.
No part of the tumour is without necrosis.
No gland is free of tumour.
There is no absence of necrosis.
Necrosis is not lacking.
Glands not lacking
Not devoid of glands
not free of tumour
The margin is not clear of tumour.
The margins are not free.
The margins are not clear of carcinoma.
The margins are not tumour-free
The surgical margin is not negative.
Positive margins.
The margin is involved, not free.
Nothing but necrosis
No other diagnosis than carcinoma fits.
None other than squamous cell carcinoma
Non-small cell lung carcinoma
Non-Hodgkin lymphoma
No special type carcinoma
NST carcinoma
Carcinoma NOS
Carcinoma, not further specified
Nonkeratinising carcinoma
HER2-negative carcinoma
Triple negative carcinoma
Free-floating tumour clusters
Freely lying tumour cells
Tumour at stage pT0 to pT1
10 mitoses in 10 fields, so not zero
Over 0 mitoses
The mitotic count is above 0.
Mitotic count 1.0 per field
0.5 mitoses per field
Mitotic count: 5 (0.5 per field)
Box (0, 0, 100, 100) shows tumour
Tumour from x 0 to 500
Tumour at (0, 0)
Necrosis is present without doubt
Necrosis as well as mitoses
Necrosis is present in no small amount.
not just necrosis but mitoses
Necrosis can hardly be denied.
Mitoses are no rarity
No rarity: mitoses
"""


@pytest.mark.parametrize("text", SAID_ABSENT.strip().splitlines())
def test_pathologists_ways_of_saying_that_there_is_nothing(text: str) -> None:
    words = said(text)
    assert words.absent
    assert not words.unread


@pytest.mark.parametrize("text", SAID_PRESENT.strip().splitlines())
def test_pathologists_ways_of_saying_that_there_is_something(text: str) -> None:
    words = said(text)
    assert not words.absent
    assert not words.unread
    assert any(scope.word for scope in words.present)


def test_an_absence_that_names_nothing_is_of_what_was_named_before() -> None:
    for text in ("Mitoses – none.", "Mitoses were sought but not found.", "Are there mitoses? None."):
        assert [scope.word.lower() for scope in said(text).absent] == ["mitoses"], text


@pytest.mark.parametrize(
    "text",
    [
        "No mitoses, and necrosis cannot be excluded.",
        "Mitoses are absent and invasion was not assessed.",
        "Necrosis is indeterminate, 0 mitoses per 10 HPF.",
        "Keine Mitosen, Nekrose nicht beurteilbar.",
        "Sin mitosis, no se puede descartar necrosis.",
        "未见核分裂象、不能排除坏死。",
    ],
)
def test_an_absence_beside_what_is_left_open_is_read(text: str) -> None:
    assert [scope.mpp for scope in said(text).absent] == [0.5]


def test_published_english_is_known_as_english(shared: Path) -> None:
    rows = json.loads((shared / "data/qa/wsi-bench/Morphology_choice_test.json").read_text())
    texts = {turn["value"] for row in rows for turn in row["conversations"]}
    sentences = sorted({part for text in texts for part in re.split(r"(?<=[.!?;])\s+|\n+", text)})
    words = [part for part in sentences if re.search("[a-z]{3} ", part)][:600]
    assert len(words) > 300
    unread = [part for part in words if language_of(part) != "en"]
    assert len(unread) <= 0.01 * len(words), unread


def test_every_scale_is_tested() -> None:
    assert {scale.mpp for scale in SCALES} <= set(THINGS.values())
