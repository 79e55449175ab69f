"""Reading a sweep from its YAML file, and refusing in words what cannot be run.

A sweep file names its arms and axes; learning rates are lists, or `auto` to have them searched for. What it says of
models and data is the same YAML that `vitlab fit --config` reads.
"""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from vitlab.sweep.nested_settings import expand, merge
from vitlab.sweep.plan import AXES, BUDGET_UNITS, MEASURED_UNITS, Plan

_KEYS = (
    *("task", "title", "configs", "models", "train_sizes", "seeds", "learning_rates", "race", "budget", "settings"),
    "dial",
)
AUTO = "auto"  # learning rates are searched for as the sweep goes
_OPTIONAL = ("title", "configs", "race", "settings", "dial")


def read_sweep(path: Path, overrides: Sequence[str] = ()) -> Plan:
    """Read a sweep from YAML.

    Args:
        path: The YAML file; the configs that it names are looked up beside it.
        overrides: `key=value` settings for all arms, such as `data.dataset.init_args.root=/data/flowers`; they win.

    Raises:
        ValueError: A file is missing or a value is not allowed; the message says what is.
    """
    path = Path(path)
    content = _read_yaml(path)
    _check_keys(path, content)
    settings: dict[str, Any] = {}
    for config in content.get("configs") or []:
        settings = merge(settings, expand(_read_yaml(path.parent / config)))
    settings = merge(settings, expand(content.get("settings") or {}))
    models = _model_settings(path, content["models"])
    for override in overrides:
        models = {name: merge(arm, _parse_override(path, override)) for name, arm in models.items()}
    for arm in [settings, *models.values()]:
        _check_axes(path, arm)
    sizes = sorted(_whole_numbers(path, "train_sizes", content["train_sizes"], least=1))
    rates = _learning_rates(path, content["learning_rates"], list(models))
    is_race = _is_race(path, content.get("race"), rates)
    return Plan(
        task=str(content["task"]),
        title=str(content.get("title") or content["task"]),
        model_settings=models,
        train_sizes=sizes,
        seeds=_whole_numbers(path, "seeds", content["seeds"], least=0),
        learning_rates={model: [] for model in models} if is_race else rates,
        budget=_budget(path, content["budget"], sizes),
        settings=settings,
        dial=_dial(path, content.get("dial"), list(models)),
        race=rates if is_race else None,
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read the config {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds no settings; a config is a list of `key: value` lines")
    return content


def _check_keys(path: Path, content: dict[str, Any]) -> None:
    unknown = [key for key in content if key not in _KEYS]
    absent = [key for key in _KEYS if key not in content and key not in _OPTIONAL]
    complaints = [f"unknown: {', '.join(map(str, unknown))}"] * bool(unknown)
    complaints += [f"missing: {', '.join(absent)}"] * bool(absent)
    if complaints:
        raise ValueError(f"{path} is not a sweep ({'; '.join(complaints)}); a sweep has the keys {', '.join(_KEYS)}")


def _check_axes(path: Path, settings: dict[str, Any]) -> None:
    for axis in AXES:
        value: Any = settings
        for part in axis.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            raise ValueError(
                f"{path}: a config or --set gives {axis}={value!r}, which a sweep decides for each trial; use "
                "train_sizes, seeds, learning_rates and budget in the sweep file"
            )


def _model_settings(path: Path, models: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(models, dict) or not models:
        raise ValueError(f"{path}: models is {models!r}; give each arm a name and a config file (or a list of them)")
    resolved = {}
    for name, configs in models.items():
        arm: dict[str, Any] = {}
        for config in configs if isinstance(configs, list) else [configs]:
            arm = merge(arm, expand(config if isinstance(config, dict) else _read_yaml(path.parent / str(config))))
        resolved[str(name)] = arm
    return resolved


def _parse_override(path: Path, override: str) -> dict[str, Any]:
    name, equals, value = override.partition("=")
    if not equals or not name:
        raise ValueError(f"--set {override!r} is not of the form name=value, such as data.batch_size=64")
    if (key := name.split(".")[0]) in _KEYS:
        raise ValueError(f"--set {override}: {key} is a key of the sweep file and no setting; change it in {path}")
    nested: Any = yaml.safe_load(value)
    for part in reversed(name.split(".")):
        nested = {part: nested}
    return nested


def _whole_numbers(path: Path, key: str, values: Any, least: int) -> list[int]:
    if isinstance(values, list) and values and all(type(value) is int and value >= least for value in values):
        _check_different(path, key, values)
        return values
    raise ValueError(f"{path}: {key} is {values!r}; give a list of one or more whole numbers from {least} up")


def _learning_rates(path: Path, rates: Any, models: list[str]) -> dict[str, list[float]]:
    if rates == AUTO:
        return {name: [] for name in models}
    by_model = rates if isinstance(rates, dict) else dict.fromkeys(models, rates)
    if set(by_model) != set(models):
        raise ValueError(f"{path}: learning_rates is for {_listed(by_model)}, but the models are {_listed(models)}")
    for name, grid in by_model.items():
        valid = isinstance(grid, list) and all(type(rate) in (int, float) and rate > 0 for rate in grid)
        if not valid or not grid:
            raise ValueError(
                f"{path}: learning_rates of {name} is {grid!r}; give a list of one or more positive numbers, "
                "such as [0.001, 0.003] (YAML reads 1e-3 as text: write 0.001 or 1.0e-3), or `learning_rates: auto` "
                "to have them searched for, for all arms"
            )
        _check_different(path, "learning_rates", grid)
    if len({len(grid) for grid in by_model.values()}) > 1:
        counts = ", ".join(f"{name}: {len(grid)}" for name, grid in by_model.items())
        raise ValueError(f"{path}: the arms have unequal numbers of learning rates ({counts}); tune each one as often")
    return {name: sorted(float(rate) for rate in by_model[name]) for name in models}


def _is_race(path: Path, race: Any, rates: dict[str, list[float]]) -> bool:
    if race is None or race is False:
        return False
    if race is not True:
        raise ValueError(
            f"{path}: race is {race!r}; give true (the better half of the rates go on, seed by seed) or false"
        )
    if not all(rates.values()):
        raise ValueError(f"{path}: race is for a list of learning rates, and they are {AUTO}; leave one of the two out")
    return True


def _budget(path: Path, budget: Any, sizes: list[int]) -> dict[str, Any]:
    units = ", ".join(BUDGET_UNITS)
    if not isinstance(budget, dict) or set(budget) != {"unit", "amount"} or budget["unit"] not in BUDGET_UNITS:
        raise ValueError(f"{path}: budget is {budget!r}; give unit (one of {units}) and amount")
    unit, amount = budget["unit"], budget["amount"]
    by_size = amount if isinstance(amount, dict) else dict.fromkeys(sizes, amount)
    for size in sizes:
        one = by_size.get(size)
        if unit in MEASURED_UNITS:
            is_valid, wanted = type(one) in (int, float) and 0 < one < math.inf, f"positive number of {unit}"
        else:
            is_valid, wanted = type(one) is int and one >= 1, "whole number from 1 up"
        if not is_valid:
            hint = " (YAML reads 1e12 as text: write 1.0e+12)" if isinstance(one, str) else ""
            raise ValueError(
                f"{path}: budget.amount for {size} images is {one!r}{hint}; give one {wanted}, or one for each of the "
                f"train sizes {_listed(sizes)}"
            )
    return {"unit": unit, "amount": {str(size): by_size[size] for size in sizes}}


def _dial(path: Path, dial: Any, models: list[str]) -> dict[str, Any] | None:
    """Read every arm's place on the dial: a number, or a family's name and a number."""
    if dial is None:
        return None
    if not isinstance(dial, dict) or set(dial) != {"label", "arms"} or not isinstance(dial["arms"], dict):
        raise ValueError(
            f"{path}: dial is {dial!r}; give label, such as `window (tokens a side)`, and arms: a number for each model"
        )
    arms = {str(name): place for name, place in dial["arms"].items()}
    if set(arms) != set(models):
        raise ValueError(f"{path}: the dial's arms are {_listed(arms)}, but the models are {_listed(models)}")
    places: dict[str, list[Any]] = {}
    for name in models:
        family, value = arms[name] if isinstance(arms[name], list) and len(arms[name]) == 2 else (None, arms[name])
        if type(value) not in (int, float) or not math.isfinite(value) or not isinstance(family, str | None):
            raise ValueError(
                f"{path}: {name} stands at {arms[name]!r} on the dial; give a number, or [family, number] where "
                "several families share the dial"
            )
        places[name] = [family, value]
    if len({family is None for family, _ in places.values()}) > 1:
        raise ValueError(f"{path}: every arm of a dial needs a family, or none does; the dial's arms are {arms!r}")
    _check_different(path, "dial.arms", [tuple(place) for place in places.values()])
    return {"label": str(dial["label"]), "arms": places}


def _check_different(path: Path, key: str, values: list[Any]) -> None:
    if len(set(values)) < len(values):
        raise ValueError(f"{path}: {key} names a value twice: {values!r}")


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(str(value) for value in values)
