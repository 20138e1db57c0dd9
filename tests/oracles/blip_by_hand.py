"""ImageReward's network from BLIP's published definition, in plain tensor operations over the checkpoint's own names.

A picture's patches pass a pre-norm vision transformer (Dosovitskiy et al. 2021); the text passes BERT's post-norm
layers (Devlin et al. 2019), each with cross-attention to the picture between self-attention and the feed-forward part
(Li et al. 2022, the image-grounded text encoder); the first token passes linear layers, and the result is standardised.
"""

import torch
from torch.nn import functional as F

HEAD_WIDTH = 64


def attention(q, k, v, mask=None):
    """Multi-head attention of q [B, N, C] over k, v [B, M, C]; mask [B, M] is 1 where a token is there."""
    heads = q.shape[-1] // HEAD_WIDTH
    q, k, v = (t.unflatten(-1, (heads, HEAD_WIDTH)).transpose(1, 2) for t in (q, k, v))
    weights = q @ k.transpose(-1, -2) / HEAD_WIDTH**0.5
    if mask is not None:
        weights = weights.masked_fill(mask[:, None, None] == 0, float("-inf"))
    return (weights.softmax(-1) @ v).transpose(1, 2).flatten(2)


class ByHand:
    def __init__(self, tensors):
        self.tensors = tensors

    def linear(self, x, name):
        return F.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def norm(self, x, name, eps):
        return F.layer_norm(x, x.shape[-1:], self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"], eps)

    def count(self, prefix):
        return len({key[len(prefix) :].split(".")[0] for key in self.tensors if key.startswith(prefix)})

    def picture(self, pixels):
        at = "blip.visual_encoder."
        weight = self.tensors[f"{at}patch_embed.proj.weight"]
        x = F.conv2d(pixels, weight, self.tensors[f"{at}patch_embed.proj.bias"], stride=weight.shape[-1])
        x = torch.cat([self.tensors[f"{at}cls_token"].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], dim=1)
        x = x + self.tensors[f"{at}pos_embed"]
        for i in range(self.count(f"{at}blocks.")):
            block = f"{at}blocks.{i}."
            q, k, v = self.linear(self.norm(x, f"{block}norm1", 1e-6), f"{block}attn.qkv").chunk(3, dim=-1)
            x = x + self.linear(attention(q, k, v), f"{block}attn.proj")
            hidden = F.gelu(self.linear(self.norm(x, f"{block}norm2", 1e-6), f"{block}mlp.fc1"))
            x = x + self.linear(hidden, f"{block}mlp.fc2")
        return self.norm(x, f"{at}norm", 1e-6)

    def text(self, ids, mask, picture):
        at = "blip.text_encoder."
        positions = self.tensors[f"{at}embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = self.tensors[f"{at}embeddings.word_embeddings.weight"][ids] + positions
        x = self.norm(x, f"{at}embeddings.LayerNorm", 1e-12)
        for i in range(self.count(f"{at}encoder.layer.")):
            layer = f"{at}encoder.layer.{i}."
            for kind, source, seen in (("attention", None, mask), ("crossattention", picture, None)):
                source = x if source is None else source
                q, k, v = (
                    self.linear(y, f"{layer}{kind}.self.{part}")
                    for y, part in ((x, "query"), (source, "key"), (source, "value"))
                )
                read = self.linear(attention(q, k, v, seen), f"{layer}{kind}.output.dense")
                x = self.norm(x + read, f"{layer}{kind}.output.LayerNorm", 1e-12)
            hidden = self.linear(F.gelu(self.linear(x, f"{layer}intermediate.dense")), f"{layer}output.dense")
            x = self.norm(x + hidden, f"{layer}output.LayerNorm", 1e-12)
        return x

    def score(self, pixels, ids, mask):
        x = self.text(ids, mask, self.picture(pixels))[:, 0]
        for number in (0, 2, 4, 6, 7):
            x = self.linear(x, f"mlp.layers.{number}")
        return (x[:, 0] - 0.16717362830052426) / 1.0333394966054072
