"""YAML files of settings: reading, overriding from the command line; and writing of any text."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mlffjax.config.base import ConfigError, Settings

#: Keys of a file that begin like this are no settings: they hold what is merged elsewhere.
ANCHORS = "x-"


class _Loader(yaml.SafeLoader):
    """YAML 1.2's numbers (``1e-3`` is one) and no key twice in a mapping.

    A key that is merged into a mapping (``<<: *anchor``) yields to the mapping's own.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping with what is merged into it before its own entries.

        PyYAML merges when it makes the values; which of two entries stands is not the same in
        its releases (6.0.3 and 6.0.4), so nothing is left for it to merge.
        """
        node = super().compose_mapping_node(anchor)
        own: dict[Any, Any] = {}
        sources: list[yaml.MappingNode] = []
        for key_node, value_node in node.value:
            merge = key_node.tag == "tag:yaml.org,2002:merge"
            key = key_node.value if merge else self._key(key_node)
            if key in own or (merge and sources):
                raise ConfigError(
                    f"got the key {key!r} twice (line {key_node.start_mark.line + 1}); expected "
                    "it once; remove one"
                )
            if merge:
                sources = _sources(value_node)
            else:
                own[key] = (key_node, value_node)
        merged: dict[Any, Any] = {}
        for source in sources:
            for pair in source.value:
                merged.setdefault(self._key(pair[0]), pair)
        node.value = [*(pair for key, pair in merged.items() if key not in own), *own.values()]
        return node

    def _key(self, node: yaml.Node) -> Any:
        """What two equal keys share; of no scalar, which is no key in Python, the node itself."""
        return self.construct_object(node) if isinstance(node, yaml.ScalarNode) else node


def _sources(node: yaml.Node) -> list[yaml.MappingNode]:
    """The mappings that ``<<: node`` merges, the first the strongest (YAML's merge key, 1.1)."""
    sources = []
    for each in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        if not isinstance(each, yaml.MappingNode):
            problem = f"expected a mapping for merging, but found a {type(each).__name__}"
            raise yaml.constructor.ConstructorError(None, None, problem, each.start_mark)
        sources.append(each)
    return sources


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The mapping in a YAML file, without top-level keys that begin with ``x-``.

    Raises:
      ConfigError: not YAML, not a mapping, or a key twice.
      OSError: the file cannot be read.
    """
    text = Path(path).read_text(encoding="utf-8", errors="strict")
    try:
        values = _parse(text)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        what = "an empty file" if values is None else f"a {type(values).__name__}"
        raise ConfigError(f"{path}: got {what}; expected a mapping of settings (key: value)")
    return {key: value for key, value in values.items() if not str(key).startswith(ANCHORS)}


def override(values: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """A copy of ``values`` with ``section.key=value`` assignments, values read as YAML.

    Raises:
      ConfigError: an assignment without ``=``, or one into something that is no section.

    >>> override({"training": {"batch_size": 1}}, ["training.batch_size=5"])
    {'training': {'batch_size': 5}}
    """
    result = _copy(values)
    for text in assignments:
        path, equals, value = text.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise ConfigError(f"got the setting {text!r}; expected section.key=value")
        inner = result
        for key in keys[:-1]:
            if inner.get(key) is None:
                inner[key] = {}
            inner = inner[key]
            if not isinstance(inner, dict):
                raise ConfigError(
                    f"got the setting {text!r}, but {key!r} is the value {inner!r}; expected a "
                    "section with keys"
                )
        try:
            inner[keys[-1]] = _parse(value)
        except ConfigError as error:
            raise ConfigError(f"got the setting {text!r}: {error}") from None
    return result


def write_yaml(path: str | os.PathLike[str], settings: Settings) -> None:
    """Write settings with every default spelled out; :func:`read_yaml` gives them back."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, to_yaml(settings))


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file, which appears under its name, or in place of another, only when whole.

    Raises:
      OSError: it cannot be written; what stood there before stays.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def to_yaml(settings: Settings) -> str:
    """The YAML text of settings, with every default spelled out."""
    return yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _parse(text: str) -> Any:
    try:
        # A subclass of SafeLoader: it makes plain values only.
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise ConfigError(f"got text that is not YAML{where}: {problem}") from None


def _copy(values: Any) -> Any:
    return {k: _copy(v) for k, v in values.items()} if isinstance(values, Mapping) else values
