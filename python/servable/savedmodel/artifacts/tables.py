"""Models of tables: scikit-learn's pickles, XGBoost, LightGBM, CatBoost, PMML. No pickle is ever loaded."""

from __future__ import annotations

import re
from dataclasses import replace

from servable.savedmodel.artifacts.archives import unpacked_head
from servable.savedmodel.artifacts.artifact import Artifact, name_of, quoted
from servable.savedmodel.artifacts.look import Look
from servable.savedmodel.artifacts.pickles import MOST_BYTES, is_pickle, named

SKLEARN_PROGRAM = """\
# A pickle runs what it says when it is loaded: only if you trust it.
import joblib
import numpy as np
from skl2onnx import to_onnx

model = joblib.load({path!r})
columns = getattr(model, "n_features_in_", 4)
with open({target!r}, "wb") as file:
    file.write(to_onnx(model, np.zeros([1, columns], np.float32), options={options}).SerializeToString())"""

PLAIN_OPTIONS = '{"zipmap": False} if hasattr(model, "classes_") else None'

XGBOOST_PROGRAM = """\
import onnxmltools
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

model = xgboost.Booster(model_file={path!r})
columns = FloatTensorType([None, model.num_features()])
onnxmltools.utils.save_model(
    onnxmltools.convert_xgboost(model, initial_types=[("x", columns)]), {target!r}
)"""

LIGHTGBM_PROGRAM = """\
import lightgbm
import onnxmltools
from onnxmltools.convert.common.data_types import FloatTensorType

model = lightgbm.Booster(model_file={path!r})
columns = FloatTensorType([None, model.num_feature()])
onnxmltools.utils.save_model(
    onnxmltools.convert_lightgbm(model, initial_types=[("x", columns)], zipmap=False), {target!r}
)"""

CATBOOST_PROGRAM = """\
import catboost

model = catboost.CatBoost().load_model({path!r})
model.save_model({target!r}, format="onnx")"""

_LIBRARIES = {
    "sklearn": ("scikit-learn", "a pickled scikit-learn model", ("scikit-learn", "skl2onnx", "joblib")),
    "xgboost": ("xgboost-pickle", "a pickled XGBoost model", ()),
    "lightgbm": ("lightgbm-pickle", "a pickled LightGBM model", ()),
    "catboost": ("catboost-pickle", "a pickled CatBoost model", ()),
}
_SAVE = {
    "xgboost": "load it in the program that made it, and call model.save_model('model.json')",
    "lightgbm": "load it in the program that made it, and call model.booster_.save_model('model.txt')",
    "catboost": "load it in the program that made it, and call model.save_model('model.onnx', format='onnx')",
}


def _to_onnx(look: Look, kind: str, title: str, program: str, packages: tuple[str, ...]) -> Artifact:
    target = f"{name_of(look.path)}.onnx"
    text = program.format(path=look.path, target=target)
    return Artifact(kind, title, "convert it to ONNX", text, packages, (f"servable serve {quoted(target)}",))


def pickled(look: Look) -> Artifact | None:
    """Recognises a pickle, also one that joblib has compressed, by the classes that it names."""
    head = look.head
    if not is_pickle(head):
        head = unpacked_head(look, MOST_BYTES)
    elif look.size > len(head):
        head = look.read(0, MOST_BYTES)
    if not is_pickle(head):
        return None
    names = named(head)
    roots = [one.partition(".")[0] for one in names]
    library = next((one for one in _LIBRARIES if one in roots), "")
    shown = [
        one for one in names if not one.startswith(("numpy", "joblib", "copyreg", "builtins", "_codecs"))
    ]
    facts = {"classes": ", ".join(shown[:6]) + (", …" if len(shown) > 6 else "")} if shown else {}
    if not library:
        return Artifact(
            "pickle",
            "a Python pickle",
            "a pickle is a program, and is not loaded here: export the model from the program that made it",
            facts=facts,
        )
    kind, title, packages = _LIBRARIES[library]
    if library != "sklearn":
        return Artifact(kind, title, _SAVE[library], facts=facts)
    program = SKLEARN_PROGRAM.replace("{options}", PLAIN_OPTIONS.replace("{", "{{").replace("}", "}}"))
    return replace(_to_onnx(look, kind, title, program, packages), facts=facts)


def xgboost(look: Look) -> Artifact | None:
    """Recognises XGBoost's own files: JSON, binary JSON, and the old binary one."""
    head = look.head[:4096]
    is_json = re.match(rb'\s*\{\s*"(learner|version)"', head) and b'"learner"' in look.head + look.tail
    is_binary = head.startswith(b"{L") and b"learner" in head[:64]
    if not (is_json or is_binary or head.startswith(b"binf")):
        return None
    return _to_onnx(look, "xgboost", "an XGBoost model", XGBOOST_PROGRAM, ("xgboost", "onnxmltools"))


def lightgbm(look: Look) -> Artifact | None:
    """Recognises LightGBM's text."""
    if not re.match(rb"tree\r?\nversion=v\d", look.head):
        return None
    return _to_onnx(look, "lightgbm", "a LightGBM model", LIGHTGBM_PROGRAM, ("lightgbm", "onnxmltools"))


def catboost(look: Look) -> Artifact | None:
    """Recognises CatBoost's binary file."""
    if not look.head.startswith(b"CBM1"):
        return None
    return _to_onnx(look, "catboost", "a CatBoost model", CATBOOST_PROGRAM, ("catboost",))


def pmml(look: Look) -> Artifact | None:
    """Recognises PMML."""
    # No pattern for what may stand before it: comments in a repetition take for ever where none matches.
    head = look.head[:8192].removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head.startswith(b"<") or not re.search(rb"<PMML[\s>]", head):
        return None
    return Artifact(
        "pmml",
        "a model in PMML",
        "no engine here takes it: export the model again from the program that made it, to ONNX",
    )
