"""Ask a question from a program, follow the steps, and read what the answer rests on.

python examples/ask_from_python.py slide.tiff "What is the grade?" 1 2 3
"""

from __future__ import annotations

import sys

import agent


def main(slide: str, question: str, options: list[str]) -> agent.Answer:
    """Print each step as it is made, then the answer; return it."""
    for item in agent.stream(slide, question, options=options or None):
        if isinstance(item, agent.Step):
            print(f"step {item.index}, {item.action.tool}: {item.finding}")
        elif isinstance(item, agent.Answer):
            answer = item

    if answer.abstained:
        print(f"No answer: {answer.reason}")
    else:
        print(f"{answer.choice or answer.answer} (confidence {answer.confidence:.2f})")
    for evidence in answer.evidence:
        print(f"  step {evidence.step}, box {evidence.box}, image {evidence.image}")
    print(f"Everything is in {answer.run_dir}")
    return answer


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
