import json
import math

import numpy as np
import pytest
from understudy.oracles import calibration as module
from understudy.oracles.calibration import Calibration, CalibrationError, CalibrationMismatch
from understudy.oracles.published_calibrations import PUBLISHED_CALIBRATIONS
from understudy.oracles.scores import Scores
from understudy.oracles.settings import prompts_hash
from understudy.oracles.statistics import interval_text
from understudy.oracles.threshold import Threshold

SETTINGS = {"steps": 4, "cfg": 1.0, "student": {"name": "lcm"}}
ORACLE = "a" * 64


def scores(values, prefix="image", settings=None, oracle=ORACLE):
    ids = tuple(f"{prefix}{i}" for i in range(len(values)))
    return Scores(tuple(values), ids, oracle, ("a cat",) * len(values), settings)


def calibrated(values, **change):
    given = {"name": "mine", "scores_by_image": {}, "settings": SETTINGS, "oracle": ORACLE, "prompt_set": "cats"}
    calibration = Calibration(**given | change)
    calibration.add(scores(values))
    return calibration


@pytest.mark.parametrize("n", [1, 2, 20, 101, 347])
def test_percentiles_are_numpy_s(n):
    values = np.random.default_rng(n).normal(size=n)
    np.testing.assert_allclose(calibrated(values).percentiles, np.percentile(values, range(101)), rtol=1e-12)


def test_value_between_two_percentiles_is_interpolated():
    calibration = calibrated(np.random.default_rng(0).normal(size=50))
    table = calibration.percentiles
    assert calibration.value_at(30) == table[30]
    assert calibration.value_at(30.25) == pytest.approx(0.75 * table[30] + 0.25 * table[31])
    assert (calibration.value_at(0), calibration.value_at(100)) == (table[0], table[100])


def test_fraction_below_inverts_value_at():
    calibration = calibrated(np.random.default_rng(0).normal(size=200))
    for k in (0, 12.5, 50, 99, 100):
        assert calibration.fraction_below(calibration.value_at(k)) == pytest.approx(k / 100)
    assert (calibration.fraction_below(-99), calibration.fraction_below(99)) == (0, 1)


@pytest.mark.parametrize("k", [-1, 100.5, float("nan")])
def test_percentile_outside_its_range(k):
    with pytest.raises(CalibrationError, match="expected 0 to 100"):
        calibrated(range(50)).value_at(k)


def test_too_few_scores():
    with pytest.raises(CalibrationError, match="'mine' has 19 scores; percentiles need at least 20"):
        calibrated(range(19)).value_at(50)
    with pytest.raises(CalibrationError, match="no scores yet"):
        _ = calibrated([]).percentiles


def test_an_image_counts_once():
    calibration = calibrated([1.0, 2.0])
    assert calibration.add(scores([1.0, 2.0])) == 0
    assert calibration.add(scores([5.0, 6.0, 7.0])) == 1
    assert calibration.scores_by_image == {"image0": 1.0, "image1": 2.0, "image2": 7.0}
    assert calibration.percentiles[100] == 7.0


def test_other_settings_are_refused_and_spelled_out():
    calibration = calibrated([1.0])
    other = {"steps": 2, "student": {"name": "lcm"}, "sampler": "euler"}
    with pytest.raises(CalibrationMismatch) as error:
        calibration.require(other)
    message = str(error.value)
    assert 'cfg was 1.0, is not set; sampler was not set, is "euler"; steps was 4, is 2.' in message
    assert "student" not in message
    with pytest.raises(CalibrationMismatch, match="steps was 4, is 2"):
        calibration.add(scores([3.0], "new", settings=other))
    with pytest.raises(CalibrationMismatch, match="oracle was .aaaaaaaaaaaa., is .bbbb"):
        calibration.add(scores([3.0], "new", oracle="b" * 64))
    assert calibration.n == 1
    calibration.require({"student": {"name": "lcm"}, "cfg": 1.0, "steps": 4}, ORACLE)


def test_the_batch_s_size_is_no_setting_even_where_an_older_table_has_it(tmp_path):
    calibrated([1.0], settings={"Empty.batch_size": 4, "Empty.width": 8}).save(tmp_path / "old.json")
    old = Calibration.load(tmp_path / "old.json")
    old.require({"Empty.width": 8})
    old.require({"Empty.width": 8, "Empty.batch_size": 16})
    calibrated([1.0], settings={"Empty.width": 8}).require({"Empty.width": 8, "Empty.batch_size": 16})
    with pytest.raises(CalibrationMismatch, match="settings: Empty.width was 8, is 9. "):
        old.require({"Empty.width": 9, "Empty.batch_size": 16})


def test_other_prompts_or_another_seed_are_refused_where_they_are_known(tmp_path):
    cats, dogs = ["a cat", "two cats"], ["a dog"]
    calibrated([1.0], prompts=prompts_hash(cats), seed=3, prompt_set="cats.txt").save(tmp_path / "c.json")
    known = Calibration.load(tmp_path / "c.json")
    known.require_images(cats, "renamed.txt", 3)
    known.require_images(cats, "cats.txt")
    with pytest.raises(CalibrationMismatch, match=r'prompts was "cats.txt \(\w{12}\)", is "dogs.txt \(\w{12}\)". '):
        known.require_images(dogs, "dogs.txt", 3)
    with pytest.raises(CalibrationMismatch, match="images: seed was 3, is 0"):
        known.require_images(cats, "cats.txt", 0)
    calibrated([1.0]).save(tmp_path / "old.json")
    assert not {"prompts", "seed"} & json.loads((tmp_path / "old.json").read_text()).keys()
    Calibration.load(tmp_path / "old.json").require_images(dogs, "dogs.txt", 0)


def test_hash_depends_on_settings_and_oracle_alone():
    first = calibrated([1.0])
    assert first.settings_hash == calibrated([2.0, 3.0], name="other").settings_hash
    assert first.settings_hash != calibrated([1.0], settings=SETTINGS | {"steps": 5}).settings_hash
    moved = Calibration("mine", {}, SETTINGS, "b" * 64, "cats")
    assert first.settings_hash != moved.settings_hash


def test_saved_and_loaded(tmp_path):
    first = calibrated(np.random.default_rng(0).normal(size=30).tolist(), settings=SETTINGS | {"size": (64, 64)})
    first.save(tmp_path / "deep" / "mine.json")
    second = Calibration.load(tmp_path / "deep" / "mine.json")
    assert second == first and second.percentiles == first.percentiles
    second.require(SETTINGS | {"size": (64, 64)})
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["mine.json"]


def test_bare_table(tmp_path):
    full = calibrated(range(300))
    bare = Calibration("mine", {}, SETTINGS, ORACLE, "cats", table=full.percentiles, count=full.n)
    bare.save(tmp_path / "bare.json")
    loaded = Calibration.load(tmp_path / "bare.json")
    assert (loaded.n, loaded.value_at(33)) == (300, full.value_at(33))
    assert "scores_by_image" not in json.loads((tmp_path / "bare.json").read_text())
    with pytest.raises(CalibrationError, match="bare table"):
        loaded.add(scores([1.0]))
    with pytest.raises(CalibrationError, match="101 rising"):
        Calibration("mine", {}, SETTINGS, ORACLE, "cats", table=full.percentiles[::-1], count=300)


def test_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "mine.json"
    calibrated([1.0, 2.0]).save(path)
    before = path.read_text()

    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("understudy.files.text.os.replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        calibrated([3.0]).save(path)
    assert path.read_text() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a calibration"),
        ("[]", "is not a calibration of format 1"),
        ('{"format": 2}', "is not a calibration of format 1"),
        ('{"format": 1, "name": "x"}', "lacks n, oracle, percentiles"),
    ],
)
def test_damaged_file(tmp_path, text, message):
    path = tmp_path / "mine.json"
    path.write_text(text)
    with pytest.raises(CalibrationError, match=message):
        Calibration.load(path)


def test_settings_changed_by_hand(tmp_path):
    path = tmp_path / "mine.json"
    calibrated([1.0]).save(path)
    path.write_text(path.read_text().replace('"steps": 4', '"steps": 8'))
    with pytest.raises(CalibrationError, match="changed by hand"):
        Calibration.load(path)


def test_missing_file_and_infinite_score(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such calibration"):
        Calibration.load(tmp_path / "none.json")
    calibration = calibrated([1.0])
    with pytest.raises(CalibrationError, match="image 2 is inf"):
        calibration.add(scores([3.0, float("inf")], "new"))
    assert calibration.n == 1, module.MINIMUM_SCORES


def test_interval_holds_the_true_percentile_as_often_as_it_says():
    """Of 400 calibrations of 200 scores each, about 95 % of the intervals hold the true value."""
    g = np.random.default_rng(0)
    for k in (10, 50, 80):
        true = -math.log(1 - k / 100)  # of the exponential distribution
        draws = g.exponential(size=(400, 200)).tolist()
        held = 0
        for draw in draws:
            low, high = calibrated(draw).interval(k)
            held += low <= true <= high
        assert 0.91 <= held / 400 <= 0.985


def test_interval_narrows_with_more_scores():
    few, many = (calibrated([i / n for i in range(n)]).interval(30) for n in (50, 5000))
    assert few[0] < many[0] < 0.3 < many[1] < few[1]
    assert few == (8 / 50, 22 / 50), "the 9th and the 23rd of 50: fewer than 9 in 1.8 % of cases, 23 or more in 1.2 %"


@pytest.mark.parametrize(
    ("k", "interval", "words"),
    [
        (0, (-math.inf, 0), "below 0.000"),
        (1, (-math.inf, 2), "below 2.000"),
        (50, (17, 32), "17.000 to 32.000"),
        (99, (47, math.inf), "above 47.000"),
        (100, (49, math.inf), "above 49.000"),
    ],
)
def test_an_interval_that_the_scores_do_not_reach_is_open(k, interval, words):
    """Of 50 scores, 0 to 49, none lies below the true 1st percentile with 61 %, and three or more with 1.4 %: so the
    lowest is no bound of it from below, and the third is one from above."""
    assert calibrated(range(50)).interval(k) == interval
    assert interval_text(interval) == words


@pytest.mark.parametrize("k", [1, 5, 95, 99])
def test_an_interval_at_the_ends_holds_the_true_percentile(k):
    g, held = np.random.default_rng(0), 0
    for draw in g.exponential(size=(300, 50)).tolist():
        low, high = calibrated(draw).interval(k)
        held += low <= -math.log(1 - k / 100) <= high
    assert held / 300 >= 0.93


def test_a_bare_table_says_what_its_levels_reach():
    single = calibrated(range(300))
    bare = Calibration("bare", {}, SETTINGS, ORACLE, "", table=single.percentiles, count=300)
    for k in (0, 1, 30, 100):
        assert bare.interval(k) == pytest.approx(single.interval(k))
    lcm = PUBLISHED_CALIBRATIONS["ImageReward, LCM-SDXL at 4 steps (published)"]
    assert lcm.interval(10)[0] == -math.inf and lcm.interval(10)[1] > lcm.value_at(10)
    assert lcm.interval(90)[1] == math.inf and lcm.interval(90)[0] < lcm.value_at(90)


def test_a_table_of_deciles_is_known_between_its_ends(tmp_path):
    table = tuple(float(k) for k in range(1, 10))
    known = Calibration("published", {}, {}, "0", "", table=table, count=5000, levels=range(10, 100, 10))
    known.save(tmp_path / "k.json")
    for deciles in (known, Calibration.load(tmp_path / "k.json")):
        assert deciles.value_at(25) == pytest.approx(2.5) and deciles.value_at(90) == 9
        assert deciles.fraction_below(2.5) == pytest.approx(0.25)
        with pytest.raises(CalibrationError, match="known from 10 to 90 %; got percentile 5"):
            deciles.value_at(5)
    with pytest.raises(CalibrationError, match="expected 9 rising"):
        Calibration("bad", {}, {}, "0", "", table=table[:-1], count=9, levels=range(10, 100, 10))


def test_the_authors_percentiles_are_known_for_their_settings():
    lcm, turbo = PUBLISHED_CALIBRATIONS.values()
    assert (lcm.value_at(50), turbo.value_at(50)) == (0.6154, 0.9034)
    assert Threshold.percentile(lcm, 30).value == 0.1546
    graph = {"KSampler": {"steps": 4, "cfg": 1.0}, "CheckpointLoaderSimple": {"ckpt_name": "x"}}
    lcm.require(graph, "any file", "imagereward")
    with pytest.raises(CalibrationMismatch, match="steps was 2, is 4"):
        turbo.require(graph, "any file", "imagereward")
    linked = {"KSampler": {"steps": "PrimitiveInt[0]"}, "Other": {"steps": 30}}
    with pytest.raises(CalibrationMismatch, match=r"steps was 4, is 30, PrimitiveInt\[0\]"):
        lcm.require(linked, "any file", "imagereward")
    with pytest.raises(CalibrationMismatch, match="oracle was imagereward, is hpsv2"):
        lcm.require(graph, "any file", "hpsv2")
    lcm.require(linked | {"PrimitiveInt": {"value": 4}}, "any file", "imagereward")
    with pytest.raises(CalibrationMismatch, match="steps was 2, is 30, 4"):
        turbo.require(linked | {"PrimitiveInt": {"value": 4}}, "any file", "imagereward")
    assert lcm.interval(50)[0] < 0.6154 < lcm.interval(50)[1]
    with pytest.raises(CalibrationError, match="does not say of how many"):
        turbo.interval(50)
    with pytest.raises(CalibrationError, match="known from 10 to 90"):
        lcm.value_at(5)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"settings": []}, "settings cannot be read"),
        ({"percentiles": ["low"]}, "percentiles cannot be read"),
        ({"scores_by_image": {"a": "high"}, "n": True}, "n and scores_by_image cannot be read"),
        ({"name": 3}, "name cannot be read"),
        ({"levels": None}, "levels cannot be read"),
    ],
)
def test_a_file_that_holds_something_else_is_no_calibration(tmp_path, changes, said):
    path = tmp_path / "mine.json"
    Calibration("mine", {str(i): float(i) for i in range(30)}, {"steps": 4}, "f" * 64, "").save(path)
    assert Calibration.load(path).n == 30
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(CalibrationError, match=f"mine.json is not a calibration: its {said}"):
        Calibration.load(path)


def test_a_mismatch_has_its_differences():
    mine = Calibration("mine", {}, {"steps": 4, "model": {"name": "a"}}, "a" * 64, "")
    with pytest.raises(CalibrationMismatch) as caught:
        mine.require({"steps": 8, "model": {"name": "a"}, "cfg": 1}, "b" * 64)
    found = [tuple(each) for each in caught.value.differences]
    assert found == [("cfg", "not set", "1"), ("oracle", '"aaaaaaaaaaaa"', '"bbbbbbbbbbbb"'), ("steps", "4", "8")]
