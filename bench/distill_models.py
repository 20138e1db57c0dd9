"""The networks of bench/distill.py: teachers of small pictures, and the classifiers that teach or measure."""

from collections.abc import Sequence
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from distill_sets import SIDE, Part, Pictures
from safetensors.torch import load_file
from torch import Tensor, nn
from understudy.demo_family import family
from understudy.demo_family.family import TEXT_WIDTH, TIMESTEPS, UNET_CONFIG
from understudy.distill_train.config import Recipe
from understudy.distill_train.data.randomness import generator
from understudy.distill_train.demo.diffusion import Diffusion
from understudy.distill_train.demo.scenes import LatentSet
from understudy.distill_train.methods.base import Method
from understudy.distill_train.methods.classifier import Classifier
from understudy.distill_train.process import Discrete
from understudy.distill_train.run.loop import train
from understudy.distill_train.teachers import Teacher
from understudy.files import save_tensors

PATCH = 4  # pixels a side that the network sees as one place
BATCH = 250
CLASSIFIER_EPOCHS = {"fashion": 3, "emoji": 20, "scenes": 6}


class PixelNetwork(nn.Module):
    """The demo family's architecture on pictures cut into patches: x [B, C, S, S], t [B], tokens [B, L] to v."""

    def __init__(self, channels: int, tokens: int, vocabulary: int):
        super().__init__()
        from diffusers import UNet2DConditionModel

        shape = {"in_channels": channels * PATCH**2, "out_channels": channels * PATCH**2, "sample_size": SIDE // PATCH}
        shape["projection_class_embeddings_input_dim"] = tokens * TEXT_WIDTH
        self.unet = UNet2DConditionModel(**UNET_CONFIG | shape)
        self.text = nn.Embedding(vocabulary, TEXT_WIDTH)

    def forward(self, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        words = self.text(tokens)
        places = F.pixel_unshuffle(x, PATCH)
        return F.pixel_shuffle(self.unet(places, t, words, class_labels=words.flatten(1)).sample, PATCH)


class PixelTeacher(Teacher):
    """Its latents are the pixels in [-1, 1]; v-prediction under the cosine schedule. words: their token ids."""

    kind, factor, default_size = "pixels", 1, SIDE
    attention_block = f"unet.{Teacher.attention_block}"
    file, fingerprint, device = "none", "0" * 64, torch.device("cpu")

    def __init__(self, network: nn.Module, words: dict[str, int]):
        self.unet, self.words = network.eval().requires_grad_(False), words
        self.latent_channels = network.unet.config.in_channels // PATCH**2
        self.process = Discrete(cosine_schedule(), "v_prediction")

    def encode(self, pixels: Tensor, generator=None) -> Tensor:
        return pixels[:, : self.latent_channels] * 2 - 1

    def decode(self, latents: Tensor, clamp: bool = True) -> Tensor:
        pixels = (latents / 2 + 0.5).expand(-1, 3, -1, -1)
        return pixels.clamp(0, 1) if clamp else pixels

    def embed(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        tokens = self.unconditional(len(prompts))["tokens"]
        for row, prompt in zip(tokens, prompts, strict=True):
            ids = torch.tensor([self.words[word] for word in prompt.split()], dtype=torch.long)
            row[: len(ids)] = ids
        return {"tokens": tokens}

    def unconditional(self, count: int) -> dict[str, Tensor]:
        length = self.unet.unet.config.projection_class_embeddings_input_dim // TEXT_WIDTH
        return {"tokens": torch.zeros(count, length, dtype=torch.long)}

    def sizes(self, height: int, width: int, count: int) -> dict[str, Tensor]:
        return {}

    def call(self, unet: nn.Module, noisy: Tensor, t: Tensor, embeddings: dict[str, Tensor]) -> Tensor:
        return unet(noisy, t, embeddings["tokens"])


def cosine_schedule() -> Tensor:
    """alpha_bar [T] of Nichol and Dhariwal 2021, without their limit on a step's beta."""
    t = torch.arange(1, TIMESTEPS + 1, dtype=torch.float64) / (TIMESTEPS + 1)
    angle = (t + 0.008) / 1.008 * torch.pi / 2
    return (angle.cos() / torch.tensor(0.008 / 1.008 * torch.pi / 2).cos()).square().float()


class PixelDiffusion(Diffusion):
    """The demo teacher's training, of a network and data that are given."""

    def __init__(self, settings, recipe, device, network: nn.Module, data: LatentSet):
        Method.__init__(self, settings, recipe, device)
        self.network, self.data, self.process = network, data, Discrete(cosine_schedule(), "v_prediction")

    def prepare(self, directory: Path) -> None:
        """Nothing: the data is given."""

    def measure(self, network: nn.Module):
        return None, {}

    def export(self, network: nn.Module, path: Path) -> None:
        save_tensors({key: value.contiguous() for key, value in network.state_dict().items()}, path)


def pixel_teacher(pictures: Pictures, folder: Path, steps: int) -> PixelTeacher:
    """The teacher of a set, trained if ``folder`` does not hold it yet; a run that was cut off is continued."""
    channels, tokens = pictures.train.pixels.shape[1], pictures.train.tokens.shape[1]
    torch.manual_seed(0)
    network = PixelNetwork(channels, tokens, len(pictures.words) + 1)
    path = folder / "exports" / "teacher.safetensors"
    if not path.exists():
        loop = {"steps": steps, "batch_size": 64, "lr": 1e-3, "warmup": 200, "decay": "wsd", "tracker": "none"}
        recipe = Recipe(method="diffusion", seed=0, export=path.name, loop=loop | {"sample_every": steps})
        data = LatentSet(pictures.train.images()[:, :channels] * 2 - 1, pictures.train.tokens)

        def make(recipe, device):
            return PixelDiffusion(Diffusion.Settings(min_snr_gamma=0), recipe, device, network, data)

        train(recipe, folder, resume=(folder / "recipe.json").exists(), device="cpu", make=make)
    network.load_state_dict(load_file(path))
    return PixelTeacher(network, pictures.words)


def classifier(name: str, pictures: Pictures, path: Path, seed: int) -> Classifier:
    """timm's ``name`` trained on a set at its own size, or read from ``path`` where it lies already."""
    torch.manual_seed(seed)
    network = timm.create_model(name, pretrained=False, num_classes=pictures.train.classes.shape[1])
    if path.exists():
        network.load_state_dict(load_file(path))
    else:
        _fit(network, pictures.train, CLASSIFIER_EPOCHS[pictures.name], seed)
        save_tensors({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    return Classifier(network, torch.tensor([0.5] * 3), torch.tensor([0.5] * 3), None)


def _fit(network: nn.Module, part: Part, epochs: int, seed: int) -> None:
    """Cross-entropy with the classes of a picture as equals; mirrored at random, one-cycle learning rate."""
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.02)
    size, g = 128, generator("classifier", seed)
    steps = epochs * (len(part) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    targets = part.classes.float() / part.classes.sum(1, keepdim=True)
    network.train()
    for step in range(steps):
        if step % (len(part) // size) == 0:
            order = torch.randperm(len(part), generator=g)
        at = order[step % (len(part) // size) * size :][:size]
        images = part.images(at) * 2 - 1
        if torch.rand((), generator=g) < 0.5:
            images = images.flip(3)
        F.cross_entropy(network(images), targets[at]).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()


@torch.no_grad()
def judged(eyes: Classifier, images: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """(features [N, F], whether the likeliest class is one of the picture's [N]) of images [N, 3, H, W] in [0, 1]."""
    parts = [eyes(part) for part in images.split(BATCH)]
    features, logits = (torch.cat(values) for values in zip(*parts, strict=True))
    return features, classes.gather(1, logits.argmax(1, keepdim=True))[:, 0]


def scene_latents(pictures: Pictures) -> LatentSet:
    """The scenes of the training part, encoded."""
    vae = family.load_autoencoder(family.FOLDER / "vae.safetensors").eval()
    with torch.no_grad():
        parts = [
            family.encode(vae, pictures.train.images(slice(i, i + 256))) for i in range(0, len(pictures.train), 256)
        ]
    return LatentSet(torch.cat(parts), pictures.train.tokens)
