from pathlib import Path

import pytest

from benchmarks.claims.__main__ import PAGE, page

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["README.md", "benchmarks/devices.md"])
def test_every_figure_in_the_tables_is_one_that_a_script_wrote(name):
    results = "".join(path.read_text() for path in (ROOT / "benchmarks" / "results").glob("*.md"))
    lines = [line for line in (ROOT / name).read_text().splitlines() if line.startswith("|")]
    rows = [x for x in lines if "`" not in x and any(cell.strip().replace(".", "").isdigit() for cell in x.split("|"))]
    assert len(rows) >= 8
    assert [row for row in rows if row not in results] == []


def test_the_page_of_the_claims_says_what_the_scripts_wrote():
    assert PAGE.read_text() == page()
    for line in PAGE.read_text().splitlines():
        for link in line.split("](")[1:]:
            assert (PAGE.parent / link.partition(")")[0]).exists(), link
