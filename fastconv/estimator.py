"""What scikit-learn asks of an estimator, without scikit-learn: parameters are the arguments of the constructor."""

from __future__ import annotations

from inspect import signature
from typing import Any, Self

from .errors import ArgumentError, mismatch


class Estimator:
    """Base of classes that stand in scikit-learn's pipelines and searches.

    The constructor keeps each argument as an attribute of its name, unchanged and unchecked; ``fit`` checks them.

    >>> class Scale(Estimator):
    ...     _estimator_type = "transformer"
    ...     def __init__(self, factor=1.0):
    ...         self.factor = factor
    >>> Scale(2.0).get_params(), Scale().set_params(factor=3.0)
    ({'factor': 2.0}, Scale(factor=3.0))
    """

    _estimator_type = "classifier"  # or "transformer"

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the arguments of the constructor; of arguments that are estimators theirs too, as ``name__theirs``."""
        params = {name: getattr(self, name) for name in signature(type(self)).parameters}
        if deep:
            for name, value in list(params.items()):
                if hasattr(value, "get_params") and not isinstance(value, type):
                    params |= {f"{name}__{inner}": setting for inner, setting in value.get_params().items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set arguments of the constructor, or of an argument that is an estimator, and return the estimator."""
        known = list(signature(type(self)).parameters)
        for name, value in params.items():
            own, _, inner = name.partition("__")
            if own not in known:
                raise ArgumentError(mismatch(type(self).__name__, f"a parameter of {', '.join(known)}", repr(name)))
            if inner:
                getattr(self, own).set_params(**{inner: value})
            else:
                setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        defaults = {name: parameter.default for name, parameter in signature(type(self)).parameters.items()}
        params = self.get_params(deep=False).items()
        changed = (f"{name}={value!r}" for name, value in params if repr(value) != repr(defaults[name]))
        return f"{type(self).__name__}({', '.join(changed)})"

    def __sklearn_is_fitted__(self) -> bool:
        return any(name.endswith("_") and not name.startswith("_") for name in vars(self))

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, Tags, TargetTags, TransformerTags

        classifier = self._estimator_type == "classifier"
        return Tags(
            estimator_type=self._estimator_type, target_tags=TargetTags(required=classifier),
            classifier_tags=ClassifierTags() if classifier else None,
            transformer_tags=None if classifier else TransformerTags(),
        )  # fmt: skip
