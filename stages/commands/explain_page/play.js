"use strict";
// A convolution or pooling to play with, on a small input of zeros and ones. Computed by the same code as the network.

const OPERATIONS = { Conv2d: "convolution", MaxPool2d: "max pooling", AvgPool2d: "average pooling" };
const INPUTS = {
  "a cross": (row, column, size) => row === column || row + column === size - 1,
  "a bar": (row, column, size) => column === Math.floor(size / 2),
  "a square": (row, column, size) => Math.min(row, column, size - 1 - row, size - 1 - column) >= Math.floor(size / 4),
  "half and half": (row, column, size) => column < size / 2,
  nothing: () => false,
};
const KERNELS = {
  "upright edges": (row, column, size) => Math.sign(column - (size - 1) / 2),
  "level edges": (row, column, size) => Math.sign(row - (size - 1) / 2),
  blur: (row, column, size) => 1 / size ** 2,
  sharpen: (row, column, size) => (isMiddle(row, column, size) ? size ** 2 : -1),
  "leave as it is": (row, column, size) => Number(isMiddle(row, column, size)),
};

function isMiddle(row, column, size) {
  return row === column && row === Math.floor(size / 2);
}

function filled(rule, size) {
  return Float32Array.from({ length: size ** 2 }, (_, index) => rule(Math.floor(index / size), index % size, size));
}

function namesOf(choices) {
  return Object.entries(choices).map(([key, name]) => [key, typeof name === "string" ? name : key]);
}

function buildPlayground() {
  const toy = {
    kind: "Conv2d", size: 7, kernel: 3, stride: 1, padding: 0, input: [], weights: [],
    reads: [0, 0], gives: [0, 0], // the chosen cells of input and output
  };
  const kinds = list(namesOf(OPERATIONS), { change: () => set({ kind: kinds.value }) });
  const inputs = list(namesOf(INPUTS), { change: () => set({}) });
  const kernels = list(namesOf(KERNELS), { change: () => set({}) });
  const explanation = h("p", { class: "soft" });
  const stage = h("div", { class: "sides" });
  const total = h("p", { class: "total", role: "status" });
  byId("playground").append(
    h("div", { class: "toolbar" },
      h("label", {}, "Operation ", kinds), h("label", {}, "Input ", inputs), h("label", {}, "Kernel ", kernels),
      slider("size", "Input size", 3, 12), slider("kernel", "Kernel size", 1, 5), slider("stride", "Stride", 1, 4),
      slider("padding", "Padding", 0, 3)),
    explanation, stage, total);
  set({});

  function slider(key, name, low, high) {
    const value = h("output", {}, toy[key]);
    return h("label", {}, `${name} `, h("input", {
      type: "range", id: `play-${key}`, min: low, max: high, value: toy[key],
      input: (event) => {
        value.textContent = event.target.value;
        set({ [key]: Number(event.target.value) });
      },
    }), value);
  }

  function set(changes) {
    Object.assign(toy, changes);
    if (!("stride" in changes || "padding" in changes || "kind" in changes)) {
      toy.input = filled(INPUTS[inputs.value], toy.size);
      toy.weights = filled(KERNELS[kernels.value], toy.kernel);
    }
    show();
  }

  function show() {
    const left = toy.size + 2 * toy.padding - toy.kernel;
    const side = Math.floor(left / toy.stride) + 1;
    const problem = left < 0 ? "The kernel is larger than the input with its padding: nothing comes out."
      // as in PyTorch: else a window could lie in the padding as a whole
      : toy.kind !== "Conv2d" && 2 * toy.padding > toy.kernel ? "A pooling can have padding of half its kernel at most."
        : "";
    const unread = left % toy.stride;
    explanation.classList.toggle("warn", Boolean(problem));
    explanation.textContent = problem ||
      `Output: (${toy.size} + 2 \u00b7 ${toy.padding} ${MINUS} ${toy.kernel}) // ${toy.stride} + 1 = ${side} for ` +
      "height and width." +
      (unread ? ` The last ${unread === 1 ? "row and column are" : `${unread} rows and columns are`} never read.` : "");
    const focused = document.activeElement?.id;
    stage.replaceChildren();
    total.replaceChildren();
    if (!problem) compute(side);
    if (focused) byId(focused)?.focus(); // what is built again may have had it
  }

  function compute(side) {
    const both = (size) => [size, size];
    const layer = {
      kind: toy.kind, shape: [1, side, side], weight: toy.weights, groups: 1, count_padding: true,
      kernel: both(toy.kernel), stride: both(toy.stride), padding: both(toy.padding), dilation: [1, 1],
    };
    const input = { shape: [1, toy.size, toy.size], values: toy.input };
    const values = COMPUTE[toy.kind](layer, input);
    const outer = toy.size + 2 * toy.padding;
    const isInside = (row, column) => Math.min(row, column) >= 0 && Math.max(row, column) < toy.size;
    const inputGrid = numberGrid(outer, outer ** 2, "input", 0);
    const outputGrid = numberGrid(side, side ** 2, "output", 2);
    choosable(inputGrid, both(toy.size), () => toy.reads, chooseInput, both(toy.padding));
    choosable(outputGrid, both(side), () => toy.gives, chooseOutput);
    inputGrid.id = "play-input";
    inputGrid.addEventListener("click", flip);
    inputGrid.addEventListener("keydown", (event) => {
      if (event.key !== " " && event.key !== "Enter") return;
      event.preventDefault();
      flip();
    });
    toy.reads = toy.reads.map((place) => Math.min(place, toy.size - 1));
    toy.gives = toy.gives.map((place) => Math.min(place, side - 1));
    stage.replaceChildren(
      picture(inputGrid, `Input, ${times(toy.size, toy.size)}${toy.padding ? " and its padding" : ""}`),
      ...(toy.kind === "Conv2d" ? [picture(kernelGrid(), "Kernel")] : []),
      picture(outputGrid, `Output, ${times(side, side)}`));
    mark();

    function kernelGrid() {
      const look = { class: "cells inputs", style: `--columns: ${toy.kernel}` };
      return h("div", { ...look, role: "group", "aria-label": "kernel" }, Array.from(toy.weights, (weight, index) =>
        h("input", {
          type: "number", step: "any", id: `play-weight-${index}`, "aria-label": `weight ${index}`,
          value: Number(weight.toFixed(4)),
          change: (event) => {
            toy.weights[index] = Number(event.target.value);
            show();
          },
        })));
    }

    function chooseInput(...place) {
      toy.reads = place;
      mark();
    }

    function chooseOutput(...place) {
      toy.gives = place;
      mark();
    }

    function flip() {
      const index = toy.reads[0] * toy.size + toy.reads[1];
      toy.input[index] = 1 - toy.input[index];
      show();
    }

    function mark() {
      const [row, column] = toy.gives;
      const cells = windowCells(layer, input.shape, row, column);
      const read = cells.map((cell) => (cell.inside ? toy.input[cell.index] : 0));
      const value = values[row * side + column];
      const places = Array.from({ length: outer ** 2 }, (_, index) =>
        [Math.floor(index / outer) - toy.padding, (index % outer) - toy.padding]);
      inputGrid.show(places.map(([y, x]) => (isInside(y, x) ? toy.input[y * toy.size + x] : 0)), 1, true);
      inputGrid.places.forEach((place, index) => {
        const [y, x] = places[index];
        place.classList.toggle("outside", !isInside(y, x));
        place.classList.toggle("chosen", cells.some((cell) => cell.row === y && cell.column === x));
        place.classList.toggle("at", y === toy.reads[0] && x === toy.reads[1]);
      });
      outputGrid.show([...values], largest(values));
      outputGrid.places.forEach((place, index) => place.classList.toggle("chosen", index === row * side + column));
      inputGrid.setAttribute("aria-label", `Input, row ${toy.reads[0]}, column ${toy.reads[1]}: ` +
        `${toy.input[toy.reads[0] * toy.size + toy.reads[1]]}; the space bar or a click changes it`);
      outputGrid.setAttribute("aria-label", `Output, row ${row}, column ${column}: ${number(value)}`);
      const terms = {
        Conv2d: () => read.map((each, index) => `${each} \u00b7 ${number(toy.weights[index], 2)}`).join(" + "),
        MaxPool2d: () => `the largest of ${read.filter((_, index) => cells[index].inside).join(", ")}`,
        AvgPool2d: () => `(${read.join(" + ")}) / ${cells.length}`,
      }[toy.kind]();
      total.replaceChildren(`row ${row}, column ${column}: ${terms} = `, h("strong", {}, figure(value)));
    }
  }
}
