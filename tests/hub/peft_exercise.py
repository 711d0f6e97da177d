"""Publish two versions of an aLoRA adapter and load them back with PEFT; run like `client_exercise.py`."""

import json
import sys
from pathlib import Path

import torch
from huggingface_hub import HfApi, snapshot_download
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

REPO = "org/name"
INVOCATION = [7, 8, 9]
PROMPT = torch.tensor([[1, 2, 3, 4, *INVOCATION, 5, 6]])
START = 4  # where the invocation begins in the prompt


def base_model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config)


def adapter(seed: int, folder: Path) -> torch.Tensor:
    """Save an adapter with random factors and return its logits on the prompt, float32 (1, 9, 64)."""
    config = LoraConfig(
        task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], alora_invocation_tokens=INVOCATION
    )
    model = get_peft_model(base_model(), config)
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter)
    model.save_pretrained(str(folder))
    (folder / "README.md").unlink()
    return logits(model)


@torch.no_grad()
def logits(model: torch.nn.Module) -> torch.Tensor:
    output: torch.Tensor = model.train(False)(input_ids=PROMPT).logits
    return output


def main() -> None:
    api, work = HfApi(), Path(sys.argv[1])
    api.create_repo(REPO)
    expected = {}
    for version in (1, 2):
        expected[version] = adapter(version, work / str(version))
        api.upload_folder(repo_id=REPO, folder_path=work / str(version), commit_message=f"Version {version}")
        api.create_tag(REPO, tag=f"v{version}.0.0")

    tagged = PeftModel.from_pretrained(base_model(), REPO, revision="v1.0.0")
    newest = PeftModel.from_pretrained(base_model(), REPO)
    base = logits(base_model())
    downloaded = Path(snapshot_download(REPO, revision="v1.0.0"))
    observations = {
        "v1.0.0 is version 1": torch.equal(logits(tagged), expected[1]),
        "main is version 2": torch.equal(logits(newest), expected[2]),
        "versions differ": not torch.equal(expected[1], expected[2]),
        "invocation": tagged.peft_config["default"].to_dict()["alora_invocation_tokens"],
        "base before the invocation": torch.equal(logits(tagged)[:, :START], base[:, :START]),
        "effect after the invocation": not torch.allclose(
            logits(tagged)[:, START:], base[:, START:], atol=1e-3
        ),
        "files": sorted(path.name for path in downloaded.iterdir()),
    }
    json.dump(observations, sys.stdout)


if __name__ == "__main__":
    main()
