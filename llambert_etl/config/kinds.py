"""A part of a task file of which there are several kinds: how they are told apart, and what a part is made of."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Union, get_args

from pydantic import BaseModel, Discriminator, GetCoreSchemaHandler, Tag
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema

from llambert_etl.config.fields import TAG, Names


class Kinds:
    """Marks a part of which there are several kinds, each under the field, or the word, that tells it from the others.

    Where several of these fields are there the last of the table decides, and the first of it where none is. Nothing
    else makes a kind: a task file can name those of the table and no code to import.
    """

    def __init__(self, table: Mapping[str, type[BaseModel]]) -> None:
        self.table = table

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        tagged = tuple(Annotated[kind, Tag(kind.__name__ + TAG)] for kind in self.table.values())
        return handler.generate_schema(Annotated[Union[tagged], Discriminator(self._tag)])  # noqa: UP007

    def _tag(self, value: object) -> str:
        told = [kind for key, kind in self.table.items() if isinstance(value, kind) or value == key or _has(value, key)]
        return (told or [*self.table.values()][:1])[-1].__name__ + TAG


def _has(value: object, key: str) -> bool:
    return isinstance(value, Mapping) and value.get(key) is not None


def key_of(kind: type[BaseModel], table: Mapping[str, type[BaseModel]]) -> str:
    """Return the field, or the word, that tells a kind from the others of its table."""
    return next(key for key, each in table.items() if each is kind)


def names_in(value: object, place: str = "", *of: str) -> Iterator[tuple[str, str, str]]:
    """Yield what a part names of a deployment: the place in the task file, what it is the name `of`, and the name."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            marks = (each.of for each in _inside(field) if isinstance(each, Names))
            yield from names_in(getattr(value, name), f"{place}.{name}" if place else name, *marks)
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from names_in(each, f"{place}.{number}", *of)
    elif isinstance(value, str):
        yield from ((place, each, value) for each in of)


def models_in(field: object) -> list[type[BaseModel]]:
    """Return the models that a field's value may be of: of a part with several kinds these, and not what they share."""
    found = list(_inside(field))
    kinds = [kind for each in found if isinstance(each, Kinds) for kind in each.table.values()]
    models = [each for each in found if isinstance(each, type) and issubclass(each, BaseModel)]
    return [each for each in models if not any(issubclass(kind, each) for kind in kinds)] + kinds


def _inside(annotation: object) -> Iterator[object]:
    """Yield the types and the marks of which an annotation is made."""
    inner = (annotation.annotation, *annotation.metadata) if isinstance(annotation, FieldInfo) else get_args(annotation)
    yield from (part for each in inner for part in _inside(each)) if inner else [annotation]
