"""Classifier-based feature distillation (Sun et al. 2022): progressive distillation in a classifier's eyes."""

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ..config import RecipeError
from ..teachers.precision import whole_precision
from .classifier import Classifier, load_classifier
from .pd import PD


def feature_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL(softmax(teacher / temperature) || softmax(student)) of features [B, F], mean over the batch.

    The temperature sharpens the teacher's distribution only. Logarithms throughout, so that gradients stay finite.
    """
    target = F.log_softmax(teacher.float() / temperature, dim=1)
    return F.kl_div(F.log_softmax(student.float(), dim=1), target, reduction="batchmean", log_target=True)


def entropy(logits: Tensor) -> Tensor:
    """Mean entropy of each sample's classes, in nats: how unsure the classifier is."""
    log_p = F.log_softmax(logits.float(), dim=1)
    return -(log_p.exp() * log_p).sum(dim=1).mean()


def concentration(logits: Tensor) -> Tensor:
    """Negative entropy of the batch's mean class distribution, in nats: small where all classes occur."""
    log_p = F.log_softmax(logits.float(), dim=1).logsumexp(dim=0) - math.log(len(logits))
    return (log_p.exp() * log_p).sum()


class CFD(PD):
    """PD's target, compared through softmaxed classifier features, with the teacher's distribution sharpened.

    L = KL + beta (gamma H + (1 - gamma) D) + anchor L_PD, with H the classifier's entropy of each student picture and D
    the negative entropy of its mean over the batch; so with beta a batch has to be seen whole.
    """

    name = "cfd"
    summary = "the same, compared through a classifier's features"
    source = "Sun et al. 2022"

    class Settings(PD.Settings):
        classifier: str = Field(description="timm's name of the classifier, or a folder with one in timm's hub layout")
        classifier_weights: Path | None = Field(None, description="its weights, .safetensors or .pth; for a name")
        classifier_size: int | None = Field(None, ge=0, description="side that it sees; 0: as decoded; else timm's")
        classifier_mean: tuple[float, ...] | None = Field(None, description="of its training data; timm's without it")
        classifier_std: tuple[float, ...] | None = Field(None, description="of its training data; timm's without it")
        decoder: Path | None = Field(
            None,
            description="TAESD decoder file; the teacher's own takes far more memory in the backward pass, and of what "
            "ComfyUI loads none has one",
        )
        temperature: float = Field(0.9, gt=0, le=1, description="of the teacher's features; below 1 sharpens")
        beta: float = Field(
            0.0,
            ge=0,
            description="weight of the dataset-oriented terms; the paper has 0.003. Needs one process, accumulate = 1",
        )
        gamma: float = Field(0.75, ge=0, le=1, description="share of the entropy in them; the rest is diversity")
        anchor: float = Field(0.0, ge=0, description="weight of the PD loss, which ties colours and places")

    def __init__(self, settings, recipe, device, teacher=None, source=None, classifier: Classifier | None = None):
        super().__init__(settings, recipe, device, teacher, source)
        s = settings
        self.classifier = classifier or load_classifier(
            s.classifier, s.classifier_weights, device, s.classifier_size, s.classifier_mean, s.classifier_std
        )
        self.decode = self._decoder()

    def _require_student(self) -> None:
        super()._require_student()
        if self.hosted and self.settings.decoder is None:
            raise RecipeError(
                "cfd compares decoded pictures, and no gradients come through ComfyUI's autoencoder; name a TAESD "
                "decoder in settings.decoder"
            )

    def require_parts(self, parts):
        if self.settings.beta and parts > 1:
            raise RecipeError(
                f"settings.beta is {self.settings.beta:g}, of a term for whole batches; expected 0, or one process and "
                "loop.accumulate = 1"
            )

    def distance(self, prediction, target, level):
        s = self.settings
        features, logits = self.classifier(self.decode(prediction))
        with torch.no_grad():
            wanted, _ = self.classifier(self.decode(target))
        loss = feature_kl(features, wanted, s.temperature)
        if s.beta:
            loss = loss + s.beta * (s.gamma * entropy(logits) + (1 - s.gamma) * concentration(logits))
        return loss + s.anchor * super().distance(prediction, target, level) if s.anchor else loss

    def _decoder(self):
        """Scaled latents to pixels, nominally in [0, 1], not clipped."""
        if self.settings.decoder is None:
            return lambda latents: self.teacher.decode(latents, clamp=False)
        from .tiny_decoder import load_tiny_decoder

        decoder = load_tiny_decoder(self.settings.decoder, self.teacher.latent_channels).to(self.device)

        def decode(latents: Tensor) -> Tensor:
            with whole_precision(self.device):
                return decoder(latents.float()) / 2 + 0.5

        return decode
