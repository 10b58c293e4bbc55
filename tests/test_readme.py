from pathlib import Path

from benchmarks.claims.__main__ import PAGE, page

ROOT = Path(__file__).parents[1]


def test_every_figure_in_the_tables_is_one_that_a_script_wrote():
    results = "".join(path.read_text() for path in (ROOT / "benchmarks" / "results").glob("*.md"))
    rows = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("|")]
    assert len(rows) > 10
    assert [row for row in rows if row not in results] == []


def test_the_page_of_the_claims_says_what_the_scripts_wrote():
    assert PAGE.read_text() == page()
    for line in PAGE.read_text().splitlines():
        for link in line.split("](")[1:]:
            assert (PAGE.parent / link.partition(")")[0]).exists(), link
