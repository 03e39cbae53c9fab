"""Tables of cases: CSV with a header, a row a case. Every complaint names the file, and the row as spreadsheets count.

Columns, in any order and case: ``path`` (or image, file); ``label`` (or class), or ``mask`` (or segmentation, label)
for segmentation; ``split`` of train, val and test; ``patient`` (or subject), which ``Patient ID`` and ``patient_id``
are as well. All others are demographic.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path

from ...errors import DataError, mismatch
from .case import ALIASES, Case, Listing

_PATH, _SPLIT = ("path", "image", "file"), ("split",)
_TARGET = {"classify": ("label", "class"), "segment": ("mask", "segmentation", "label"), None: ()}
_PATIENT = ("patient", "patientid", "subject", "subjectid")  # letters alone, see _letters
_ROLES = {*_PATH, *_SPLIT, *_PATIENT, *(name for names in _TARGET.values() for name in names)}


def read_table(
    path: Path, task: str | None, group_column: str | None = None, columns: Sequence[str] | None = None
) -> Listing:
    """Return the cases of a table; ``task=None``: it needs no targets.

    Args:
        group_column: whose equal values are never in two splits; None: ``patient``, where there is one.
        columns: the demographic ones; None: all that have no other role, but none to segment.

    Raises:
        DataError: no table, a missing or doubled column, a row with too many or too few cells, without a path, label
            or (where a task needs it) group, with a path that does not exist or stands in another row, with an unknown
            split.
    """
    header, rows = _cells(path)
    at = {name: i for i, name in enumerate(header)}
    image = _column(path, at, _PATH)
    target = _column(path, at, _TARGET[task]) if task else None
    split = next((at[name] for name in _SPLIT if name in at), None)
    if group_column:
        group = _column(path, at, (group_column.strip().lower(),))
    else:
        group = next((at[name] for role in _PATIENT for name in header if _letters(name) == role), None)
    if columns is None and task == "segment":
        columns = []
    elif columns is None:
        used = {image, target, split, group}
        columns = [name for name in header if at[name] not in used and not {name, _letters(name)} & _ROLES]
    chosen = [_column(path, at, (name.strip().lower(),)) for name in columns]
    cases: list[Case] = []
    seen: dict[Path, int] = {}
    for number, row in enumerate(rows, 2):
        where = f"{path} row {number}"
        if len(row) != len(header):
            raise DataError(mismatch("data", f"{where} to have {len(header)} cells", len(row)))
        for index in (image, target, group):
            if index is not None and not row[index] and (task or index != group):
                raise DataError(mismatch("data", f"{where} to have a {header[index]}", "an empty cell"))
        file = _existing(path, row[image], where)
        first = seen.setdefault(file.resolve(), number)
        if first != number:
            raise DataError(mismatch("data", f"each path once in {path}", f"{file} in rows {first} and {number}"))
        if split is not None and row[split].lower() not in ALIASES:
            raise DataError(mismatch("data", f"{where} to have split train, val or test", repr(row[split])))
        goal = None if target is None else row[target]
        cases.append(Case(
            name=Path(row[image]).as_posix(), image=file, where=f"{where}, {file}",
            target=_existing(path, goal, where) if task == "segment" else goal,
            part=None if split is None else ALIASES[row[split].lower()],
            group=None if group is None else row[group], values=tuple(row[i] for i in chosen),
        ))  # fmt: skip
    if not cases:
        raise DataError(mismatch("data", f"rows below the header of {path}", "none"))
    return Listing(path, cases, tuple(header[i] for i in chosen))


def _cells(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file, strict=True)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(mismatch("data", f"{path} to be a CSV file in UTF-8", error)) from None
    except OSError as error:
        raise DataError(mismatch("data", f"{path} to be readable", error.strerror or error)) from None
    while rows and not any(rows[-1]):  # blank lines at the end
        rows.pop()
    header = [name.lower() for name in rows[0]] if rows else []
    double = sorted({name for name in header if header.count(name) > 1})
    if not header or double or not all(header):
        found = f"{double[0]!r} twice" if double else "a column without one" if header else "an empty file"
        raise DataError(mismatch("data", f"{path} to begin with the names of its columns", found))
    return header, rows[1:]


def _letters(name: str) -> str:
    """A name without what people put between its words."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _column(path: Path, at: dict[str, int], names: Sequence[str]) -> int:
    for name in names:
        if name in at:
            return at[name]
    wanted = f"a column {names[0]!r}" + "".join(f" (or {name!r})" for name in names[1:])
    raise DataError(mismatch("data", f"{wanted} in {path}", ", ".join(at)))


def _existing(table: Path, text: str, where: str) -> Path:
    """A path in a table is relative to the table's folder."""
    file = table.parent / text
    if not file.exists():
        raise DataError(mismatch("data", f"{where}: a file {file}", "none there"))
    return file
