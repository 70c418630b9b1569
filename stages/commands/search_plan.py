"""search.yaml: what a search tries, what it judges by, and when it ends; checked whole before anything runs."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError
from ruamel.yaml import YAML

from stages.lib.base.batches import effective_images, few_decide
from stages.lib.base.errors import UserError
from stages.lib.base.params import Block, Params, check_params, read_yaml

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

# Named as the lecture names its test images; with prepare.validation they are the metrics of the validation images.
OBJECTIVE = re.compile(r"(metrics/train/(model_\d+)\.json):(test_acc|test_loss)")
IMAGES = ("fetch", "prepare")  # blocks that decide on which images a trial is judged
TRAINING = ("seed", "train")  # what decides on a training beside the model's own block
DIGITS = 3  # of a value drawn from a range: params.yaml shall be easy to read


class Range(Block):
    """Numbers from `low` to `high`: whole ones where both are whole."""

    low: int | float
    high: int | float
    log: bool = False


class Plan(Block):
    """The whole of search.yaml."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]*$", max_length=40)]
    objective: str
    trials: Annotated[int, Field(ge=1, le=100_000)]
    minutes: Annotated[int | float, Field(gt=0)] | None = None
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 42
    resources: dict[str, Annotated[int | float, Field(gt=0)]] = Field(default={})
    params: dict[str, Any] = Field(default={})
    space: Annotated[dict[str, Range | Annotated[list[Any], Field(min_length=1)]], Field(min_length=1)]

    @property
    def metrics_file(self) -> str:
        """Return the file that has the objective."""
        return self.objective.partition(":")[0]

    @property
    def key(self) -> str:
        """Return the objective's key in that file."""
        return self.objective.partition(":")[2]

    @property
    def model(self) -> str:
        """Return the model that is trained."""
        return Path(self.metrics_file).stem

    @property
    def direction(self) -> Literal["maximize", "minimize"]:
        """Return what is better."""
        return "maximize" if self.key == "test_acc" else "minimize"

    def settings(self, drawn: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of a trial by their keys in params.yaml, from what Optuna has drawn."""
        return self.params | {key: _value(self.space[key], drawn[key]) for key in self.space}

    def distributions(self) -> "dict[str, BaseDistribution]":
        """Return the space as Optuna wants it."""
        return {key: _distribution(values) for key, values in self.space.items()}

    def sampler_from(self, begun: int) -> "BaseSampler":
        """Return what draws the values, after `begun` trials: seeded as at the start it would draw those again."""
        from optuna.samplers import GridSampler, RandomSampler, TPESampler

        class Grid(GridSampler):
            def after_trial(self, *_: Any) -> None:
                """Do nothing: at the last trial Optuna's own would stop a study that runs the trials itself."""

        if self.sampler == "grid":
            return Grid(self.grid(), seed=self.seed)
        return (RandomSampler if self.sampler == "random" else TPESampler)(seed=self.seed + begun)

    def grid(self) -> dict[str, list[Any]]:
        """Return the values of each key of a grid."""
        return {key: _grid_values(values) for key, values in self.space.items()}


def read_plan(path: Path) -> tuple[Plan, Params]:
    """Return the plan of a search, and the parameters of one of its trials.

    Raises:
        UserError: something in the plan is not what it must be, or it would search over the test images.
    """
    try:
        plan = Plan.model_validate(read_yaml(YAML(typ="safe", pure=True), path))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if not OBJECTIVE.fullmatch(plan.objective):
        allowed = "metrics/train/model_N.json:test_acc or :test_loss, of the validation images"
        raise UserError(
            f"{path}: objective is {plan.objective!r:.80}; it should be {allowed}: test images never choose"
        )
    for key, values in plan.space.items():
        try:
            _distribution(values)
            if plan.sampler == "grid":
                _grid_values(values)
        except ValueError as error:
            raise UserError(f"{path}: space.{key}: {error}") from None
        if key.partition(".")[0] in IMAGES:
            raise UserError(f"{path}: space.{key} would judge trials on different images; set it under params")
    params = trial_params(plan, path)
    params.model(plan.model)
    for key in plan.space:
        if key.partition(".")[0] not in (*TRAINING, plan.model):  # all trials would be equal, and the first the best
            what = f"changes nothing of {plan.metrics_file}, by which trials are judged"
            raise UserError(f"{path}: space.{key} {what}; take it out, or is the objective of another model?")
    if not params.prepare.validation:
        what = "prepare.validation is 0, so the trials would be judged on the test images"
        raise UserError(f"{path}: {what}; set it under params, such as prepare.validation: 6000")
    warn_of_short_batches(plan, params)
    return plan, params


def warn_of_short_batches(plan: Plan, params: Params) -> None:
    """Say on stderr if few validation images, those of a short last batch, decide on much of the objective."""
    images, key = params.prepare.validation, f"{plan.model}.batch_size"
    values = plan.space.get(key, [params.model(plan.model).batch_size])
    sizes = range(int(values.low), int(values.high) + 1) if isinstance(values, Range) else values
    possible = [each for each in sizes if isinstance(each, int) and each > 0]  # others are refused when they come up
    size = min(possible, key=lambda each: effective_images(images, each))
    if few_decide(images, size):
        print(
            f"search: warning: {plan.key} is a mean over batches: with {key} {size} the last {images % size} of the "
            f"{images:,} validation images count as much as {size} others; set prepare.validation to a multiple of the "
            "batch size",
            file=sys.stderr,
        )


def trial_params(plan: Plan, path: Path) -> Params:
    """Return params.yaml with the first values of the plan: a misspelt key shall not fail all trials.

    Other values may still be refused when they come up: which ones go together the stages know.
    """
    tree = read_yaml(YAML(typ="safe", pure=True), "params.yaml")
    first = {key: values[0] if isinstance(values, list) else values.low for key, values in plan.space.items()}
    for key, value in (plan.params | first).items():
        *blocks, last = key.split(".")
        block = tree
        for step in blocks:
            block[step] = block[step] if isinstance(block.get(step), dict) else {}
            block = block[step]
        block[last] = value
    return check_params(tree, path)


def _distribution(values: Range | list[Any]) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(values, list):
        return CategoricalDistribution(tuple(map(_category, values)))
    if isinstance(values.low, int) and isinstance(values.high, int):
        return IntDistribution(values.low, values.high, log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)


def _grid_values(values: Range | list[Any]) -> list[Any]:
    """Return the values of a grid; numbers that are not whole have no next one."""
    if isinstance(values, list):
        return list(map(_category, values))
    if isinstance(values.low, int) and isinstance(values.high, int):
        return list(range(values.low, values.high + 1))
    raise ValueError("a grid takes a list of values, such as [0.01, 0.1]")


def _category(value: Any) -> Any:
    """Return a choice as Optuna can keep it: lists, such as those of augment, as text."""
    return value if isinstance(value, str | int | float | bool) else json.dumps(value)


def _value(values: Range | list[Any], drawn: Any) -> Any:
    """Return the value for params.yaml."""
    if isinstance(values, list):
        return next(value for value in values if _category(value) == drawn and type(_category(value)) is type(drawn))
    return drawn if isinstance(drawn, int) else min(max(float(f"{drawn:.{DIGITS}g}"), values.low), values.high)
