"""Frozen image classifiers from timm whose features a student is to match."""

from argparse import Namespace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...files import CheckpointError, preview
from ...oracles.tensors import TensorFile
from ..config import RecipeError
from ..teachers.precision import whole_precision


class Classifier:
    """Pixels to pooled features and class logits.

    ``network`` is a timm model; ``mean`` and ``std`` [3] are of its training data, ``size`` the side that it wants, or
    None to take pictures as they are. Differentiable, float32.
    """

    def __init__(self, network: nn.Module, mean: Tensor, std: Tensor, size: int | None):
        self.network = network.eval().requires_grad_(False)
        self.mean, self.std, self.size = mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1), size

    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(features [B, F], logits [B, classes]) of pixels [B, 3, H, W], nominally in [0, 1] and not clipped to it."""
        side = (self.size, self.size)
        with whole_precision(pixels.device):
            pixels = pixels.float()
            if self.size is not None and pixels.shape[-2:] != side:
                pixels = F.interpolate(pixels, side, mode="bilinear", align_corners=False, antialias=True)
            maps = self.network.forward_features((pixels - self.mean) / self.std)
            return self.network.forward_head(maps, pre_logits=True), self.network.forward_head(maps)


def load_classifier(
    name: str, weights: Path | None, device: torch.device, size: int | None = None, mean=None, std=None
) -> Classifier:
    """A timm model with weights from disk.

    name: timm's name of it, with its ``weights`` in a .safetensors or .pth file; or a folder as timm's hub has them,
    with config.json and model.safetensors. size, mean, std: where they are not what timm knows of the model; size 0
    takes pictures as they are.
    Raises RecipeError for an unknown name or missing weights, CheckpointError for weights of another model or a file
    that cannot be read.
    """
    try:
        import timm
    except ImportError as error:
        raise RecipeError("settings.classifier needs timm, which is not installed; pip install timm") from error
    if Path(name).is_dir():
        network = timm.create_model(f"local-dir:{name}", pretrained=True)
    elif not timm.is_model(name):
        raise RecipeError(f"settings.classifier is {name!r}; expected a model of timm or a folder with one")
    elif weights is None or not weights.is_file():
        raise RecipeError(f"settings.classifier_weights is {weights}; expected the file with the weights of {name}")
    else:
        network = _filled(timm, name, weights)
    data = timm.data.resolve_model_data_config(network)
    size = data["input_size"][-1] if size is None else size or None
    mean, std = (torch.tensor(given or data[key], device=device) for given, key in ((mean, "mean"), (std, "std")))
    return Classifier(network.to(device), mean, std, size)


def _filled(timm, name: str, path: Path) -> nn.Module:
    """The named model, as many classes wide as the file's, with the file's weights."""
    torch.serialization.add_safe_globals([Namespace])  # timm's training puts its arguments beside the weights
    weights = dict(TensorFile(path))
    head = timm.models.get_pretrained_cfg_value(name, "classifier") or "fc"
    last = next((value for value in reversed(list(weights.values())) if value.ndim), torch.zeros(1))
    classes = weights.get(f"{head}.weight", last).shape[0]
    network = timm.create_model(name, pretrained=False, num_classes=classes)
    expected = network.state_dict()
    if expected.keys() != weights.keys():
        # Other packages have the same layers under names of their own.
        weights = {key: v for key, v in weights.items() if v.ndim or key in expected}
        ours = {key: v for key, v in expected.items() if v.ndim}
        if [v.shape for v in weights.values()] != [v.shape for v in ours.values()]:
            missing = preview(expected.keys() - weights.keys())
            raise CheckpointError(f"{path} does not hold {name}: {missing} are not in it, nor tensors of their shapes")
        weights = dict(zip(ours, weights.values(), strict=True))
    network.load_state_dict({**expected, **weights})
    return network
