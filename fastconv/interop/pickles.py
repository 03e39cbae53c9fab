"""Reading pickles of plain data without running them: a machine of its own for a small part of the language.

A pickle is a program for a stack machine, which may call any function of any module. This machine looks nothing up and
calls nothing: a name is a ``Name``, a call is a ``Call`` that a table of the reader's may turn into data, and what
the tables do not hold is refused by name. The instructions are those of PEP 307 and PEP 3154, read by ``pickletools``.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, NamedTuple

_MARK = object()
_KEYS = (str, bytes, int, float, bool, type(None))
_PLAIN = {
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BININT", "BININT1",
    "BININT2", "LONG1", "LONG4", "BINFLOAT", "SHORT_BINSTRING", "BINSTRING",
}  # fmt: skip
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class Refused(ValueError):
    """What a pickle asks for, where it is no plain data."""


class Name(NamedTuple):
    """A function or class that a pickle names: ``module name``, not looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class Persistent(NamedTuple):
    """A reference to something outside the pickle."""

    id: Any


def read(stream: BinaryIO, names: Mapping[Name, Callable[..., Any] | None]) -> Any:
    """Return the value of the next pickle in ``stream``.

    Args:
        stream: left behind the pickle's end.
        names: what may be named; and what a call of it is, as a function of the arguments, or None: never called.

    Raises:
        Refused: the pickle names, calls or builds something else.
        ValueError, IndexError, KeyError, TypeError: it is damaged.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        place = len(stack) - 1
        while stack[place] is not _MARK:  # an IndexError where there is none
            place -= 1
        values = stack[place + 1 :]
        del stack[place:]
        return values

    def named(module: Any, name: Any) -> Name:
        found = Name(module, name)
        if found not in names:
            raise Refused(str(found))
        return found

    for opcode, argument, _ in pickletools.genops(stream):
        code = opcode.name
        if code in _PLAIN:
            stack.append(argument)
        elif code in _VALUES:
            stack.append(_VALUES[code])
        elif code in ("PROTO", "FRAME"):
            pass
        elif code == "STOP":
            return stack.pop()
        elif code == "MARK":
            stack.append(_MARK)
        elif code == "POP":
            stack.pop()
        elif code == "POP_MARK":
            since_mark()
        elif code in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[argument] = stack[-1]
        elif code == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif code in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[argument])
        elif code in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[code]())
        elif code == "TUPLE":
            stack.append(tuple(since_mark()))
        elif code in ("TUPLE1", "TUPLE2", "TUPLE3"):
            count = int(code[-1])
            stack[-count:] = [tuple(stack[-count:])]
        elif code == "LIST":
            stack.append(since_mark())
        elif code == "DICT":
            stack.append(_filled({}, since_mark()))
        elif code in ("APPEND", "APPENDS"):
            values = since_mark() if code == "APPENDS" else [stack.pop()]
            _of(list, stack[-1]).extend(values)
        elif code in ("SETITEM", "SETITEMS"):
            if code == "SETITEMS":
                values = since_mark()
            else:
                values = stack[-2:]
                del stack[-2:]
            _filled(_of(dict, stack[-1]), values)
        elif code == "GLOBAL":
            stack.append(named(*argument.split(" ", 1)))
        elif code == "STACK_GLOBAL":
            name, module = stack.pop(), stack.pop()
            stack.append(named(_of(str, module), _of(str, name)))
        elif code in ("REDUCE", "NEWOBJ"):
            arguments, function = _of(tuple, stack.pop()), _of(Name, stack.pop())
            if names[function] is None:
                raise Refused(f"a call of {function}")
            stack.append(names[function](*arguments))
        elif code == "BUILD":  # attributes of an object: those of an OrderedDict are not needed
            stack.pop()
            _of(dict, stack[-1])
        elif code == "BINPERSID":
            stack.append(Persistent(stack.pop()))
        else:
            raise Refused(f"the instruction {code}")
    raise ValueError("no end")


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{kind.__name__}, got {type(value).__name__}")
    return value


def _filled(into: dict, values: list[Any]) -> dict:
    for key, value in zip(values[::2], values[1::2], strict=True):
        if type(key) not in _KEYS:  # a deep tuple would be hashed without an end
            raise TypeError(f"keys that are plain, got {type(key).__name__}")
        into[key] = value
    return into
