"""What of a reply is its answer: what follows the model's last thought, in whichever marks it thinks."""

import re

# Qwen, DeepSeek, GLM: <think>; EXAONE: <thought>; Seed: <seed:think>; MiniMax: <mm:think>; Kimi: ◁think▷.
_NAME = r"(?:[a-z]{1,20}[:_])?(?:think(?:ing)?|thoughts?|reasoning|reflection|scratchpad)(?::\w{1,20})?"
_OPENED = "|".join(
    (
        rf"<\|?{_NAME}(?:\s[^<>]{{0,200}})?\|?>|◁{_NAME}▷",
        r"\[think(?:ing)?\]",  # Mistral
        rf"<\|(?:start|begin)_(?:of_)?{_NAME}\|>",  # Cohere, Sky-T1
        r"<\|channel>|<\|inner_prefix\|>|<unused94>|<\|open\|>think<\|sep\|>",  # Gemma 4, Apertus, MedGemma, Kimi K3
    )
)
_CLOSED = "|".join(
    (
        rf"<\|?/{_NAME}\s?\|?>|◁/{_NAME}▷",
        r"\[/think(?:ing)?\]",
        rf"<\|end_(?:of_)?{_NAME}\|>",
        r"<channel\|>|<\|inner_suffix\|>|<unused95>|<\|close\|>think<\|sep\|>",
    )
)
_MARK = re.compile(f"(?P<closed>{_CLOSED})|(?P<opened>{_OPENED})", re.IGNORECASE)
# gpt-oss writes into channels, of which only `final` is for the reader.
_CHANNEL, _MESSAGE = "<|channel|>", "<|message|>"
_FINAL = re.compile(r"\s*final\b")
# What is left of its channels where a server drops the marks: "analysisIt could be …assistantfinalpositive".
_BARE_CHANNEL = re.compile(r'\A(?:analysis|commentary)(?=[^\W_]|["“])|assistant(?:analysis|comment|(?P<final>final))')
# Granite thinks in plain words; of Gemma 4 without its marks only the first line is left to tell.
_THINKS = re.compile(r"\A(?:here(?:'s| is) my thought process:|thought\n)", re.IGNORECASE)
_RESPONDS = re.compile(r"here(?:'s| is) my response:", re.IGNORECASE)
# What a model writes on after the end of its turn, it says for somebody else.
_TURN_ENDS = re.compile(
    r"<\|(?:im_end|eot_id|eom_id|end|return|call|endoftext|end_of_text|end_of_turn)\|>|</s>|<end_of_turn>|<turn\|>|<eos>"
    r"|<[|｜]end[_▁]of[_▁]sentence[|｜]>",
    re.IGNORECASE,
)
_ANSWER = re.compile(
    r"<(?P<name>answer|response|output|final_answer)>(?P<tagged>.*?)(?:</(?P=name)>|\Z)"
    r"|<\|(?:start_response|begin_of_solution|open\|>response<\|sep)\|>(?P<marked>.*?)"
    r"(?:<\|(?:end_response|end_of_solution|close)\|>|\Z)",
    re.IGNORECASE | re.DOTALL,
)


def answer_part(reply: str) -> str | None:
    """Return what a reply says when it has thought, or None where a thought never ends.

    A thought counts that was never opened, since many prompts open it. What stands in `<answer>` is the whole answer.
    """
    said: str | None = reply.strip()
    for without in (_without_channels, _without_bare_channels, _without_told_thoughts, _without_thoughts):
        said = said and without(said)
    if said is None:
        return None
    said = _TURN_ENDS.split(said, maxsplit=1)[0]
    answers = {(found["tagged"] or found["marked"] or "").strip() for found in _ANSWER.finditer(said)} - {""}
    return answers.pop() if len(answers) == 1 else said


def shows_marks(text: str) -> bool:
    """Tell whether a text has marks of thoughts, some of which a tokenizer takes for special and would drop."""
    return _MARK.search(text) is not None or _MESSAGE in text


def _without_channels(said: str) -> str | None:
    if _CHANNEL not in said and _MESSAGE not in said:
        return said
    before, mark, after = said.rpartition(_MESSAGE)
    channel = before.rpartition(_CHANNEL)[2]
    return after if mark and _CHANNEL not in after and _FINAL.match(channel) else None


def _without_bare_channels(said: str) -> str | None:
    last = _last(_BARE_CHANNEL, said)
    if last is None:
        return said
    return said[last.end() :] if last["final"] else None


def _without_told_thoughts(said: str) -> str | None:
    if not _THINKS.match(said):
        return said
    last = _last(_RESPONDS, said)
    return None if last is None else said[last.end() :]


def _without_thoughts(said: str) -> str | None:
    last = _last(_MARK, said)
    if last is None:
        return said
    return said[last.end() :] if last["closed"] else None


def _last(pattern: re.Pattern[str], said: str) -> re.Match[str] | None:
    found = list(pattern.finditer(said))
    return found[-1] if found else None
