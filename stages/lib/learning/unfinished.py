"""A training that was interrupted, on disk: everything that its last epochs need to come out as if nothing had been.

Written after each epoch, outside of what DVC keeps, and gone when the training is over.
"""

import hashlib
import io
import json
import pickle
import random
import secrets
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import ref

import numpy as np
import torch
from torch import Tensor, nn

from stages.lib.base.errors import UserError
from stages.lib.base.tensors import load_tensors, save_tensors
from stages.lib.learning.training import Epoch, Training

ARCHITECTURE = "stages.architectures."
OF_ANY_MODULE = vars(nn.Module()).keys()  # tensors, layers and hooks
CODE = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, classmethod, staticmethod, property)
NOT_LOOKED_INTO = (nn.Module, nn.Parameter, ref, *CODE)


class Unfinished:
    """The file of a training.

    Args:
        name: of the model.
        made_from: all that decides the result: a training that was made from anything else is not taken up again.
            None where that is not known: nothing is kept then.
    """

    def __init__(self, name: str, made_from: dict[str, Any] | None) -> None:
        self.path = Path(f"models/unfinished/{name}.safetensors")
        self.keeps = made_from is not None
        self.made_from = hashlib.sha256(json.dumps(made_from, sort_keys=True, default=str).encode()).hexdigest()

    def save(self, training: Training, seconds: float) -> None:
        """Write the state after the last epoch, and how long it took to come there."""
        if not self.keeps:
            return
        parts = {
            "model": state_of(training.model),
            "average": state_of(training.average),
            "best": training.best_weights,
            "optimizer": training.optimizer.state(),
            "random": random_state(training),
        }
        # Copies: safetensors writes contiguous tensors that share no memory.
        tensors = {
            f"{part} {key}": values.cpu().clone(memory_format=torch.contiguous_format)
            for part, state in parts.items()
            for key, values in state.items()
        }
        about = {"made_from": self.made_from, "rest": rest_of(training), "seconds": seconds}
        save_tensors(self.path, tensors, about | {"epochs": [asdict(epoch) for epoch in training.epochs]})

    def restore(self, training: Training) -> float:
        """Bring `training` to where it was, if the file is of the same training; return the seconds it took until then.

        A file that is damaged, or of another training, counts for nothing.
        """
        if not self.keeps:
            return 0.0
        try:
            tensors, about = load_tensors(self.path)
        except UserError:
            return 0.0
        if about.get("made_from") != self.made_from or about["rest"] != rest_of(training):
            return 0.0
        parts: dict[str, dict[str, Tensor]] = {part: {} for part in ("model", "average", "best", "optimizer", "random")}
        for name, values in tensors.items():
            part, key = name.split(" ", 1)
            parts[part][key] = values.to(training.held_out.labels_N.device) if part != "random" else values
        with torch.no_grad():
            for part, model in (("model", training.model), ("average", training.average)):
                for key, values in state_of(model).items():
                    values.copy_(parts[part][key])
        training.best_weights = parts["best"]
        training.optimizer.restore(parts["optimizer"])
        training.epochs = [Epoch(**epoch) for epoch in about["epochs"]]
        set_random_state(training, parts["random"])
        return float(about["seconds"])

    def remove(self) -> None:
        """Remove the file: the training is over, and its outputs are written."""
        if self.keeps:
            self.path.unlink(missing_ok=True)


def state_of(model: nn.Module | None) -> dict[str, Tensor]:
    """Return the weights and statistics of a model by number: a state_dict may lack some."""
    return {str(number): each for number, each in enumerate([*model.parameters(), *model.buffers()] if model else [])}


def rest_of(training: Training) -> str:
    """Return a fingerprint of what the model holds besides its tensors, such as a count: nobody could bring it back.

    Looks at attributes, at the classes of the architecture, and at the variables of its file; not into functions.
    """
    modules = [module for model in (training.model, training.average) if model for module in model.modules()]
    kinds = {kind for module in modules for kind in type(module).__mro__ if kind.__module__.startswith(ARCHITECTURE)}
    named: dict[str, Mapping[str, Any]] = {f"{kind.__module__} {kind.__qualname__}": vars(kind) for kind in kinds}
    named |= {kind.__module__: vars(sys.modules[kind.__module__]) for kind in kinds}
    rest = [{key: value for key, value in vars(module).items() if key not in OF_ANY_MODULE} for module in modules]
    rest += [{key: value for key, value in named[name].items() if not key.startswith("__")} for name in sorted(named)]
    trained = [weights.requires_grad for weights in training.model.parameters()]
    try:
        _Rest(written := io.BytesIO()).dump([rest, trained])
    except (pickle.PicklingError, TypeError, AttributeError):
        return secrets.token_hex()  # nobody can tell: it equals none
    return hashlib.sha256(written.getvalue()).hexdigest()


class _Rest(pickle.Pickler):
    def persistent_id(self, value: Any) -> str | None:
        """Name what is not looked into: tensors that are kept, and code."""
        return str(type(value)) if isinstance(value, NOT_LOOKED_INTO) else None

    def reducer_override(self, value: Any) -> Any:
        """Write the values of other tensors: they are pickled with their place in memory."""
        return (repr, (value.tolist(),)) if isinstance(value, Tensor) else NotImplemented


def random_state(training: Training) -> dict[str, Tensor]:
    """Return the states of all generators that a training draws from."""
    _, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 - the global one is meant
    _, words, gauss_next = random.getstate()
    state = {
        "torch": torch.get_rng_state(),
        "augment": training.augment.generator.get_state(),
        "numpy": torch.tensor([*map(int, keys), position, has_gauss]),
        "numpy gauss": torch.tensor(gauss, dtype=torch.float64),
        "python": torch.tensor(words),
        "python gauss": torch.tensor([] if gauss_next is None else [gauss_next], dtype=torch.float64),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(training: Training, state: dict[str, Tensor]) -> None:
    """Go on drawing where `random_state` was taken."""
    torch.set_rng_state(state["torch"])
    training.augment.generator.set_state(state["augment"])
    *keys, position, has_gauss = state["numpy"].tolist()
    np.random.set_state(("MT19937", np.array(keys, np.uint32), position, has_gauss, state["numpy gauss"].item()))  # noqa: NPY002
    random.setstate((3, tuple(state["python"].tolist()), next(iter(state["python gauss"].tolist()), None)))
    if "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
