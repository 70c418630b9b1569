"""Train one cell of a study: `python -m studies.cell studies/seeds/cells/model_0-42.json model_0 --seed 42`.

The training is that of the stage, with another seed, architecture or number of images; its weights are not kept. It
takes one CPU thread: a study runs as many trainings at once as there are CPUs, and several threads each would wait for
each other. With one thread sums round differently: the last digits may differ from those of the pipeline.
"""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from ruamel.yaml import YAML

from stages.lib.base.errors import UserError, exit_at_once, exit_cleanly
from stages.lib.base.files import write_json
from stages.lib.base.inputs import Inputs
from stages.lib.base.params import ModelParams, Params, load_params, read_yaml
from stages.lib.base.versions import check_versions
from stages.lib.data.datasets import load_split, make_loader
from stages.lib.data.splitting import hold_out
from stages.lib.learning.devices import pick_device
from stages.lib.learning.evaluation import metrics_of, predict_logits
from stages.lib.learning.memory import enough_memory, keep_freed_memory
from stages.lib.learning.training import is_chance, load_images, new_training
from studies.record import MODELS, made_from

WATCHED = 100  # training images that a training watches, where there are no validation images


def main() -> None:
    """Train, evaluate on the test images, write."""
    options = parse_arguments()
    inputs = Inputs("cell", options.output.parents[1] / "dvc.yaml", item_of(options))
    params = load_params()
    model_params = block_of(options, params)
    code = f"stages/architectures/{model_params.arch}.py"
    if options.recipes:
        inputs.check_listed(code)
    elif inputs.at_start and code not in inputs.at_start:  # DVC would not notice an edit of it
        raise UserError(f"{MODELS} does not say that {options.model} is {model_params.arch}; run `make studies`")
    check_versions("numpy", "safetensors", "scikit-learn", "torch")
    torch.set_num_threads(1)
    keep_freed_memory()
    device = pick_device(params.train.device)

    train, held_out, watched = load_images(options.model, model_params, device)
    if watched == "test":  # nothing here reads the curve: the test images are looked at once, at the end
        few = slice(WATCHED)
        held_out = replace(train, images_NCHW=train.images_NCHW[few], labels_N=train.labels_N[few])
    if 0 < options.images < len(train):
        _, train = hold_out(train, options.images, options.seed, "images in the study's dvc.yaml")
    test = load_split("data/prepared/test.safetensors").to(device)
    with enough_memory(f"try a smaller {options.model}.batch_size or {options.model}.hidden_units"):
        training = new_training(model_params, options.seed, train, held_out, params.train.precision)
        for _ in training.run():
            pass
        batch_size = params.evaluate.batch_size
        logits_NK = predict_logits(training.model, make_loader(test, batch_size))
    metrics = asdict(metrics_of(logits_NK, test.labels_N, batch_size))
    inputs.check_unchanged()
    write_json(
        options.output,
        {
            "model": options.model,
            "arch": model_params.arch,
            "seed": options.seed,
            "train_images": len(train),
            "data_set": test.shown_as,
            **{key: metrics[key] for key in ("accuracy", "loss", "correct", "images")},
            "chance": is_chance(metrics["correct"], test.labels_N),
            "parameters": sum(weights.numel() for weights in training.model.parameters()),
            "made_from": made_from(model_params, params.train.precision),
        },
    )
    print(f"{options.output.stem}: {metrics['accuracy']:.2f}% of {metrics['images']:,} test images")


def block_of(options: Namespace, params: Params) -> ModelParams:
    """Return the block of the model: from params.yaml, or from the study's own parameters.

    Raises:
        UserError: there is no such block, or it cannot be one.
    """
    if not options.recipes:
        changes = {"arch": options.arch} if options.arch else {}
        return params.model(options.model).model_copy(update=changes)
    block = read_yaml(YAML(typ="safe", pure=True), options.recipes).get(options.model)
    try:
        return ModelParams.model_validate(block)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join([options.model, *map(str, first["loc"])])
        raise UserError(f"{options.recipes}: {key} is {first['input']!r:.60}; {first['msg']}") from None


def item_of(options: Namespace) -> dict[str, Any]:
    """Return the values of the matrix that make this cell."""
    if options.recipes:
        return {"recipe": options.model, "seed": options.seed}
    models = read_yaml(YAML(typ="safe", pure=True), MODELS)["models"]
    model = next((each for each in models if each["name"] == options.model), None)
    return {"model": model, "arch": options.arch, "images": options.images, "seed": options.seed}


def parse_arguments() -> Namespace:
    """Return from the command line where to write, which model, and what is changed."""
    parser = ArgumentParser(prog="python -m studies.cell", description="Train one cell of a study.")
    parser.add_argument("output", type=Path, help="studies/NAME/cells/CELL.json")
    parser.add_argument("model", help="a block of params.yaml, such as model_1")
    parser.add_argument("--seed", type=int, required=True, help="of weights, batches and the images drawn")
    parser.add_argument("--recipes", type=Path, help="take the block from this file: studies/NAME/params.yaml")
    parser.add_argument("--arch", help="another architecture than the model's own")
    parser.add_argument("--images", type=int, default=0, help="train on so many only, stratified by class; 0: on all")
    return parser.parse_args()


if __name__ == "__main__":
    exit_cleanly("cell", main)
    exit_at_once()
