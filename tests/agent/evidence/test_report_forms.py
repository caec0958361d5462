"""Findings as reports write them: checklists, tables, bullets, ticks, counts and signs."""

from __future__ import annotations

import pytest

from agent.evidence.claims import said

SAID_ABSENT = """
Necrosis: Not identified
LVI: Absent
| Mitoses | 0 |
| Necrosis | absent |
| Necrosis | No |
| LVI | - |
| Mitoses | 0 | per 10 HPF |
| Mitotic rate | <1/mm2 |
| Necrosis | none |
| Necrosis | ❌ |
Necrosis: ❌
Necrosis: ✗
Necrosis: ☐ present ☒ absent
Mitotic rate: <1/mm2
- Necrosis: none
• Mitoses: absent
* Perineural invasion: not seen
Lymphovascular invasion: Not present
Tumor necrosis: Not identified.
Keine Mitosen
0个核分裂象
核分裂象：0个/10HPF
核分裂象0/10HPF
Mitosen: keine
Nekrosen: nicht vorhanden
Ulceration: Not identified
Dysplasia: negative
Negative for dysplasia
Granulomas: not seen
H. pylori: negative
Helicobacter pylori: not identified
Inflammation: nil
Mitotic figures: 0
Mitotic count: 0/mm²
Mitotic count: <1 per 10 HPF
Mitoses: less than 1 per mm2
Mitoses = 0
Mitoses: zero per 10 high-power fields
Mitotic rate: 0
Necrosis: N
Necrosis: no.
Necrosis: (no)
Necrosis: N/A - absent
**Necrosis:** absent
**Mitoses**: none seen
Necrosis → absent
Mitoses → 0
Necrosis? No.
Necrosis? None seen.
Lymph nodes: 0/12 positive
0 of 12 lymph nodes with metastasis
Twelve lymph nodes, all negative for carcinoma
No carcinoma in 12 lymph nodes (0/12)
pN0: no metastases
Vascular invasion not demonstrated
Vascular invasion: none demonstrated
Perineural invasion is not a feature
I could find no mitoses
I looked for mitoses and found none
We found neither necrosis nor mitoses
There was not one mitosis
There aren't any mitoses
There isn't any necrosis
Mitoses were not observed at 40x
Mitoses weren't seen
I failed to find mitoses
No necrotic foci
No definite mitotic activity
No obvious necrosis
No overt necrosis
No mitoses whatsoever
Absolutely no mitoses
Not any mitoses
Mitoses are nonexistent
Necrosis isn't seen
Necrosis was sought in vain
Mitoses do not occur
Mitosis count of zero
Mitosis count=0
mitoses 0
lack of mitotic activity
necrosis-free
mitoses: -
Necrosis: −
necrosis -ve
necrosis (-ve)
Nary a mitosis
Nary a mitosis was found
Mitotic count: 0 (zero)
There is total absence of glands
No tumour; no necrosis; no mitoses
Necrosis and mitoses are absent
Necrosis and mitoses: absent
Necrosis / mitoses: absent
Mitoses are not increased and necrosis is absent
"""

SAID_PRESENT = """
Necrosis: Present
| Mitoses | 5 |
| Mitoses | 10 |
| Necrosis | present |
| Necrosis | Yes |
| Necrosis | + | focal |
Mitotic rate: 12/mm2
Mitotic rate: >1/mm2
Mitotic rate: ≥1/mm2
Mitoses: 1-2 per HPF
Mitoses: 0-1 per HPF
Mitoses: 3 (per 10 HPF)
- Necrosis: present, focal
• Mitoses: frequent
* Perineural invasion: identified
Mitosen: 12 pro 10 HPF
Mitosen: vorhanden
10个核分裂象
核分裂象：20个/10HPF
核分裂象多见
坏死明显
Necrosis: ☒ present ☐ absent
Necrosis: ✓
Necrosis: ✅
Necrosis: yes
Necrosis: (+)
Necrosis +
Necrosis +ve
**Necrosis:** present
**Mitoses**: numerous
Necrosis → present
10% necrosis
Necrosis: 10%
Lymph nodes: 3/12 positive for metastasis
Metastasis in 1 of 10 lymph nodes
Mitoses are frequent, not few.
Mitoses are many, not rare.
Necrosis is extensive, not focal.
Necrosis is focal, not extensive.
Tumour is high grade, not low grade.
Mitoses are atypical, not normal.
Necrosis is coagulative, not lytic.
Necrosis is real, not an artefact.
Not surprisingly, necrosis is present.
No wonder there is necrosis.
No fewer than 10 mitoses.
Not fewer than 10 mitoses
Mitoses in no way absent
Necrosis cannot be denied.
It is not true that necrosis is absent.
I would not say necrosis is absent.
Necrosis is not missing.
Mitoses do not lack.
There is no absence of mitoses.
Not without necrosis
Mitoses exceed 0.
Mitoses > 0
100 mitoses
Mitotic count 10.0
Mitotic count: 30
Mitotic activity is brisk
Mitoses are easily found
Mitoses are hard to miss.
Necrosis is impossible to overlook.
There is nothing but necrosis.
Mitoses are countless.
Necrosis is undeniable.
Innumerable mitoses
"""

LISTS = [
    ("Mitoses: 0\nNecrosis: present", ["Necrosis"], ["Mitoses"]),
    ("Necrosis: present\nMitoses: 0", ["Necrosis"], ["Mitoses"]),
    ("- Mitoses: 5 per 10 HPF\n- Necrosis: none", ["Mitoses"], ["Necrosis"]),
    ("| Feature | Finding |\n|---|---|\n| Mitoses | 0 |\n| Necrosis | present |", ["Necrosis"], ["Mitoses"]),
    ("Tumour: present\nNecrosis: absent\nMitoses: absent", ["Tumour"], ["Necrosis", "Mitoses"]),
    ("* No mitoses\n* Necrosis", ["Necrosis"], ["mitoses"]),
    ("1. Necrosis: present\n2. Mitoses: absent", ["Necrosis"], ["Mitoses"]),
    ("Mitoses: 0, necrosis: present", ["necrosis"], ["Mitoses"]),
    ("There are no\nmitoses in the\ntumour", [], ["mitoses"]),
    ("There are no\nmitoses: a benign\ntumour", [], ["mitoses"]),
    ("Nekrose: vorhanden\nMitosen: keine", ["Nekrose"], ["Mitosen"]),
    ("坏死：有\n核分裂象：0个", ["坏死"], ["核分裂"]),
    ("No glands, necrosis is seen.", ["necrosis"], ["glands"]),
    ("Without glands, necrosis is present.", ["necrosis"], ["glands"]),
    ("No glands, mitoses are numerous.", ["mitoses"], ["glands"]),
    ("No glands, necrosis or mitoses are seen.", [], ["mitoses"]),
    ("Margins: uninvolved by carcinoma", ["Margins"], ["carcinoma"]),
    ("Mitoses – 0", ["Mitoses"], ["Mitoses"]),
    ("Mitoses are sought, not found.", [], ["Mitoses"]),
    ("Mitoses are absent, not few.", [], ["Mitoses"]),
    ("Necrosis is not seen, not extensive.", [], ["Necrosis"]),
]
"""A text of several findings, what is there, what is not."""


@pytest.mark.parametrize("text", SAID_ABSENT.strip().splitlines())
def test_an_entry_that_says_no_is_an_absence(text: str) -> None:
    words = said(text)
    assert words.absent
    assert not any(scope.word for scope in words.present)
    assert not words.unread


@pytest.mark.parametrize("text", SAID_PRESENT.strip().splitlines())
def test_an_entry_that_says_yes_is_no_absence(text: str) -> None:
    words = said(text)
    assert not words.absent
    assert any(scope.word for scope in words.present)
    assert not words.unread


@pytest.mark.parametrize(("text", "present", "absent"), LISTS)
def test_each_entry_of_a_list_speaks_for_itself(text: str, present: list[str], absent: list[str]) -> None:
    words = said(text)
    assert [scope.word for scope in words.present if scope.word] == present
    assert [scope.word for scope in words.absent] == absent
