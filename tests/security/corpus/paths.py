"""Names and kinds of files that mean something else on another system, or lead out of the folder."""

import os
import socket
from pathlib import Path

from tests.security.hostile import Change, Door, Hostile, put
from zoo.models import BaseModel


def link(name: str, target: str) -> Change:
    def change(folder: Path, base: BaseModel) -> None:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return change


def stolen(name: str) -> Change:
    """A second name of a file that lies outside, as an archive can make it when it is unpacked."""

    def change(folder: Path, base: BaseModel) -> None:
        outside = folder.parent / "diary.txt"
        outside.write_text("private\n")
        os.link(outside, folder / name)

    return change


def like_the_cache(folder: Path, base: BaseModel) -> None:
    """A link that looks like those in the Hub client's cache, to a folder beside the adapter."""
    blobs = folder.parent / "blobs"
    blobs.mkdir()
    (blobs / "1").write_text("private\n")
    (folder / "NOTES.md").symlink_to("../blobs/1")


def pipe(folder: Path, base: BaseModel) -> None:
    os.mkfifo(folder / "NOTES.md")


def listening(folder: Path, base: BaseModel) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{handle}/NOTES.md")  # a socket's path is short
    finally:
        os.close(handle)


def nested(depth: int) -> Change:
    """Folders in folders, deeper than a path can say."""

    def change(folder: Path, base: BaseModel) -> None:
        handle = os.open(folder, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir("d", dir_fd=handle)
            below = os.open("d", os.O_RDONLY, dir_fd=handle)
            os.close(handle)
            handle = below
        os.close(os.open("x.md", os.O_CREAT, dir_fd=handle))
        os.close(handle)

    return change


def many(count: int) -> Change:
    def change(folder: Path, base: BaseModel) -> None:
        for number in range(count):
            (folder / f"{number}.md").touch()

    return change


def raw_name(name: bytes) -> Change:
    def change(folder: Path, base: BaseModel) -> None:
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"x\n")

    return change


def twins(first: str, second: str) -> Change:
    def change(folder: Path, base: BaseModel) -> None:
        for name in (first, second):
            (folder / name).write_text("x\n")

    return change


def folder_called(name: str) -> Change:
    def change(folder: Path, base: BaseModel) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()
        (folder / name / "x.md").touch()

    return change


def _case(
    name: str, change: Change, code: str = "ZF002", *, door: Door = Door.VALIDATE, relock: bool = True
) -> Hostile:
    return Hostile(family="path", name=name, code=code, change=change, door=door, relock=relock)


def _named(what: str, name: str) -> Hostile:
    return _case(what, put(name, b"x\n"))


PATHS = (
    _case("a link to a file outside", link("NOTES.md", "/etc/passwd")),
    _case("a link to a folder outside", link("images", "/etc")),
    _case("a link that leads to itself", link("NOTES.md", "NOTES.md"), relock=False),
    _case("a link to a device", link("NOTES.md", "/dev/zero")),
    _case("the weights are a link", link("adapter_model.safetensors", "/etc/passwd"), relock=False),
    _case("the config is a link to a device", link("io.yaml", "/dev/zero")),
    _case("a link, published", link("NOTES.md", "/etc/passwd"), "ZH011", door=Door.PUBLISH),
    _case("a link, verified", link("NOTES.md", "/etc/passwd"), "ZA002", door=Door.VERIFY),
    _case("a link as in the Hub's cache", like_the_cache),
    _case("a second name of a file outside", stolen("NOTES.md")),
    _case("a second name, published", stolen("NOTES.md"), "ZH011", door=Door.PUBLISH),
    _case("a pipe", pipe),
    _case("a socket", listening),
    _case("a folder in a folder, 900 deep", nested(900), "ZF004", relock=False),
    _case("a folder in a folder, 3,000 deep", nested(3000), "ZF004", relock=False),
    _case("5,000 files", many(5000), "ZF004", relock=False),
    _case("5,000 files, verified", many(5000), "ZF004", door=Door.VERIFY, relock=False),
    _case("a folder called as the weights", folder_called("adapter_model.safetensors"), "ZF003"),
    _case("a folder called as zoo.yaml", folder_called("zoo.yaml"), "ZM001"),
    _named("climbing with backslashes", "..\\..\\evil.md"),
    _named("a line break", "a\n::error::forged.md"),
    _named("an escape sequence", "a\x1b[2J\x1b[31mpassed.md"),
    _named("text that runs backwards", "a\u202edm.exe.md"),
    _named("a letter without width", "REA\u200bDME.md"),
    _named("a Cyrillic letter", "RE\u0410DME.md"),
    _named("a Greek letter", "N\u039fTES.md"),
    _named("wide letters", "\uff32EADME.md"),
    _named("a device of Windows", "aux.md"),
    _named("a device of Windows in a folder", "images/COM1.png"),
    _named("a stream of Windows", "NOTES.md:hidden.md"),
    _named("a dot at the end", "NOTES.md."),
    _named("a space at the end", "NOTES.md "),
    _named("a question mark", "what?.md"),
    _named("an option", "-rf.md"),
    _case("a name that is no text", raw_name(b"a\xff\xfe.md")),
    _case("two names but for case", twins("Guide.md", "GUIDE.md")),
    _case("two names but for how an accent is written", twins("caf\u00e9.md", "cafe\u0301.md")),
    _case("two names but for a ligature", twins("\ufb01ne.md", "fine.md")),
    _case("two names but for a long s", twins("\u017fmall.md", "small.md")),
)
