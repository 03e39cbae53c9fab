"""The command line: ``fastconv train | evaluate | predict | export | info``. Parsing and exit codes; ``training`` does
the work.

Exit codes: 0 done; 2 wrong usage, data or files (one line on stderr); 130 interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence

from . import __version__
from .errors import FastconvError

_OK, _USAGE, _INTERRUPTED = 0, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    >>> main(["info", "--json"])  # doctest: +ELLIPSIS
    {...}
    0
    """
    options = _parser().parse_args(arguments)
    try:
        code = options.job(options)
        sys.stdout.flush()
        return code
    except FastconvError as error:
        return _complain(error, _USAGE)
    except KeyboardInterrupt:
        return _complain("interrupted", _INTERRUPTED)
    except BrokenPipeError:  # the reader of our output left, as `head` does
        _drop_output()
        return _OK
    except MemoryError:
        return _complain("expected enough memory (a smaller --batch-size?), got too little", _USAGE)
    except OSError as error:  # a path that no system takes, output to a full disk
        if error.filename is None:
            _drop_output()
        return _complain(f"expected files and output that can be used, got {error}", _USAGE)


def _complain(what: object, code: int) -> int:
    print(f"fastconv: {what}", file=sys.stderr)
    return code


def _drop_output() -> None:
    """Send what is left in the buffer of stdout nowhere, so that Python does not fail on it as it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    from .training import config

    parser = argparse.ArgumentParser(prog="fastconv", description="Train and use convolutional networks.")
    parser.add_argument("--version", action="version", version=f"fastconv {__version__}")
    jobs = parser.add_subparsers(required=True, metavar="COMMAND")

    train = jobs.add_parser("train", help="train a network on handwritten digits, or on your own images")
    config.add_arguments(train)
    train.add_argument("--recipe", choices=tuple(config.RECIPES), help="a set of options; those given beside it win")
    train.add_argument("--config", metavar="FILE", help="options from a TOML file; those on the command line win")
    train.add_argument("--resume", action="store_true", help="go on with the run in --output (default: the latest)")
    train.set_defaults(job=_train)

    evaluate = jobs.add_parser("evaluate", help="test a trained network")
    evaluate.add_argument("model", nargs="?", help="model file or folder of a run (default: the latest under runs/)")
    evaluate.add_argument("--dataset", choices=config.NAMES, help="digits: default: the one it was trained on")
    evaluate.add_argument("--data", metavar="PATH", help="the data (default: where they were as it was trained)")
    evaluate.add_argument("--threads", type=_positive, metavar="N", help="threads")
    evaluate.set_defaults(job=_evaluate)

    predict = jobs.add_parser("predict", help="tell the digits in pictures, or the class or mask of your own images")
    predict.add_argument(
        "images", nargs="+", metavar="IMAGE", help="picture (PNG, JPEG, ...; .npy), volume (.nii, .nii.gz) or .csv"
    )
    predict.add_argument("--model", metavar="PATH", help="model file or folder of a run (default: the latest)")
    predict.add_argument(
        "--output", metavar="FOLDER", help="where masks (default: beside their images) or predictions.csv go"
    )
    predict.add_argument("--json", action="store_true", help="print JSON")
    predict.set_defaults(job=_predict)

    export = jobs.add_parser("export", help="write a trained network as a file of ONNX")
    export.add_argument("model", nargs="?", help="model file or folder of a run (default: the latest under runs/)")
    export.add_argument("--output", metavar="FILE", help="default: model.onnx beside the model")
    export.add_argument("--opset", type=_positive, default=18, metavar="N", help="version of ONNX's operators")
    export.set_defaults(job=_export)

    info = jobs.add_parser("info", help="show versions, machine, backends and data")
    info.add_argument("--json", action="store_true", help="print JSON")
    info.set_defaults(job=_info)
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _train(options: argparse.Namespace) -> int:
    from .training import config, job

    given = vars(options)
    explicit = {name: value for name, value in given.items() if name not in ("job", "recipe", "config", "resume")}
    if options.config:
        explicit = {**config.from_toml(options.config), **explicit}
    return _OK if job.train(explicit, options.recipe, options.resume) else _INTERRUPTED


def _evaluate(options: argparse.Namespace) -> int:
    from .training import job

    job.evaluate(options.model, options.dataset, options.data, options.threads)
    return _OK


def _predict(options: argparse.Namespace) -> int:
    from .training import job

    answers = job.predict(options.images, options.model, options.output)
    if options.json:
        print(json.dumps(answers, indent=2))
    else:
        width = max(len(answer["file"]) for answer in answers)
        for answer in answers:
            print(f"{answer['file']:<{width}}  {_said(answer)}")
    return _OK


def _said(answer: dict) -> str:
    if "mask" in answer:
        shares = ", ".join(f"{name} {100 * share:.1f} %" for name, share in answer["shares"].items())
        return f"{answer['mask']}  {shares}"
    return f"{answer['class']}  {100 * answer['probability']:.1f} %"


def _export(options: argparse.Namespace) -> int:
    from .training import job

    try:
        path = job.export(options.model, options.output, options.opset)
    except ImportError as error:  # the package onnx is missing
        return _complain(error, _USAGE)
    print(f"written to {path}")
    return _OK


def _info(options: argparse.Namespace) -> int:
    from .info import collect, text

    facts = collect()
    print(json.dumps(facts, indent=2) if options.json else text(facts))
    return _OK
