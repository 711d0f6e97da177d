"""Hashes against git's own. The constants are git's output (2.x): `git hash-object`, `git write-tree`."""

from tests.hub.objects import blob_oid, lfs_file, lfs_pointer, regular_file, tree_oid


def test_a_blob_has_the_name_that_git_gives_it() -> None:
    assert blob_oid(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_the_empty_tree_has_the_name_that_git_gives_it() -> None:
    assert tree_oid({}) == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"


def test_a_tree_has_the_name_that_git_gives_it() -> None:
    # The order is git's: a folder counts as if its name ended in a slash, so foo-1 < foo.bar < foo/.
    files = {"foo/x": b"c\n", "foo-1": b"a\n", "foo/deep/y": b"d\n", "foo.bar": b"b\n"}
    tree = {path: regular_file(content) for path, content in files.items()}
    assert tree_oid(tree) == "9a29d79053f01c07a07da1bb668b4e2fc5d260cf"
    assert tree_oid(tree | {"foo-1": regular_file(b"other\n")}) != tree_oid(tree)


def test_an_lfs_file_is_named_by_its_pointer_and_identified_by_its_content() -> None:
    file = lfs_file("ab" * 32, 12345)
    assert file.oid == blob_oid(lfs_pointer("ab" * 32, 12345))
    assert file.etag == "ab" * 32
    assert regular_file(b"hello\n").etag == "ce013625030ba8dba906f756967f9e9ca394464a"
