"""One file per architecture. Each has a function `build(hidden_units, num_classes)` that returns its `nn.Module`.

A model takes float32 images `[N, 1, 28, 28]` in [0, 1] and returns float32 logits `[N, num_classes]`. An architecture
imports torch and no other file of the project: DVC knows it by its one file.
"""
