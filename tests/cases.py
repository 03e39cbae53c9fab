"""The named case table: which shapes every backend, test and benchmark meets. No test and no array values live here.

A case's id says everything about it: ``n2_ic3oc8_i9x7_k3_s2_p1_d1_g1`` is a batch of 2, 3 channels in, 8 out,
a 9x7 input, kernel 3, stride 2, padding 1, dilation 1, 1 group; ``tr_`` in front marks a transposed convolution.
"""

from __future__ import annotations

from dataclasses import dataclass

from fastconv.geometry import (
    ConvGeometry,
    PoolGeometry,
    adaptive_pool_geometry,
    conv_geometry,
    conv_transpose_geometry,
    pool_geometry,
)

Ints = int | tuple[int, ...]


def _text(value: object) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def lift(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(A, B, spatial) -> (A, B, D, H, W)."""
    return (*shape[:2], *(1,) * (5 - len(shape)), *shape[2:])


@dataclass(frozen=True)
class ConvCase:
    """A convolution, or with ``transposed`` a transposed one, with the arguments of torch."""

    n: int
    ic: int
    oc: int
    spatial: tuple[int, ...]
    kernel: Ints
    stride: Ints = 1
    padding: Ints | str = 0
    dilation: Ints = 1
    groups: int = 1
    output_padding: Ints = 0
    transposed: bool = False

    @property
    def id(self) -> str:
        head, tail = ("tr_", f"_op{_text(self.output_padding)}") if self.transposed else ("", "")
        return (
            f"{head}n{self.n}_ic{self.ic}oc{self.oc}_i{_text(self.spatial)}_k{_text(self.kernel)}"
            f"_s{_text(self.stride)}_p{_text(self.padding)}_d{_text(self.dilation)}_g{self.groups}{tail}"
        )

    @property
    def rank(self) -> int:
        return len(self.spatial)

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.n, self.ic, *self.spatial)

    @property
    def w_shape(self) -> tuple[int, ...]:
        channels = (self.ic, self.oc // self.groups) if self.transposed else (self.oc, self.ic // self.groups)
        return (*channels, *(self.kernel if isinstance(self.kernel, tuple) else (self.kernel,) * self.rank))

    @property
    def arguments(self) -> dict:
        """Keyword arguments for ``conv{rank}d`` or ``conv_transpose{rank}d``."""
        names = ["stride", "padding", "dilation", "groups"] + ["output_padding"] * self.transposed
        return {name: getattr(self, name) for name in names}

    @property
    def geometry(self) -> ConvGeometry:
        make = conv_transpose_geometry if self.transposed else conv_geometry
        return make("conv", self.rank, self.x_shape, self.w_shape, (self.oc,), **self.arguments)


@dataclass(frozen=True)
class PoolCase:
    """A pooling: ``kind`` is max, avg, adaptive_max or adaptive_avg; ``output`` is for the adaptive ones."""

    kind: str
    n: int
    c: int
    spatial: tuple[int, ...]
    kernel: Ints = 1
    stride: Ints | None = None
    padding: Ints = 0
    dilation: Ints = 1
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: int | None = None
    output: tuple[int | None, ...] | int = 1

    @property
    def id(self) -> str:
        head = f"{self.kind}_n{self.n}_c{self.c}_i{_text(self.spatial)}"
        if self.adaptive:
            return f"{head}_o{_text(self.output)}"
        stride = "k" if self.stride is None else _text(self.stride)
        flags = "_ceil" * self.ceil_mode + "_nopad" * (not self.count_include_pad)
        divisor = "" if self.divisor_override is None else f"_div{self.divisor_override}"
        return f"{head}_k{_text(self.kernel)}_s{stride}_p{_text(self.padding)}_d{_text(self.dilation)}{flags}{divisor}"

    @property
    def adaptive(self) -> bool:
        return self.kind.startswith("adaptive")

    @property
    def maximum(self) -> bool:
        return self.kind.endswith("max")

    @property
    def rank(self) -> int:
        return len(self.spatial)

    @property
    def x_shape(self) -> tuple[int, ...]:
        return (self.n, self.c, *self.spatial)

    @property
    def arguments(self) -> dict:
        """Keyword arguments for ``{kind}_pool{rank}d``."""
        if self.adaptive:
            return {"output_size": self.output}
        names = ["stride", "padding", "ceil_mode"]
        names += ["dilation"] if self.maximum else ["count_include_pad"]
        if not self.maximum and self.rank > 1:  # torch has no divisor_override in one dimension
            names.append("divisor_override")
        return {"kernel_size": self.kernel} | {name: getattr(self, name) for name in names}

    @property
    def geometry(self) -> PoolGeometry:
        make = adaptive_pool_geometry if self.adaptive else pool_geometry
        return make(f"{self.kind}_pool", self.rank, self.x_shape, **self.arguments)


def transposed(*args, **kwargs) -> ConvCase:
    return ConvCase(*args, transposed=True, **kwargs)


LENET_CASES = (
    ConvCase(2, 1, 32, (28, 28), 5),
    ConvCase(2, 32, 64, (12, 12), 5),
    ConvCase(2, 1, 6, (28, 28), 5, padding=2),
    ConvCase(2, 6, 16, (14, 14), 5),
)

# Sizes around the widths of vector registers, in and out.
CHANNEL_CASES = tuple(
    ConvCase(1, ic, oc, (5, 6), 3, padding=1)
    for ic, oc in [
        (1, 1), (1, 8), (3, 7), (3, 64), (7, 15), (8, 8), (8, 16), (15, 17), (16, 16), (16, 32), (17, 31),
        (31, 33), (32, 32), (33, 48), (48, 65), (65, 1), (64, 3),
    ]
)  # fmt: skip

CONV_CASES = (
    # 1-D
    ConvCase(2, 3, 8, (17,), 3),
    ConvCase(2, 4, 6, (16,), 5, stride=2, padding=2, groups=2),
    ConvCase(1, 2, 3, (20,), 4, padding="same", dilation=3),
    ConvCase(5, 1, 1, (7,), 7),
    # 2-D, plain
    ConvCase(2, 3, 8, (9, 7), 3, stride=2, padding=1),
    ConvCase(1, 1, 1, (6, 6), 3),
    ConvCase(5, 3, 4, (8, 8), 3, padding=1),
    ConvCase(1, 1, 1, (1, 1), 1),
    ConvCase(1, 1, 1, (1, 1), 3, padding=1),
    ConvCase(2, 5, 3, (1, 9), (1, 3)),
    ConvCase(2, 5, 3, (9, 1), (3, 1), padding=(1, 0)),
    ConvCase(2, 3, 5, (33, 17), 3, padding=1),
    # 1x1
    ConvCase(2, 16, 32, (7, 7), 1),
    ConvCase(2, 7, 9, (6, 5), 1, stride=2),
    ConvCase(2, 3, 4, (5, 5), 1, padding=1),
    # few channels in, and more than a tile and a chunk of channels of their gradient
    ConvCase(1, 3, 40, (37, 30), 5, padding=2),
    ConvCase(2, 2, 20, (9, 12, 11), 3),
    # big kernels, kernel = input
    ConvCase(1, 2, 3, (14, 15), 11, padding=5),
    ConvCase(1, 3, 8, (35, 35), 11, stride=4, padding=2),
    ConvCase(1, 2, 9, (12, 20), (2, 13)),
    ConvCase(3, 4, 10, (4, 4), 4),
    # padding larger than the kernel: windows of padding alone
    ConvCase(1, 2, 3, (4, 4), 2, padding=3),
    # stride larger than the kernel: elements nobody reads
    ConvCase(2, 3, 4, (10, 11), 2, stride=3),
    ConvCase(2, 3, 4, (9, 9), 1, stride=(4, 2)),
    # dilation
    ConvCase(2, 3, 4, (11, 12), 3, dilation=2),
    ConvCase(2, 3, 4, (13, 13), (3, 2), stride=2, padding=(2, 1), dilation=(2, 3)),
    # named padding
    ConvCase(2, 3, 4, (7, 8), 3, padding="same"),
    ConvCase(2, 3, 4, (7, 8), (2, 4), padding="same"),
    ConvCase(1, 2, 3, (9, 9), 4, padding="same", dilation=(1, 2)),
    ConvCase(2, 3, 4, (7, 8), (2, 4), padding="valid"),
    # groups, depthwise, channel multiplier
    ConvCase(2, 4, 6, (8, 7), 3, padding=1, groups=2),
    ConvCase(2, 8, 8, (8, 7), 3, padding=1, groups=8),
    ConvCase(2, 33, 33, (6, 6), 3, stride=2, padding=1, groups=33),
    ConvCase(2, 33, 33, (7, 6), 3, stride=2, padding=2, groups=33),
    ConvCase(2, 17, 17, (8, 7), 3, stride=2, groups=17),
    ConvCase(2, 5, 15, (6, 6), 3, groups=5),
    ConvCase(1, 32, 32, (5, 5), 3, groups=2, dilation=2),
    ConvCase(2, 12, 8, (5, 5), 1, groups=4),
    # empty batch
    ConvCase(0, 3, 4, (5, 5), 3),
    # 3-D
    ConvCase(2, 2, 3, (5, 6, 7), 3, padding=1),
    ConvCase(1, 3, 4, (6, 5, 8), (2, 3, 1), stride=(2, 1, 3), padding=(1, 0, 2)),
    ConvCase(1, 4, 4, (5, 5, 5), 3, padding="same", groups=4),
    ConvCase(1, 2, 2, (7, 7, 7), 2, dilation=(3, 2, 1), groups=2),
    ConvCase(1, 5, 5, (5, 6, 7), 3, stride=2, padding=1, groups=5),
    ConvCase(1, 17, 17, (5, 6, 7), (1, 3, 3), stride=2, groups=17),
    ConvCase(1, 16, 17, (3, 4, 4), 3, padding=1),
    *CHANNEL_CASES,
    *LENET_CASES,
)

TRANSPOSED_CASES = (
    transposed(2, 3, 4, (7,), 3, stride=2, padding=1, output_padding=1),
    transposed(2, 8, 3, (4, 4), 2, stride=2),
    transposed(2, 3, 5, (5, 6), 3),
    transposed(1, 1, 1, (1, 1), 1),
    transposed(2, 4, 6, (5, 4), 3, stride=2, padding=1, output_padding=1, groups=2),
    transposed(2, 4, 3, (5, 4), 4, stride=(3, 2), padding=(2, 1), output_padding=(2, 0)),
    transposed(1, 3, 4, (5, 5), 3, dilation=2, padding=1),
    transposed(1, 3, 4, (5, 5), 3, stride=2, dilation=3, output_padding=2),
    transposed(2, 3, 4, (4, 4), 2, stride=4, output_padding=3),
    transposed(2, 6, 6, (5, 5), 3, padding=1, groups=6),
    transposed(2, 6, 6, (5, 4), 3, stride=2, padding=1, output_padding=1, groups=6),
    transposed(1, 17, 33, (4, 5), 3, padding=1),
    transposed(1, 4, 2, (3, 3), 1, stride=2),
    transposed(0, 3, 4, (4, 4), 3),
    transposed(1, 2, 3, (3, 4, 2), 3, stride=2, padding=1, output_padding=1),
    transposed(2, 2, 2, (3, 3, 3), (2, 1, 3), stride=(1, 2, 2), groups=2),
)

POOL_CASES = (
    # max
    PoolCase("max", 2, 3, (11,), 3, stride=2, padding=1),
    PoolCase("max", 2, 32, (24, 24), 2),
    PoolCase("max", 2, 3, (7, 7), 2),
    PoolCase("max", 2, 3, (7, 7), 2, ceil_mode=True),
    PoolCase("max", 1, 1, (6, 6), 3, stride=1),
    PoolCase("max", 5, 4, (9, 10), 3, stride=2, padding=1),
    PoolCase("max", 2, 3, (9, 11), (3, 2), stride=(2, 3), padding=(1, 0), dilation=(2, 3)),
    PoolCase("max", 2, 3, (10, 9), 3, stride=2, dilation=2, ceil_mode=True),
    PoolCase("max", 1, 17, (8, 8), 3, stride=4),
    PoolCase("max", 1, 2, (4, 4), 4),
    PoolCase("max", 1, 2, (1, 1), 1),
    PoolCase("max", 0, 2, (4, 4), 2),
    PoolCase("max", 1, 2, (5, 6, 7), 2),
    PoolCase("max", 2, 2, (6, 5, 7), (3, 2, 3), stride=2, padding=1, ceil_mode=True),
    PoolCase("adaptive_max", 2, 3, (10,), output=(4,)),
    PoolCase("adaptive_max", 2, 3, (7, 9), output=(3, 4)),
    PoolCase("adaptive_max", 2, 3, (3, 4), output=(5, 7)),
    PoolCase("adaptive_max", 1, 2, (5, 4, 6), output=(2, 3, 6)),
    # average
    PoolCase("avg", 2, 3, (11,), 3, stride=2, padding=1),
    PoolCase("avg", 2, 3, (8, 8), 2),
    PoolCase("avg", 1, 1, (6, 6), 3, stride=1),
    PoolCase("avg", 2, 3, (9, 8), 3, stride=2, padding=1),
    PoolCase("avg", 2, 3, (9, 8), 3, stride=2, padding=1, count_include_pad=False),
    PoolCase("avg", 2, 3, (8, 9), 3, stride=2, padding=1, ceil_mode=True),
    PoolCase("avg", 2, 3, (8, 9), 3, stride=3, padding=1, ceil_mode=True, count_include_pad=False),
    PoolCase("avg", 2, 3, (10, 7), (4, 3), stride=3, padding=(2, 1), ceil_mode=True, divisor_override=7),
    PoolCase("avg", 1, 33, (5, 5), 5),
    PoolCase("avg", 0, 2, (4, 4), 2),
    PoolCase("avg", 1, 2, (5, 6, 7), (2, 3, 2), stride=(1, 2, 3), padding=(1, 1, 0), ceil_mode=True),
    PoolCase("adaptive_avg", 2, 3, (10,), output=(4,)),
    PoolCase("adaptive_avg", 2, 3, (7, 9), output=(1, 1)),
    PoolCase("adaptive_avg", 2, 3, (7, 9), output=(3, None)),
    PoolCase("adaptive_avg", 2, 3, (3, 4), output=(5, 7)),
    PoolCase("adaptive_avg", 1, 2, (5, 4, 6), output=(2, 3, 6)),
)
