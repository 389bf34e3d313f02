"""A part of a task file of which there are several kinds: how they are told apart, and what a part is made of."""

from collections.abc import Iterator, Mapping
from typing import Annotated, NamedTuple, Union, get_args

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
        given = [kind for key, kind in self.table.items() if _is_told(value, key, kind)]
        return (given or list(self.table.values())[:1])[-1].__name__ + TAG


def _is_told(value: object, key: str, kind: type[BaseModel]) -> bool:
    by_field = isinstance(value, Mapping) and value.get(key) is not None
    return by_field or isinstance(value, kind) or value == key


def key_of(kind: type[BaseModel], table: Mapping[str, type[BaseModel]]) -> str:
    """Return the field, or the word, that tells a kind from the others of its table."""
    return next(key for key, each in table.items() if each is kind)


class Name(NamedTuple):
    """`field` of a task file has the `name` of what the deployment knows as `of`: a connection, a server, …"""

    field: str
    of: str
    name: str


def names_in(part: BaseModel, place: str = "") -> Iterator[Name]:
    """Yield what a part, and the parts in it, name of a deployment."""
    for name, field in type(part).model_fields.items():
        marks = [each.of for each in _inside(field) if isinstance(each, Names)]
        yield from _names(getattr(part, name), f"{place}{name}", *marks)


def _names(value: object, place: str, *of: str) -> Iterator[Name]:
    if isinstance(value, BaseModel):
        yield from names_in(value, f"{place}.")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _names(each, f"{place}.{number}", *of)
    elif isinstance(value, str):
        yield from (Name(place, each, value) for each in of)


def models_in(field: object) -> list[type[BaseModel]]:
    """Return the models that a field's value may be of: of a part with several kinds these, and not what they share."""
    found = list(_inside(field))
    kinds = [kind for each in found if isinstance(each, Kinds) for kind in each.table.values()]
    models = [each for each in found if isinstance(each, type) and issubclass(each, BaseModel)]
    return [each for each in models if not any(issubclass(kind, each) for kind in kinds)] + kinds


def _inside(annotation: object) -> Iterator[object]:
    """Yield the types and the marks of which an annotation is made."""
    if isinstance(annotation, FieldInfo):
        inner = (annotation.annotation, *annotation.metadata)
    else:
        inner = get_args(annotation)
    if not inner:
        yield annotation
    for each in inner:
        yield from _inside(each)
