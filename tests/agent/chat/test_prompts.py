"""What is said to a chat model, and what tells one set of prompts from another."""

from __future__ import annotations

import inspect
import re
from types import ModuleType

import pytest

from agent.chat import prompts

SOURCE = inspect.getsource(prompts)


def digest_of(source: str) -> str:
    """The digest of prompts with another source."""
    module = ModuleType("other_prompts")
    exec(compile(source, "other_prompts.py", "exec"), module.__dict__)
    return str(module.prompts_digest())


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (r'\nDATA = """', '\n# A comment.\nDATA = """'),
        (r"\bNO_MORE\b", "NOTHING_MORE"),
        (r"\bhints_text\b", "words_of_hints"),
        (r'"""Coverage in few words."""', '"""Another docstring."""'),
    ],
)
def test_comments_and_names_are_no_part_of_the_prompts(pattern: str, replacement: str) -> None:
    changed = re.sub(pattern, replacement, SOURCE)
    assert changed != SOURCE
    assert digest_of(changed) == prompts.prompts_digest()


@pytest.mark.parametrize(
    ("word", "other"),
    [
        ("You are a second pathologist", "You are another pathologist"),
        ("or finer", "and finer"),
        ("{label}. {option}", "{label}) {option}"),
        ("asks you to consider", "wants you to consider"),
        ("ascii_uppercase[:count]", "ascii_uppercase[::-1][:count]"),
        ("str(i + 1)", "str(i)"),
        ('"\\n".join(lines)', '"; ".join(lines)'),
    ],
)
def test_a_changed_word_makes_other_prompts(word: str, other: str) -> None:
    changed = SOURCE.replace(word, other)
    assert changed != SOURCE
    assert digest_of(changed) != prompts.prompts_digest()


def test_every_template_is_part_of_the_digest() -> None:
    texts = [value for name, value in vars(prompts).items() if name.isupper()]
    assert len(texts) > 40
    assert all(isinstance(text, str) or set(map(type, text.values())) == {str} for text in texts)
    assert prompts.values()[: len(texts)] == texts
