"""Budgets in seconds or multiply-accumulates: how many steps of each arm they are, found out once per sweep folder.

Equal steps favor the arm whose steps cost more. A budget in `macs` gives every arm the same multiply-accumulates of
training, which are counted in the model; one in `seconds` the same time on this machine, which is measured before the
first trial: workers as many as the sweep's train each arm at each size for a moment, in turns, so that a noisy machine
slows all alike, and the median counts. Either becomes a number of steps that is written into the plan with what was
measured. Later calls, and other machines, read it from there: the trials stay the same, and each remains an ordinary
command line with steps.
"""

import contextlib
import itertools
import math
import platform
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitlab.sweep.nested_settings import merge
from vitlab.sweep.plan import MEASURED_UNITS, Plan, Trial
from vitlab.sweep.plan_file import PLAN_FILE, OtherSweepError, check_folder, load_plan, write_plan
from vitlab.sweep.session_settings import SessionSettings
from vitlab.sweep.slurm_checks import on_one_cpu
from vitlab.sweep.worker import Answer, Job, WorkerDiedError
from vitlab.sweep.worker_process import WorkerProcess

ROUNDS = 5  # measurements of each arm and size by each worker; the first of six is thrown away
_STEPS_ENOUGH = 10**9  # of a training that is stopped after a moment
_ANY_RATE = 0.001  # where rates are searched for: a step costs the same at any
_JOBS = {"seconds": "time", "macs": "count"}
_COSTS = {"seconds": "seconds", "macs": "macs"}  # of a step, in a worker's answer
_Pair = tuple[str, int]  # model and train size


def resolve_budget(plan: Plan, folder: Path, settings: SessionSettings, may_time: bool = True) -> Plan:
    """Return the plan with its budget in steps; one that was measured now is written into the folder.

    Args:
        plan: The sweep, as its file has it.
        folder: The sweep folder; what is known there is not measured again.
        settings: How trials will run: workers and threads of the measurement.
        may_time: Whether seconds may be measured here; False where trials will run on other machines as well.

    Raises:
        ValueError: The folder is another sweep's, a model cannot be trained, the budget is less than a step, or seconds
            cannot be measured here.
        OSError: The plan cannot be written.
    """
    if plan.budget["unit"] not in MEASURED_UNITS:
        return plan
    known = _with_what_is_known(plan, Path(folder))
    pairs = _unknown(known)
    if not pairs:
        return known
    if plan.budget["unit"] == "seconds" and not may_time:
        raise ValueError(
            "a budget in seconds is measured where the trials will run, once, before cluster jobs or shards take them; "
            "on one of those machines (on a cluster: `srun`), run the same command with --plan-only and without "
            f"--launcher slurm or --shard first, and give shards without a common disk a copy of its {PLAN_FILE} each"
        )
    resolved = _measured(known, pairs, Path(folder), settings)
    try:
        write_plan(folder, resolved)
    except ValueError:  # another launcher has measured at the same time and was faster: its numbers count
        theirs = _with_what_is_known(plan, Path(folder))
        if _unknown(theirs):
            raise
        return theirs
    return resolved


def describe_budget(plan: Plan) -> list[str]:
    """Return how many steps of each arm a measured budget is, a line for each size; nothing for other budgets."""
    if plan.budget["unit"] not in MEASURED_UNITS:
        return []
    lines = []
    for size in plan.train_sizes:
        steps = ", ".join(f"{plan.budget_of(model, size)['amount']:,} of {model}" for model in plan.models)
        lines.append(f"{plan.budget['amount'][str(size)]:g} {plan.budget['unit']} at {size:,} images: steps: {steps}")
    return lines


def _with_what_is_known(plan: Plan, folder: Path) -> Plan:
    """Return the plan with the steps that the folder's plan has for its arms."""
    if not (folder / PLAN_FILE).exists():
        check_folder(folder, plan)
        return plan
    before = load_plan(folder).budget
    amounts = plan.budget["amount"]
    shared = [size for size in amounts if size in before["amount"]]
    differing = [size for size in shared if amounts[size] != before["amount"][size]]
    if before["unit"] != plan.budget["unit"] or differing:
        size = (differing or shared or list(before["amount"]))[0]
        raise OtherSweepError(
            f"{folder} holds a sweep with a budget of {before['amount'][size]:g} {before['unit']} at {size} images, "
            f"and this one has {amounts.get(size)} {plan.budget['unit']}. Nothing was changed. Choose another --out, "
            "or that budget"
        )
    steps = {model: _of_sizes(before.get("steps", {}).get(model, {}), plan) for model in plan.models}
    tables = {
        name: {model: _of_sizes(table.get(model, {}), plan) for model in plan.models} if name == "step" else table
        for name, table in before.get("measured", {}).items()
    }
    return replace(plan, budget={**plan.budget, "steps": steps, "measured": tables})


def _of_sizes(table: dict[str, Any], plan: Plan) -> dict[str, Any]:
    return {size: table[size] for size in map(str, plan.train_sizes) if size in table}


def _unknown(plan: Plan) -> list[_Pair]:
    steps = plan.budget.get("steps", {})
    pairs = itertools.product(plan.models, plan.train_sizes)
    return [(model, size) for model, size in pairs if str(size) not in steps.get(model, {})]


def _measured(plan: Plan, pairs: Sequence[_Pair], folder: Path, settings: SessionSettings) -> Plan:
    """Return the plan with the steps of these arms and sizes: counted by one worker, or timed by all at once."""
    unit = plan.budget["unit"]
    trials = dict(_one_trial_each(plan, set(pairs)))
    if unit == "macs":
        trials = {pair: on_one_cpu(trial) for pair, trial in trials.items()}
    number, rounds = (settings.num_workers, ROUNDS + 1) if unit == "seconds" else (1, 1)
    counted = "how long a training step takes" if unit == "seconds" else "the multiply-accumulates of a training step"
    print(f"measuring {counted}, for {len(pairs)} pairs of model and size, once for this folder", file=sys.stderr)
    workers = [
        WorkerProcess(index, settings.threads, folder / "logs" / f"budget-{index}.log", None, settings.program)
        for index in range(number)
    ]
    try:
        with ThreadPoolExecutor(number) as pool:
            try:
                orders = [list(_turns(list(trials), rounds, index)) for index in range(number)]
                jobs = [
                    pool.submit(_answers, worker, order, trials, _JOBS[unit], folder, settings.threads)
                    for worker, order in zip(workers, orders, strict=True)
                ]
                answers = [answer for job in jobs for answer in job.result()]
            finally:
                for worker in workers:  # before the pool waits for its threads, which wait for the workers
                    worker.close()
    finally:
        for worker in workers:
            worker.release()
    costs = _medians(answers, _COSTS[unit])
    return _with_costs(plan, costs, _machine(costs, settings) if unit == "seconds" else None)


def _one_trial_each(plan: Plan, pairs: set[_Pair]) -> Iterator[tuple[_Pair, Trial]]:
    """Yield a trial of each arm and size, at its smallest learning rate, that would train far longer than it will."""
    endless = {"unit": "steps", "amount": dict.fromkeys(map(str, plan.train_sizes), _STEPS_ENOUGH)}
    rates = {model: [min(own, default=_ANY_RATE)] for model, own in plan.learning_rates.items()}
    for trial in replace(plan, budget=endless, seeds=plan.seeds[:1], learning_rates=rates).trials:
        if (trial.model, trial.train_size) in pairs:
            yield (trial.model, trial.train_size), trial


def _turns(pairs: list[_Pair], rounds: int, start: int) -> Iterator[_Pair]:
    """Yield each pair once a round, back and forth: what comes second finds a warmer machine."""
    start %= len(pairs)
    order = pairs[start:] + pairs[:start]
    for index in range(rounds):
        yield from order if index % 2 == 0 else reversed(order)


def _answers(
    worker: WorkerProcess, order: Sequence[_Pair], trials: dict[_Pair, Trial], kind: Any, folder: Path, num_threads: int
) -> list[tuple[_Pair, Answer]]:
    """Return a worker's answers; of what it was asked more than once, not the first, which waits for imports."""
    answers, warm = [], len(trials) if len(order) > len(trials) else 0
    for pair in order:
        model, size = pair
        try:
            answer = worker.do(Job(kind, trials[pair], str(folder), num_threads))
        except WorkerDiedError as death:
            answer = {"status": "failed", "error": str(death)}
        if answer["status"] != "done":
            raise ValueError(f"model {model} with {size} images cannot be trained: {answer['error']}")
        answers.append((pair, answer))
    return answers[warm:]


def _medians(answers: Sequence[tuple[_Pair, Answer]], cost: str) -> dict[_Pair, Answer]:
    costs: dict[_Pair, list[Answer]] = defaultdict(list)
    for pair, answer in answers:
        costs[pair].append(answer)
    return {pair: {**own[-1], cost: statistics.median(one[cost] for one in own)} for pair, own in costs.items()}


def _with_costs(plan: Plan, costs: dict[_Pair, Answer], machine: str | None) -> Plan:
    """Return the plan with the steps that its budget is at these costs of a step."""
    unit = plan.budget["unit"]
    steps, measured = {}, {}
    for model, size in (pair for pair in itertools.product(plan.models, plan.train_sizes) if pair in costs):
        cost = costs[model, size][_COSTS[unit]]
        amount = plan.budget["amount"][str(size)]
        number = math.floor(amount / cost)
        if number < 1:
            raise ValueError(
                f"the budget of {amount:g} {unit} at {size} images is less than a training step of {model}, which "
                f"takes {cost:.3g} {unit}; give more in budget.amount"
            )
        steps.setdefault(model, {})[str(size)] = number
        measured.setdefault(model, {})[str(size)] = cost
    before = plan.budget.get("measured", {})
    found = {"step": measured} | ({"machine": machine} if machine else {})
    if before.get("machine", machine) != machine:
        raise ValueError(
            f"the seconds of this sweep were measured on {before['machine']}, and this is {machine}: equal seconds "
            "hold on machines of one kind; add models and sizes on one like that, or choose another --out"
        )
    budget = {"steps": merge(plan.budget.get("steps", {}), steps), "measured": merge(before, found)}
    return replace(plan, budget={**plan.budget, **budget})


def _machine(costs: dict[_Pair, Answer], settings: SessionSettings) -> str:
    """Return the kind of the machine and how it is shared; not its name, which is nobody else's business."""
    devices = {answer["device"] for answer in costs.values()}
    names = sorted(_processor() if device == "cpu" else device for device in devices)
    at_a_time = f"{settings.num_workers} trial{'s' if settings.num_workers > 1 else ''} at a time"
    return f"{', '.join(names)} ({at_a_time}, CPU threads of each: {settings.threads})"


def _processor() -> str:
    """Return the model of this machine's CPU, as far as the system tells."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
