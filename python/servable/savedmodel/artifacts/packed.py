"""Archives: what is in them is told by the names that they list; nothing is unpacked."""

from __future__ import annotations

import posixpath
import re

from servable.savedmodel.artifacts.archives import Listing, decompressor, tar_listing, unpacked_head
from servable.savedmodel.artifacts.artifact import Artifact, cut, damaged, name_of, quoted, shown
from servable.savedmodel.artifacts.look import Look
from servable.savedmodel.layout import ENDINGS, SAVED_MODEL_FILES
from servable.sizes import size_text

_CONVERTIBLE = (".pt", ".pth", ".safetensors", ".pb", ".pkl", ".joblib", ".ckpt", ".meta", ".gguf", ".hdf5")


def archive(look: Look, listing: Listing) -> Artifact:
    """Returns what to do with an archive."""
    title = f"an archive ({listing.packing})"
    if listing.cut:
        return cut("archive", title)
    names = list(listing.sizes)
    if any(name.startswith("/") or ".." in name.split("/") for name in names):
        return damaged(
            "archive",
            title,
            "it has names that lead out of its folder",
            "do not unpack it, unless you trust who made it",
        )
    facts = {
        "holds": f"{len(names)}{' or more' if listing.more else ''} files, "
        f"{size_text(sum(listing.sizes.values()))} unpacked",
        "first": shown(", ".join(names[:4])) + (", …" if len(names) > 4 else ""),
    }
    folder = f"{name_of(look.path)}-unpacked"
    inside, what = _model_in(names)
    if inside is None:
        advice = "unpack it, and give the model in it; `servable inspect` of that says more"
        return Artifact("archive", title, advice, commands=(_unpack(look, listing, folder),), facts=facts)
    served = posixpath.normpath(posixpath.join(folder, inside))
    is_known = what.startswith("a SavedModel") or inside.lower().endswith(ENDINGS)
    last = "serve" if is_known else "inspect"
    command = f"servable {last} {quoted(_named(look, served) if last == 'serve' else served)}"
    return Artifact(
        "archive",
        f"{title} of {shown(what)}",
        "unpack it, or serve it from a URL (http://…/model.tar.gz)"
        if is_known
        else "unpack it, and convert that",
        commands=(_unpack(look, listing, folder), command),
        facts=facts,
    )


def _unpack(look: Look, listing: Listing, folder: str) -> str:
    module = "zipfile" if listing.packing == "zip" else "tarfile"
    return f"python3 -m {module} -e {quoted(look.path)} {quoted(folder)}"


def _named(look: Look, served: str) -> str:
    return served if served.lower().endswith(ENDINGS) else f"{name_of(look.path)}={served}"


def _model_in(names: list[str]) -> tuple[str | None, str]:
    """Returns where the model is, and what it is; None if none is seen."""
    for name in names:
        if posixpath.basename(name) in SAVED_MODEL_FILES:
            return posixpath.normpath(posixpath.dirname(name) or "."), "a SavedModel"
    for endings in (ENDINGS, _CONVERTIBLE):
        found = next((one for one in names if one.lower().endswith(endings)), "")
        if found:
            return posixpath.normpath(found), posixpath.basename(found)
    return None, ""


def tar(look: Look) -> Artifact | None:
    """Recognises a tar file, compressed or not."""
    if look.head[257:262] != b"ustar" and decompressor(look.head) is None:
        return None
    listing = tar_listing(look)
    return archive(look, listing) if listing is not None else None


def compressed(look: Look) -> Artifact | None:
    """Recognises another compressed file."""
    found = decompressor(look.head)
    if found is None or found[0] == "zlib":
        return None
    packing = found[0]
    if not unpacked_head(look, 16):
        return cut("compressed", f"a compressed file ({packing})")
    program = {"gz": "gunzip", "bz2": "bunzip2", "xz": "unxz"}[packing]
    inner = re.sub(rf"\.{packing}$", "", look.path)
    commands: tuple[str, ...] = ()
    if inner != look.path:
        commands = (f"{program} --keep {quoted(look.path)}", f"servable inspect {quoted(inner)}")
    return Artifact(
        "compressed",
        f"a compressed file ({packing})",
        f"unpack it with {program}; `servable inspect` of what comes out says more",
        commands=commands,
    )
