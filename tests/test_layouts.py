from pathlib import Path

import pytest

from zoo import layouts
from zoo.errors import NotFoundError, UsageError
from zoo.layouts import find_adapter, placements


def adapter(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("relative", "intrinsic", "base", "technology"),
    [
        ("answerability/granite-3b/alora", "answerability", "granite-3b", "alora"),
        ("answerability/granite-3b/lora", "answerability", "granite-3b", "lora"),
        ("answerability/alora/granite-3b", "answerability", "granite-3b", "alora"),
        ("query_rewrite_lora", "query_rewrite", "", "lora"),
        ("query_rewrite_alora", "query_rewrite", "", "alora"),
        ("plain-name", "plain-name", "", ""),
        ("lib/certainty/m/lora", "certainty", "m", "lora"),
    ],
)
def test_the_library_layouts(
    tmp_path: Path, relative: str, intrinsic: str, base: str, technology: str
) -> None:
    folder = adapter(tmp_path / "library" / relative)
    found = find_adapter(tmp_path / "library")
    assert (found.folder, found.intrinsic, found.base, found.technology) == (
        folder,
        intrinsic,
        base,
        technology,
    )


def test_the_adapter_folder_itself_knows_its_place_in_a_library(tmp_path: Path) -> None:
    found = find_adapter(adapter(tmp_path / "answerability" / "granite" / "alora"))
    assert (found.intrinsic, found.base, found.technology) == ("answerability", "granite", "alora")
    assert find_adapter(adapter(tmp_path / "flat")).intrinsic == "flat"


def test_several_are_listed_and_one_must_be_named(tmp_path: Path) -> None:
    for name in ("b_lora", "a_lora"):
        adapter(tmp_path / name)
    assert [place.intrinsic for place in placements(tmp_path)] == ["a", "b"]
    with pytest.raises(UsageError, match="2 adapters: a_lora, b_lora") as caught:
        find_adapter(tmp_path)
    assert "a_lora" in caught.value.hint


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        find_adapter(tmp_path / "no")
    with pytest.raises(NotFoundError, match="not an adapter"):
        find_adapter(tmp_path)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(NotFoundError, match="not a folder"):
        find_adapter(file)


def test_links_hidden_folders_and_depth_bound_the_search(tmp_path: Path) -> None:
    root = tmp_path / "library"
    root.mkdir()
    adapter(tmp_path / "outside")
    (root / "link").symlink_to(tmp_path / "outside", target_is_directory=True)
    (root / "loop").symlink_to(root, target_is_directory=True)
    adapter(root / ".hidden")
    adapter(root / "1" / "2" / "3" / "4" / "5")
    assert placements(root) == []
    adapter(root / "1" / "2" / "3" / "4")
    assert len(placements(root)) == 1


def test_a_huge_tree_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "MAX_FOLDERS", 5)
    for index in range(6):
        (tmp_path / str(index)).mkdir()
    with pytest.raises(UsageError, match="more than 5 folders"):
        find_adapter(tmp_path)
