"""The pairs of real models are those of the table of presets."""

import pytest
from understudy.samplers.presets import STUDENTS, TEACHERS, of_file
from understudy.templates.families.pairs import PAIRS
from understudy.templates.hosts import versions

EACH = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)


def order(version):
    return [int(number) for number in (version or "0.8.0").split(".")]


@EACH
def test_preset_auto_takes_the_student_s_file_for_what_it_is(pair):
    found = {row.key for each in pair.loading.files if (row := of_file(each.name))}
    assert found == ({pair.student} if not pair.sampling else set())
    assert pair.sampling.get("preset", pair.student) == pair.student


@EACH
def test_the_teacher_is_one_of_the_student_s(pair):
    assert pair.teacher in STUDENTS[pair.student].teachers
    assert STUDENTS[pair.student].rollback is not None


@EACH
def test_the_oldest_host_has_both(pair):
    assert pair.host in versions()
    assert order(pair.host) >= max(order(row.host) for row in (STUDENTS[pair.student], TEACHERS[pair.teacher]))


def test_steps_and_costs_are_the_table_s():
    """Evaluations of an image, and of one that is redone: twice the steps where guidance takes two."""
    assert {pair.name: (pair.steps, pair.cost, pair.teacher_cost) for pair in PAIRS} == {
        "Z-Image-Turbo": (8, 8, 50),
        "Krea 2 Turbo": (8, 8, 104),
        "Qwen-Image Lightning": (4, 4, 100),
        "FLUX.2 klein": (4, 4, 40),
        "SDXL Lightning": (4, 4, 50),
        "SDXL with DMD2": (4, 4, 50),
        "FLUX.1 schnell": (4, 4, 20),
        "SD 1.5 with LCM LoRA": (5, 10, 50),
    }


@EACH
def test_steps_and_cfg_are_what_the_student_is_made_for(pair):
    row = STUDENTS[pair.student]
    assert not row.objections(pair.steps, pair.sampling.get("cfg", 1.0))
