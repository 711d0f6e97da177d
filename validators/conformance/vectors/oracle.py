"""The tiny Llama and its adapters in double precision and plain numpy: where the expected numbers come from.

It shares no code with transformers, PEFT or torch, and knows no cache, batch, chunk or padding: a row is its
ids and, for each of them, the adapter that acts on it. What those other things must not change is thereby
what the vectors test.
"""

import json
import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.validators.conformance.vectors.case import ADAPTERS, MODEL, Case
from zoo.validators.conformance.vectors.compare import LogProbs
from zoo.validators.conformance.vectors.rules import Plan, Rule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

LIKELIEST = 20
ALWAYS = (0, 1, 2, 100, 319)  # ids whose log-probability is stated however unlikely they are


def stated(log_probs: "Array") -> dict[int, float]:
    """The log-probabilities that a vector states of `[vocabulary]`: the likeliest and a few fixed ones."""
    ranked = sorted(range(len(log_probs)), key=lambda token: (-log_probs[token], token))
    wanted = ranked[:LIKELIEST] + [token for token in ALWAYS if token not in ranked[:LIKELIEST]]
    return {token: float(log_probs[token]) for token in wanted}


class Oracle:
    """A Llama with tied embeddings, and LoRA updates on chosen tokens of its linear layers."""

    def __init__(self, model: Path = MODEL, adapters: Mapping[str, Path] = ADAPTERS) -> None:
        """Remembers the folders; they are read when first needed.

        Args:
            model: a model folder with `config.json` and `model.safetensors`.
            adapters: adapter folders in PEFT's format, by name.
        """
        self._model = model
        self._adapters = dict(adapters)
        self._known: dict[tuple[tuple[int, ...], Plan], Array] = {}

    @cached_property
    def config(self) -> dict[str, Any]:
        """The model's `config.json`."""
        content: dict[str, Any] = json.loads((self._model / "config.json").read_bytes())
        return content

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return int(self.config["vocab_size"])

    @cached_property
    def weights(self) -> dict[str, "Array"]:
        """The model's weights, float64, by their name in the checkpoint."""
        return _read(self._model / "model.safetensors")

    @cached_property
    def updates(self) -> dict[tuple[str, str], tuple["Array", "Array"]]:
        """Factors A `[rank, in]` and B `[out, rank]` with the scale in B, by adapter and module."""
        found = {}
        for name, folder in self._adapters.items():
            config = json.loads((folder / "adapter_config.json").read_bytes())
            tensors = _read(folder / "adapter_model.safetensors")
            for key, a in tensors.items():
                if key.endswith(".lora_A.weight"):
                    path = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
                    b = tensors[key.replace(".lora_A.", ".lora_B.")]
                    found[name, path] = (a, b * (config["lora_alpha"] / config["r"]))
        return found

    def predicted(self, case: Case, rule: Rule) -> list[LogProbs]:
        """What an engine that follows `rule` answers at the positions that the vector states, a row each."""
        found: list[LogProbs] = []
        for row, plan in zip(case.rows, rule(case), strict=True):
            whole = self.log_probs(row.ids, plan)
            found.append({one.position: stated(whole[one.position]) for one in row.expected})
        return found

    def log_probs(self, ids: tuple[int, ...], plan: Plan) -> "Array":
        """Log-probabilities of the next token after each position, float64 `[tokens, vocabulary]`."""
        key = (ids, plan)
        if key not in self._known:
            self._known[key] = self._run(ids, plan)
        return self._known[key]

    def _run(self, ids: tuple[int, ...], plan: Plan) -> "Array":
        import numpy as np

        x = self.weights["model.embed_tokens.weight"][list(ids)]
        for layer in range(self.config["num_hidden_layers"]):
            prefix = f"model.layers.{layer}"
            x = x + self._attention(f"{prefix}.self_attn", self._norm(f"{prefix}.input_layernorm", x), plan)
            h = self._norm(f"{prefix}.post_attention_layernorm", x)
            gate = self._linear(f"{prefix}.mlp.gate_proj", h, plan)
            up = self._linear(f"{prefix}.mlp.up_proj", h, plan)
            x = x + self._linear(f"{prefix}.mlp.down_proj", gate / (1 + np.exp(-gate)) * up, plan)
        logits = self._norm("model.norm", x) @ self.weights["model.embed_tokens.weight"].T
        top = logits.max(axis=-1, keepdims=True)
        found: Array = logits - top - np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
        return found

    def _linear(self, path: str, x: "Array", plan: Plan) -> "Array":
        """`W x`, and `+ B (A x)` on the tokens that an adapter acts on."""
        y = x @ self.weights[f"{path}.weight"].T
        for name in {name for name in plan if name is not None}:
            if (name, path) in self.updates:
                a, b = self.updates[name, path]
                where = [index for index, acting in enumerate(plan) if acting == name]
                y[where] += x[where] @ a.T @ b.T
        return y

    def _attention(self, path: str, x: "Array", plan: Plan) -> "Array":
        import numpy as np

        tokens, size = len(x), self.config["head_dim"]
        heads, shared = self.config["num_attention_heads"], self.config["num_key_value_heads"]
        q = self._rotated(self._linear(f"{path}.q_proj", x, plan).reshape(tokens, heads, size))
        k = self._rotated(self._linear(f"{path}.k_proj", x, plan).reshape(tokens, shared, size))
        v = self._linear(f"{path}.v_proj", x, plan).reshape(tokens, shared, size)
        k, v = k.repeat(heads // shared, axis=1), v.repeat(heads // shared, axis=1)
        scores = np.einsum("thd,shd->hts", q, k) / math.sqrt(size)
        scores = np.where(np.tri(tokens, dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        mixed = np.einsum("hts,shd->thd", weights, v).reshape(tokens, heads * size)
        return self._linear(f"{path}.o_proj", mixed, plan)

    def _rotated(self, x: "Array") -> "Array":
        """Rotary position embedding, the halves of a head rotated against each other."""
        import numpy as np

        half = x.shape[-1] // 2
        theta = self.config["rope_parameters"]["rope_theta"]
        angles = np.arange(len(x))[:, None] * theta ** (-np.arange(half) / half)
        cos, sin = np.cos(angles)[:, None], np.sin(angles)[:, None]
        one, other = x[..., :half], x[..., half:]
        return np.concatenate([one * cos - other * sin, other * cos + one * sin], axis=-1)

    def _norm(self, path: str, x: "Array") -> "Array":
        import numpy as np

        scale = np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.config["rms_norm_eps"])
        found: Array = x / scale * self.weights[f"{path}.weight"]
        return found


def _read(path: Path) -> "dict[str, Array]":
    import numpy as np
    from safetensors.numpy import load_file

    return {name: tensor.astype(np.float64) for name, tensor in load_file(path).items()}
