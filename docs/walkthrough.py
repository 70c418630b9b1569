# %% [markdown]
# # Computer vision with PyTorch: a walk-through
#
# The lecture from its first image to its saved model, to read or to run. It asks the lecture's questions and answers
# them with numbers from your own run, so a change of yours shows in the answers.
#
# | topic | contents |
# |---|---|
# | 0 | Computer vision, and PyTorch's libraries for it |
# | 1 | Load the data |
# | 2 | Prepare the data: batches |
# | 3 | Model 0: a linear baseline, and the helper functions |
# | 4 | Evaluate model 0 |
# | 5 | Code for any device |
# | 6 | Model 1: with ReLU |
# | 7 | Model 2: a convolutional network |
# | 8 | Compare the models |
# | 9 | Evaluate the best model |
# | 10 | Confusion matrix |
# | 11 | Save and load |
#
# **What to install, and where this is.** The notebook is `docs/walkthrough.ipynb` in the project's folder. It reads
# what the pipeline has made there, so run `make run` in that folder once. It installs all that is needed into the
# folder `.venv`, fetches the images and trains the models, which takes some minutes. The notebook itself takes about a
# minute.
#
# - **Only run it**: `make lecture` in a terminal runs all cells and writes the notebook again.
# - **VS Code**: open the notebook, choose *Select Kernel*, *Python Environments*, `.venv`.
# - **Jupyter**: `.venv/bin/uv pip install --python .venv/bin/python jupyterlab`, then `.venv/bin/jupyter lab docs`.
# - **Colab**: upload the notebook (*File*, *Upload notebook*). Insert a cell above the next one, with the address of
#   your copy of the project, and run it:
#
# ```
# !git clone ADDRESS project
# %cd project
# !pip install --quiet pooch pydantic ruamel.yaml safetensors
# !make run
# ```
#
# Times and paths are shown when you run it, and left out of the notebook as `make lecture` writes it. If you save your
# own run, git shows the file as changed; `make lecture` writes it clean again.

# %% tags=["varies"]
import os
import sys
from pathlib import Path

folders = [Path.cwd(), *Path.cwd().parents]
project = next((folder for folder in folders if (folder / "params.yaml").is_file()), None)
assert project, "this is not inside the project's folder: open the notebook where it lies, or change to the folder"
os.chdir(project)
sys.path.insert(0, str(project))
print(f"The project is in {project}")

# %% [markdown]
# ## 0. Computer vision, and PyTorch's libraries for it
#
# Computer vision is the art of getting answers out of pictures with a program. What kind of answer is wanted makes the
# kind of problem:
#
# | problem | the answer for one picture | an example |
# |---|---|---|
# | binary classification | one of two classes | is there a crack in this part? |
# | **multi-class classification** | one of several classes | which of ten garments is this? |
# | object detection | a box and a class for each thing | where are the cyclists in front of this car? |
# | segmentation | a class for each pixel | which pixels are road, sky, house? |
#
# You meet it where a phone sorts your photos, a car keeps its lane, a factory finds its faulty parts or a doctor reads
# an X-ray. This lecture is about the second row.
#
# The work goes in the same order each time, and each step is a stage of the pipeline in this project:
#
# | step | here in | in the pipeline |
# |---|---|---|
# | get the data, turn it into tensors | topics 1, 2 | `fetch`, `prepare` |
# | build a model, choose a loss and an optimizer, train | topics 3, 6, 7 | `train_model_0` and its like |
# | evaluate it on images that it has not seen | topic 4 | `evaluate` |
# | compare, change one thing, try again | topic 8 | `compare` |
# | look at the mistakes of the best, save it | topics 9, 10, 11 | `confusion` |
#
# PyTorch comes with a library for it:
#
# | module | what it is for |
# |---|---|
# | `torchvision` | the next three |
# | `torchvision.datasets` | well-known image data sets to download, and base classes for your own |
# | `torchvision.models` | well-known networks, with trained weights if you like |
# | `torchvision.transforms` | from a picture to a tensor: scale, crop, turn, normalize, vary at random |
# | `torch.utils.data.Dataset` | base class of what knows its samples by number |
# | `torch.utils.data.DataLoader` | makes batches of the samples of a data set |
#
# The last two are not for images alone: text, sound and tables go through them in the same way.

# %%
import copy
import inspect
import random
import shutil
import time
from timeit import default_timer as timer

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torchvision
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader
from torchvision.transforms import ToTensor

from stages.lib.base.versions import check_versions

plt.style.use("default")
plt.rcParams.update({"figure.dpi": 72, "figure.figsize": (4, 4)})  # small pictures
torch.set_num_threads(1)  # so sums do not depend on the number of cores; models this small are no slower

print("PyTorch version:", torch.__version__.split("+")[0])
print("torchvision version:", torchvision.__version__.split("+")[0])
check_versions("torch", "torchvision")  # stops if one is too old, warns if it is not the one behind the results here

# %% [markdown]
# ## 1. Load the data
#
# FashionMNIST has 70,000 small grey pictures in ten classes. It is made like the older MNIST, with clothes for digits.
# torchvision can download it:
#
# ```python
# train_data = torchvision.datasets.FashionMNIST(
#     root="data",            # the folder to put it in
#     train=True,             # the training images; False: the test images
#     download=True,          # from the network, if it is not in the folder yet
#     transform=ToTensor(),   # what to do with each image: here, make a tensor of it, with pixels from 0 to 1
#     target_transform=None,  # what to do with each label: nothing
# )
# ```
#
# The pipeline has done so already, and has checked that each file is the right one. So we take its images. The class
# here takes the same arguments, and makes tensors unless you tell it otherwise.

# %%
from stages.lecture.datasets import FashionMNIST

train_data = FashionMNIST(train=True)
test_data = FashionMNIST(train=False)
print("images of", train_data.source)
if (train_data.source, len(train_data)) != ("fashion-mnist", 60_000):
    print("These are not the lecture's images: figures in the text, and what it says of them, do not hold for them.")

# %% [markdown]
# The first training sample is an image and a label. The image is a table of numbers from 0, black, to 1, white. Here
# are ten of them, and then all, on a scale from 0 (a dot) to 99. Look at it from afar.

# %%
image, label = train_data[0]
print(image[:, 10, 10:20])
print("label:", label)
print()
for row in image.squeeze():
    print("".join(f"{pixel * 99:3.0f}" if pixel else "  ." for pixel in row.tolist()))

# %%
print("shape:", image.shape)
print("type: ", image.dtype, "from", image.min().item(), "to", image.max().item())

# %% [markdown]
# The shape is `[colour channels, height, width]`. One channel means grey. A colour picture has three channels, for red,
# green and blue.
#
# How many samples are there, and what are the classes? (For deep learning 60,000 images are few.)

# %%
len(train_data.data), len(train_data.targets), len(test_data.data), len(test_data.targets)

# %%
class_names = train_data.classes
class_names

# %% [markdown]
# A label is a number, and stands for the class at that place of the list, counted from 0.
#
# `imshow` paints a table of numbers. With one channel it takes colours from a *colour map*, which have nothing to do
# with the colours of the shoe. `cmap="gray"` asks for grey.

# %%
print(f"Image shape: {image.shape}")
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 4))
left.imshow(image.squeeze())  # squeeze: [1, 28, 28] becomes [28, 28]
left.set_title(label)
right.imshow(image.squeeze(), cmap="gray")
right.set_title(class_names[label])
plt.show()

# %% [markdown]
# Sixteen training images, drawn with seed 42:

# %%
torch.manual_seed(42)
fig = plt.figure(figsize=(8, 8))
rows, cols = 4, 4
for i in range(1, rows * cols + 1):
    random_idx = torch.randint(0, len(train_data), size=[1]).item()
    img, label = train_data[random_idx]
    fig.add_subplot(rows, cols, i)
    plt.imshow(img.squeeze(), cmap="gray")
    plt.title(class_names[label])
    plt.axis("off")
plt.show()

# %% [markdown]
# And the first image of each class:

# %%
fig = plt.figure(figsize=(10, 4.4))
for number, name in enumerate(class_names):
    first = (train_data.targets == number).nonzero()[0].item()
    fig.add_subplot(2, 5, number + 1)
    plt.imshow(train_data.data[first], cmap="gray")
    plt.title(f"{number}: {name}")
    plt.axis("off")
plt.show()

# %% [markdown]
# The kinds of problems from topic 0, with one garment. The label answers the first. For the other two the pixels above
# 0 are enough here, as nothing else is in the picture:

# %%
garment, label = train_data[6]
is_garment = garment.squeeze() > 0
rows, columns = is_garment.nonzero(as_tuple=True)
top, left, height, width = rows.min(), columns.min(), rows.max() - rows.min() + 1, columns.max() - columns.min() + 1

fig, axes = plt.subplots(1, 3, figsize=(9, 3.4))
titles = (f"classification: {class_names[label]}", "detection: a box and its class", "segmentation: each pixel's class")
for axis, title in zip(axes, titles, strict=True):
    axis.imshow(garment.squeeze(), cmap="gray")
    axis.set_title(title, fontsize=10)
    axis.axis("off")
axes[1].add_patch(plt.Rectangle((left - 0.5, top - 0.5), width, height, fill=False, color="red", linewidth=2))
axes[1].text(left, top - 1, class_names[label], color="red")
axes[2].imshow(np.ma.masked_where(~is_garment, is_garment), cmap="autumn", alpha=0.6)
plt.show()

# %% [markdown]
# ### Input and output shapes
#
# Every vision model turns numbers into numbers. What goes in and what comes out has a shape, and half of the work is to
# know it:
#
# | | what | shape here |
# |---|---|---|
# | in | a batch of pictures | `[N, C, H, W]` = `[32, 1, 28, 28]` |
# | out | for each picture one number per class: the *logits* | `[32, 10]` |
# | then | softmax makes probabilities of the logits, argmax takes the largest: the predicted class | `[32]` |
#
# The same for one picture. The model is the third of the lecture, which the pipeline has trained:

# %%
from stages.lib.learning.models import load_checkpoint, warn_if_edited

picture = test_data[17][0]
with torch.inference_mode():
    logits = load_checkpoint("models/model_2.safetensors").model.eval()(picture.unsqueeze(dim=0))
crop = picture[0, 8:15, 10:17]

fig, (left, middle, right) = plt.subplots(1, 3, figsize=(10, 3.4), width_ratios=(3, 3, 2.4), layout="constrained")
left.imshow(picture.squeeze(), cmap="gray")
left.add_patch(plt.Rectangle((9.5, 7.5), 7, 7, fill=False, color="red", linewidth=2))
left.set_title(f"in: {list(picture.shape)}")
middle.imshow(crop, cmap="gray", vmin=0, vmax=1)
for (row, column), pixel in np.ndenumerate(crop):
    middle.text(column, row, f"{pixel:.2f}", color="black" if pixel > 0.4 else "white", ha="center", va="center")
middle.set_title("the same as numbers: the red part")
right.barh(class_names, logits.softmax(dim=1)[0])
right.invert_yaxis()
right.set_title(f"out: {list(logits[0].shape)} probabilities")
for axis in (left, middle):
    axis.axis("off")
plt.show()

# %% [markdown]
# **Question: what are NCHW and NHWC, and which is better?**
#
# `N` is the number of images, `C` the channels, `H` and `W` height and width. PyTorch gives the axes in the order NCHW:
# a picture is a stack of whole planes, one for each channel. matplotlib and most picture files want HWC: the channels
# of a pixel are side by side. `permute` goes from one to the other.
#
# There is a second meaning. A tensor can keep the *shape* NCHW and still have its numbers lie in memory in the order
# NHWC. PyTorch calls that `channels_last`. `stride()` shows it: how many places in memory it is from one element to the
# next along each axis.

# %%
colour_batch = torch.zeros(32, 3, 28, 28)
channels_last = colour_batch.to(memory_format=torch.channels_last)
print("in order NCHW:  ", list(colour_batch.shape), "strides", colour_batch.stride())
print("channels_last:  ", list(channels_last.shape), "strides", channels_last.stride())
print("for matplotlib: ", list(colour_batch[0].permute(1, 2, 0).shape))

# %% [markdown]
# The shape is the same; in the second row, the next channel is one place further and not a whole plane. Convolutions
# are often faster that way, so the pipeline trains model 2 with `memory_format: channels_last` (in `params.yaml`). For
# images and models as small as these it makes no great difference. The sums are added up in another order, so their
# last digits change. Thousands of steps make that grow: in the end the third digit is another one, 88.35 % for 88.16 %.
# [docs/lecture.md](lecture.md) has both results.
#
# **Question: could you write a program that tells the classes apart, without any learning?**
#
# Here is one: take the mean picture of each class, and give an image to the class whose mean picture is nearest.

# %%
train_pixels = train_data.data.flatten(1) / 255
test_pixels = test_data.data.flatten(1) / 255
means = torch.stack([train_pixels[train_data.targets == number].mean(dim=0) for number in range(len(class_names))])
nearest = torch.cdist(test_pixels, means).argmin(dim=1)
print(f"nearest mean picture: {(nearest == test_data.targets).float().mean() * 100:.1f} % of the test images are right")

# %% [markdown]
# Far better than guessing, which would get 10 %. But each further idea costs you an afternoon, and it knows nothing of
# collars or heels. A model finds its rules itself.
#
# **Question: can straight lines separate these classes, or are curved ones needed?**
#
# Keep your guess. Models 0 and 1 in topic 6 are the test: one can draw straight lines only.

# %% [markdown]
# ## 2. Prepare the data: batches
#
# A `DataLoader` cuts a data set into batches. 32 is a good first batch size; other powers of two (64, 128, 256) are
# worth a try. Training images are shuffled before each epoch, so that no two epochs have the same batches. Test images
# can keep their order.

# %%
BATCH_SIZE = 32
train_dataloader = DataLoader(train_data, batch_size=BATCH_SIZE, shuffle=True)
test_dataloader = DataLoader(test_data, batch_size=BATCH_SIZE, shuffle=False)
print(f"Length of train dataloader: {len(train_dataloader)} batches of {BATCH_SIZE}")
print(f"Length of test dataloader: {len(test_dataloader)} batches of {BATCH_SIZE}")
print(f"The last batch of the test images has {len(test_data) - (len(test_dataloader) - 1) * BATCH_SIZE} images")

# %%
train_features_batch, train_labels_batch = next(iter(train_dataloader))
train_features_batch.shape, train_labels_batch.shape

# %% [markdown]
# One image of the batch. It is what it was before: a batch only puts images together.

# %%
torch.manual_seed(42)
random_idx = torch.randint(0, len(train_features_batch), size=[1]).item()
img, label = train_features_batch[random_idx], train_labels_batch[random_idx]
print(f"Image size: {img.shape}")
print(f"Label: {label}, label size: {label.shape}")
plt.imshow(img.squeeze(), cmap="gray")
plt.title(class_names[label])
plt.axis("off")
plt.show()

# %% [markdown]
# And the whole batch, that image marked. The first of the four numbers in the batch's shape counts these:

# %%
fig, axes = plt.subplots(4, 8, figsize=(8, 4.2))
for number, axis in enumerate(axes.ravel()):
    axis.imshow(train_features_batch[number].squeeze(), cmap="gray")
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set(color="red" if number == random_idx else "white", linewidth=3)
fig.suptitle(f"one batch: {list(train_features_batch.shape)}")
plt.show()

# %% [markdown]
# ## 3. Model 0: a linear baseline, and the helper functions
#
# A **baseline** is what later models are measured by. A later model must do better, or it is not worth its costs. Here
# it is the simplest model that we can think of; in research it may be the best that anybody has.
#
# Ours has two linear layers. A linear layer wants each image as one row of numbers, a *feature vector*. `nn.Flatten`
# makes one: it writes the rows of the picture one after the other.

# %%
flatten_model = nn.Flatten()  # every layer is a model of its own: it can be called
x = train_features_batch[0]
output = flatten_model(x)
print(f"Shape before flattening: {x.shape} -> [color_channels, height, width]")
print(f"Shape after flattening: {output.shape} -> [color_channels, height*width]")

# %% [markdown]
# **Try it:** `print(x)` and `print(output)` in a new cell. The numbers are the same; only the brackets change.
#
# This is the model, from `stages/lecture/models.py`:

# %%
from stages.lecture.models import FashionMNISTModelV0, FashionMNISTModelV1, FashionMNISTModelV2

print(inspect.getsource(FashionMNISTModelV0))

# %% [markdown]
# - `input_shape=784`: one number for each pixel, 28 * 28.
# - `hidden_units=10`: the width of the layer between. It is yours to choose.
# - `output_shape`: one logit for each class.
#
# The seed decides the weights that the model starts with.

# %%
torch.manual_seed(42)
model_0 = FashionMNISTModelV0(input_shape=784, hidden_units=10, output_shape=len(class_names))
model_0.to("cpu")

# %% [markdown]
# **Try it:** what does a wider layer bring? In a terminal, in the project's folder:
#
# ```
# . .venv/bin/activate
# dvc exp run -S model_0.hidden_units=128
# ```
#
# The pipeline trains model 0 again, and no other model. The new number stays in `params.yaml`. `git checkout .` and
# `dvc checkout` take it back; beware, they drop every edit of yours that is not committed.
#
# ### The helper functions
#
# What is needed again and again goes into a module of its own,
# [helper_functions.py](../stages/lecture/helper_functions.py):
#
# | function | what it does |
# |---|---|
# | `walk_through_dir(dir_path)` | counts the images in each folder |
# | `plot_decision_boundary(model, X, y)` | draws which class a model gives to each point of the plane |
# | `plot_predictions(train_data, train_labels, test_data, test_labels, predictions=None)` | draws a regression |
# | `accuracy_fn(y_true, y_pred)` | percentage of right predictions |
# | `print_train_time(start, end, device=None)` | prints how long a training took |
# | `plot_loss_curves(results)` | draws loss and accuracy by epoch |
# | `pred_and_plot_image(model, image_path, class_names=None, transform=None, device=...)` | classifies one picture |
# | `set_seeds(seed=42)` | seeds PyTorch's random numbers |
# | `download_data(source, destination, remove_source=True)` | downloads and unpacks a zip archive |

# %%
from stages.lecture.helper_functions import (
    accuracy_fn,
    download_data,
    plot_decision_boundary,
    plot_loss_curves,
    plot_predictions,
    pred_and_plot_image,
    print_train_time,
    set_seeds,
    walk_through_dir,
)

# %% [markdown]
# Two of them at work. We write a few test images as files, a folder for each class, and pack them into an archive.
# `download_data` takes an address (`https://...`) or, as here, a path:

# %%
here = Path("data/walkthrough")
shutil.rmtree(here, ignore_errors=True)
for number in range(12):
    img, label = test_data[number]
    folder = here / "garments" / class_names[label].replace("/", "-")
    folder.mkdir(parents=True, exist_ok=True)
    torchvision.transforms.functional.to_pil_image(img).save(folder / f"{number}.png")
archive = shutil.make_archive("data/walkthrough/garments", "zip", root_dir=here / "garments")

image_path = download_data(source="data/walkthrough/garments.zip", destination="walkthrough/unpacked")
print()
walk_through_dir(image_path)

# %%
download_data(source="data/walkthrough/garments.zip", destination="walkthrough/unpacked")

# %% [markdown]
# `plot_predictions` is for a regression, where the answer is a number and not a class. A model of one weight and one
# bias learns a line from the blue points, and goes on with it (red) where it has seen nothing:

# %%
X = torch.arange(0, 1, 0.02).unsqueeze(dim=1)
y = 0.7 * X + 0.3
set_seeds(42)
line = nn.Linear(1, 1)
descent = torch.optim.SGD(line.parameters(), lr=0.1)
for _ in range(200):
    descent.zero_grad()
    nn.functional.mse_loss(line(X[:40]), y[:40]).backward()
    descent.step()
plot_predictions(X[:40], y[:40], X[40:], y[40:], predictions=line(X[40:]))
plt.gcf().set_size_inches(6, 4)
plt.show()

# %% [markdown]
# ### Loss, optimizer, accuracy
#
# - The **loss** says how wrong the model is, as one number to make small. For classes it is the cross-entropy. Others
#   call it criterion or cost function.
# - The **optimizer** changes the weights a little, in the direction that makes the loss smaller. `lr` is how much.
# - The **accuracy** is for us: the percentage of right answers. (`torchmetrics.Accuracy` is a library's version.)

# %%
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(params=model_0.parameters(), lr=0.1)

# %% [markdown]
# ### The training loop, in full
#
# One pass over all training images is an *epoch*. For each batch of it:
#
# 1. **forward**: the model computes its logits,
# 2. **loss**: how wrong are they?
# 3. **zero_grad**: forget the gradients of the step before,
# 4. **backward**: compute the gradient of the loss for each weight,
# 5. **step**: change the weights.
#
# After each epoch the model is tested on the test images, without learning from them. All printed numbers are means
# over batches. (`for epoch in tqdm(range(epochs))`, from the library tqdm, would show a progress bar.)

# %%
torch.manual_seed(42)
train_time_start = timer()

epochs = 3
for epoch in range(epochs):
    print(f"Epoch: {epoch}\n-------")
    train_loss = 0
    for batch, (X, y) in enumerate(train_dataloader):
        model_0.train()
        y_pred = model_0(X)  # 1. forward
        loss = loss_fn(y_pred, y)  # 2. loss
        train_loss += loss.detach()  # only the number: no gradient is wanted of the sum
        optimizer.zero_grad()  # 3.
        loss.backward()  # 4.
        optimizer.step()  # 5.

        if batch % 400 == 0:
            print(f"Looked at {batch * len(X)}/{len(train_dataloader.dataset)} samples")
    train_loss /= len(train_dataloader)

    test_loss, test_acc = 0, 0
    model_0.eval()
    with torch.inference_mode():
        for X, y in test_dataloader:
            test_pred = model_0(X)
            test_loss += loss_fn(test_pred, y)
            test_acc += accuracy_fn(y_true=y, y_pred=test_pred.argmax(dim=1))
        test_loss /= len(test_dataloader)
        test_acc /= len(test_dataloader)
    print(f"\nTrain loss: {train_loss:.5f} | Test loss: {test_loss:.5f}, Test acc: {test_acc:.2f}%\n")

train_time_end = timer()

# %% tags=["varies"]
total_train_time_model_0 = print_train_time(
    start=train_time_start, end=train_time_end, device=str(next(model_0.parameters()).device)
)

# %% [markdown]
# These are the lecture's numbers, digit by digit. `make run` trained the same model with a faster loop. Are its weights
# really the same?


# %%
def same_weights(model, other):
    """Tell whether two models have equal weights, to the last bit."""
    pairs = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(first.cpu(), second.cpu()) for first, second in pairs)


print("same weights as in the pipeline:", same_weights(model_0, load_checkpoint("models/model_0.safetensors").model))

# %% [markdown]
# **Question: what is the key difference between this loop and one without batches?**
#
# Every image is still seen once in each epoch. But the model learns from 32 at a time. First, that takes less memory:

# %%
one_batch = train_features_batch.numel() * train_features_batch.element_size()
print(f"one batch of {BATCH_SIZE} images: {one_batch / 1e6:6.1f} MB")
print(f"all {len(train_data):,} images at once: {one_batch / BATCH_SIZE * len(train_data) / 1e6:6.1f} MB")

# %% [markdown]
# Second, and more important here: the weights change after each batch. With all images in a single batch, an epoch is
# one step. Three epochs of each:

# %%
torch.manual_seed(42)
one_big_batch = FashionMNISTModelV0(input_shape=784, hidden_units=10, output_shape=len(class_names))
descent = torch.optim.SGD(one_big_batch.parameters(), lr=0.1)
for _ in range(epochs):
    descent.zero_grad()
    loss_fn(one_big_batch(train_pixels), train_data.targets).backward()
    descent.step()
with torch.inference_mode():
    accuracy = accuracy_fn(y_true=test_data.targets, y_pred=one_big_batch(test_pixels).argmax(dim=1))
print(f"one batch of {len(train_data):,}: {epochs:5,} steps, {accuracy:.2f} % right")
print(f"batches of {BATCH_SIZE}:       {epochs * len(train_dataloader):5,} steps, {test_acc:.2f} % right")

# %% [markdown]
# A gradient from 32 images is rough, but it points the right way, and there are thousands of them for the same work.
#
# **Try it:** `dvc exp run -S model_0.batch_size=128`. There are a quarter of the steps.

# %% [markdown]
# ## 4. Evaluate model 0
#
# `eval_model` puts what a model reaches on the test images into a dictionary. It takes the model, the loader, the loss
# and the accuracy function, so it serves for every model to come.

# %%
from stages.lecture.training import eval_model, make_predictions, test_step, train_step

model_0_results = eval_model(model=model_0, data_loader=test_dataloader, loss_fn=loss_fn, accuracy_fn=accuracy_fn)
model_0_results

# %% [markdown]
# The slides show other digits: of the loss from the fifth on, of the accuracy from the fourth. No run can give that
# accuracy, [docs/lecture.md](lecture.md) has the reason. Rounded as the loop prints them, the numbers agree.

# %% [markdown]
# ## 5. Code for any device
#
# Code is *device agnostic* if it runs on whatever there is: a GPU of NVIDIA (`cuda`), of Apple (`mps`), or the CPU.
# Choose the device once, then send the model and each batch there. `train_step`, `test_step` and `eval_model` send the
# batches to the device of the model.
#
# Where one of them is forgotten, the model on a GPU and the batch still on the CPU, a linear layer stops with
# `RuntimeError: Expected all tensors to be on the same device`. (A convolution names the types of its input and of its
# weights instead, `torch.FloatTensor` and `torch.cuda.FloatTensor`.) The repair is one line before the model is called,
# in the loop over the batches: `X, y = X.to(device), y.to(device)`.

# %%
from stages.lib.base.params import load_params
from stages.lib.learning.devices import pick_device

device = pick_device(load_params().train.device)
print(device)

# %% [markdown]
# `train.device` stands in `params.yaml`. Unless you change it, it is `auto`: the first there is of `cuda`, `mps` and
# `cpu`. On another device sums are added up in another order, so the last digits may differ.

# %% [markdown]
# ## 6. Model 1: with ReLU
#
# Two linear layers one after the other are one linear map, however wide they are. `nn.ReLU` between them sets negative
# numbers to zero, and this bend is enough to make curves. First with points in the plane, where one can see it: the
# inner ring is one class, the outer ring the other.

# %%
set_seeds(42)
angle = torch.rand(400) * 2 * torch.pi
ring = torch.arange(400) % 2
radius = 0.5 + 0.5 * ring + 0.06 * torch.randn(400)
points = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)

plt.figure(figsize=(9, 4.5))
for panel, (name, layers) in enumerate(
    {
        "two linear layers": [nn.Linear(2, 10), nn.Linear(10, 2)],
        "with a ReLU between them": [nn.Linear(2, 10), nn.ReLU(), nn.Linear(10, 2)],
    }.items(),
    start=1,
):
    model = nn.Sequential(*layers)
    descent = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(300):
        descent.zero_grad()
        loss_fn(model(points), ring).backward()
        descent.step()
    plt.subplot(1, 2, panel)
    plot_decision_boundary(model, points, ring)
    plt.title(f"{name}: {accuracy_fn(ring, model(points).argmax(dim=1)):.0f} % right")
plt.show()

# %% [markdown]
# Now the same idea for images: the lecture puts a ReLU after *each* linear layer.

# %%
print(inspect.getsource(FashionMNISTModelV1))

# %%
torch.manual_seed(42)
model_1 = FashionMNISTModelV1(input_shape=784, hidden_units=10, output_shape=len(class_names)).to(device)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(params=model_1.parameters(), lr=0.1)

# %% [markdown]
# The loop again, now as two functions. Read them in [training.py](../stages/lecture/training.py): they are the loop
# above. Another loss, optimizer or accuracy function is another argument.

# %%
print(inspect.getsource(train_step))

# %%
torch.manual_seed(42)
train_time_start = timer()

epochs = 3
results = {"train_loss": [], "train_acc": [], "test_loss": [], "test_acc": []}
for epoch in range(epochs):
    print(f"Epoch: {epoch}\n---------")
    train_loss, train_acc = train_step(
        model=model_1,
        data_loader=train_dataloader,
        loss_fn=loss_fn,
        optimizer=optimizer,
        accuracy_fn=accuracy_fn,
        device=device,
    )
    test_loss, test_acc = test_step(
        data_loader=test_dataloader, model=model_1, loss_fn=loss_fn, accuracy_fn=accuracy_fn, device=device
    )
    for key, value in zip(results, (train_loss, train_acc, test_loss, test_acc), strict=True):
        results[key].append(value)

train_time_end = timer()

# %% tags=["varies"]
total_train_time_model_1 = print_train_time(start=train_time_start, end=train_time_end, device=device)

# %%
plot_loss_curves(results)
plt.gcf().set_size_inches(9, 4)
plt.show()

# %%
model_1_results = eval_model(
    model=model_1, data_loader=test_dataloader, loss_fn=loss_fn, accuracy_fn=accuracy_fn, device=device
)
model_1_results

# %% [markdown]
# **Question: "I used a GPU but my model didn't train faster, why?"**
#
# In the lecture model 0 took 32 seconds on a CPU, and model 1 took 37 on a GPU. Measure what a training step is made
# of. The lecture's loader makes a Python object of every image, turns it into a tensor with `ToTensor`, and stacks 32
# of them. Ours reads a batch at once. Then the model computes.

# %% tags=["varies"]
steps, to_tensor = 100, ToTensor()


def milliseconds(work):
    """Return how long one call of `work` takes, the mean of many."""
    work()
    start = time.perf_counter()
    for _ in range(steps):
        work()
    return (time.perf_counter() - start) / steps * 1000


def read_one_by_one():
    """Read a batch as the lecture does."""
    images = [Image.fromarray(train_data.data[index].numpy()) for index in range(BATCH_SIZE)]
    return torch.stack([to_tensor(img) for img in images])


def read_at_once():
    """Read a batch as the pipeline does."""
    return train_data.data[torch.arange(BATCH_SIZE)].unsqueeze(dim=1) / 255


def learn():
    """Take one training step of a copy of model 1, the images being there already."""
    loss = loss_fn(pupil(images), labels)
    descent.zero_grad()
    loss.backward()
    descent.step()
    loss.item()  # a GPU works on its own: wait until it is done


pupil = copy.deepcopy(model_1)
descent = torch.optim.SGD(pupil.parameters(), lr=0.1)
images, labels = train_features_batch.to(device), train_labels_batch.to(device)
reading, reading_at_once, learning = milliseconds(read_one_by_one), milliseconds(read_at_once), milliseconds(learn)
print(f"read 32 images one by one: {reading:6.3f} ms")
print(f"read 32 images at once:    {reading_at_once:6.3f} ms")
print(f"learn from 32 images:      {learning:6.3f} ms on {device}")

# %%
multiply_adds = sum(layer.weight.numel() for layer in model_1.modules() if isinstance(layer, nn.Linear))
print(f"one step, forward, of {BATCH_SIZE} images: {BATCH_SIZE * multiply_adds:,} multiplications")

# %% [markdown]
# On two CPU cores it was 1.0 ms to read 32 images one by one, 0.03 ms to read them at once, and 0.3 ms to learn from
# them. So most of the time goes into reading one by one, and the CPU does that, whatever device computes. A GPU can
# speed up the learning only. There it has little to do: a quarter of a million multiplications are nothing for a device
# that does millions of millions in a second, but it takes a while to send it a batch and to start each of its tasks,
# however small they are. The lecture names the sending; the reading comes before it. A GPU pays off with larger models,
# images and batches, and with a loader that keeps it busy. (On a machine with a GPU, the third line is its.)

# %% [markdown]
# **Question: model 1 is worse than model 0. Is it overfitting?**
#
# What ought to help does not always help, so measure it, and then look for the reason.
#
# A model overfits when it has learned the training images by heart: it does well on them and badly on others. That can
# be measured. Put the accuracy on the training images beside that on the test images:

# %%
for name, model in {"model_0": model_0, "model_1": model_1}.items():
    seen = eval_model(model, train_dataloader, loss_fn, accuracy_fn)["model_acc"]
    unseen = eval_model(model, test_dataloader, loss_fn, accuracy_fn)["model_acc"]
    print(f"{name}: {seen:.2f} % of the training images right, {unseen:.2f} % of the test images")

# %% [markdown]
# Both do about as well on images that they have not seen. Real overfitting looks otherwise. Here it is made on purpose:
# few images, many epochs.

# %%
torch.manual_seed(42)
overfitted = FashionMNISTModelV0(input_shape=784, hidden_units=10, output_shape=len(class_names))
descent = torch.optim.SGD(overfitted.parameters(), lr=0.1)
few_images, few_labels = train_pixels[:500], train_data.targets[:500]
for _ in range(200):
    for X, y in zip(few_images.split(BATCH_SIZE), few_labels.split(BATCH_SIZE), strict=True):
        descent.zero_grad()
        loss_fn(overfitted(X), y).backward()
        descent.step()
with torch.inference_mode():
    seen = accuracy_fn(few_labels, overfitted(few_images).argmax(dim=1))
    unseen = accuracy_fn(test_data.targets, overfitted(test_pixels).argmax(dim=1))
print(f"model 0 on {len(few_images)} images: {seen:.2f} % of these right, {unseen:.2f} % of the test images")

# %% [markdown]
# So no: model 1 is bad on the images that it has seen as well. It has learned too little, not too much. Then what is
# wrong with it? Count how often it gives each answer:


# %%
@torch.inference_mode()
def logits_of(model):
    """Return the logits of all test images."""
    model.eval()
    return torch.cat([model(X.to(device)).cpu() for X, _ in test_dataloader])


logits = logits_of(model_1)
answers = logits.argmax(dim=1).bincount(minlength=len(class_names))
for name, count in zip(class_names, answers.tolist(), strict=True):
    print(f"{name:12} {count:5,} times{'  <- never' if count == 0 else ''}")

# %%
equal = (logits == 0).all(dim=1)
print(f"{int(equal.sum())} images have ten logits of 0, so ten equal probabilities:")
print([round(p, 2) for p in logits[equal][:1].softmax(dim=1).flatten().tolist()])
print("argmax then takes the first of the list:", class_names[logits[equal][:1].argmax()] if equal.any() else "-")

# %% [markdown]
# The last layer of model 1 is a ReLU, and it works on the *logits*. It cuts a negative logit to zero, where its slope
# is zero: nothing flows back. So an image teaches nothing to a class whose logit is zero for it. For the training
# images of each class: for how many is the logit of their own class zero, and which gradient do all of them give it?

# %%
for number, name in enumerate(class_names):
    model_1.zero_grad()
    own_images = train_pixels[train_data.targets == number].to(device)
    own_logits = model_1(own_images)
    loss_fn(own_logits, torch.full((len(own_images),), number, device=device)).backward()
    gradient = model_1.layer_stack[3].weight.grad[number].abs().max()
    zeros = int((own_logits[:, number] == 0).sum())
    print(f"{name:12} logit 0 for {zeros:5,} of {len(own_images):,}, largest gradient of its weights {gradient:.4f}")

# %% [markdown]
# All dresses but one teach "Dress" nothing, so almost nothing draws this logit up again: the class is as good as dead.
#
# The proof of it: leave out that one ReLU, and train the same model from the same seed.

# %%
torch.manual_seed(42)
model_1b = FashionMNISTModelV1(input_shape=784, hidden_units=10, output_shape=len(class_names)).to(device)
model_1b.layer_stack = model_1b.layer_stack[:-1]  # all layers but the last
optimizer = torch.optim.SGD(params=model_1b.parameters(), lr=0.1)
torch.manual_seed(42)
for epoch in range(epochs):
    print(f"Epoch: {epoch}\n---------")
    train_step(model_1b, train_dataloader, loss_fn, optimizer, accuracy_fn, device)
    test_step(test_dataloader, model_1b, loss_fn, accuracy_fn, device)


# %%
def recall(logits):
    """Return for each class the percentage of its test images that are recognized."""
    right = logits.argmax(dim=1) == test_data.targets
    return [round(right[test_data.targets == number].float().mean().item() * 100, 1) for number in range(10)]


models = {"model_0": model_0.to(device), "model_1": model_1, "model_1, last ReLU left out": model_1b}
recalls = pd.DataFrame({name: recall(logits_of(model)) for name, model in models.items()}, index=class_names)
recalls

# %% [markdown]
# **So: straight lines or curves?** With the ReLU where it belongs, *between* the layers, the model is at least as good
# as the straight lines of model 0, but not by much: ten hidden units see the image as a row of numbers, and know
# nothing of what lies beside what. Straight lines come far with these pictures. To go further, a model must look at
# shapes: topic 7.
#
# **Question: what helps against overfitting, where there is some?** More training images; images varied at random
# (shifted, mirrored); a smaller model; fewer epochs; dropout; weight decay. Search for the last two.
#
# **Try it:** the pipeline has the network without the last ReLU too, `dvc exp run -S model_1.arch=mlp_hidden`. And what
# do more images bring? `dvc exp run -S prepare.train_images=5000` trains on 5,000 of them only.

# %% [markdown]
# ## 7. Model 2: a convolutional network
#
# A convolutional neural network (CNN) looks at an image through a small window that slides over it. It keeps what lies
# beside what. This one is *TinyVGG*, from the [CNN Explainer](https://poloclub.github.io/cnn-explainer/), a page worth
# an hour. Like most of them it is built as
#
# `input -> [convolution -> activation -> pooling] -> output`
#
# where the part in brackets comes as often as one likes: here twice, each time with two convolutions.
#
# **Question: CNNs are for images; what about other data?**
#
# | data | models to try first | where |
# |---|---|---|
# | tables: each column means something | gradient boosting, random forests | `sklearn.ensemble`, XGBoost |
# | images, sound, text | convolutional networks, transformers | `torchvision.models`, Hugging Face |
#
# A rule of thumb, with exceptions.

# %%
print(inspect.getsource(FashionMNISTModelV2))

# %%
hidden_units = load_params().model("model_2").hidden_units  # 10, unless you have changed it
torch.manual_seed(load_params().seed)  # 42, unless you have changed it
model_2 = FashionMNISTModelV2(input_shape=1, hidden_units=hidden_units, output_shape=len(class_names)).to(device)
model_2

# %% [markdown]
# To find a network that works and to build it again, as here, is how most projects start. Now its two new layers, one
# at a time.
#
# ### Step by step: `nn.Conv2d`
#
# **Question: what does "2d" stand for?** For the number of directions in which the window slides. In an image these are
# two, down and to the right; colour channels are no direction, the window always sees all of them. Along a line of text
# or of sound it is one (`Conv1d`), in a body scan it is three (`Conv3d`):

# %%
for layer, shape in [
    (nn.Conv1d(3, 10, kernel_size=3), (1, 3, 64)),
    (nn.Conv2d(3, 10, kernel_size=3), (1, 3, 64, 64)),
    (nn.Conv3d(3, 10, kernel_size=3), (1, 3, 64, 64, 64)),
]:
    name = type(layer).__name__
    print(f"{name}: weight {list(layer.weight.shape)}, from {list(shape)} to {list(layer(torch.zeros(shape)).shape)}")

# %% [markdown]
# Random numbers in the shape of colour images of 64 x 64, as on CNN Explainer:

# %%
torch.manual_seed(42)
images = torch.randn(size=(32, 3, 64, 64))
test_image = images[0]
print(f"Image batch shape: {images.shape} -> [batch_size, color_channels, height, width]")
print(f"Single image shape: {test_image.shape} -> [color_channels, height, width]")
print(f"Single image pixel values:\n{test_image}")

# %% [markdown]
# A convolution has these settings:
#
# | setting | meaning | unless given |
# |---|---|---|
# | `in_channels` | channels that come in | |
# | `out_channels` | how many different windows, each of which makes a channel | |
# | `kernel_size` | side of the window | |
# | `stride` | how far the window moves at a time | 1 |
# | `padding` | rows and columns of zeros around the image; `"same"`: as many as keep the size; `"valid"`: none | 0 |
#
# The last three are one number for both directions or a tuple of two, for down and to the right.

# %%
torch.manual_seed(42)
conv_layer = nn.Conv2d(in_channels=3, out_channels=10, kernel_size=3, stride=1, padding=0)
conv_layer(test_image).shape

# %% [markdown]
# That was a single image, `[3, 64, 64]`. Before version 1.11 PyTorch refused it: a layer works on batches. It is still
# the custom to make a batch of one, with `unsqueeze`:

# %%
test_image.unsqueeze(dim=0).shape

# %%
conv_layer(test_image.unsqueeze(dim=0)).shape

# %% [markdown]
# 64 became 62, because a window of 3 has only 62 places along a side of 64. A larger window in larger steps:

# %%
torch.manual_seed(42)
conv_layer_2 = nn.Conv2d(in_channels=3, out_channels=10, kernel_size=(5, 5), stride=2, padding=0)
conv_layer_2(test_image.unsqueeze(dim=0)).shape

# %% [markdown]
# **Try it:** change any number. The side that comes out is `(side + 2 * padding - kernel) // stride + 1`:

# %%
tries = [(3, 1, 0), (3, 1, "valid"), (3, 1, 1), (5, 2, 0), (7, 1, 0), (7, 1, "same"), (1, 1, 0), (3, 2, 1)]
for kernel, stride, padding in tries:
    layer = nn.Conv2d(3, 10, kernel_size=kernel, stride=stride, padding=padding)
    shape = list(layer(test_image.unsqueeze(dim=0)).shape)
    print(f"kernel {kernel}, stride {stride}, padding {padding!s:5} -> {shape}")

# %% [markdown]
# ### What is inside
#
# A layer's `state_dict` holds its weights. At first they are random numbers.

# %%
print(conv_layer_2.state_dict().keys())
print("\nthe first of the windows, as it looks at the first channel:")
print(conv_layer_2.state_dict()["weight"][0, 0])
print("\nthe end of the last one:")
print(conv_layer_2.state_dict()["weight"][-1, -1, -1])
print("\nbias:")
print(conv_layer_2.state_dict()["bias"])

# %%
names = "[out_channels=10, in_channels=3, kernel_size=5, kernel_size=5]"
print(f"conv_layer_2 weight shape: \n{conv_layer_2.weight.shape} -> {names}")
print(f"\nconv_layer_2 bias shape: \n{conv_layer_2.bias.shape} -> [out_channels=10]")

# %% [markdown]
# **Question: what should these settings be?** Nobody knows beforehand. They are *hyperparameters*: chosen by you, not
# learned. Try some and compare, or take over what works for a problem like yours, as we do with TinyVGG. **Try it:**
# `dvc exp run -S model_2.hidden_units=16`.
#
# In one thing this layer is like a linear one: training starts with random numbers and changes them until they
# represent the data. The pipeline has trained model 2 from the same seed. Its windows before and after:

# %%
start = model_2.block_1[0].weight.detach().cpu().clone()
checkpoint = load_checkpoint("models/model_2.safetensors")
assert (checkpoint.arch, checkpoint.settings) == ("tiny_vgg", {}), "this notebook needs the lecture's model_2"
warn_if_edited("models/model_2.safetensors", checkpoint)  # or the curve below would be another model's
model_2.load_state_dict(checkpoint.model.state_dict())
trained = model_2.block_1[0].weight.detach().cpu()

largest = torch.cat([start, trained]).abs().max().item()
shown = min(hidden_units, 10)
fig, axes = plt.subplots(2, shown, figsize=(shown, 2.6), squeeze=False)
for row, (name, weights) in enumerate({"before": start, "after": trained}.items()):
    for axis, window in zip(axes[row], weights[:shown, 0], strict=True):
        axis.imshow(window, cmap="RdBu_r", vmin=-largest, vmax=largest)
        axis.set_xticks([])
        axis.set_yticks([])
    axes[row, 0].set_ylabel(name)
fig.suptitle(f"{shown} windows of the first layer: blue below 0, red above")
plt.show()

# %% [markdown]
# ### What a convolution computes
#
# At each place nine pixels are multiplied by the nine weights of the window and added up, with the bias. One window of
# the trained model, on the first test image:

# %%
boot = test_data[0][0].unsqueeze(dim=0).to(device)
layer = model_2.block_1[0]
with torch.inference_mode():
    maps = layer(boot)[0].cpu()
unit = int(trained.abs().sum(dim=(1, 2, 3)).argmax())  # the window with the largest weights
row, column = divmod(int(maps[unit].argmax()), 28)
row, column = min(max(row, 1), 26), min(max(column, 1), 26)
patch = boot[0, 0, row - 1 : row + 2, column - 1 : column + 2].cpu()

fig, (left, middle, right) = plt.subplots(1, 3, figsize=(9, 3.2), width_ratios=(3, 1.2, 3))
left.imshow(boot[0, 0].cpu(), cmap="gray")
left.add_patch(plt.Rectangle((column - 1.5, row - 1.5), 3, 3, fill=False, color="red", linewidth=2))
left.set_title("image")
middle.imshow(trained[unit, 0], cmap="RdBu_r", vmin=-largest, vmax=largest)
middle.set_title(f"window {unit}")
right.imshow(maps[unit], cmap="gray")
right.add_patch(plt.Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, color="red", linewidth=2))
right.set_title("what comes out")
for axis in (left, middle, right):
    axis.axis("off")
plt.show()

for pixels, weights in zip(patch.tolist(), trained[unit, 0].tolist(), strict=True):
    print("".join(f"  + {pixel:.2f} * {weight:5.2f}" for pixel, weight in zip(pixels, weights, strict=True)))
bias = layer.bias[unit].item()
print(f"  + bias {bias:.2f} = {(patch * trained[unit, 0]).sum().item() + bias:.2f}")
print(f"the layer says {maps[unit, row, column].item():.2f}")

# %% [markdown]
# ### Step by step: `nn.MaxPool2d`
#
# Pooling makes an image smaller: of each 2 x 2 pixels the largest stays. It has no weights.

# %%
print(f"Test image original shape: {test_image.shape}")
print(f"Test image with unsqueezed dimension: {test_image.unsqueeze(dim=0).shape}")
max_pool_layer = nn.MaxPool2d(kernel_size=2)
test_image_through_conv = conv_layer(test_image.unsqueeze(dim=0))
print(f"Shape after going through conv_layer(): {test_image_through_conv.shape}")
test_image_through_conv_and_max_pool = max_pool_layer(test_image_through_conv)
print(f"Shape after going through conv_layer() and max_pool_layer(): {test_image_through_conv_and_max_pool.shape}")

# %%
torch.manual_seed(42)
random_tensor = torch.randn(size=(1, 1, 2, 2))
print(f"Random tensor:\n{random_tensor}")
print(f"\nMax pool: {max_pool_layer(random_tensor)}")
print(f"Mean pool (nn.AvgPool2d): {nn.AvgPool2d(kernel_size=2)(random_tensor)}")

# %% [markdown]
# **Question: where does `hidden_units*7*7` in the classifier come from?** Follow one image through the layers:

# %%
from stages.lib.learning.layers import trace_layers

for layer in trace_layers(model_2, (1, 28, 28)):
    before, after = ("x".join(map(str, shape)) for shape in (layer.input_shape, layer.output_shape))
    print(f"{layer.name:13} {layer.kind:10} {before:>9} -> {after:9} {layer.shape_formula}".rstrip())

# %% [markdown]
# Two poolings make 14 and then 7 of 28, and there is one such map for each hidden unit. If you do not want to
# calculate, put in any number: the error names the right one.

# %%
guess = copy.deepcopy(model_2)
guess.classifier[1] = nn.Linear(10, 10).to(device)
try:
    guess(boot)
except RuntimeError as error:
    print(error)

# %% [markdown]
# Layer by layer the image is squeezed into what matters for the answer. This is model 2 at work on the first test
# image:

# %%
with torch.inference_mode():
    after_1 = model_2.block_1(boot)
    after_2 = model_2.block_2(after_1)
    probabilities = model_2.classifier(after_2).softmax(dim=1)[0].cpu()

fig, axes = plt.subplots(2, shown, figsize=(shown, 2.8), squeeze=False)
for row, maps in enumerate((after_1, after_2)):
    for axis, one in zip(axes[row], maps[0, :shown].cpu(), strict=True):
        axis.imshow(one, cmap="magma")
        axis.axis("off")
    axes[row, 0].set_title(f"after block_{row + 1}: {' x '.join(map(str, maps.shape[1:]))}", loc="left")
plt.show()

fig, axis = plt.subplots(figsize=(6, 2.6))
axis.barh(class_names, probabilities)
axis.invert_yaxis()
axis.set_xlim(0, 1)
axis.set_title(f"then {after_2.numel()} -> 10: {class_names[probabilities.argmax()]}, {probabilities.max():.2f}")
plt.show()

# %% [markdown]
# ### What model 2 reaches
#
# The lecture stops here. The pipeline went on, with its own fast loop: the same loss and optimizer, three epochs,
# unless `params.yaml` says otherwise by now. Its curve, and the dictionary of the trained model:

# %%
pd.read_csv("plots/curves/model_2.csv").round(4)

# %%
model_2_results = eval_model(
    model=model_2, data_loader=test_dataloader, loss_fn=loss_fn, accuracy_fn=accuracy_fn, device=device
)
model_2_results

# %% [markdown]
# ## 8. Compare the models

# %%
compare_results = pd.DataFrame([model_0_results, model_1_results, model_2_results])
compare_results

# %% [markdown]
# How long did each take, on this machine? Compare with care. Models 0 and 1 were trained above, by the lecture's loop
# on one thread; model 2 by the pipeline, whose loop is faster and has the threads of `params.yaml`, two unless you
# change it. (`NaN`: not measured here.)

# %% tags=["varies"]
from stages.lib.base.timing import train_seconds

compare_results["training_time"] = [total_train_time_model_0, total_train_time_model_1, train_seconds("model_2")]
print(compare_results.to_string())

# %%
compare_results.set_index("model_name")["model_acc"].plot(kind="barh", figsize=(7, 2.4))
plt.xlabel("accuracy (%)")
plt.ylabel("")
plt.show()

# %% [markdown]
# Better, but at what price? A model that costs more to run is slower on a phone.


# %%
def costs(model):
    """Return what a model consists of and what it computes."""
    return {
        "parameters": sum(weights.numel() for weights in model.parameters()),
        "multiply-adds per image": sum(layer.multiply_adds for layer in trace_layers(model, (1, 28, 28))),
    }


pd.DataFrame([costs(model) for model in (model_0, model_1, model_2)], index=compare_results["model_name"])

# %% [markdown]
# Model 2 has fewer weights than model 0, but uses those of its convolutions at every place of the image. That is where
# its training time goes. [docs/results.md](results.md) says whether the differences are more than chance.

# %% [markdown]
# ## 9. Evaluate the best model
#
# Nine test images, drawn with seed 42, and what model 2 says of them. Softmax turns logits into probabilities, argmax
# takes the likeliest class.

# %%
random.seed(42)
samples = random.sample(range(len(test_data)), k=9)
test_samples = [test_data[index][0] for index in samples]
test_labels = [test_data[index][1] for index in samples]

pred_probs = make_predictions(model=model_2, data=test_samples)
torch.set_printoptions(precision=4, sci_mode=False)
pred_probs[:2]

# %%
pred_classes = pred_probs.argmax(dim=1)
print("predicted:", pred_classes.tolist())
print("true:     ", test_labels)

# %%
plt.figure(figsize=(8, 8.4))
for number, sample in enumerate(test_samples):
    plt.subplot(3, 3, number + 1)
    plt.imshow(sample.squeeze(), cmap="gray")
    predicted, true = class_names[pred_classes[number]], class_names[test_labels[number]]
    plt.title(f"Pred: {predicted}\nTruth: {true}", fontsize=10, color="green" if predicted == true else "red")
    plt.axis("off")
plt.show()

# %% [markdown]
# A picture of your own goes through `pred_and_plot_image`: give it the path of a photo. Here it gets one of the files
# that we wrote in topic 3.

# %%
photo = sorted(image_path.rglob("*.png"))[-1]
plt.figure(figsize=(3, 3))
pred_and_plot_image(model=model_2, image_path=photo, class_names=class_names, device=device)
plt.show()

# %% [markdown]
# ## 10. Confusion matrix
#
# Accuracy is one number. A confusion matrix says what is taken for what. It takes three steps: predict all test images,
# count each pair of true and predicted class, draw. (The course counts with `torchmetrics.ConfusionMatrix` and draws
# with `plot_confusion_matrix` of mlxtend. It is the same matrix.)

# %%
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

predictions = logits_of(model_2).argmax(dim=1)  # 1. predict
counts = confusion_matrix(test_data.targets, predictions)  # 2. count: rows are true, columns predicted
fig, axis = plt.subplots(figsize=(8, 8))  # 3. draw
ConfusionMatrixDisplay(counts, display_labels=class_names).plot(
    ax=axis, cmap="Blues", colorbar=False, xticks_rotation=45
)
plt.show()

# %%
mistakes = counts - np.diag(np.diag(counts))
for place in mistakes.ravel().argsort(kind="stable")[::-1][:5]:
    true, predicted = divmod(int(place), len(class_names))
    print(f"{mistakes[true, predicted]:4} times {class_names[true]} is taken for {class_names[predicted]}")

# %% [markdown]
# The diagonal is what is right. As percentages, beside those of the other models:

# %%
recalls["model_2"] = recall(logits_of(model_2))
recalls

# %% [markdown]
# The confusions make sense: things that are worn on the same part of the body look alike on 28 x 28 pixels. What the
# model hardly ever does is to take a shoe for a shirt.
#
# **Question: when a prediction is wrong, is it the model's fault or the label's?** Look at the mistakes that the model
# is surest of, in `plots/mistakes.png`. In some you would side with the model. Such labels are a limit: no model can
# pass it honestly.

# %% [markdown]
# ## 11. Save and load
#
# What has to be kept of a model are its weights, the `state_dict`. To load them, build the same model and put them in.

# %%
MODEL_SAVE_PATH = Path("data/walkthrough/model_2.pth")
torch.save(obj=model_2.state_dict(), f=MODEL_SAVE_PATH)

loaded_model_2 = FashionMNISTModelV2(input_shape=1, hidden_units=hidden_units, output_shape=len(class_names))
loaded_model_2.load_state_dict(torch.load(f=MODEL_SAVE_PATH, weights_only=True))
loaded_model_2.to(device)
loaded_model_2_results = eval_model(
    model=loaded_model_2, data_loader=test_dataloader, loss_fn=loss_fn, accuracy_fn=accuracy_fn, device=device
)
loaded_model_2_results

# %% [markdown]
# Are these the results from before? Compare floats with `isclose`, not with `==`: another device or batch size may
# change the last digits.

# %%
torch.isclose(
    torch.tensor(model_2_results["model_loss"]), torch.tensor(loaded_model_2_results["model_loss"]), atol=1e-08
)

# %% [markdown]
# The shapes must fit. With other `hidden_units` the weights have no place:

# %%
try:
    FashionMNISTModelV2(input_shape=1, hidden_units=128, output_shape=10).load_state_dict(
        torch.load(f=MODEL_SAVE_PATH, weights_only=True)
    )
except RuntimeError as error:
    print("\n".join(str(error).splitlines()[:3]))

# %% [markdown]
# The pipeline saves its models as `models/model_2.safetensors`. Such a file holds nothing but numbers, so that loading
# one from a stranger can do no harm, and with them what is needed to build the model:

# %%
checkpoint = load_checkpoint("models/model_2.safetensors")
print(checkpoint.name, checkpoint.arch, checkpoint.class_names)

# %% [markdown]
# ## The questions, in short
#
# | question | answer | topic |
# |---|---|---|
# | NCHW or NHWC? | PyTorch's shapes are NCHW; the numbers may lie in memory as NHWC, often faster | 1 |
# | What are batches for? | less memory, and many small steps instead of a single one in each epoch | 3 |
# | Why was the GPU not faster? | the CPU reads the images, and models this small give a GPU little to do | 6 |
# | Does model 1 overfit? | no: a ReLU on its logits kills a class; without it the model is better than model 0 | 6 |
# | Straight lines or curves? | straight lines come far; curves alone add little; looking at shapes adds more | 6, 7 |
# | What does "2d" mean? | the window slides in two directions | 7 |
# | Where do 7 and 7 come from? | 28 is halved by each of two poolings | 7 |
# | Which kernel, stride, padding? | they are hyperparameters: try, or take over what works | 7 |
# | Whose fault is a mistake? | look at it: some labels are open to doubt | 10 |

# %% [markdown]
# ## Where to go from here
#
# - Change one thing and compare: `dvc exp run -S model_1.lr=0.05`, then `make experiments`.
#   [docs/experiments.md](experiments.md) shows more.
# - Write a network of your own: [docs/add_a_model.md](add_a_model.md).
# - All numbers and pictures of the pipeline on one page: `make report`.
# - Classify a photo: `python -m stages.predict shirt.png`.
# - What the lecture calls what is here: [docs/lecture.md](lecture.md). The course's exercises:
#   [docs/exercises.md](exercises.md).
# - When you are stuck: run it, even if you are not sure, and read the last line of the error. Ask for help on a part,
#   `help(nn.Conv2d)`. Look into the [documentation](https://docs.pytorch.org), then ask in the
#   [forum](https://discuss.pytorch.org).
# - To read and to watch: the best-known networks and their ideas
#   ([Dive into Deep Learning](https://d2l.ai/chapter_convolutional-modern/index.html), from AlexNet to ResNet), the
#   networks in [torchvision.models](https://docs.pytorch.org/vision/stable/models.html) and
#   [timm](https://huggingface.co/docs/timm), and the lectures of MIT's
#   [Introduction to Deep Learning](https://introtodeeplearning.com).
