"""The checks that scikit-learn has for estimators, on each of ours; what is excepted, and why."""

from __future__ import annotations

import warnings

import pytest

pytest.importorskip("sklearn", minversion="1.6")

from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastconv.boost import AdaBoostClassifier, DecisionStump
from fastconv.rbm import BernoulliRBM
from fastconv.sklearn import CNNClassifier

MESSAGES = dict.fromkeys(
    (
        "check_estimators_unfitted", "check_n_features_in_after_fitting", "check_all_zero_sample_weights_error",
        "check_complex_data", "check_dtype_object", "check_estimators_empty_data_messages",
        "check_estimator_sparse_tag", "check_estimator_sparse_array", "check_estimator_sparse_matrix",
        "check_classifiers_regression_target", "check_fit2d_predict1d", "check_requires_y_none",
    ), "what is wrong is refused with fastconv's errors and messages, not with scikit-learn's",
)  # fmt: skip
COLUMN = {"check_supervised_y_2d": "a column of labels is refused, not turned into a row with a warning"}
EXCEPTIONS = {
    "CNNClassifier": {
        "check_sample_weight_equivalence_on_dense_data": "batches are drawn from other samples: repeated, not weighted"
    },
    "AdaBoostClassifier": MESSAGES | COLUMN,
    "DecisionStump": MESSAGES
    | COLUMN
    | {
        "check_classifiers_train": "a single question cannot tell three classes apart",
    },
    "Pipeline": {
        "check_estimators_overwrite_params": "a Pipeline fits the steps that it was given",
        "check_dont_overwrite_parameters": "a Pipeline fits the steps that it was given",
        "check_transformer_preserve_dtypes": "the dtype is a parameter",
        "check_methods_sample_order_invariance": "score_samples flips a random unit of each sample",
        "check_methods_subset_invariance": "score_samples flips a random unit of each sample",
    },
}


def excepted(estimator):
    return EXCEPTIONS[type(estimator).__name__]


with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Estimator .* does not inherit from `sklearn.base.BaseEstimator`")
    by_check = parametrize_with_checks(
        [
            CNNClassifier("logistic_regression", epochs=40, lr=0.1),
            AdaBoostClassifier(n_estimators=5),
            DecisionStump(),
            make_pipeline(MinMaxScaler(clip=True), BernoulliRBM(4, n_iter=2)),
        ],
        expected_failed_checks=excepted,
    )


@by_check
def test_checks(estimator, check):
    check(estimator)
