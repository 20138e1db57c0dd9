"""What the demo family's student gets wrong of scenes with two things, by what the exact checker reads.

    python bench/demo_mistakes.py            # a minute or two; writes bench/results/demo_mistakes.json
    python bench/demo_mistakes.py --n 128    # a quick look

Of each picture, whether background, count, sizes, colours, shapes and the relation of its two things are as asked;
where the count is wrong nothing else is read. "alone" is what nothing else is wrong beside. The scenes are of the
calibration split, which no network was trained on, and have the same noise at each number of steps.
"""

import argparse
import json

from demo_student import RESULTS, SEED, STEPS, pictures
from understudy.demo_family import checker, family
from understudy.distill_train.data.randomness import generator
from understudy.distill_train.demo.scenes import draw_scenes


def counted(found: list[dict[str, bool]]) -> dict:
    """How many have each mistake, and each alone; where the count is wrong, that only."""
    wrong = [{name for name, right in each.items() if not right} if each["count"] else {"count"} for each in found]
    row = {"exact": sum(not each for each in wrong)}
    for name in found[0]:
        row[name] = sum(name in each for each in wrong)
        row[f"{name} alone"] = sum(each == {name} for each in wrong)
    return row


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1024, help="scenes")
    given = parser.parse_args()
    drawn = draw_scenes(2 * given.n, generator(SEED, "mistakes"), split="calibration")
    scenes = [scene for scene in drawn if len(scene.things) == 2][: given.n]
    rows = []
    for steps in STEPS:
        made = pictures(family.FOLDER / "student.safetensors", scenes, steps)
        read = [pair for images, part in made for pair in zip(checker.read(images), part, strict=True)]
        rows.append({"steps": steps, **counted([reading.verdict(scene) for reading, scene in read])})
        print(json.dumps(rows[-1]), flush=True)
    if given.n >= 1024:
        written = {"scenes": len(scenes), "rows": rows}
        (RESULTS / "demo_mistakes.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
