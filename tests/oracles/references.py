"""What the networks of oracles are compared with: the reference implementations, on the same prepared input."""

import torch

PROMPTS = ["a small red star left of a large blue circle", "a cat", "Café, naïve: 3 DOGS!", "a cat"]


def images():
    """Four smooth pictures ``[4, 3, 45, 70]``, exact in 8 bits."""
    coarse = torch.rand(4, 3, 6, 9, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, (45, 70), mode="bilinear").mul(255).round().div(255)


def by_open_clip(network, pixels, prompts):
    """The cosine that OpenCLIP's own model gives."""
    import open_clip

    tokens = open_clip.tokenize(prompts)
    with torch.no_grad():
        picture, text = network.encode_image(pixels, normalize=True), network.encode_text(tokens, normalize=True)
    return (picture * text).sum(-1)


def by_head(head, prefix, numbers, x, relu=False):
    """The score that the linear layers of a head give to embeddings, written out."""
    x = x / x.norm(dim=-1, keepdim=True)
    for number in numbers:
        x = x @ head[f"{prefix}{number}.weight"].T + head[f"{prefix}{number}.bias"]
        x = x.relu() if relu and number != numbers[-1] else x
    return x[:, 0]


def assert_same(oracle, expected, spread, scale=1.0, prompts=PROMPTS):
    """The oracle's scores of :func:`images`. ``scale``: what the score has more than a cosine, of which 1e-4 are
    allowed.
    """
    scores = oracle(images(), prompts)
    assert scores.dtype == torch.float32 and scores.shape == (len(prompts),)
    assert scores.std() > spread, "scores that hardly differ would match anything"
    torch.testing.assert_close(scores / scale, expected / scale, atol=1e-4, rtol=0)
