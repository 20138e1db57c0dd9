"""README's table of students and teachers, against the table of presets."""

import re
from pathlib import Path

import pytest
from understudy.samplers.presets import STUDENTS, TEACHERS
from understudy.samplers.presets.settings import listed

from .published import NOT_IN_A_HOST

README = Path(__file__).parents[3] / "README.md"
HEADING = "| student | preset | steps | teacher | ComfyUI |"
OLDEST = "0.8.0"


def version(text):
    return tuple(map(int, text.split(".")))


def readme_row(student):
    teachers = [TEACHERS[key] for key in student.teachers]
    said = " or ".join(f"{each.key} ({each.steps} steps, cfg {each.cfg:g})" for each in teachers) or "its own"
    host = student.host or OLDEST
    later = max((each.host or OLDEST for each in teachers), key=version, default=OLDEST)
    host += f", teacher {later}" if version(later) > version(host) else ""
    return f"| {student.about} | `{student.key}` | {listed(student.allowed)} | {said} | {host} |"


def test_readme_has_a_row_for_every_preset():
    found = re.search(rf"^{re.escape(HEADING)}\n\|[-|]+\|\n((?:\|.*\n)+)", README.read_text(encoding="utf-8"), re.M)
    expected = [readme_row(student) for student in STUDENTS.values()]
    assert found[1].splitlines() == expected, "README's table should be:\n" + "\n".join(expected)


def test_readme_names_the_families_that_no_host_has_run():
    said = re.search(r"^(.*)\n?.* have never run in a ComfyUI here", README.read_text(encoding="utf-8"), re.M)[0]
    unrun = [STUDENTS[key].about for key in NOT_IN_A_HOST if key in STUDENTS]
    assert unrun and all(about in said for about in unrun)


@pytest.mark.parametrize(
    ("key", "end"),
    [("z-image-turbo", "| 0.11.0, teacher 0.23.0 |"), ("flux2-klein", "| 0.9.2 |"), ("dmd2", "| 0.8.0 |")],
)
def test_the_least_version_is_the_later_one_s_of_both(key, end):
    assert readme_row(STUDENTS[key]).endswith(end)
