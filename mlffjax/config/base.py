"""Base of all settings: frozen, strict about unknown keys, errors in one line each."""

import difflib
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError


class ConfigError(ValueError):
    """A configuration that cannot be used; the message has got, expected and fix."""


class Settings(BaseModel):
    """A frozen group of settings, as one section of a YAML file."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @classmethod
    def parse(cls, values: Mapping[str, Any], source: str = "configuration") -> Self:
        """Check a mapping, as read from YAML.

        Raises:
          ConfigError: one line for every wrong entry; an unknown key names the nearest known.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            lines = [_explain(cls, item) for item in error.errors()]
            raise ConfigError("\n".join(f"{source}: {line}" for line in lines)) from None


def _explain(cls: type[BaseModel], item: Any) -> str:
    path = [str(part) for part in item["loc"]]
    where = ".".join(path)
    if item["type"] == "extra_forbidden":
        known = _fields_at(cls, path[:-1])
        near = difflib.get_close_matches(path[-1], known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(known)}"
        return f"got the unknown key {where!r}{hint}"
    if item["type"] == "missing":
        return f"got no value for {where!r}, which is required; add it"
    expected = item["msg"].removeprefix("Value error, ")
    if expected.startswith("got "):  # of settings that do not go together
        return expected
    return f"got {item['input']!r} for {where!r}; expected: {expected}"


def _fields_at(cls: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = cls.model_fields.get(part)
        inner = [] if field is None else _models_in(field.annotation)
        if not inner:
            return []
        cls = inner[0]
    return list(cls.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for arg in getattr(annotation, "__args__", ()) for m in _models_in(arg)]
