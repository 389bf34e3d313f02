"""Says in words of our own what is wrong with a value that a person wrote."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

import yaml
from pydantic_core import ErrorDetails

from llambert_etl.config.fields import RULES

# What stands in braces is of the fault's own context.
_WORDS = {
    "missing": "is missing; add it",
    "string_type": "must be text; put it in quotes",
    "string_too_short": "must not be empty",
    "string_too_long": "must have {max_length} characters at most",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be {le} or less",
    "literal_error": "must be {expected}",
    "list_type": "must be a list",
    "dict_type": "must be a map of `name: value` lines",
    "model_type": "must be a map of `name: value` lines",
    "model_attributes_type": "must be a map of `name: value` lines",
}
_YAML = {
    "found character '\\t' that cannot start any token": "tabs cannot indent; use spaces",
    "found unexpected end of stream": "a quote is opened and never closed; close it",
    "mapping values are not allowed here": "a second `: ` in one line, or a line that is indented too far; put the "
    "value in quotes, or mend the indent",
    "could not find expected ':'": "a line without `: `; write `name: value`, or put a long text in quotes",
}


def in_our_words(fault: ErrorDetails) -> str:
    """Return the rule that a value breaks, and what to do. Never the value: it may be a secret."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return RULES.get(str(context["pattern"]), f"must be of the form {context['pattern']}")
    if kind in _WORDS:
        return _WORDS[kind].format(**context)
    return fault["msg"].removeprefix("Value error, ")


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return a question to add to a message, or nothing where no known word is like this one."""
    close = get_close_matches(str(word), list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def choices(fault: ErrorDetails) -> list[str]:
    """Return the words that a literal allows."""
    return re.findall(r"'([^']*)'", str(fault.get("ctx", {}).get("expected", "")))


def syntax(error: yaml.MarkedYAMLError) -> str:
    """Return where a YAML file cannot be read and why, in one line."""
    mark, problem = error.problem_mark, error.problem or "cannot be read"
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    begun = error.context_mark
    inside = f" ({error.context}, which begins in line {begun.line + 1})" if begun and error.context else ""
    return where + _YAML.get(problem, f"{' '.join(problem.split())}{inside}")
