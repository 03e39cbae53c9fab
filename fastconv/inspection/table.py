"""The table that a Summary is as text."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .summary import Row, Summary

_LEFT = 3  # columns that begin at the left


def text(summary: Summary) -> str:
    """Return the table and the totals under it."""
    partly = summary.trainable != summary.parameters
    units = any(row.unit for row in summary.rows)
    head = ["layer", "type", "output", "parameters", "multiply-adds", "output memory"]
    head += ["trainable"] * partly + ["unit"] * units
    lines = [head, *(_cells(row, partly, units) for row in summary.rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    body = ["  ".join(_aligned(i, cell, widths[i]) for i, cell in enumerate(line)).rstrip() for line in lines]
    frozen = f", {summary.parameters - summary.trainable:,} of them frozen" if partly else ""
    totals = [
        f"input: {', '.join(map(_shape, summary.inputs))} ({_bytes(summary.input_bytes)})",
        f"parameters: {summary.parameters:,}{frozen} ({_bytes(summary.parameter_bytes)})",
        f"multiply-adds: {summary.multiply_adds:,} ({summary.flops:,} FLOPs)",
        f"outputs: {_bytes(summary.output_bytes)}",
    ]
    rule = "-" * max(map(len, body))
    return "\n".join([body[0], rule, *body[1:], rule, *totals])


def _cells(row: Row, partly: bool, units: bool) -> list[str]:
    """Return a row's cells; nothing where a number is 0."""
    name = "  " * max(row.depth - 1, 0) + row.name.rpartition(".")[2]
    times = f" ({row.calls} calls)" if row.calls > 1 else ""
    outputs = ", ".join(map(_shape, row.outputs)) + times if row.ran else "not run"
    numbers = [f"{number:,}" if number else "" for number in (row.parameters, row.multiply_adds)]
    cells = [name, row.type, outputs, *numbers, _bytes(row.output_bytes) if row.output_bytes else ""]
    cells += [f"{row.trainable:,}" if row.parameters else ""] * partly
    return cells + [str(row.unit) if row.unit else ""] * units


def _aligned(column: int, cell: str, width: int) -> str:
    return cell.ljust(width) if column < _LEFT else cell.rjust(width)


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "scalar"


def _bytes(number: int) -> str:
    """1536 -> '1.5 KB', in steps of 1024."""
    size, units = float(number), iter(("B", "KB", "MB", "GB", "TB"))
    unit = next(units)
    while size >= 1024 and unit != "TB":
        size, unit = size / 1024, next(units)
    return f"{number} B" if unit == "B" else f"{size:.1f} {unit}"
