"""Parameter groups by name: other options for other parts of a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ArgumentError, mismatch


def parameter_groups(model: Any, options: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups that an optimiser takes: each parameter of ``model`` with the options of its part.

    Args:
        model: a module.
        options: from the names of modules or parameters to options of the optimiser; the empty name is the whole model.
            The longest name that a parameter's begins with counts, whole parts between dots: ``'layer1'`` is not
            ``'layer10'``. A shared parameter goes by its first name. Frozen parameters are in groups as well: they stay
            as they are until they are unfrozen.

    Raises:
        ArgumentError: a name under which no parameter is left, or a parameter that no name covers.

    >>> from fastconv import models
    >>> from fastconv.optim import SGD
    >>> model = models.create("tutorial")
    >>> groups = parameter_groups(model, {"": {"lr": 0.001}, "f6": {"lr": 0.01}})
    >>> [(group["lr"], len(group["params"])) for group in SGD(groups).param_groups]
    [(0.001, 6), (0.01, 2)]
    """
    op = "parameter_groups"
    if not isinstance(options, Mapping) or not all(isinstance(each, Mapping) for each in options.values()):
        raise ArgumentError(mismatch(op, "options {name: {option: value}}", repr(options)))
    groups: dict[str, dict[str, Any]] = {name: {**each, "params": []} for name, each in options.items()}
    longest_first = sorted(groups, key=len, reverse=True)
    for name, parameter in model.named_parameters():
        part = next((part for part in longest_first if not part or f"{name}.".startswith(f"{part}.")), None)
        if part is None:
            raise ArgumentError(mismatch(op, f"options for every parameter, also for {name}", f"names {list(groups)}"))
        groups[part]["params"].append(parameter)
    for name, group in groups.items():
        if not group["params"]:
            raise ArgumentError(mismatch(op, "names of parts that have parameters of their own", repr(name)))
    return list(groups.values())
