"""A request for scores: what its body must be, and its answer. Nothing of it is written to disk."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..oracles.base import NoScore
from ..pipelines.images import DAMAGE, decoded, opened
from .oracle import HostedOracle

MOST, PIXELS = 64, 4096 * 4096
FORMATS = {"PNG", "JPEG", "MPO", "WEBP"}  # an MPO is a JPEG with more of them behind it
PICTURE = "a PNG, JPEG or WebP as base64"
EXPECTED = f"an object with images (1 to {MOST} pictures), prompts and oracle"
KINDS = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}


class WrongRequest(ValueError):
    """A body that cannot be answered, in one sentence."""


@dataclass(frozen=True)
class Request:
    """images: the pictures' files. prompts: one for each, None where there are none. oracle: a listed name."""

    images: list[bytes]
    prompts: list[str] | None
    oracle: str

    @classmethod
    def of(cls, body: object) -> Request:
        """From a body of JSON. Raises WrongRequest before any picture is decoded."""
        if not isinstance(body, Mapping):
            raise WrongRequest(f"the body is {_kind(body)}; expected {EXPECTED}")
        if unknown := sorted(map(str, body.keys() - {"images", "prompts", "oracle"})):
            raise WrongRequest(f"the body has {_short(unknown[0])}, which is not known; expected {EXPECTED}")
        if not isinstance(oracle := body.get("oracle"), str):
            raise WrongRequest(f"oracle is {_kind(oracle)}; expected a name that /understudy/v1/oracles lists")
        if not isinstance(images := body.get("images"), list):
            raise WrongRequest(f"images is {_kind(images)}; expected a list of 1 to {MOST} pictures, each {PICTURE}")
        if not 1 <= len(images) <= MOST:
            advice = "so send several requests" if images else f"each {PICTURE}"
            raise WrongRequest(f"there are {len(images) or 'no'} images; expected 1 to {MOST}, {advice}")
        prompts = _prompts(body.get("prompts"), len(images))
        return cls([_picture(image, f"images[{at}]") for at, image in enumerate(images)], prompts, oracle)

    def answer(self) -> dict | WrongRequest:
        """Scores and what they are. What is wrong is returned, since the main thread of some hosts drops errors."""
        try:
            oracle = HostedOracle(self.oracle)
            if self.prompts is None and oracle.oracle.reads_prompts:
                return WrongRequest(f"{self.oracle} reads prompts; give prompts: one text for all, or a list")
            scores = [score for first, images in self._groups() for score in self._scored(oracle, first, images)]
        except (ValueError, OSError) as error:
            return WrongRequest(str(error))
        return {"oracle": self.oracle, "family": oracle.oracle.family, "unit": oracle.oracle.unit, "scores": scores}

    def _groups(self) -> Iterator[tuple[int, list]]:
        """Where each begins, and pictures of one shape: not all at once, which might not fit into memory."""
        group = []
        for at, data in enumerate(self.images):
            try:
                image = decoded(data, upright=True)
            except DAMAGE as error:
                raise WrongRequest(f"images[{at}] is damaged: {error}") from error
            together = (len(group) + 1) * image[0].numel()
            if group and (image.shape != group[0].shape or together > PIXELS):
                yield at - len(group), group
                group = []
            group.append(image)
        yield len(self.images) - len(group), group

    def _scored(self, oracle: HostedOracle, first: int, images: list) -> list[float]:
        import torch

        prompts = [""] * len(images) if self.prompts is None else self.prompts[first : first + len(images)]
        try:
            return oracle(torch.stack(images), prompts)
        except NoScore as error:
            raise WrongRequest(f"images[{first + error.image}]: {error.reason}; {error.advice}") from error


def _prompts(given: object, count: int) -> list[str] | None:
    if given is None or isinstance(given, str):
        return given if given is None else [given] * count
    if not isinstance(given, list) or not all(isinstance(prompt, str) for prompt in given):
        of = "a list that does not hold texts alone" if isinstance(given, list) else _kind(given)
        raise WrongRequest(f"prompts is {of}; expected one text for all images, or a list of one for each")
    if len(given) != count:
        raise WrongRequest(f"there are {len(given)} prompts for {count} images; expected one text for all, or one each")
    return given


def _picture(given: object, name: str) -> bytes:
    """The file of a picture, of whose header it is known that it is one, and how large."""
    if not isinstance(given, str):
        raise WrongRequest(f"{name} is {_kind(given)}; expected {PICTURE}")
    if re.match(r"\s*(?!data:)[a-z][a-z\d+.-]*:", given[:100], re.IGNORECASE):
        raise WrongRequest(f"{name} is an address, {_short(given)}; nothing is fetched, so send {PICTURE}")
    text = re.sub(r"^data:image/[\w.+-]+;base64,", "", "".join(given.split()))
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise WrongRequest(f"{name} is not base64: {_short(given)}; expected {PICTURE}") from error
    try:
        with opened(data) as image:
            kind, (width, height) = image.format, image.size
    except DAMAGE as error:
        raise WrongRequest(f"{name} is no picture that can be read: {error}; expected {PICTURE}") from error
    if kind not in FORMATS:
        raise WrongRequest(f"{name} is a {kind}; expected {PICTURE}")
    if width * height > PIXELS:
        raise WrongRequest(f"{name} has {width} x {height} pixels; expected at most 16 megapixels, so make it smaller")
    return data


def _kind(value: object) -> str:
    return "missing" if value is None else KINDS.get(type(value), type(value).__name__)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
