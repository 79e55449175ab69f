"""Settings as YAML nests them: laying one file over another, and flattening the outcome to arguments."""

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


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield every setting's dotted name and value, as `vitlab fit` takes them; a class with its arguments is one."""
    for key, value in settings.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and "class_path" not in value:
            yield from flatten(value, f"{name}.")
        else:
            yield name, value if isinstance(value, str) else json.dumps(value)
