import json
from dataclasses import replace

import pytest
import torch
from understudy.pipelines.console import show, show_remark, show_scored
from understudy.pipelines.score import Result
from understudy.receipts import grid, tiles
from understudy.receipts.folder import FINAL_FOLDER, STUDENT_FOLDER
from understudy.receipts.grid import GRID_LIMIT, draw_grid
from understudy.receipts.report import ImageReport, Report, Totals, image_name, save_images, table

TOTALS = Totals(28, 1.5, 64, 3.25)


def report(folder, count, size=(64, 64), prompt="a red star"):
    """A report whose odd images were refined: students are red, teachers blue."""
    red, blue = (torch.tensor(colour)[:, None, None].expand(3, *size) for colour in ((0.9, 0, 0), (0, 0, 0.9)))
    images = []
    for i in range(count):
        redone = i % 2 == 1
        save_images(folder, i, red, blue if redone else red)
        after = 0.75 if redone else None
        decision = "refined" if redone else "kept"
        images.append(ImageReport(prompt, i, 0.25 * i, 0.3, decision, after, 18 if redone else 2))
    return Report({"seed": 0}, tuple(images), TOTALS)


def test_report_is_the_json_of_the_issue(tmp_path):
    made = report(tmp_path, 2)
    made.save(tmp_path)
    content = json.loads((tmp_path / "report.json").read_text())
    assert list(content) == ["settings", "images", "totals"]
    assert content["images"][1] == {
        "prompt": "a red star",
        "seed": 1,
        "score": 0.25,
        "threshold": 0.3,
        "decision": "refined",
        "score_after": 0.75,
        "evaluations": 18,
    }
    assert content["totals"] == {
        "evaluations": 28,
        "seconds": 1.5,
        "teacher_only_evaluations": 64,
        "teacher_only_seconds": 3.25,
    }


def test_saved_images_are_the_8_bit_pixels(tmp_path):
    from PIL import Image

    image = torch.rand(3, 5, 7)
    save_images(tmp_path, 12, image, 1 - image)
    for folder, expected in ((STUDENT_FOLDER, image), (FINAL_FOLDER, 1 - image)):
        saved = torch.tensor(list(Image.open(tmp_path / folder / "0013.png").tobytes())).view(5, 7, 3)
        assert torch.equal(saved, (expected * 255).round().permute(1, 2, 0).long())
    assert image_name(3) == "0004.png"


def blocks(picture, *colours):
    """How many rectangles of each colour a picture has, at least 20 pixels wide and high."""
    from scipy.ndimage import find_objects, label

    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(*picture.size[::-1], 3)
    found = (find_objects(label((pixels == torch.tensor(colour)).all(-1).numpy())[0]) for colour in colours)
    return [sum(all(side.stop - side.start >= 20 for side in each) for each in every) for every in found]


RED, BLUE, GREEN = (230, 0, 0), (0, 0, 230), (0, 153, 0)


@pytest.mark.parametrize(("count", "size"), [(1, (64, 64)), (4, (64, 48)), (16, (64, 64)), (2, (512, 768))])
def test_grid_shows_every_picture(tmp_path, count, size):
    picture = draw_grid(report(tmp_path, count, size), tmp_path)
    refined = count // 2
    assert blocks(picture, RED, BLUE) == [count, refined] and picture.width < 1800


def test_grid_has_each_picture_s_own_facts(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(grid, "report_picture", lambda rows, *_, **options: asked.append(rows))
    draw_grid(report(tmp_path, 3), tmp_path)
    (rows,) = asked
    assert [row.threshold for row in rows] == [0.3] * 3 and [row.evaluations for row in rows] == [2, 18, 2]


def test_files_are_numbered_as_the_grid_counts_from_one(tmp_path, monkeypatch):
    drawn, real = [], tiles.write
    monkeypatch.setattr(tiles, "write", lambda *given: (drawn.append(given[2]), real(*given))[1])
    made = report(tmp_path, 3)
    draw_grid(
        replace(made, images=[replace(each, decision="kept", score_after=None) for each in made.images]), tmp_path
    )
    assert [text for text in drawn if "image" in text] == ["image 1", "image 2", "image 3"]
    assert sorted(path.name for path in (tmp_path / FINAL_FOLDER).iterdir()) == ["0001.png", "0002.png", "0003.png"]


def test_grid_says_where_it_stops(tmp_path):
    made = report(tmp_path, GRID_LIMIT + 2, (8, 8))
    shorter = Report({}, made.images[:GRID_LIMIT], TOTALS)
    assert draw_grid(made, tmp_path).height > draw_grid(shorter, tmp_path).height


@pytest.mark.parametrize("made_from", [("source",), ("hint",), ("source", "hint")])
def test_grid_shows_what_images_are_made_from(tmp_path, made_from):
    plain, made = draw_grid(report(tmp_path, 2), tmp_path), report(tmp_path, 2)
    given = {name: torch.tensor([0, 1, 0]).view(3, 1, 1).expand(3, 64, 64) * 0.6 for name in made_from}
    for i in range(2):
        save_images(tmp_path, i, *torch.zeros(2, 3, 64, 64), **given)
    picture = draw_grid(made, tmp_path)
    assert blocks(picture, GREEN) == [2 * len(made_from)] and blocks(plain, GREEN) == [0]
    assert picture.width == plain.width


def test_grid_says_likeness_where_it_was_measured(tmp_path):
    made = report(tmp_path, 2)
    kept = replace(made.images[0], likeness=0.5)
    first, second = ((kept, replace(made.images[1], likeness=0.5, likeness_after=after)) for after in (0.25, 0.75))
    plain, one, other = (draw_grid(replace(made, images=each), tmp_path) for each in (made.images, first, second))
    assert plain.height < one.height and one.size == other.size and one.tobytes() != other.tobytes()
    again = replace(kept, likeness_after=0.5), first[1]  # an image that was kept is the student's
    assert draw_grid(replace(made, images=again), tmp_path).tobytes() == one.tobytes()


def test_grid_draws_the_calibration(tmp_path):
    made = report(tmp_path, 2)
    table = tuple((k / 100, float(k)) for k in range(101))
    assert draw_grid(made, tmp_path, table).tobytes() != draw_grid(made, tmp_path).tobytes()


def test_evaluations_under_a_controlnet_say_what_is_not_counted(tmp_path):
    made = report(tmp_path, 2)
    hinted = replace(made, images=(made.images[0], replace(made.images[1], hint="a.png")))
    assert "28 network evaluations, a ControlNet's not counted, in 1.5 s" in hinted.summary
    assert "ControlNet" not in made.summary


def test_table_shows_prompts_as_they_are(tmp_path):
    from rich.console import Console

    console = Console(width=120, record=True, file=open(tmp_path / "out.txt", "w", encoding="utf-8"))
    prompt = r"a [bold]red[/bold] star, \[sic\], <lora:x:1>"
    console.print(table(report(tmp_path, 2, prompt=prompt)))
    text = console.export_text()
    assert prompt in " ".join(part.strip() for part in text.replace("\n", "│").split("│"))
    assert "1 of 2 refined; 28 network evaluations in 1.5 s; teacher alone: 64 in about 3.2 s" in text


def test_a_long_prompt_does_not_fill_the_screen(tmp_path):
    from rich.console import Console

    console = Console(width=120, record=True, file=open(tmp_path / "out.txt", "w", encoding="utf-8"))
    console.print(table(report(tmp_path, 1, prompt="word " * 2000)))
    assert 50 < console.export_text().count("word") < 70


def test_names_and_prompts_are_printed_as_they_are(tmp_path, capsys):
    out = tmp_path / "runs [bold] :x: [" / "[/red]"
    show(report(tmp_path, 1), out)
    show_remark("read is <lora:x:1> [bold]")
    show_scored(Result(1, {"a:x:[b].png": "cut [/off]"}), out)
    told = capsys.readouterr()
    assert f"Pictures and report: {out} (begin with {out}/grid.png)" in told.out
    assert "skipped a:x:[b].png: cut [/off]\n" in told.out and f"1 pictures scored, 1 skipped: {out}\n" in told.out
    assert told.err == "note: read is <lora:x:1> [bold]\n"
