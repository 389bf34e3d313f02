"""From a task and its template to a prompt: everything around the document, with the document's place marked.

A template of include/prompts is either one text that the model goes on with (completion), or has a block `user`, and
perhaps `system`, that become turns of the model's own chat format. It must hold `{{ text }}` once, best near its end:
what stands before it is the same for all documents and is computed once. A completion is made of lines, and so are its
documents and its reply; or, where the template writes Llama 2's turn marks itself, of turns.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from llambert_etl.config import LabellingTask, fingerprint
from llambert_etl.errors import ConfigError

# Marks the document's place. Private-use characters: no template or label can hold them by accident.
DOCUMENT = "\ue000document\ue001"
# Llama 2 has no control tokens for turns: it was trained on these very characters.
# No two runs of white space meet in a pattern: they would share a long one out in every way that there is.
TURN_MARKS = re.compile(r"\[\s*(?:/\s*)?INST\s*\]|<<\s*(?:/\s*)?SYS\s*>>", re.IGNORECASE)
# Only from where white space begins: tried from each place in a long run of spaces, it would take hours.
_LINE_BREAKS = re.compile(r"(?<!\s)\s*[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+\s*")
_ROUND_BRACKETS = str.maketrans("[]<>", "()()")
# Part of every prompt hash: change it with any change of what a model is shown.
_RENDERER_VERSION = 3


@dataclass(frozen=True)
class Message:
    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Chat:
    """Turns for the model's chat format; the last user message holds the document's mark."""

    messages: tuple[Message, ...]


@dataclass(frozen=True)
class Completion:
    """Text that the model goes on with; holds the document's mark. Among lines, a line break could forge an example."""

    content: str
    of_lines: bool = True


def render(task: LabellingTask, include: Path) -> Chat | Completion:
    """Render the task's prompt around the document's mark. Raise ConfigError naming the template and the fault.

    The document never meets Jinja: `{{ … }}` in it stays what it is.
    """
    path = include / "prompts" / task.prompt.template
    source = _read(path)
    try:
        template = _environment().from_string(source)
        prompt = _chat(template, task) if "user" in template.blocks else _completion(template, task, source)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
        raise ConfigError(
            f"{path}: {error}; a template may use text, labels, examples and description, and nothing else"
        ) from error
    shown = prompt.content if isinstance(prompt, Completion) else "".join(m.content for m in prompt.messages)
    if shown.count(DOCUMENT) != 1:
        raise ConfigError(
            f"{path}: shows the document {shown.count(DOCUMENT)} times; write {{{{ text }}}} once, unfiltered"
        )
    return prompt


def without_marks(text: str, marks: re.Pattern[str] = TURN_MARKS) -> str:
    """Return a document's text with round brackets for those of what a model, or its server, would take for a mark."""
    return marks.sub(lambda mark: mark.group().translate(_ROUND_BRACKETS), text)


def in_one_line(text: str) -> str:
    return _LINE_BREAKS.sub(" ", text)


def prompt_hash(task: LabellingTask, include: Path) -> str:
    """Identify what the model is asked and how it answers. Another hash: nothing old is reused."""
    annotator = task.annotator
    # Only where they differ from what was there before them, so that older answers are found again.
    parse = {"parse": annotator.parse} if annotator.parse == "exact" else {}
    quantization = {"quantization": annotator.quantization} if annotator.quantization else {}
    # The others change no answer.
    left_out = sorted({"temperature", "system"} & annotator.left_out)
    return fingerprint(
        {
            **({"leave_out": left_out} if left_out else {}),
            **parse,
            **quantization,
            "renderer": _RENDERER_VERSION,
            "template": _read(include / "prompts" / task.prompt.template),
            "description": task.description,
            "labels": task.labels,
            "examples": [example.model_dump() for example in task.prompt.examples],
            "method": annotator.method,
            "max_new_tokens": annotator.max_new_tokens if annotator.method == "generate" else None,
        }
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; prompt.template names a file of {path.parent}") from error


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
    environment.globals.clear()
    return environment


def _text(template: Template, task: LabellingTask, text: str, block: str | None = None) -> str:
    variables = {
        "text": text,
        "labels": dict(task.labels),
        "examples": [example.model_dump() for example in task.prompt.examples],
        "description": task.description,
    }
    if block is None:
        return template.render(variables)
    return "".join(template.blocks[block](template.new_context(variables))).strip()


def _completion(template: Template, task: LabellingTask, source: str) -> Completion:
    # The source decides, not what it shows: an example that holds a turn mark opens no line to documents.
    return Completion(_text(template, task, DOCUMENT), of_lines=TURN_MARKS.search(source) is None)


def _chat(template: Template, task: LabellingTask) -> Chat:
    messages = []
    if "system" in template.blocks:
        messages.append(Message("system", _text(template, task, DOCUMENT, "system")))
    for example in task.prompt.examples:
        messages.append(Message("user", _text(template, task, example.text, "user")))
        messages.append(Message("assistant", example.label))
    messages.append(Message("user", _text(template, task, DOCUMENT, "user")))
    return Chat(tuple(messages))
