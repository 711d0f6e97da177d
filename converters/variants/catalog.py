"""PEFT's methods: what each one stores and what makes a form of it, or why it can have none.

Every `peft_type` of the PEFT that is installed is in one of the two tables, and a test compares them.
Source: peft 0.21.2, tuners/*/config.py, tuners/*/layer.py, utils/peft_types.py.
"""

from collections.abc import Mapping

from zoo.converters.variants.banks import unilora, vblora
from zoo.converters.variants.based import deft, hra
from zoo.converters.variants.blocks import gralora, miss, poly
from zoo.converters.variants.dense import boft, c3a, hira, ia3, oft
from zoo.converters.variants.factored import adalora, delora, pvera, vera
from zoo.converters.variants.method import Method
from zoo.converters.variants.networks import peanut
from zoo.converters.variants.products import loha, lokr
from zoo.converters.variants.rewritten import category, frod, glora, miss_bat, road
from zoo.converters.variants.scattered import fourierft, randlora, shira, supertuning
from zoo.converters.variants.subspaces import adamss, osf, osf_dense, osf_is_full, psoft, tied, tinylora
from zoo.converters.variants.wavelets import waveft

_LOKR = tuple(f"lokr_{name}" for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b"))
_BANKED = tuple(
    f"vblora_logits_{side}{end}" for side in "AB" for end in ("", "_topk_indices", "_topk_weights")
)

METHODS: Mapping[str, Method] = {
    "ADALORA": Method(
        name="AdaLoRA", parts=("lora_A", "lora_B", "lora_E"), build=adalora, alpha="lora_alpha"
    ),
    "LOHA": Method(
        name="LoHa",
        parts=("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"),
        build=loha,
        alpha="alpha",
    ),
    "LOKR": Method(name="LoKr", parts=_LOKR, build=lokr, alpha="alpha"),
    "VERA": Method(
        name="VeRA", parts=("vera_lambda_b", "vera_lambda_d"), build=vera, shared=("vera_A", "vera_B")
    ),
    "PVERA": Method(
        name="PVeRA", parts=("pvera_lambda_b", "pvera_lambda_d"), build=pvera, shared=("pvera_A", "pvera_B")
    ),
    "DELORA": Method(
        name="DeLoRA", parts=("delora_A", "delora_B", "delora_lambda", "delora_w_norm"), build=delora
    ),
    "GRALORA": Method(
        name="GraLoRA",
        parts=("gralora_A", "gralora_B", "gralora_A_general", "gralora_B_general"),
        build=gralora,
        alpha="alpha",
    ),
    "MISS": Method(
        name="MiSS",
        parts=("miss_block",),
        build=miss,
        dense=miss_bat,
        full=lambda settings, _: settings.get("init_weights") == "bat",
        about="multiplies the base weight block by block (MiSS, init_weights 'bat')",
    ),
    "BONE": Method(  # PEFT no longer has it: what cannot be compared with PEFT is refused
        name="Bone",
        parts=("bone_block",),
        build=miss,
        without=lambda settings: (
            "multiplies the base weight (init_weights 'bat')" if settings.get("init_weights") == "bat" else ""
        ),
    ),
    "VBLORA": Method(name="VB-LoRA", parts=_BANKED, build=vblora, shared=("vblora_vector_bank",)),
    "HRA": Method(name="HRA", parts=("hra_u",), build=hra),
    "DEFT": Method(name="DEFT", parts=("deft_P", "deft_R"), build=deft),
    "OFT": Method(name="OFT", parts=("oft_R",), dense=oft, about="rotates the inputs (OFT)"),
    "BOFT": Method(
        name="BOFT",
        parts=("boft_R", "boft_s"),
        dense=boft,
        about="rotates the inputs and scales the outputs (BOFT)",
    ),
    "IA3": Method(name="IA³", parts=("ia3_l",), dense=ia3, about="scales inputs or outputs (IA³)"),
    "HIRA": Method(
        name="HiRA",
        parts=("hira_A", "hira_B"),
        dense=hira,
        about="multiplies the base weight elementwise (HiRA)",
    ),
    "FOURIERFT": Method(
        name="FourierFT",
        parts=("fourierft_spectrum",),
        dense=fourierft,
        about="sets a few frequencies (FourierFT)",
    ),
    "SHIRA": Method(
        name="SHiRA",
        parts=("shira_weight", "shira_indices"),
        dense=shira,
        about="sets single entries (SHiRA)",
    ),
    "RANDLORA": Method(
        name="RandLoRA",
        parts=("randlora_lambda", "randlora_gamma"),
        dense=randlora,
        shared=("randlora_A", "randlora_B"),
        about="sums random bases to full rank (RandLoRA)",
    ),
    "C3A": Method(name="C3A", parts=("c3a_kernel",), dense=c3a, about="adds circulant matrices (C3A)"),
    "TINYLORA": Method(
        name="TinyLoRA",
        parts=("tinylora_A", "tinylora_B", "tinylora_P"),
        build=tinylora,
        keyed=("tinylora_v",),
        key=tied,
        ordered=True,
    ),
    "UNILORA": Method(
        name="UniLoRA",
        parts=("unilora_indices_A", "unilora_indices_B", "unilora_scales_A", "unilora_scales_B"),
        build=unilora,
        shared=("unilora_theta_d",),
        ordered=True,
        unlisted=True,
    ),
    "PSOFT": Method(
        name="PSOFT",
        parts=("psoft_R", "psoft_R.vector_a", "psoft_R.vector_b"),
        build=psoft,
        warning="PSOFT's singular vectors are not in the file; they have the signs that a CPU gives them, as "
        "when PEFT loads it there, and may have had others where it was trained",
    ),
    "OSF": Method(
        name="OSF",
        parts=tuple(f"osf_svd_params.{name}_low" for name in "USV"),
        build=osf,
        dense=osf_dense,
        full=osf_is_full,
        about="trains half or more of the base weight's singular vectors (OSF)",
    ),
    "ADAMSS": Method(
        name="AdaMSS",
        parts=("adamss_A.#", "adamss_B.#", "adamss_newB"),
        build=adamss,
        warning="the outputs that AdaMSS changes are not in the file; they are clustered again from the base "
        "weight, as when PEFT loads it, and another release of scikit-learn may cluster otherwise",
    ),
    "PEANUT": Method(
        name="PEANuT",
        parts=("peanut_A", "peanut_B", "peanut_encoders.#", "peanut_decoders.#"),
        build=peanut,
    ),
    "POLY": Method(
        name="Poly",
        parts=("poly_lora_A", "poly_lora_B", "poly_router.module_logits"),
        build=poly,
        without=lambda settings: (
            "weighs its skills by a task number that comes with each input (n_tasks is not 1)"
            if settings.get("n_tasks") != 1
            else ""
        ),
    ),
    "GLORA": Method(
        name="GLoRA",
        parts=tuple(f"glora_{side}.{name}" for side in "ABCDE" for name in ("Xd", "Xu", "X", "zeros")),
        dense=glora,
        about="multiplies the base weight elementwise (GLoRA)",
    ),
    "ROAD": Method(
        name="RoAd", parts=("road_theta", "road_alpha"), dense=road, about="rotates the outputs (RoAd)"
    ),
    "FROD": Method(
        name="FRoD",
        parts=("frod_lambda_l", "frod_lambda_s_values"),
        dense=frod,
        keyed=("frod_V", "frod_s_indices", "frod_s_size"),
        key=category,
        about="trains a spectrum of the base weight (FRoD)",
    ),
    "WAVEFT": Method(
        name="WaveFT",
        parts=("waveft_spectrum",),
        dense=waveft,
        about="sets a few wavelet coefficients (WaveFT)",
    ),
    "SUPERTUNING": Method(
        name="Super-Tuning",
        parts=("supertuning_values", "supertuning_indices", "supertuning_lora_A", "supertuning_lora_B"),
        dense=supertuning,
        alpha="lora_alpha",
        about="sets single entries (Super-Tuning)",
    ),
}
_TOKENS = "adds trained vectors to the context and updates no weight"
_CHOOSES = "weighs several adapters anew for each token, so that it is no fixed update"
NO_UPDATE: Mapping[str, str] = {
    "PROMPT_TUNING": _TOKENS,
    "MULTITASK_PROMPT_TUNING": _TOKENS,
    "P_TUNING": _TOKENS,
    "PREFIX_TUNING": _TOKENS,
    "CPT": _TOKENS,
    "CARTRIDGE": _TOKENS,
    "ADAPTION_PROMPT": _TOKENS,
    "XLORA": _CHOOSES,
    "LN_TUNING": "trains normalisation layers, through which the prefix passes",
    "TRAINABLE_TOKENS": "trains embedding rows, through which the prefix passes",
    "BEFT": "trains biases, for which a low-rank update has no place",
    "LILY": "weighs shared experts by the mean of the input",
    "SHADOW": "runs a second network beside the model, whose state depends on the input",
}
