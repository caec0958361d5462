"""Awkward replies, and what they answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.asking.reading import read_choice, read_label

ORGANS = ["Esophagus", "Lung", "Small Intestine", "Adrenal Gland"]
GRADES = [str(grade) for grade in range(6)]

CHOICES = [
    ('{"answer": 2}', "Lung"),
    ('{"answer": "2"}', "Lung"),
    ('{"answer": 2.0}', "Lung"),
    ('{"answer": [2]}', "Lung"),
    ('{"Answer": "Lung"}', "Lung"),
    ('{"answer": "2. Lung"}', "Lung"),
    ('{"answer": "B"}', "Lung"),
    ('{"answer": "(b)"}', "Lung"),
    ('{"answer": "option 3"}', "Small Intestine"),
    ('```json\n{"answer": 3}\n```', "Small Intestine"),
    ('I see villi.\n```json\n{"answer": 3}\n```\nThe villi decide it, not the 2 glands.', "Small Intestine"),
    ('{"reasoning": "1 or 2", "answer": 4}', "Adrenal Gland"),
    ('{"answer": 1}\nOn reflection:\n{"answer": 2}', "Lung"),
    ('{"answer": {"choice": 2}}', "Lung"),
    ('{"answer": [1, 2]}', None),
    ('{"answer": null}', None),
    ('{"answer": true}', None),
    ('{"answer": 0}', None),
    ('{"answer": 5}', None),
    ('{"answer": -1}', None),
    ('{"answer": 2.5}', None),
    ('{"answer": 2', "Lung"),  # cut off
    ("{'answer': 2}", "Lung"),
    ("{answer: 2,} Not 1, not 3.", "Lung"),
    ('{"result": {"answer": 2}}', "Lung"),
    ('{"answer": 1, "on reflection": {"answer": 2}}', "Lung"),
    ('[{"answer": 1}, {"answer": 2}]', "Lung"),
    ("{\"answer\": 2} not {'answer': 1}", "Lung"),
    ('{"a":' * 600 + '{"answer": 2}' + "}" * 600, "Lung"),
    ("2", "Lung"),
    ("2.", "Lung"),
    ("B", "Lung"),
    ("B) Lung", "Lung"),
    ("(B)", "Lung"),
    ("**B**", "Lung"),
    ("b", "Lung"),  # the whole reply is a letter
    ("Lung", "Lung"),
    ("lung.", "Lung"),
    ("The tissue is small intestine.", "Small Intestine"),
    ("The answer is B.", "Lung"),
    ("The answer is (B) because of alveoli", "Lung"),
    ("Answer: 3", "Small Intestine"),
    ("Final answer: Lung", "Lung"),
    ("The correct option is 4", "Adrenal Gland"),
    ("Of the options 1, 2 and 3, the answer is 3.", "Small Intestine"),
    ("Either option 1 or lung; final answer: 2", "Lung"),
    ("It is not lung but small intestine", "Small Intestine"),
    ("It is not lung.", None),
    ("Lung or esophagus", None),
    ("1 or 2", None),
    ("A typical section without diagnosis", None),
    ("I cannot help with medical images.", None),
    ("I'm sorry, I can't determine this from the image.", None),
    ("", None),
    ("   ", None),
    ("{}", None),
    ("null", None),
    ("12", None),
    ("99 red balloons", None),
]


@pytest.mark.parametrize(("text", "option"), CHOICES)
def test_a_reply_chooses_one_option_or_none(text: str, option: str | None) -> None:
    assert read_choice(text, ORGANS) == option


def test_an_option_within_another_is_not_meant_by_the_longer() -> None:
    options = ["carcinoma", "squamous cell carcinoma", "benign"]
    assert read_choice("This is a squamous cell carcinoma.", options) == "squamous cell carcinoma"
    assert read_choice("This is a carcinoma.", options) == "carcinoma"


def test_options_that_are_numbers_are_meant_by_their_place() -> None:
    """The prompt numbers the options: a bare number is a place, and itself only where no place fits."""
    assert read_choice('{"answer": 2}', ["10", "11", "12", "13"]) == "11"
    assert read_choice('{"answer": 12}', ["10", "11", "12", "13"]) == "12"


LABELS = [
    ('{"answer": 3}', "3"),
    ('{"answer": "3"}', "3"),
    ('{"answer": null}', "0"),
    ('{"answer": "null"}', "0"),
    ('{"isup_grade": 2}', "2"),
    ("ISUP grade 4", "4"),
    ("4", "4"),
    ("Gleason 3+4, grade group 2", "2"),
    ("The answer is 2 (Gleason 3+4=7)", "2"),
    *((text, None) for text in ('{"answer": 7}', '{"answer": -1}', "")),
    ("no cancer", "0"),
]


@pytest.mark.parametrize(("text", "label"), LABELS)
def test_a_grade_is_read_or_there_is_none(text: str, label: str | None) -> None:
    assert read_label(text, GRADES) == label


GRADED = [
    ("Gleason 4+3=7, ISUP grade group 3", "3"),
    ("GG3", "3"),
    ("three", "3"),
    ("benign", "0"),
    ("no cancer", "0"),
    ("Grade Group: 3", "3"),
    ("grade group III", "3"),
    ("ISUP grade 3/5", "3"),
    ("3.0", "3"),
    ("ISUP-Grad 3", "3"),
    ("Gleason score: 7 (3+4)", "2"),
    ("Gleason 4+3", "3"),
    ("Gleason 4+4=8", "4"),
    ("Gleason 5+4=9", "5"),
    ("Gleason score 6", "1"),
    ("Gleason 7", None),
    ("Gleason 3+4=8", None),
    ("Gleason 3+4=7, grade group 3", None),
    ("Gleason 7, grade group 3", "3"),
    ("grade group 2 or 3", None),
    ("ISUP 2-3", None),
    ("not benign", None),
    ("It is not grade group 2 but grade group 3", "3"),
    ("grade group 3 rather than 2", "3"),
    ("6", None),
    ("No carcinoma is seen.", "0"),
    ("negative for malignancy", "0"),
    ("no evidence of malignancy", "0"),
    ("Grade group 3, benign glands are adjacent", "3"),
    ("<think>GG2</think>GG3", "3"),
    ("\\boxed{3}", "3"),
    ("primary pattern 4", None),
    ("2 of 3 cores", None),
    ("Is it grade group 3?", None),
    ("I cannot grade it", None),
    ("Answer: 0", "0"),
    ('{"answer": 0}', "0"),
    ('{"answer": "GG 2"}', "2"),
    ('{"answer": "..."} GG2', "2"),
]


@pytest.mark.parametrize(("text", "label"), GRADED)
def test_a_grade_is_read_in_the_words_of_pathology(text: str, label: str | None) -> None:
    assert read_label(text, GRADES) == label


def test_what_is_present_means_yes_only_where_presence_is_asked_for() -> None:
    options = ["Yes", "No"]
    assert read_choice("Necrosis is present", options, "Is necrosis present?") == "Yes"
    assert read_choice("Necrosis is present", options, "Is necrosis absent?") is None
    assert read_choice("Keratin pearls are seen.", options, "Is the tumor an adenocarcinoma?") is None


def test_the_key_of_the_prompt_is_read() -> None:
    report = '{"primary_pattern": 4, "secondary_pattern": 3, "total_score": 7, "isup_grade": 3}'
    assert read_label(f"Glands fuse.\n```json\n{report}\n```", GRADES, "isup_grade") == "3"
    assert read_label('{"isup_grade": null}', GRADES, "isup_grade") == "0"


@given(st.text(max_size=300), st.lists(st.text(min_size=1, max_size=20), min_size=2, max_size=6, unique=True))
def test_whatever_is_said_gives_an_option_or_none(text: str, options: list[str]) -> None:
    assert read_choice(text, options) in [*options, None]


@given(st.integers(1, 4), st.sampled_from(['{{"answer": {}}}', "Answer: {}", "{}", "The answer is {}."]))
def test_every_place_can_be_named(place: int, form: str) -> None:
    assert read_choice(form.format(place), ORGANS) == ORGANS[place - 1]
