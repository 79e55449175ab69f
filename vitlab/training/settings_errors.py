"""What jsonargparse says of wrong settings, in words for the user: what was given, what is allowed, what to do."""

import difflib
import importlib
import re

_MISSING_CLASS = re.compile(r"module '(?P<module>vitlab[\w.]*)' has no attribute '(?P<name>\w+)'")


def explain(message: str) -> str:
    """Return the message of an argument error as a few plain lines, with the names that exist where one does not.

    Args:
        message: What jsonargparse said.
    """
    lines = [line.rstrip() for line in message.replace('Parser key "', 'setting "').splitlines() if line.strip()]
    missing = _MISSING_CLASS.search(message)
    if missing:
        lines.append(_alternatives(missing["module"], missing["name"]))
    return "\n".join(lines)


def _alternatives(module: str, name: str) -> str:
    names = sorted(importlib.import_module(module).__all__)
    closest = difflib.get_close_matches(name, names, n=1)
    guess = f"did you mean {module}.{closest[0]}? " if closest else ""
    return f"{guess}{module} has {', '.join(names)}"
