"""Hypothesis strategies for random, small, valid convolutions and poolings."""

from __future__ import annotations

from cases import ConvCase, PoolCase
from hypothesis import assume
from hypothesis import strategies as st

from fastconv.errors import FastconvError


def _axes(draw: st.DrawFn, rank: int, low: int, high: int) -> tuple[int, ...]:
    return tuple(draw(st.integers(low, high)) for _ in range(rank))


def _assume_valid(case: ConvCase | PoolCase) -> None:
    try:
        _ = case.geometry
    except FastconvError:
        assume(False)


@st.composite
def conv_cases(draw: st.DrawFn, transposed: bool = False) -> ConvCase:
    rank = draw(st.integers(1, 3))
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    stride, dilation = _axes(draw, rank, 1, 3), _axes(draw, rank, 1, 3)
    padding: object = _axes(draw, rank, 0, 3)
    if not transposed and draw(st.booleans()):
        padding = draw(st.sampled_from(["same", "valid"]))
        stride = (1,) * rank if padding == "same" else stride
    case = ConvCase(
        n=draw(st.integers(0, 3)),
        ic=groups * draw(st.sampled_from([1, 2, 3, 8, 17])),
        oc=groups * draw(st.sampled_from([1, 2, 5, 8, 16, 17])),
        spatial=_axes(draw, rank, 1, 16 if rank == 1 else 9 if rank == 2 else 5),
        kernel=_axes(draw, rank, 1, 5 if rank < 3 else 3),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        output_padding=_axes(draw, rank, 0, 2) if transposed else 0,
        transposed=transposed,
    )
    _assume_valid(case)
    return case


@st.composite
def pool_cases(draw: st.DrawFn) -> PoolCase:
    kind = draw(st.sampled_from(["max", "avg", "adaptive_max", "adaptive_avg"]))
    rank = draw(st.integers(1, 3))
    size = 12 if rank < 3 else 6
    common = {"kind": kind, "n": draw(st.integers(1, 3)), "c": draw(st.sampled_from([1, 3, 8, 17]))}
    if kind.startswith("adaptive"):
        return PoolCase(**common, spatial=_axes(draw, rank, 1, size), output=_axes(draw, rank, 1, size))
    spatial, kernel = _axes(draw, rank, 1, size), _axes(draw, rank, 1, 4)
    if kind == "avg" and rank == 3:  # torch refuses more than we do here: kernels that padding alone makes fit,
        spatial = tuple(map(max, spatial, kernel))
    case = PoolCase(
        **common,
        spatial=spatial,
        kernel=kernel,
        stride=draw(st.one_of(st.none(), st.just(_axes(draw, rank, 1, 4)))),
        padding=tuple(draw(st.integers(0, k // 2)) for k in kernel),  # and padding beyond half the undilated kernel
        dilation=_axes(draw, rank, 1, 3) if kind == "max" else 1,
        ceil_mode=draw(st.booleans()),
        count_include_pad=draw(st.booleans()),
        divisor_override=draw(st.sampled_from([None, None, 3])) if kind == "avg" and rank > 1 else None,
    )
    _assume_valid(case)
    return case
