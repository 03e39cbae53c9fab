"""docs/models.md: every network stands in its table, with the figures that it has."""

import re
from pathlib import Path

import pytest
from test_zoo import COUNTS

import fastconv
from fastconv import init, models

DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"
pytestmark = pytest.mark.skipif(not DOCUMENT.is_file(), reason="the source tree is not here")


def rows():
    """Name, options, and the cells behind them, of each row of the table."""
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if DOCUMENT.is_file() else ():
        found = re.match(r"\| `(\w+)`(?:, `(\w+)=(\w+)`)? \| (.*) \|$", line)
        if found:
            name, option, value, cells = found.groups()
            options = {option: {"True": True}.get(value) or int(value)} if option else {}
            yield name, options, [cell.strip() for cell in cells.split("|")]


def test_every_network_has_a_row():
    assert {name for name, _, _ in rows()} == set(models.names())


def test_those_that_are_torchvisions_are_marked():
    marked = {name + "_bn" * bool(options.get("batch_norm")) for name, options, cells in rows() if cells[3] == "same"}
    assert marked == set(COUNTS)


@pytest.mark.parametrize("name, options, cells", list(rows()))
def test_figures(name, options, cells):
    parameters, billions, size, _, source = cells
    with init.skip():
        net = models.create(name, **options)
    table = fastconv.summary(net, (1, *map(int, size.split(" x "))))
    assert f"{table.parameters:,}" == parameters
    decimals = len(billions.partition(".")[2])
    assert f"{table.multiply_adds / 1e9:.{decimals}f}" == billions
    assert source
