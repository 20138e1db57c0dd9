"""What can become of an image is spelt in one place, so that nodes, reports and metadata cannot drift apart."""

import ast
import re
from pathlib import Path

from understudy.receipts.looks import LOOKS
from understudy.samplers import decisions

PACK = Path(__file__).parents[2]
FOLDERS = ("a1111", "demo_family", "distill_train", "nodes", "oracles", "pipelines", "receipts", "samplers")


def test_no_other_file_spells_a_decision():
    spelt = set()
    for path in [*PACK.glob("*.py"), *(file for folder in FOLDERS for file in (PACK / folder).rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in decisions.DECISIONS:
                spelt.add((path.relative_to(PACK).as_posix(), node.value))
    own = {("samplers/decisions.py", word) for word in decisions.DECISIONS}
    # Outputs of the Teachers and Merge, an input of Merge, a choice of the receipt's and a count in A1111's panel have
    # these names; they are no decisions.
    names = {("nodes/teacher_inputs.py", "refined"), ("nodes/merge.py", "refined"), ("nodes/merge.py", "redone")}
    names |= {("nodes/receipt.py", "redone"), ("a1111/words.py", "redone")}
    assert spelt - own == names


def test_every_decision_has_its_colour_and_its_line_in_the_help():
    for look in LOOKS.values():
        assert set(look.decisions) == set(decisions.DECISIONS) >= set(decisions.BY_STRATEGY.values())
    page = (PACK / "web" / "docs" / "UnderstudyReceipt.md").read_text(encoding="utf-8")
    lines = [line.split(":")[0] for line in page.splitlines() if line.startswith("- **")]
    assert set(decisions.DECISIONS) <= {word for line in lines for word in re.findall(r"\*\*(\w+)\*\*", line)}
