# ruff: noqa: E501
"""Replies as models and people write them, as templates over option sets that are easy to confuse.

{L} is the letter of the option that is meant, {N} its number, {O} its words, {o} the same with a small first letter,
{X} the words of another option and {M} the letter of that one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

OPTION_SETS: list[list[str]] = [
    ["Adenocarcinoma", "Squamous cell carcinoma", "Small cell carcinoma"],
    ["Carcinoma", "Squamous cell carcinoma", "Small cell carcinoma", "Non-small cell carcinoma"],
    ["T1 N0 MX", "T1 NX M0", "T1 NX MX", "T2 NX MX"],
    ["T1N0M0.", "T2N0M0.", "T3N1M1.", "T4N0M0."],
    ["pT1a,pN0,M0", "pT1c,pN0,M0", "pT2,pN1,M0", "pT3,pN0,M0"],
    ["Grade 1", "Grade 2", "Grade 3"],
    ["Grade 3", "Grade 2", "Grade 1"],
    ["Grade I", "Grade II", "Grade III", "There is no clear determination of major differentiation."],
    ["N0", "N1", "N2", "N3"],
    ["I", "II", "III", "IV"],
    ["Stage I", "Stage II", "Stage III", "Stage IV"],
    ["HER2+", "HER2-"],
    ["HER2 -", "HER2 +", "Not tested"],
    ["PD-L1 <1%", "PD-L1 ≥1%"],
    ["<10%", "10-50%", "51-90%", ">90%"],
    ["1-3%", "5-10%", "20-30%", "40-50%"],
    ["2 mm", "2 cm", "20 mm", "0.2 cm"],
    ["1.0 mm", "10 mm", "0.1 mm"],
    ["1", "10", "1.5", "0"],
    ["Yes", "No", "Uncertain"],
    ["True", "False"],
    ["Present", "Absent"],
    ["Yes, there is a small focus", "Yes, there is more than a small focus", "Not sure", "No, there is none present"],
    ["Perineural invasion", "Comedonecrosis", "Vascular invasion", "None of the above"],
    ["Angiosarcoma", "Atypical hyperplasia", "Acinar pattern", "All of the above"],
    ["α-catenin loss", "β-catenin loss", "E-cadherin loss"],
    ["Type A thymoma", "Type AB thymoma", "Type B1 thymoma", "Thymic carcinoma"],
    ["G1 - Well-differentiated", "G2 - Moderately differentiated", "G3 - Poorly differentiated", "G4 - Undifferentiated"],
    ["Poorly differentiated (G3).", "Moderately differentiated (G2).", "Well-differentiated (G1).", "Undifferentiated (G4)."],
    ["High grade", "Low grade", "Intermediate"],
    ["Papillary", "Micropapillary", "Solid", "Acinar"],
    ["Invasive carcinoma", "Non-invasive carcinoma", "In situ carcinoma", "Benign"],
    ["Smooth nuclei with prominent nucleoli", "Smooth nuclei without prominent nucleoli", "Irregular nuclei"],
    ["The tumor is composed of solid sheets of cells with no glandular structures.",
     "The tumor shows glandular structures, not solid sheets.",
     "The tumor shows papillary structures and no necrosis."],
    ["Ductal carcinoma, grade 2, ER+", "Ductal carcinoma, grade 2, ER-", "Lobular carcinoma, grade 2, ER+"],
    ["Left side", "Right side", "Both sides"],
    ["left", "right", "both"],
    ["Conventional (clear cell) renal cell carcinoma", "Chromophobe renal cell carcinoma", "Papillary renal cell carcinoma"],
    ["Acute inflammation", "Chronic inflammation", "Acute and chronic inflammation", "Fibrosis or scarring"],
    ["Score 0", "Score 1+", "Score 2+", "Score 3+"],
    ["Lung", "Small intestine", "Esophagus", "Adrenal gland"],
    ["A single large focus", "An area of necrosis", "A few scattered cells", "None"],
    ["Vascular invasion is not identified", "Capsular invasion is present", "Tumor is necrotic and cystic", "Necrosis is absent"],
    ["Zero", "Mild", "Moderate", "Marked"],
    ["Gleason 3+4=7", "Gleason 4+3=7", "Gleason 4+4=8"],
    ["1 of 4", "2 of 4", "3 of 4"],
]  # fmt: skip

BY_LETTER = """
{L}
{L}.
({L})
{L})
[{L}]
**{L}**
"{L}"
{L}:
Option {L}
option {L}.
Choice {L}
Answer: {L}
answer: {L}.
**Answer: {L}**
**Answer:** {L}
Answer - {L}
Answer = {L}
Final answer: {L}
FINAL ANSWER: {L}
Final Answer: ({L})
My final answer is {L}.
The answer is {L}
The answer is {L}.
The answer is: {L}
The answer is ({L}).
The answer is **{L}**.
The answer is option {L}.
The correct answer is {L}.
The correct option is {L}.
The correct choice is ({L}).
The right answer would be {L}.
The best answer is {L}.
The best option is {L}.
The most likely answer is {L}.
So the answer is {L}.
Therefore, the answer is {L}.
Thus the correct answer is option {L}.
Hence, {L}.
In conclusion, {L}.
I choose {L}.
I choose option {L}.
I would choose {L}.
I'd go with {L}.
I will go with option {L}.
I pick {L}.
I select {L}
I'd say {L}.
I think it is {L}.
I think the answer is {L}.
I believe {L} is correct.
I am confident that the answer is {L}.
My choice is {L}.
My answer: {L}
It is {L}.
It's {L}.
It must be {L}.
{L} is correct.
{L} is right.
{L} is the correct answer.
{L} is the answer.
{L} is my answer.
{L} is the best choice.
{L} seems most likely.
{L} fits best.
{L} best describes the findings.
Option {L} is correct.
Option {L} is the best fit.
Definitely {L}.
{L}, because the morphology fits.
{L} because the morphology fits.
{L} - because the morphology fits.
{L}. The morphology fits.
{L}\\n\\nThe morphology fits.
{L}: the morphology fits.
The answer is {L} because the morphology fits.
The answer is {L}, because of the architecture.
The answer is {L}, not {M}.
It is {L}, not {M}.
It is {L} and not {M}.
{L}, not {M}.
{L} rather than {M}.
{L} instead of {M}.
I choose {L} over {M}.
I favor {L} over {M}.
Not {M} but {L}.
It is not {M} but {L}.
It is not {M}; it is {L}.
{M} is wrong. {L} is right.
{M} is incorrect; {L} is correct.
{L} is right. {M} is wrong.
{L} is more likely than {M}.
{M} is unlikely. The answer is {L}.
{M} can be excluded, so {L}.
{M} is excluded. Answer: {L}
{M} does not fit. {L} fits.
Although {M} was considered, the answer is {L}.
I initially considered {M}, but the answer is {L}.
The answer is {M}... no, wait, {L}.
The answer is {M}. Wait, that is wrong. The answer is {L}.
\\boxed{{{L}}}
$\\boxed{{{L}}}$
$\\boxed{{\\text{{{L}}}}}$
$$\\boxed{{\\textbf{{{L}}}}}$$
The answer is \\boxed{{{L}}}.
The final answer is $\\boxed{{{L}}}$. I hope it is correct.
\\fbox{{x}} \\boxed{{\\mathrm{{{L}}}}}
<answer>{L}</answer>
<answer>({L})</answer>
<answer> {L}. </answer>
<answer>{L}
<final_answer>{L}</final_answer>
<think>It may be {M}.</think><answer>{L}</answer>
<think>The answer is {M}... wait, no.</think> {L}
<think>The answer is {M}.</think>The answer is {L}.
<think>\\nIs it {M}?\\n</think>\\n\\n{L}
<thinking>{M} is correct.</thinking>\\n{L}
<reasoning>I choose {M}</reasoning>{L}
<reflection>{M}</reflection>\\n{L}
<seed:think>{M}</seed:think>{L}
◁think▷The answer is {M}.◁/think▷{L}
[THINK]The answer is {M}.[/THINK]{L}
The answer is {M}, I think.</think>{L}
<|channel|>analysis<|message|>The answer is {M}.<|end|><|start|>assistant<|channel|>final<|message|>{L}
<|channel|>analysis<|message|>Maybe {M}<|end|><|start|>assistant<|channel|>final<|message|>The answer is {L}.<|return|>
analysisThe answer may be {M}.assistantfinalThe answer is {L}.
<|START_THINKING|>{M}<|END_THINKING|><|START_RESPONSE|>{L}<|END_RESPONSE|>
<|begin_of_thought|>{M}<|end_of_thought|><|begin_of_solution|>{L}<|end_of_solution|>
<unused94>thought\\nThe answer is {M}<unused95>{L}
<scratchpad>{M}</scratchpad>The answer: {L}
<|begin_of_box|>{L}<|end_of_box|>
{{"answer": "{L}"}}
{{"answer":"{L}."}}
{{"answer": "({L})"}}
{{"choice": "{L}"}}
{{"option": "{L}"}}
{{"final_answer": "{L}"}}
{{"Answer": "Option {L}"}}
{{'answer': '{L}'}}
{{"reasoning": "{M} is possible", "answer": "{L}"}}
{{"answer": "{L}", "confidence": 0.8}}
{{"answer": ["{L}"]}}
```json\\n{{"answer": "{L}"}}\\n```
Here is my answer:\\n```json\\n{{"choice": "{L}"}}\\n```
The form is {{"answer": "..."}}.\\n{{"answer": "{L}"}}
{{"answer": "<letter>"}} is the form. {L}
{{"answer": "A|B|C|D"}}\\nThe answer is {L}.
[[{L}]]
答案：{L}
答案是{L}
答案是 {L}。
正确答案：{L}
正确答案是{L}，不是{M}。
选{L}
选择{L}
我选择{L}。
选项{L}
应该选{L}。
答え：{L}
正解は{L}です。
정답: {L}
정답은 {L}입니다.
Ответ: {L}
Правильный ответ: {L}.
Ответ — {L}
Antwort: {L}
Die Antwort ist {L}.
Die richtige Antwort ist {L}.
Ich wähle {L}.
Réponse : {L}
La réponse est {L}.
La bonne réponse est {L}.
Respuesta: {L}
La respuesta es {L}.
La respuesta correcta es {L}.
Risposta: {L}
La risposta è {L}.
Resposta: {L}
A resposta é {L}.
A resposta correta é {L}.
Svar: {L}
Antwoord: {L}
Odpowiedź: {L}
Cevap: {L}
Đáp án: {L}
There is no doubt: {L}.
There is no doubt that the answer is {L}.
Without a doubt, {L}.
"""

BY_NUMBER = """
{N}
{N}.
({N})
Option {N}
option {N}.
Answer: {N}
The answer is {N}.
Final answer: {N}
The correct option is {N}.
I choose option {N}.
\\boxed{{{N}}}
<answer>{N}</answer>
{{"answer": {N}}}
{{"answer": "{N}"}}
{{"answer": {N}.0}}
{{"answer": [{N}]}}
{{"choice": {N}}}
{{"answer": "option {N}"}}
答案：{N}
<think>3 or 1</think>{N}
"""

BY_WORDS = """
{O}
{O}.
**{O}**
"{O}"
{O}!
- {O}
Answer: {O}
answer: {o}
**Answer:** {O}
Answer: "{O}"
Final answer: {O}
FINAL ANSWER: {O}.
My final answer: {O}
The answer is {o}
The answer is {O}.
The answer is: {O}
The answer is "{O}".
The answer is **{O}**.
The correct answer is {O}.
The correct option is: {O}
The most likely answer is {o}.
The best option is {O}.
The answer would be {O}.
The diagnosis is {O}.
Diagnosis: {O}
Conclusion: {O}
I choose {O}.
I would choose "{O}".
I'd go with {O}.
I'd say {o}.
I pick {O}.
I select: {O}
I believe the answer is {O}.
I think the correct answer is {o}.
My choice: {O}
Therefore: {O}
So, {O}.
Most likely: {O}
There is no doubt: {O}
Without a doubt: {O}
{O} is correct.
{O} is the correct answer.
{O} is my answer.
{O} is the best answer.
"{O}" is right.
{L}. {O}
{L}) {O}
({L}) {O}
{L}: {O}
{L} - {O}
**{L}. {O}**
{L}. {O} - the morphology fits.
Answer: {L}. {O}
Answer: {L}) {O}
The answer is {L}. {O}
The answer is {L}: {O}.
The answer is ({L}) {O}.
The answer is {L}, {o}.
The correct answer is **{L}) {O}**
Option {L}: {O}
The answer is {O} ({L}).
{O} (option {L})
{N}. {O}
{N}) {O}
Answer: {N}. {O}
{{"answer": "{O}"}}
{{"answer": "{L}. {O}"}}
{{"answer": "{L}) {O}"}}
{{"choice": "{O}"}}
{{"choice": "{L}", "answer": "{O}"}}
{{"diagnosis": "{O}"}}
{{"answer": "{O}", "explanation": "It is not {X}."}}
<answer>{O}</answer>
<answer>{L}. {O}</answer>
\\boxed{{\\text{{{O}}}}}
<think>The answer is {X}.</think>{O}
<think>Maybe {X}, or not.</think>\\nThe answer is {O}.
[THINK]{X}[/THINK]{O}
答案：{O}
Antwort: {O}
Réponse : {O}
Respuesta: {O}
Ответ: {O}
"{O}" rather than "{X}"
"{O}", not "{X}"
The answer is "{O}", not "{X}".
I choose "{O}" over "{X}".
Not "{X}" but "{O}".
"{X}" is wrong. "{O}" is right.
The answer is "{X}"... wait, no. The answer is "{O}".
I considered "{X}", but the answer is "{O}".
"""

IN_SENTENCES = """
This is {a} {o}.
This is a {o}.
It is {a} {o}.
The answer is {a} {o}.
Answer: {a} {o}
My final answer: {A} {o}.
The answer would be {a} {o}
The tumor is {a} {o}.
The findings are consistent with {o}.
The findings are most consistent with {a} {o}.
The morphology favors {o}.
These features support {o}.
I would call this {a} {o}.
This represents {a} {o}.
The diagnosis is {a} {o} rather than {x}.
{O} rather than {x}
{O} rather than {ax} {x}.
{O}, not {x}
{O}, not {ax} {x}.
{O} and not {x}.
{O}, rather than {x}, is favored.
This is {a} {o} (not {ax} {x}).
This is {a} {o}, not {ax} {x}.
It is {o}, not {x}.
It is not {x} but {o}.
Not {x}, but {o}.
I see {o} instead of {x}.
There is no doubt that this is {a} {o}.
No doubt: {o}.
{X} can be excluded. This is {a} {o}.
{X} is unlikely; {o} is favored.
{X} is excluded; the diagnosis is {o}.
{O} is favored over {x}.
{O} is more likely than {x}.
In contrast to {x}, this is {a} {o}.
The slide shows {a} {o}.
Keratin is seen. {O}.
"""
"""For options that name a thing: {a} and {ax} are the fitting articles."""

NOTHING = """
I cannot tell.
I'm sorry, I can't help with medical images.
I am unable to determine this from the image.
{L} or {M}
{L} or {M}.
Either {L} or {M}.
It is either {L} or {M}.
It could be {L} or {M}.
The answer is {L} or {M}.
The answer is either {L} or {M}
{L}/{M}
{L} and {M}
{L}, {M}
Both {L} and {M} are possible.
The answer is {L}. The answer is {M}.
Not {L}.
It is not {L}.
The answer is not {L}.
I don't think it is {L}.
{L} is wrong.
{L} is incorrect.
{L} can be excluded.
{L}?
Is it {L}?
If the stain were positive, the answer would be {L}.
I cannot say whether it is {L}.
I cannot decide between {L} and {M}.
It is hard to choose between {L} and {M}.
Neither {L} nor {M}.
Answer: {L}. No, I am not sure; maybe {M}.
{L}. {X}
{L}) {X}
({L}) {X}
Answer: {L}. {X}
The answer is {L}: {X}
Option {L}: {X}
{X} ({L})
{{"answer": "{L}. {X}"}}
{{"answer": "{L}", "choice": "{M}"}}
<answer>{L}</answer><answer>{M}</answer>
\\boxed{{{L}}} \\boxed{{{M}}}
"{O}" or "{X}"
"{O}" and "{X}" are both possible.
Either "{O}" or "{X}".
The answer is "{O}" or "{X}".
It is not "{O}".
The answer is not "{O}".
"{O}" is wrong.
"{O}" can be excluded.
Is it "{O}"?
I cannot say whether it is "{O}".
I cannot decide between "{O}" and "{X}".
If keratin were seen, the answer would be "{O}".
<think>The answer is {L}.</think>
<think>The answer is {L}
The answer is {L}</think>
[THINK]{O}
◁think▷{O}
<|channel|>analysis<|message|>The answer is {L}.
{{"answer": "..."}}
{{"answer": ""}}
{{"answer": null}}
{{"choice": "<one of the options>"}}
{{"answer": "{L} or {M}"}}
A biopsy is needed.
A second stain is needed.
The best option is a biopsy.
The best option is to ask a colleague.
I would need more images.
Answer: Z
The answer is Z.
The slide was stained with H&E.
Please consult a pathologist.
The options are {L} and {M}.
\\boxed{{}}
Vitamin {L}
Answer: {N} or 7
{N} of 9
Image {L} shows tissue.
"""


class Case(NamedTuple):
    """A reply, the options it answers, and the one it means."""

    reply: str
    options: Sequence[str]
    meant: str | None


def lines(table: str) -> list[str]:
    """The templates of a table; a line break inside one is written as backslash n."""
    return [line.replace("\\n", "\n").replace("\\\\", "\\") for line in table.strip("\n").split("\n")]


def letters_are_free(options: Sequence[str]) -> bool:
    """Whether no option bears a letter that is also the label of one."""
    return not any(re.search(r"(?<![\w-])[A-J](?![\w-])(?!\s+[a-z])", option) for option in options)


def numbers_are_free(options: Sequence[str]) -> bool:
    """Whether a number can only be a place among the options."""
    words = r"\d|\b(?:zero|one|two|three|four|single|I{1,3}|IV|V)\b"
    return not any(re.search(words, option, re.IGNORECASE) for option in options)


def filled(template: str, options: Sequence[str], place: int, other: int) -> str:
    """One reply of a template."""
    own, another = options[place].rstrip("."), options[other].rstrip(".")

    def small(text: str) -> str:
        return text[:1].lower() + text[1:] if text[1:2].islower() else text

    return template.format(
        L="ABCDEFGHIJ"[place], M="ABCDEFGHIJ"[other], N=place + 1, O=own, X=another, o=small(own), x=small(another),
        a=article(own), ax=article(another), A=article(own).upper() if len(article(own)) == 1 else "An",
    )  # fmt: skip


def article(words: str) -> str:
    """The article that goes before words."""
    return "an" if words[:1].lower() in "aeio" else "a"


def names_things(options: Sequence[str]) -> bool:
    """Whether the options are names of things, so that sentences can hold them."""
    plain = all(re.fullmatch(r"[A-Za-z][a-z]+(?:[- ][a-z]+)*", option) for option in options)
    common = {
        "yes",
        "no",
        "true",
        "false",
        "all",
        "none",
        "present",
        "absent",
        "zero",
        "not",
        "left",
        "right",
        "an",
        "a",
    }
    return plain and not any({*option.lower().split()} & common for option in options)


def readable_cases(option_sets: Sequence[Sequence[str]], every: int = 1) -> Iterator[Case]:
    """Replies that a person would read, over all options of all sets; of long runs only every n-th."""
    number = 0
    for options in option_sets:
        tables = [
            (BY_WORDS, True),
            (BY_LETTER, letters_are_free(options)),
            (BY_NUMBER, numbers_are_free(options)),
        ]
        tables.append((IN_SENTENCES, names_things(options)))
        for table, fits in tables:
            for template in lines(table) if fits else []:
                for place, option in enumerate(options[:10]):
                    number += 1
                    other = (place + 1 + number % (len(options) - 1)) % len(options)
                    other = other if other != place else (place + 1) % len(options)
                    if number % every == 0 and other < 10:
                        yield Case(filled(template, options, place, other), options, option)


def unreadable_cases(option_sets: Sequence[Sequence[str]], every: int = 1) -> Iterator[Case]:
    """Replies that a person would not read as any option."""
    number = 0
    for options in option_sets:
        for template in lines(NOTHING):
            for place in range(min(len(options), 10)):
                number += 1
                other = (place + 1) % len(options)
                if number % every == 0 and other < 10:
                    yield Case(filled(template, options, place, other), options, None)
