"""The `vitlab` command. It looks at its first word and imports only what that word needs.

LightningCLI takes ten seconds to print its help; `vitlab --help`, `status` and `report` must not wait for torch.
"""

import argparse
import os
import sys
from collections.abc import Sequence

import vitlab
from vitlab.commands import benchmarks, folders, inspection, reports, sweeps

_LIGHTNING = {
    "fit": "train one model and measure it on validation data",
    "validate": "measure a checkpoint on validation data",
    "test": "measure a checkpoint on test data",
    "predict": "write a checkpoint's predictions for the test images",
}
_EPILOG = """\
commands that take YAML configs (each has its own --help):
{lightning}

start here:
  vitlab sweep configs/sweeps/glyphs_both.yaml --out runs/both --workers 2
  vitlab report runs/both
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code.

    0, 1 (trials failed), 2 (bad input), 130 (Ctrl-C) or 128 and a signal's number (stopped by that signal, and saved).

    The environment variable VITLAB_DEBUG=1 shows where an error comes from.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments and arguments[0] in _LIGHTNING:
            from vitlab.training import run

            run.main(arguments[0], arguments[1:])
            return 0
        options = _parser().parse_args(arguments)
        return options.function(options)
    except (ValueError, OSError, FloatingPointError) as error:
        if os.environ.get("VITLAB_DEBUG"):
            raise
        print(f"vitlab: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nvitlab: stopped; the same command goes on where this one was", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    lightning = "\n".join(f"  {name:<10} {summary}" for name, summary in _LIGHTNING.items())
    parser = argparse.ArgumentParser(
        prog="vitlab",
        description="For this task and this much data: a ViT or a CNN, and from how many images on does that change?",
        epilog=_EPILOG.format(lightning=lightning),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"vitlab {vitlab.__version__}")
    commands = parser.add_subparsers(metavar="command", required=True)
    sweeps.add_sweep(commands)
    folders.add_status(commands)
    folders.add_cancel(commands)
    folders.add_merge(commands)
    folders.add_verify(commands)
    reports.add_report(commands)
    reports.add_curves(commands)
    reports.add_claims(commands)
    inspection.add_inspect(commands)
    benchmarks.add_bench(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
