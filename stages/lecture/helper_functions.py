"""The lecture's nine helper functions: its names, arguments and printed texts.

They draw with pyplot into the current figure, as the lecture's do: call `plt.show()` where no notebook does it for you.
Where the lecture's version fails, this one does not; each docstring says where.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from stages.lib.learning import devices
from stages.lib.learning.evaluation import accuracy_pct
from stages.lib.photos import read_garment, read_picture
from stages.lib.source.archives import download_and_unpack
from stages.lib.source.folders import walk
from stages.lib.source.pictures import plain_colours

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GRID_POINTS = 101  # of plot_decision_boundary, along each axis


def walk_through_dir(dir_path: str | Path) -> None:
    """Print how many folders and images lie in `dir_path` and in each folder below it, sorted by path.

    Images alone are counted, by suffix, and nothing hidden. A folder that is not there is an error, not silence.
    """
    for path, folders, images in sorted(walk(Path(dir_path))):
        print(f"There are {len(folders)} directories and {len(images)} images in '{path}'.")


@torch.inference_mode()
def plot_decision_boundary(model: nn.Module, X: Tensor, y: Tensor) -> None:
    """Draw the classes that `model` gives to the points of the plane, under the labelled points.

    Works for two classes with two logits too, and leaves the model on its device.

    Args:
        model: maps float32 points `[N, 2]` to logits: `[N]` or `[N, 1]` for two classes, `[N, K]` for K classes.
        X: the points `[N, 2]`; the picture covers them and a margin of 0.1.
        y: their classes, whole numbers from 0.
    """
    device = next((weights.device for weights in model.parameters()), torch.device("cpu"))
    X, y = X.cpu(), y.cpu()
    (x_low, y_low), (x_high, y_high) = (X.amin(0) - 0.1).tolist(), (X.amax(0) + 0.1).tolist()
    xx, yy = np.meshgrid(np.linspace(x_low, x_high, GRID_POINTS), np.linspace(y_low, y_high, GRID_POINTS))
    points = torch.from_numpy(np.column_stack([xx.ravel(), yy.ravel()])).float()

    model.eval()
    logits = model(points.to(device)).cpu()
    one_column = logits.ndim == 1 or logits.shape[1] == 1
    classes = (logits.reshape(-1) > 0).long() if one_column else logits.argmax(dim=1)

    highest = max(int(classes.max()), int(y.max()), 1)
    colours: dict[str, Any] = {"cmap": "RdYlBu", "vmin": 0, "vmax": highest}  # a class looks the same in both
    plt.pcolormesh(xx, yy, classes.reshape(xx.shape).numpy(), alpha=0.7, **colours)
    plt.scatter(X[:, 0].numpy(), X[:, 1].numpy(), c=y.numpy(), s=40, edgecolors="black", linewidths=0.4, **colours)
    plt.xlim(x_low, x_high)
    plt.ylim(y_low, y_high)


def plot_predictions(
    train_data: Any, train_labels: Any, test_data: Any, test_labels: Any, predictions: Any = None
) -> None:
    """Scatter training data in blue, test data in green, and predictions for the test data in red, all `[N]`.

    Takes tensors that have gradients, or lie on another device, as well.
    """
    plt.figure(figsize=(10, 7))
    series = [("b", "Training data", train_data, train_labels), ("g", "Testing data", test_data, test_labels)]
    if predictions is not None:
        series.append(("r", "Predictions", test_data, predictions))
    for colour, label, x, y in series:
        plt.scatter(_plain(x), _plain(y), c=colour, s=4, label=label)
    plt.legend(prop={"size": 14})


def accuracy_fn(y_true: Tensor, y_pred: Tensor) -> float:
    """Return the percentage of predicted labels that are the true ones, both `[N]`."""
    return accuracy_pct(y_true, y_pred)


def print_train_time(start: float, end: float, device: torch.device | str | None = None) -> float:
    """Print and return the seconds between two readings of a clock, such as `timeit.default_timer`."""
    total_time = end - start
    print(f"\nTrain time on {device}: {total_time:.3f} seconds")
    return total_time


def plot_loss_curves(results: Mapping[str, Sequence[Any]]) -> None:
    """Draw loss and accuracy by epoch, on training and on test data, side by side.

    Args:
        results: `train_loss`, `train_acc`, `test_loss` and `test_acc`, each with one number for every epoch. Tensors
            that have gradients, or lie on another device, are numbers too.
    """
    plt.figure(figsize=(15, 7))
    for panel, (key, name) in enumerate([("loss", "loss"), ("acc", "accuracy")], start=1):
        plt.subplot(1, 2, panel)
        for part in ("train", "test"):
            values = [float(_plain(value)) for value in results[f"{part}_{key}"]]
            plt.plot(range(len(values)), values, label=f"{part}_{name}")
        plt.title(name.capitalize())
        plt.xlabel("Epochs")
        plt.gca().xaxis.set_major_locator(MaxNLocator(integer=True))  # there are no half epochs
        plt.legend()


def pred_and_plot_image(
    model: nn.Module,
    image_path: str | Path,
    class_names: Sequence[str] | None = None,
    transform: Callable[[Tensor], Tensor] | None = None,
    device: torch.device | str = DEVICE,
) -> None:
    """Classify an image file and draw it, with the predicted class and its probability as title.

    Without `transform`, a model of grey images of 28 x 28 pixels gets the picture as `python -m stages.predict` reads
    it; the lecture's version cannot draw grey pictures, and gives such a model colours.

    Args:
        model: gives logits `[N, K]`; it is moved to `device`.
        image_path: a PNG, JPEG, WebP, GIF or BMP file.
        class_names: the K names; the number of the class is shown unless given.
        transform: from the picture, float32 `[C, H, W]` in [0, 1], to what the model takes.
        device: where to compute.
    """
    as_garment = transform is None and _takes_garments(model)
    image = _read_garment(image_path) if as_garment else _read_colours(image_path)
    if transform:
        image = transform(image)
    model.to(device).eval()
    with torch.inference_mode():
        probabilities = model(image.unsqueeze(dim=0).to(device)).softmax(dim=1)[0].cpu()
    label = int(probabilities.argmax())
    plt.imshow(image.permute(1, 2, 0).squeeze(dim=2).numpy(), cmap="gray")  # the map counts for one channel only
    plt.title(f"Pred: {class_names[label] if class_names else label} | Prob: {probabilities.max():.3f}")
    plt.axis("off")


def set_seeds(seed: int = 42) -> None:
    """Seed torch's global generators, on the CPU and on every GPU."""
    devices.set_seeds(seed)


def download_data(source: str, destination: str, remove_source: bool = True) -> Path:
    """Download a zip archive, unpack it into `data/<destination>` and return that folder; not if it is there already.

    An address that does not answer, or a damaged archive, is an error and leaves nothing behind. Entries that would
    land outside the folder are refused. A `source` may be a path too: that file is never removed.
    """
    return download_and_unpack(source, destination, remove_source)


def _plain(values: Any) -> Any:
    return values.detach().cpu() if isinstance(values, Tensor) else values


def _takes_garments(model: nn.Module) -> bool:
    """Tell whether the first layer takes one channel, or a flattened image of 28 x 28."""
    weights = next((weights for weights in model.parameters() if weights.ndim > 1), None)
    return weights is not None and weights.shape[1] in (1, 28 * 28)


def _read_garment(path: str | Path) -> Tensor:
    return torch.from_numpy(read_garment(path).pixels_HW.copy())[None] / 255


def _read_colours(path: str | Path) -> Tensor:
    """Read a picture as it is, what is transparent white: red, green and blue, or one channel of grey."""
    picture = read_picture(path)
    pixels = np.array(plain_colours(picture).convert("L" if picture.mode == "L" else "RGB"))
    return torch.from_numpy(np.atleast_3d(pixels)).permute(2, 0, 1) / 255
