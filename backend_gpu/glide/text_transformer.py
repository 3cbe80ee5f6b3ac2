"""GLIDE's text encoder: a plain pre-norm transformer over padded tokens."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from backend_gpu.glide.config import TextConfig


class TransformerBlock(nn.Module):
    """Self-attention and MLP, each behind a layer norm; every position sees every other, padding included."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)

    def forward(self, h: Tensor) -> Tensor:
        qkv = self.qkv(self.attention_norm(h)).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (N, heads, L, 3 d)
        attended = F.scaled_dot_product_attention(*qkv.chunk(3, -1))
        h = h + self.proj(attended.transpose(1, 2).flatten(2))
        h = h + self.mlp_out(F.gelu(self.mlp_in(self.mlp_norm(h))))
        return h


class TextTransformer(nn.Module):
    """Turns tokens into one state per position and one vector for the whole prompt."""

    def __init__(self, config: TextConfig, embedding_channels: int) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context, config.width))
        self.padding_embedding = nn.Parameter(torch.empty(config.context, config.width))
        self.blocks = nn.ModuleList(TransformerBlock(config.width, config.heads) for _ in range(config.layers))
        self.final_norm = nn.LayerNorm(config.width)
        self.pooled = nn.Linear(config.width, embedding_channels)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        nn.init.normal_(self.positional_embedding, std=0.01)
        nn.init.normal_(self.padding_embedding, std=0.01)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Encode tokens (N, L) int64 with mask (N, L), True where a token is real.

        Returns: states (N, L, D) and the pooled vector (N, E), which GLIDE reads off the last position, padding or not.
        """
        h = self.token_embedding(tokens) + self.positional_embedding
        h = torch.where(mask[..., None], h, self.padding_embedding)
        for block in self.blocks:
            h = block(h)
        states = self.final_norm(h)
        return states, self.pooled(states[:, -1])
