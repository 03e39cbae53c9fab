"""Hooks: functions that see, and may replace, what goes into a module and what comes out of it.

While a module has hooks, a ``Hooked`` stands in the place of its ``forward``, so a module without any pays nothing for
them, and a layer with some is not part of a unit (fusion.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ..errors import DTypeError, mismatch


class Hook(NamedTuple):
    function: Callable[..., Any]
    with_kwargs: bool
    always: bool = False  # called, with the output None, where an exception passes by


class Hooked:
    """``forward`` of a module, between its hooks."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self.own = vars(module).get("forward")  # the instance's own forward, where it has one
        self.before: dict[object, Hook] = {}
        self.after: dict[object, Hook] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        module, called = self.module, set()
        try:
            for function, with_kwargs, _ in list(self.before.values()):
                new = function(module, args, kwargs) if with_kwargs else function(module, args)
                if new is not None and with_kwargs:
                    args, kwargs = new
                elif new is not None:
                    args = new if isinstance(new, tuple) else (new,)
            output = self.own(*args, **kwargs) if self.own else type(module).forward(module, *args, **kwargs)
            for key, hook in list(self.after.items()):
                called.add(key)
                new = _seen(hook, module, args, kwargs, output)
                output = output if new is None else new
        except BaseException:
            for key, hook in list(self.after.items()):
                if hook.always and key not in called:
                    _seen(hook, module, args, kwargs, None)
            raise
        return output


def _seen(hook: Hook, module: Any, args: tuple, kwargs: dict, output: Any) -> Any:
    if hook.with_kwargs:
        return hook.function(module, args, kwargs, output)
    return hook.function(module, args, output)


class Handle:
    """What registering a hook returns: ``remove()`` takes the hook away; so does the end of a ``with`` block."""

    def __init__(self, hooked: Hooked, hooks: dict[object, Hook]) -> None:
        self._hooked, self._hooks = hooked, hooks

    def remove(self) -> None:
        """Take the hook away; a second time nothing happens."""
        self._hooks.pop(self, None)
        hooked, attributes = self._hooked, vars(self._hooked.module)
        if not hooked.before and not hooked.after and attributes.get("forward") is hooked:
            del attributes["forward"]
            if hooked.own:
                attributes["forward"] = hooked.own

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()


def register(module: Any, hook: Hook, before: bool, first: bool) -> Handle:
    """Hang ``hook`` before or after the module's forward, ``first`` or last among those that are there.

    Raises:
        DTypeError: a hook that cannot be called.
    """
    if not callable(hook.function):
        op = "register_forward_pre_hook" if before else "register_forward_hook"
        raise DTypeError(mismatch(op, "hook to be a function", repr(hook.function)))
    hooked = vars(module).get("forward")
    if not isinstance(hooked, Hooked):
        hooked = module.forward = Hooked(module)
    hooks = hooked.before if before else hooked.after
    handle = Handle(hooked, hooks)
    there = dict(hooks) if first else {}
    for key in there:
        del hooks[key]
    hooks[handle] = hook
    hooks.update(there)
    return handle
