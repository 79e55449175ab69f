"""Settings as YAML nests them: dotted keys, laying one file over another, and flattening the outcome to arguments."""

import json
from collections.abc import Iterator, Mapping
from typing import Any


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Merge two settings deeply, the second winning; another `class_path` starts with fresh `init_args`."""
    if "class_path" in above and above["class_path"] != below.get("class_path"):
        return dict(above)
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def expand(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nest keys that are dotted names, such as `data.batch_size: 64`; of two that say the same, the lower line wins."""
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        parts = str(key).split(".")
        name, *inner = parts if all(map(str.isidentifier, parts)) else [key]
        value = expand(value) if isinstance(value, Mapping) else value
        for part in reversed(inner):
            value = {part: value}
        nested = _join(nested, {name: value})
    return nested


def _join(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay parts of one file over each other; unlike in `merge`, arguments may come before their class."""
    joined = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(joined.get(key), Mapping)
        joined[key] = _join(joined[key], value) if both else value
    return joined


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every setting's dotted name and value, as `vitlab fit` takes them; a class with its arguments is one."""
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and "class_path" not in value:
            yield from flatten(value, f"{name}.")
        else:
            yield name, value if isinstance(value, str) else json.dumps(value)
