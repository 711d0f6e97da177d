import json
import os
import subprocess
import sys
from pathlib import Path

from tests.hub.server import HubServer

EXERCISE = Path(__file__).with_name("peft_exercise.py")


def test_peft_loads_what_was_published_at_the_tag(tmp_path: Path) -> None:
    with HubServer() as hub:
        done = subprocess.run(
            [sys.executable, EXERCISE, tmp_path],
            env=os.environ | hub.environment(tmp_path / "home"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert hub.requests.matching("GET", r"/api/models/org/name/xet-read-token/.*")
    assert json.loads(done.stdout) == {
        "v1.0.0 is version 1": True,
        "main is version 2": True,
        "versions differ": True,
        "invocation": [7, 8, 9],
        "base before the invocation": True,
        "effect after the invocation": True,
        "files": [".gitattributes", "adapter_config.json", "adapter_model.safetensors"],
    }
