"use strict";
// The weights of each layer as pictures, before training and after.

const SHEET = 250; // pixels that a picture of all kernels is wide

function buildSheets() {
  layers.forEach((layer, index) => layer.weight && byId("sheets").append(sheetsOf(layer, index + 1)));
}

// All kernels of a layer: a row for each unit and a column for each map that it reads. Where it reads but one, the
// pictures of the units stand in a block twice as wide as high. A linear layer has a kernel for each flattened map.
function sheetsOf(layer, step) {
  const units = layer.shape[0];
  const [height, width] = layer.kernel ?? mapsBehind(step).slice(1);
  const parts = layer.weight.length / units / (height * width);
  const across = Math.ceil(Math.sqrt(2 * units));
  const [rows, columns] = parts === 1 ? [Math.ceil(units / across), across] : [units, parts];
  const gap = height * width > 1 ? 1 : 0;
  const scale = Math.max(largest(layer.weight), largest(layer.weight_before));
  const chosen = [0, 0];
  const sides = [["Before", layer.weight_before], ["After", layer.weight]].map(([when, weights]) => {
    const sheet = spread(weights, [rows, columns], [height, width], gap);
    const view = mapView(sheet.values, sheet.size, { scale, label: when, size: Math.min(SHEET, 16 * sheet.size[1]) });
    return { when, weights, view: choosable(view, [rows, columns], () => chosen, show) };
  });
  const numbers = h("div", { class: "sums" });
  show(0, 0);

  function show(row, column) {
    const tile = row * columns + column;
    if (tile >= units * parts) return;
    [chosen[0], chosen[1]] = [row, column];
    const reads = layer.kernel || height * width > 1 ? "map" : "input";
    const read = isGrey(step - 1) && CHANNELS.length > 1 ? CHANNELS[column] : `${reads} ${column}`;
    const name = parts === 1 ? unitName(step, tile) : `${unitName(step, row)}, weights for ${read}`;
    for (const { when, view } of sides) {
      view.mark(row * (height + gap), column * (width + gap), height, width);
      view.setAttribute("aria-label", `${titleOf(step)}, ${when.toLowerCase()} training: ${name}`);
    }
    const cells = [tile * height * width, (tile + 1) * height * width];
    numbers.replaceChildren(h("b", {}, name),
      ...sides.map(({ when, weights }) => h("span", { class: "part" }, when, tileView(weights.subarray(...cells)))));
  }

  function tileView(weights) {
    return height * width <= 25
      ? numberGrid(width, height * width, "weights").show([...weights], scale)
      : mapView(weights, [height, width], { scale, label: "weights", size: 140 });
  }

  const moved = layer.weight.map((weight, index) => weight - layer.weight_before[index]);
  return h("div", { class: "sheet" },
    h("h3", {}, `${titleOf(step)}: ${plural(layer.weight.length, "weight")}`),
    h("p", { class: "soft" }, `Typical size (root mean square) ${number(typical(layer.weight_before), 3)} before, ` +
      `${number(typical(layer.weight), 3)} after; training moved them by ${number(typical(moved), 3)}. ` +
      (parts === 1 ? "One picture for each unit." : "A row for each unit, a column for what it reads.")),
    h("div", { class: "sides" }, sides.map(({ when, view }) => picture(view, when))), numbers);
}

// Spread kernels out on a sheet, a gap between them.
function spread(weights, [rows, columns], [height, width], gap) {
  const size = [rows * (height + gap) - gap, columns * (width + gap) - gap];
  const values = new Float32Array(size[0] * size[1]).fill(NaN);
  weights.forEach((weight, index) => {
    const [tile, cell] = [Math.floor(index / (height * width)), index % (height * width)];
    const row = Math.floor(tile / columns) * (height + gap) + Math.floor(cell / width);
    values[row * size[1] + (tile % columns) * (width + gap) + (cell % width)] = weight;
  });
  return { size, values };
}

function typical(weights) {
  return Math.sqrt(sum(weights.map((weight) => weight ** 2)) / weights.length);
}
