from importlib.util import find_spec

import pytest

from zoo.errors import MissingExtraError
from zoo.models import BaseModel
from zoo.training import quantised


def test_without_bitsandbytes_the_message_says_how_to_get_it(
    tiny_base: BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        quantised, "find_spec", lambda name: None if name == "bitsandbytes" else find_spec(name)
    )
    with pytest.raises(MissingExtraError, match="4 bits") as raised:
        quantised.load_in_4_bits(tiny_base, device="cpu")
    assert raised.value.hint == "pip install 'alora-zoo[4bit]'"
