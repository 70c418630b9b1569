"""One file per architecture, each with a function `build(input_shape, hidden_units, num_classes)` that returns a model.

A model is an `nn.Module` that takes float32 images `[N, C, H, W]` in [0, 1] and returns float32 logits
`[N, num_classes]`. `input_shape` is (C, H, W): channels, height, width, which are (1, 28, 28) for FashionMNIST. An
architecture imports torch and no other file of the project: DVC knows it by its one file.
"""
