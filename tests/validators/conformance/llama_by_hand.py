"""An activated LoRA on a Llama, from the papers' equations in NumPy: no torch, no transformers, no hooks.

Every adapted matrix is merged densely, W' = W + scale * B A, and each token takes W or W' by its own truth
value. Everything is float64.

Sources: Touvron et al. 2023 (arXiv 2302.13971), section 2.2 (pre-norm, SwiGLU, rotary embeddings); Zhang and
Sennrich 2019 (1910.07467), RMSNorm; Su et al. 2021 (2104.09864), rotary embeddings; Ainslie et al. 2023
(2305.13245), grouped queries; arXiv 2504.12397, section 3, activated LoRA.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Llama:
    """Weights by checkpoint name, and the numbers that the shapes do not tell."""

    weights: Mapping[str, Array]
    updates: Mapping[str, Array]  # scale * B A, `[out, in]`, by module path
    layers: int
    heads: int
    groups: int  # key and value heads
    epsilon: float
    frequencies: Array  # radians a token, `[head / 2]`

    def logits(self, ids: list[int], active: list[bool]) -> Array:
        """Logits `[tokens, vocabulary]` of one row."""
        acts = np.array(active)
        h = self.weights["model.embed_tokens.weight"][np.array(ids)]
        for index in range(self.layers):
            layer = f"model.layers.{index}"
            h = h + self._attention(layer, self._norm(f"{layer}.input_layernorm", h), acts)
            h = h + self._mlp(layer, self._norm(f"{layer}.post_attention_layernorm", h), acts)
        return self._apply("lm_head", self._norm("model.norm", h), acts)

    def _apply(self, path: str, x: Array, acts: NDArray[np.bool_]) -> Array:
        name = f"{path}.weight"
        w = self.weights[name if name in self.weights else "model.embed_tokens.weight"]  # a tied head
        plain = x @ w.T
        if path not in self.updates:
            return plain
        return np.where(acts[:, None], x @ (w + self.updates[path]).T, plain)

    def _norm(self, path: str, x: Array) -> Array:
        size = np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + self.epsilon)
        scaled: Array = x / size * self.weights[f"{path}.weight"]
        return scaled

    def _attention(self, layer: str, x: Array, acts: NDArray[np.bool_]) -> Array:
        tokens = len(x)
        q, k, v = (self._apply(f"{layer}.self_attn.{part}_proj", x, acts) for part in "qkv")
        size = q.shape[1] // self.heads
        causal = np.tril(np.ones((tokens, tokens), dtype=bool))
        out = np.empty((tokens, self.heads, size))
        for head in range(self.heads):
            group = head // (self.heads // self.groups)
            mine, theirs = slice(head * size, (head + 1) * size), slice(group * size, (group + 1) * size)
            scores = self._turned(q[:, mine]) @ self._turned(k[:, theirs]).T / np.sqrt(size)
            weight = np.where(causal, np.exp(scores - np.where(causal, scores, -np.inf).max(1)[:, None]), 0.0)
            out[:, head] = weight / weight.sum(axis=1, keepdims=True) @ v[:, theirs]
        return self._apply(f"{layer}.self_attn.o_proj", out.reshape(tokens, -1), acts)

    def _turned(self, x: Array) -> Array:
        """Rotary embedding of `[tokens, head]`: feature i turns with feature i + head / 2."""
        angle = np.arange(len(x))[:, None] * self.frequencies
        one, other = np.split(x, 2, axis=1)
        return np.concatenate(
            [one * np.cos(angle) - other * np.sin(angle), other * np.cos(angle) + one * np.sin(angle)], axis=1
        )

    def _mlp(self, layer: str, x: Array, acts: NDArray[np.bool_]) -> Array:
        gate = self._apply(f"{layer}.mlp.gate_proj", x, acts)
        up = self._apply(f"{layer}.mlp.up_proj", x, acts)
        return self._apply(f"{layer}.mlp.down_proj", gate / (1 + np.exp(-gate)) * up, acts)
