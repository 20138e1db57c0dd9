"""The loop and its four methods on networks and budgets of seconds."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from understudy.demo_family import family
from understudy.distill_train.config import Recipe, RecipeError, load_recipe
from understudy.distill_train.demo.oracle import area_under_roc
from understudy.distill_train.demo.scenes import LatentSet
from understudy.distill_train.methods import make_method
from understudy.distill_train.run.command import RECIPES
from understudy.distill_train.run.directory import Run
from understudy.distill_train.run.failures import TrainingError
from understudy.distill_train.run.loop import train
from understudy.distill_train.run.optimizers import learning_rate
from understudy.oracles import load_oracle

LOOP = {"steps": 4, "batch_size": 2, "lr": 1e-3, "log_every": 1, "sample_every": 4, "checkpoint_every": 2}


def recipe(name, loop=None, **settings):
    shipped = load_recipe(RECIPES / f"demo-{name}.toml")
    tiny = shipped.loop.model_copy(update=LOOP | (loop or {}))
    return shipped.model_copy(update={"loop": tiny, "settings": shipped.settings | settings})


def log_of(directory):
    return [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]


def timeless(directory):
    """The log without what the machine's load decides."""
    return [
        {k: v for k, v in entry.items() if k not in ("samples_per_second", "memory_gib")} for entry in log_of(directory)
    ]


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """One tiny run of each of the four recipes, each on the files of those before it."""
    root = tmp_path_factory.mktemp("runs")
    files = {
        "vae": train(
            recipe("vae", measured=8, crop=16, whole=0, whole_at_end=0, warm_start=None), root / "vae", device="cpu"
        )
    }
    files["teacher"] = train(
        recipe("teacher", vae=str(files["vae"]), pictures=16, measured=8), root / "teacher", device="cpu"
    )
    files["student"] = train(
        recipe("student", vae=str(files["vae"]), teacher=str(files["teacher"]), pictures=16, measured=8),
        root / "student",
        device="cpu",
    )
    files["oracle"] = train(
        recipe(
            "oracle",
            **{part: str(files[part]) for part in ("vae", "teacher", "student")},
            student_pictures=4,
            teacher_pictures=2,
            renders=4,
            measured=6,
        ),
        root / "oracle",
        device="cpu",
    )
    return root, files


def test_the_recipes_make_files_that_the_family_loads(chain):
    _, files = chain
    for part in ("teacher", "student"):
        network = family.load_network(files[part])
        noisy = torch.zeros(2, family.LATENT_CHANNELS, 8, 8)
        assert network(noisy, torch.zeros(2), family.tokens_of(["red star", ""])).shape == noisy.shape
    vae = family.load_autoencoder(files["vae"])
    assert family.decode(vae, family.encode(vae, torch.rand(1, 3, 64, 64))).shape == (1, 3, 64, 64)
    scores = load_oracle(files["oracle"])(torch.rand(2, 3, 64, 64), ["red star", "blue circle"])
    assert scores.shape == (2,)


def test_a_run_leaves_a_log_samples_and_checkpoints(chain):
    root, _ = chain
    for part, figure in (("vae", "exact"), ("teacher", "exact@16"), ("student", "exact@1"), ("oracle", "auc@2")):
        log = log_of(root / part)
        assert [entry["step"] for entry in log if "loss" in entry] == [1, 2, 3, 4]
        assert figure in log[-1]
        assert len(list((root / part / "checkpoints").glob("*.pt"))) == 2
        assert len(list((root / part / "samples").glob("*.png"))) == (part != "oracle")
        assert not list((root / part).rglob("*.partial"))


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_a_resumed_run_is_the_unbroken_one_to_the_last_bit(chain, tmp_path, name):
    root, files = chain
    settings = {"vae": str(files["vae"]), "pictures": 16, "measured": 8}
    if name == "student":
        settings["teacher"] = str(files["teacher"])
    same = recipe(name, **settings)
    train(same, tmp_path / "run", device="cpu")
    # As if it had been stopped after step 3: the checkpoint of step 2 is the newest, the log is ahead of it.
    run = Run(tmp_path / "run")
    run.checkpoints()[-1].unlink()
    (tmp_path / "run" / "exports" / f"{name}.safetensors").unlink()
    resumed = train(same, tmp_path / "run", resume=True, device="cpu")
    ours, unbroken = load_file(resumed), load_file(files[name])
    assert all(torch.equal(ours[key], unbroken[key]) for key in unbroken)
    assert timeless(tmp_path / "run") == timeless(root / name)


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_one_step_lowers_the_loss_on_the_same_draws(chain, tmp_path, name):
    _, files = chain
    settings = {"vae": str(files["vae"]), "pictures": 16}
    if name == "student":
        settings["teacher"] = str(files["teacher"])
    torch.manual_seed(0)
    method = make_method(recipe(name, {"batch_size": 16}, **settings), torch.device("cpu"))
    method.prepare(tmp_path / "run")
    before = method.loss(method.network, 0)
    before.backward()
    with torch.no_grad():
        for parameter in method.network.parameters():
            if parameter.grad is not None:
                parameter -= 1e-4 * parameter.grad
    assert method.loss(method.network, 0) < before


def test_pictures_are_encoded_once_for_all_runs_on_the_same_autoencoder(chain, tmp_path):
    _, files = chain
    cpu = torch.device("cpu")
    made = LatentSet.of_renders(files["vae"], 8, 1, cpu, tmp_path)
    (file,) = tmp_path.iterdir()
    save_file({"latents": made.latents + 1, "tokens": made.tokens}, file)
    assert torch.equal(LatentSet.of_renders(files["vae"], 8, 1, cpu, tmp_path).latents, made.latents + 1)
    other = tmp_path / "other.safetensors"
    state = load_file(files["vae"])
    save_file(state | {key: value * 2 for key, value in list(state.items())[:1]}, other)
    for vae, count, seed in ((files["vae"], 8, 2), (files["vae"], 9, 1), (other, 8, 1)):
        fresh = LatentSet.of_renders(vae, count, seed, cpu, tmp_path)
        assert len(fresh.latents) == len(fresh.tokens) == count
        assert not torch.equal(fresh.latents[:8], made.latents + 1)
    assert len(list(tmp_path.glob("latents-*.safetensors"))) == 4


def test_the_consistency_target_is_the_identity_at_the_boundary(chain):
    _, files = chain
    method = make_method(recipe("student", teacher=str(files["teacher"])), torch.device("cpu"))
    z, tokens = torch.randn(3, 8, 8, 8), family.tokens_of(["red star"] * 3)
    t, s = method.timesteps[[1, 1, 1]], method.timesteps[[0, 0, 0]]
    x, _ = method.denoise(method.teacher, z, t, tokens)
    free, _ = method.denoise(method.teacher, z, t, torch.zeros_like(tokens))
    guided = free + method.settings.cfg * (x - free)
    # At s the data itself: the teacher's guided x0, whatever the averaged student would say.
    torch.testing.assert_close(method.target_at(z, t, s, tokens), guided)


def test_only_the_boundary_itself_has_no_noise(chain):
    _, files = chain
    method = make_method(recipe("student", teacher=str(files["teacher"])), torch.device("cpu"))
    t = torch.tensor([-1, 0, 19, 999])
    alpha, sigma = (value.flatten().double() for value in method.levels(t))
    levels = method.alphas_cumprod.double()[t[1:]]
    torch.testing.assert_close(alpha.square(), torch.cat([torch.ones(1), levels]), check_dtype=False)
    torch.testing.assert_close(sigma.square(), torch.cat([torch.zeros(1), 1 - levels]), check_dtype=False)


def test_a_student_equal_to_an_unguided_teacher_has_no_loss_where_its_target_is_its_own(chain):
    """On one trajectory, t and s = t, f and its target agree; so the distance measures the change along it alone."""
    _, files = chain
    method = make_method(recipe("student", teacher=str(files["teacher"]), cfg=1.0), torch.device("cpu"))
    z, tokens = torch.randn(3, 8, 8, 8), family.tokens_of(["red star"] * 3)
    t = method.timesteps[[30, 30, 30]]
    student, _ = method.denoise(method.network, z, t, tokens)
    torch.testing.assert_close(method.target_at(z, t, t, tokens), student, atol=1e-4, rtol=1e-4)


def test_learning_rate_warms_up_and_falls_to_zero():
    r = recipe("teacher", {"steps": 110, "warmup": 10, "lr": 1.0, "decay": "cosine"})
    rates = [learning_rate(r, step) for step in range(110)]
    assert rates[0] == pytest.approx(0.1) and rates[9] == 1.0 and rates[60] == pytest.approx(0.5)
    assert rates[109] < 0.001 and max(rates) == 1.0
    late = [
        learning_rate(recipe("teacher", {"steps": 100, "warmup": 10, "lr": 1.0, "decay": "wsd"}), s) for s in range(100)
    ]
    assert late[10:81] == [1.0] * 71 and late[90] == pytest.approx(0.5) and late[99] == pytest.approx(0.05)


def test_area_under_roc_counts_ties_half():
    scores, labels = torch.tensor([0.1, 0.4, 0.4, 0.9]), torch.tensor([False, True, False, True])
    assert area_under_roc(scores, labels) == pytest.approx(3.5 / 4)


def test_wrong_recipes_are_refused_with_the_key(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(
        'method = "diffusion"\nseed = 1\nexport = "x"\n[loop]\nsteps = 0\nbatch_size = 1\nlr = 1\nlearning = 2'
    )
    with pytest.raises(RecipeError, match=r"loop\.steps.*loop\.learning"):
        load_recipe(path)
    path.write_text("method = ")
    with pytest.raises(RecipeError, match="not TOML"):
        load_recipe(path)
    with pytest.raises(RecipeError, match="no recipe"):
        load_recipe(tmp_path / "missing.toml")
    loop = {"steps": 1, "batch_size": 1, "lr": 1}
    with pytest.raises(RecipeError, match="method 'magic' is unknown; methods are cd, cfd, codi, controlnet, dmd, "):
        make_method(Recipe(method="magic", seed=1, export="x.safetensors", loop=loop), torch.device("cpu"))
    with pytest.raises(RecipeError, match="settings of diffusion: cgf"):
        make_method(
            Recipe(method="diffusion", seed=1, export="x.safetensors", loop=loop, settings={"cgf": 2}),
            torch.device("cpu"),
        )


def test_a_method_of_whole_batches_is_not_given_parts(chain, tmp_path):
    _, files = chain
    with pytest.raises(RecipeError, match="diffusion trains in one process, with loop.accumulate = 1"):
        train(recipe("teacher", {"accumulate": 2}, vae=str(files["vae"])), tmp_path / "run", device="cpu")
    assert not list(tmp_path.iterdir())  # before its pictures are drawn


def test_a_missing_network_names_the_recipe_that_trains_it(tmp_path):
    with pytest.raises(RecipeError, match=r"demo-teacher\.toml"):
        make_method(recipe("student", teacher=str(tmp_path / "teacher.safetensors")), torch.device("cpu"))


def test_a_run_is_not_overwritten_and_only_its_own_recipe_resumes(chain, tmp_path):
    root, files = chain
    same = recipe("teacher", vae=str(files["vae"]), pictures=16, measured=8)
    with pytest.raises(RecipeError, match="already holds a run"):
        train(same, root / "teacher", device="cpu")
    with pytest.raises(RecipeError, match="differ: settings"):
        train(recipe("teacher", vae=str(files["vae"]), pictures=17), root / "teacher", resume=True, device="cpu")
    with pytest.raises(RecipeError, match="no run to resume"):
        train(same, tmp_path / "nothing", resume=True, device="cpu")


def test_a_loss_that_is_no_number_stops_with_the_step(chain, tmp_path):
    _, files = chain
    wild = recipe("teacher", {"lr": 1e30, "grad_clip": 1e30}, vae=str(files["vae"]), pictures=16)
    with pytest.raises(TrainingError, match=r"at step \d"):
        train(wild, tmp_path / "wild", device="cpu")


def test_the_autoencoder_starts_from_what_fits_of_the_published_files(tmp_path):
    with pytest.raises(RecipeError, match="taef2_encoder.safetensors; get it from madebyollin/taesd"):
        make_method(recipe("vae", warm_start=str(tmp_path)), torch.device("cpu"))
    state = family.autoencoder().state_dict()
    published = {"encoder": {}, "decoder": {}}
    for key, value in state.items():
        half, _, layer, rest = key.split(".", 3)
        # The published decoder counts its clamp as a layer.
        published[half][f"{int(layer) + (half == 'decoder')}.{rest}"] = torch.full(value.shape, 0.25)
    published["decoder"]["1.weight"] = torch.full((64, 32, 3, 3), 0.25)  # of 32 latent channels
    for half, tensors in published.items():
        save_file(tensors, tmp_path / f"taef2_{half}.safetensors")
    started = make_method(recipe("vae", warm_start=str(tmp_path)), torch.device("cpu")).network.vae.state_dict()
    taken = {key for key, value in started.items() if (value == 0.25).all()}
    assert started.keys() - taken == {"decoder.layers.0.weight"}
