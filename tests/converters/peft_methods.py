"""PEFT's methods as data for tests: what each is to zoo, and adapters of them as PEFT saves them."""

import warnings
from pathlib import Path
from typing import Any

import peft
import torch

from zoo.models import BaseModel, load_model

TARGETS = ["q_proj", "k_proj", "down_proj"]
FOLDED, MEASURED, REFUSED = "folded exactly", "refused with its error", "refused by name"
INPUT, NO_WEIGHT = "depends on the input", "updates no linear weight"
# every PeftType of the PEFT that is installed: what becomes of it, and of those refused by name the reason.
# A new one fails a test until somebody has read its forward and put it here.
TYPES: dict[str, str | tuple[str, str]] = {
    "LORA": FOLDED,
    "ADALORA": FOLDED,
    "ADAMSS": FOLDED,
    "DEFT": FOLDED,
    "DELORA": FOLDED,
    "GRALORA": FOLDED,
    "HRA": FOLDED,
    "LOHA": FOLDED,
    "LOKR": FOLDED,
    "MISS": FOLDED,  # its mode `bat` is measured
    "OSF": FOLDED,  # measured where it trains half of the singular vectors or more
    "PEANUT": FOLDED,
    "POLY": FOLDED,  # of one task; of several it goes by the task number of the input
    "PSOFT": FOLDED,
    "PVERA": FOLDED,
    "TINYLORA": FOLDED,
    "UNILORA": FOLDED,
    "VBLORA": FOLDED,
    "VERA": FOLDED,
    "BOFT": MEASURED,
    "C3A": MEASURED,
    "FOURIERFT": MEASURED,
    "FROD": MEASURED,
    "GLORA": MEASURED,
    "HIRA": MEASURED,
    "IA3": MEASURED,
    "OFT": MEASURED,
    "RANDLORA": MEASURED,
    "ROAD": MEASURED,
    "SHIRA": MEASURED,
    "SUPERTUNING": MEASURED,
    "WAVEFT": MEASURED,
    "LILY": (REFUSED, INPUT),
    "SHADOW": (REFUSED, INPUT),
    "XLORA": (REFUSED, INPUT),
    "ADAPTION_PROMPT": (REFUSED, NO_WEIGHT),
    "BEFT": (REFUSED, NO_WEIGHT),
    "CARTRIDGE": (REFUSED, NO_WEIGHT),
    "CPT": (REFUSED, NO_WEIGHT),
    "LN_TUNING": (REFUSED, NO_WEIGHT),
    "MULTITASK_PROMPT_TUNING": (REFUSED, NO_WEIGHT),
    "PREFIX_TUNING": (REFUSED, NO_WEIGHT),
    "PROMPT_TUNING": (REFUSED, NO_WEIGHT),
    "P_TUNING": (REFUSED, NO_WEIGHT),
    "TRAINABLE_TOKENS": (REFUSED, NO_WEIGHT),
}
EXACT: dict[str, tuple[str, dict[str, Any]]] = {
    "adalora": ("AdaLora", {"init_r": 6, "target_r": 4, "total_step": 10, "lora_alpha": 5}),
    "loha": ("LoHa", {"r": 3, "alpha": 5}),
    "loha patterns": ("LoHa", {"r": 3, "rank_pattern": {"k_proj": 2}, "alpha_pattern": {"q_proj": 7}}),
    "lokr": ("LoKr", {"r": 2, "alpha": 5}),
    "lokr both": ("LoKr", {"r": 1, "decompose_both": True}),
    "lokr whole": ("LoKr", {"r": 16}),
    "lokr factor": ("LoKr", {"r": 2, "decompose_factor": 2}),
    "vera": ("Vera", {"r": 6}),
    "vera without its projections": ("Vera", {"r": 6, "save_projection": False}),
    "pvera": ("Pvera", {"r": 6}),
    "delora": ("Delora", {"r": 4}),
    "gralora": ("Gralora", {"r": 4, "gralora_k": 2, "alpha": 6}),
    "gralora hybrid": ("Gralora", {"r": 4, "gralora_k": 4, "hybrid_r": 2}),
    "miss": ("Miss", {"r": 4}),
    "miss uneven": ("Miss", {"r": 5}),
    "miss mini": ("Miss", {"r": 4, "init_weights": "mini", "mini_r": 4}),
    "vb-lora": ("VBLoRA", {"r": 4, "num_vectors": 24, "vector_length": 8}),
    "vb-lora top-k": (
        "VBLoRA",
        {"r": 4, "num_vectors": 24, "vector_length": 8, "save_only_topk_weights": True},
    ),
    "hra": ("HRA", {"r": 4}),
    "hra with gram-schmidt": ("HRA", {"r": 4, "apply_GS": True}),
    "deft": ("Deft", {"r": 4, "alpha": 6}),
    "deft qr": ("Deft", {"r": 4, "decomposition_method": "qr"}),
    "para": ("Deft", {"r": 4, "para": True}),
    "tinylora": ("TinyLora", {"r": 3, "u": 5}),
    "tinylora tied": ("TinyLora", {"r": 3, "u": 5, "weight_tying": 0.5}),
    "tinylora from its seed": ("TinyLora", {"r": 3, "u": 5, "weight_tying": 0.3, "save_projection": False}),
    "unilora": ("UniLora", {"r": 3, "theta_d_length": 50, "save_indices": True}),
    "unilora from its seed": ("UniLora", {"r": 3, "theta_d_length": 50, "proj_seed": 7}),
    "psoft": ("Psoft", {"r": 4, "psoft_alpha": 6}),
    "psoft like pissa": ("Psoft", {"r": 4, "ab_svd_init": "pissa_init"}),
    "psoft by a series": (
        "Psoft",
        {"r": 4, "use_cayley_neumann": True, "cayley_neumann_eps": 0.9, "psoft_mag_a": False},
    ),
    "psoft not orthogonal": ("Psoft", {"r": 4, "psoft_orth": False, "psoft_mag_b": False}),
    "osf": ("OSF", {"effective_rank": 0.85}),
    "osf pattern": ("OSF", {"effective_rank": 0.9, "rank_pattern": {"k_proj": 14}}),
    "peanut": ("Peanut", {"r": 4, "scaling": 2.0}),
    "peanut deep": ("Peanut", {"r": 4, "depth": 2, "act_fn": "gelu"}),
}
DENSE: dict[str, tuple[str, dict[str, Any]]] = {
    "oft": ("OFT", {"oft_block_size": 8}),
    "oft shared": ("OFT", {"oft_block_size": 8, "block_share": True}),
    "oft cayley": ("OFT", {"oft_block_size": 8, "use_cayley_neumann": False}),
    "boft": ("BOFT", {"boft_block_size": 8}),
    "ia3": ("IA3", {"target_modules": TARGETS, "feedforward_modules": ["down_proj"]}),
    "hira": ("Hira", {"r": 4}),
    "c3a": ("C3A", {"block_size": 8}),
    "fourierft": ("FourierFT", {"n_frequency": 40, "scaling": 9.0}),
    "shira": ("Shira", {"r": 2, "random_seed": 3}),
    "randlora": ("RandLora", {"r": 4}),
    "dora": ("Lora", {"r": 4, "use_dora": True, "use_rslora": True}),
    "miss bat": ("Miss", {"r": 4, "init_weights": "bat"}),
    "osf of half": ("OSF", {}),
    "glora": ("Glora", {"r": 3}),
    "glora vector": ("Glora", {"config_A_B": "vector"}),
    "glora constant": ("Glora", {"config_A_B": "constant"}),
    "road 1": ("Road", {"group_size": 8}),
    "road 2": ("Road", {"group_size": 4, "variant": "road_2"}),
    "road 4": ("Road", {"group_size": 16, "variant": "road_4"}),
    "frod": ("Frod", {"sparse_rate": 0.05, "progressbar": False}),
    "waveft": ("WaveFT", {"n_frequency": 60}),
    "waveft of longer filters": ("WaveFT", {"n_frequency": 60, "wavelet_family": "sym4", "scaling": 3.0}),
    "waveft of coiflets": ("WaveFT", {"n_frequency": 60, "wavelet_family": "coif1"}),
    "waveft without wavelets": ("WaveFT", {"n_frequency": 60, "use_idwt": False}),
    "super-tuning": ("Supertuning", {"sparsity": 0.9}),
    "super-tuning with a lora": ("Supertuning", {"sparsity": 0.9, "r": 3, "lora_alpha": 5}),
    "super-tuning by magnitude": ("Supertuning", {"sparsity": 0.9, "save_precomputed_indices": False}),
}


def build(base: BaseModel, folder: Path, kind: str, settings: dict[str, Any], *, size: float = 0.5) -> Path:
    """An adapter of another method, saved by PEFT; what it trains is moved at random from where it begins."""
    targets = {} if "target_modules" in settings else {"target_modules": TARGETS}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "save_precomputed_indices=False", UserWarning)  # that is the test
        config = getattr(peft, f"{kind}Config")(task_type="CAUSAL_LM", **targets, **settings)
    torch.manual_seed(3)
    model: Any = peft.get_peft_model(load_model(base), config)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * size)
    model.peft_config["default"].base_model_name_or_path = base.id
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return folder
