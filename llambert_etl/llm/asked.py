"""What the LLM is asked about a document, to be looked at before anybody is paid for an answer."""

from pathlib import Path
from typing import NamedTuple

from llambert_etl.config import LabellingTask
from llambert_etl.llm.chat import CONTROL
from llambert_etl.llm.prompts import DOCUMENT, TURN_MARKS, Completion, in_one_line, render, without_marks


class Turn(NamedTuple):
    """`role` is that of a chat, or `text` for what a model goes on with."""

    role: str
    content: str


def asked(task: LabellingTask, include: Path, text: str) -> list[Turn]:
    """Return the turns of a chat, which the model's own format then joins, or the one text of a completion."""
    prompt = render(task, include)
    shown = without_marks(text, CONTROL if task.annotator.remote else TURN_MARKS)
    if isinstance(prompt, Completion):
        line = in_one_line(shown) if prompt.of_lines else shown
        return [Turn("text", prompt.content.replace(DOCUMENT, line))]
    return [Turn(message.role, message.content.replace(DOCUMENT, shown)) for message in prompt.messages]
