"""What the stages have written, read and checked: metrics and tables.

Checked are the keys named here, and that each has a value of the kind that a stage writes. Other keys may stand beside
them.
"""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, conlist, create_model

from stages.lib.base.errors import Outdated
from stages.lib.base.files import read_json
from stages.lib.base.params import MODEL_NAME

# Descriptions for pydantic, which makes types of them while this runs: mypy cannot follow.


def _keys(kind: Any, *names: str) -> dict[str, Any]:
    return dict.fromkeys(names, kind)


def _block(**fields: Any) -> Any:
    return create_model("block", __config__=ConfigDict(strict=True, allow_inf_nan=False), **fields)


_ROW = _block(
    architecture=str,
    **_keys(float, "accuracy", "accuracy_low", "accuracy_high", "loss", "calibration_error_pct"),
    **_keys(int, "parameters", "file_bytes"),
    multiply_adds=int | None,
    balanced_accuracy=(float | None, None),  # where the classes differ in their number of test images
)
_PAIR = _block(
    **_keys(str, "first", "second", "verdict"),
    **_keys(int, "only_first_right", "only_second_right"),
    p_value_holm=float,
)
COMPARISON = _block(
    **_keys(str, "source", "by", "chosen_on", "best"),
    models=dict[Annotated[str, Field(pattern=f"^{MODEL_NAME.pattern}$")], _ROW],  # type: ignore[valid-type]
    pairs=list[_PAIR],  # type: ignore[valid-type]
)
EVALUATION = _block(
    accuracy=float,
    **_keys(int, "images", "undecided"),
    never_predicted=list[str],
    validation=(_block(accuracy=float) | None, None),  # where there are validation images
)
TRAINING = _block(watched=str, **_keys(float, "train_acc", "test_acc"))
DATA = _block(
    source=str,
    sha256=dict[str, str],
    counts=_block(**_keys(int, "train", "validation", "test")),
    shape=list[int],
    **_keys(float, "mean", "std"),
    shared_images=_block(**_keys(int, "train_test", "train_validation")),
    test_copies=(int, 0),  # where there are some
)
CURVE = conlist(_block(epoch=int, **_keys(float, "train_loss", "train_acc", "test_loss", "test_acc")))
LAYERS = conlist(_block(**_keys(str, "layer", "kind", "how"), **_keys(int, "parameters", "multiply_adds")))
BINS = conlist(_block(model=str, confidence_pct=float, images=int))
CLASSES = conlist(_block(**_keys(float, "precision", "recall", "f1"), images=int))


def read_checked(path: str, kind: Any) -> Any:
    """Read a JSON file, or a CSV file as a list of its rows.

    Raises:
        UserError: it is missing or damaged, or a value is of another kind than `kind` says.
    """
    from stages.lib.results.tables import read_table  # half a second, for pandas; verify reads no tables

    value = read_json(path) if path.endswith(".json") else read_table(path).to_dict("records")
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise Outdated(path, f"has a wrong {key} ({first['msg'].lower()})") from None
    return value
