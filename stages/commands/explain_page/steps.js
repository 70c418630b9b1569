"use strict";
// Each kind of step in detail: how the numbers that go in become the numbers that come out. A function for each kind
// gives its elements, and may set showPlace, which is called whenever another place of the map is chosen.

const MOST_PARTS = 32; // rows of numbers in a step; the rest of a sum is one number
const MOST_OUTPUTS = 16; // columns of a table of contributions
const LARGE = 224; // pixels that a map is wide
const SMALL = 84;
const TINY = 64;

const STEPS = {
  Image(view) {
    const image = images[state.image];
    const [channels, height, width] = IMAGE;
    const pixels = unitOf(view.output, view.unit);
    const output = outputView(view, 280, `${times(height, width)} pixels`);
    const around = numberGrid(7, 49, "the pixels around that place", 2);
    const text = h("p", { role: "status" });
    showPlace = () => {
      const cells = Array.from({ length: 49 }, (_, index) =>
        [state.row + Math.floor(index / 7) - 3, state.column + (index % 7) - 3]);
      const isInside = ([row, column]) => row >= 0 && row < height && column >= 0 && column < width;
      const values = cells.map((cell) => (isInside(cell) ? pixels[cell[0] * width + cell[1]] : 0));
      output.show();
      around.show(values, 1, true);
      around.places.forEach((place, index) => {
        place.classList.toggle("outside", !isInside(cells[index]));
        place.classList.toggle("chosen", index === 24);
      });
      text.replaceChildren(`${placeText()}: ${Math.round(values[24] * 255)} / 255 = `, figure(values[24]));
    };
    return [
      h("p", {}, (channels === 1 ? `One grey channel of ${times(height, width)} pixels. ` +
        "Each is a whole number from 0 (black) to 255 (white), "
        : `Three channels, red, green and blue, of ${times(height, width)} pixels each. ` +
        "Each is a whole number from 0 (none of this colour) to 255 (all of it), ") +
        "divided by 255: the network reads numbers from 0 to 1."),
      channels > 1 ? toolbar(view) : [],
      h("div", { class: "sides" },
        image.photo ? picture(h("img", { src: image.photo, alt: image.name }), `${image.name} as it is. The network ` +
          `sees it ${image.how}.`) : [],
        channels > 1 ? picture(h("div", { class: "map", style: `width: 280px; aspect-ratio: ${width} / ${height}` },
          imageOf(image.values, IMAGE)), "The channels together") : [],
        output, picture(around, text)),
    ];
  },

  Conv2d(view) {
    const { step, unit, layer, input } = view;
    const channels = channelsOf(layer, input, unit);
    const shown = channels.slice(0, MOST_PARTS);
    const cells = layer.kernel[0] * layer.kernel[1];
    const nameOf = (channel) => (step === 1 ? CHANNELS[channel] : `map ${channel}`);
    const output = outputView(view, LARGE);
    const rows = shown.map((channel) => channelRow(view, channel, nameOf(channel), shown.length === 1 ? 196 : SMALL));
    const total = totalLine();
    const heaviest = largest(layer.weight);
    showPlace = () => {
      const terms = convolutionTerms(layer, input, unit, state.row, state.column);
      const most = largest(terms.channels.flatMap((each) => each.products));
      output.show();
      rows.forEach((row, index) => row.show(terms.channels[index], terms.cells, heaviest, most));
      const named = shortened(terms.channels, (each) => nameOf(each.channel));
      total.show(sumLine([...named, [terms.bias, "bias"]]), " = ",
        h("strong", {}, figure(terms.value)));
    };
    const one = channels.length === 1;
    const what = step === 1 ? "channel" : "map";
    return [
      h("p", {}, `A window of ${times(...layer.kernel)} slides over ` +
        `${one ? "the input" : `each of ${channels.length} ${what}s`}. At each place the ${plural(cells, "value")} under ` +
        `it are multiplied by the weights of the kernel${one ? "" : ` for that ${what}`}. All products and the bias ` +
        "add up to one value of the output." +
        (Math.max(...layer.padding) ? " The hatched border is padding: zeros." : "")),
      sizeFormula(layer, input), toolbar(view, { slides: true }),
      h("div", { class: "convolution" }, output, total,
        h("div", { class: "channels" },
          h("p", { class: "soft" },
            "Input, then the values under the window \u00d7 the kernel = the products \u2192 their sum"),
          rows,
          moreLine(channels.length, "maps"))),
    ];
  },

  ReLU(view) {
    const { step, unit, input, output } = view;
    const what = h("p", {}, "What is below 0 becomes 0, what is above stays. Without it, two linear or convolution " +
      "layers in a row could do no more than one: a sum of sums is a sum.");
    if (!isMaps(output)) {
      const rows = Array.from(input.values, (value, index) => [
        unitName(step, index), valueCell(value, view.from.scale), valueCell(output.values[index], view.to.scale)]);
      return [what, toolbar(view), table(["", "before", "after"], rows, unit)];
    }
    const [, height, width] = output.shape;
    const values = unitOf(input, unit);
    const before = choosable(mapView(values, [height, width], { ...view.from, label: "before", size: LARGE }),
      [height, width], () => [state.row, state.column], choosePlace);
    const after = outputView(view, LARGE, "After");
    const total = totalLine();
    showPlace = () => {
      const value = values[state.row * width + state.column];
      before.mark(state.row, state.column, 1, 1);
      before.setAttribute("aria-label", `Before, ${placeText()}: ${number(value)}`);
      after.show();
      total.show("max(0, ", figure(value), ") = ", h("strong", {}, figure(Math.max(0, value))));
    };
    const below = values.filter((value) => value < 0).length;
    return [
      what, h("p", { class: "soft" }, `${below} of ${values.length} values of this map are below 0.`), toolbar(view),
      h("div", { class: "sides" }, picture(before, "Before"), after), total,
    ];
  },

  MaxPool2d(view) {
    return poolStep(view, "The largest value under the window stays, the others are forgotten. A pattern may then " +
      "lie a little further on and still be found, and the layers that follow have less to compute.");
  },

  AvgPool2d(view) {
    return poolStep(view, "The output is the mean of the values under the window: a smaller and smoother map.");
  },

  Flatten(view) {
    const { input, output } = view;
    const length = output.values.length;
    if (!isMaps(input)) return h("p", {}, "The values stand in one row already.");
    const [channels, height, width] = input.shape;
    const maps = Array.from({ length: Math.min(channels, MOST_PARTS) }, (_, channel) =>
      mapView(unitOf(input, channel), [height, width], { ...view.from, label: unitName(view.step - 1, channel), size: TINY }));
    const strongest = output.values.indexOf(highest(output.values));
    const slider = h("input", {
      type: "range", id: "index", min: 0, max: length - 1, value: strongest, "aria-label": "place in the row",
      input: () => showPlace(),
    });
    const total = totalLine("");
    showPlace = () => {
      const index = Number(slider.value);
      const channel = Math.floor(index / (height * width));
      const [row, column] = [Math.floor(index / width) % height, index % width];
      maps.forEach((map, other) => map.mark(row, column, Number(other === channel), 1));
      total.show(`Number ${index} of the row is ${unitName(view.step - 1, channel)}, row ${row}, column ${column}: ` +
        `${channel} \u00b7 ${height * width} + ${row} \u00b7 ${width} + ${column} = ${index}. Its value is `,
      figure(output.values[index]));
    };
    return [
      h("p", {}, `Writes ${plural(channels, "map")} of ${times(height, width)} into one row: ` +
        `${times(channels, height, width)} = ${length} numbers, the feature vector that a linear layer can read. ` +
        "Nothing is computed."),
      h("div", { class: "flattened" }, maps),
      canvasOf(thinned(output.values), 1, thinned(output.values).length, { ...view.to, class: "strip", role: "img", "aria-label": "the row" }), slider,
      total,
    ];
  },

  Linear(view) {
    const { step, unit, layer, input } = view;
    const shape = mapsBehind(step);
    const [parts, height, width] = shape;
    const partName = (part) =>
      (height * width === 1 ? unitName(step - 1, part) : mapName(step, part, parts));
    const terms = linearTerms(layer, input, unit, parts);
    const ranked = terms.sums.map((value, part) => ({ part, sum: value }));
    ranked.sort((first, second) => Math.abs(second.sum) - Math.abs(first.sum));
    return [
      h("p", {}, `Each of the ${plural(layer.shape[0], "output")} is a sum: all ` +
        `${plural(input.values.length, "input")}, each multiplied by a weight of its own, and a bias.` +
        (isClasses(step) ? " The output for a class is its logit: the larger, the likelier." : "")),
      toolbar(view),
      layer.shape[0] <= MOST_OUTPUTS && parts > 1 ? contributions(view, parts, partName) : [],
      h("h3", {}, `How ${unitName(step, unit)} comes about`),
      h("p", { class: "total" },
        sumLine([...shortened(ranked, ({ part }) => partName(part)), [terms.bias, "bias"]]), " = ",
        h("strong", {}, figure(terms.value))),
      partTable(view, terms, ranked.slice(0, MOST_PARTS), shape, partName),
      moreLine(parts, "smaller ones"),
    ];
  },

  Softmax({ unit }) {
    const { most, powers, total, probabilities } = softmaxTerms(logits());
    const rows = Array.from(logits(), (logit, index) => [
      data.classes[index], valueCell(logit), valueCell(powers[index]), valueCell(probabilities[index]),
      h("td", {}, bar(probabilities[index], 1), percent(probabilities[index]))]);
    return [
      h("p", {}, "Logits can be any numbers. Softmax makes of them probabilities, which are above 0 and add up to 1: " +
        "e to the power of each logit, divided by the sum of all these powers. The largest logit is taken away " +
        "first: that changes no probability."),
      h("p", { class: "total" }, "power = exp(logit \u2212 ", figure(most), "), probability = power / ", figure(total)),
      table(["", "logit", "power", "probability", ""], rows, unit),
    ];
  },
};

// A step that the page cannot compute: its maps alone.
function storedStep({ step, unit, output, to }) {
  const [, ...size] = output.shape;
  return [
    h("p", {}, `How it is computed is not shown: ${data.reason}.`), toolbar({ step, unit, output }),
    isMaps(output)
      ? mapView(unitOf(output, unit), size, { ...to, label: stepTitle(step, unit), size: 280 })
      : table(["", ""], Array.from(output.values, (value, index) =>
        [unitName(step, index), h("td", {}, bar(value, to.scale))]), unit),
  ];
}

function poolStep(view, what) {
  const { unit, layer, input } = view;
  const values = unitOf(input, unit);
  const wins = layer.kind === "MaxPool2d";
  const before = inputView(view, unit, LARGE);
  const after = outputView(view, LARGE);
  const grid = numberGrid(layer.kernel[1], layer.kernel[0] * layer.kernel[1], "values under the window");
  const total = totalLine();
  showPlace = () => {
    const cells = windowCells(layer, input.shape, state.row, state.column);
    const inside = cells.filter((cell) => cell.inside);
    const read = inside.map((cell) => values[cell.index]);
    const winner = wins ? inside[read.indexOf(Math.max(...read))] : undefined;
    before.show();
    after.show();
    grid.show(cells.map((cell) => (cell.inside ? values[cell.index] : 0)), view.from.scale, view.from.grey);
    grid.places.forEach((place, index) => {
      place.classList.toggle("outside", !cells[index].inside);
      place.classList.toggle("chosen", cells[index] === winner);
    });
    if (wins) {
      total.show("the largest of ", read.flatMap((value, index) => [index ? ", " : "", figure(value)]), " is ",
        h("strong", {}, figure(Math.max(...read))), `, from row ${winner.row}, column ${winner.column}`);
    } else {
      const divisor = divisorOf(layer, input.shape, cells);
      total.show("(", sumLine(read.map((value) => [value, ""])), `) / ${divisor} = `,
        h("strong", {}, figure(sum(read) / divisor)));
    }
  };
  return [h("p", {}, what), sizeFormula(layer, input), toolbar(view, { slides: true }),
    h("div", { class: "sides" }, picture(before, "Input"),
      picture(grid, wins ? "Under the window: the framed one stays" : "Under the window"), after), total];
}

// ---- Parts of steps ----

function placeText() {
  return `row ${state.row}, column ${state.column}`;
}

// The line in which the numbers become one. A screen reader reads it out, but not while the window slides by itself.
function totalLine(begin = () => `${placeText()}: `) {
  const element = h("p", { class: "total", role: "status" });
  element.show = (...content) => {
    element.setAttribute("aria-live", timer ? "off" : "polite");
    element.replaceChildren(...[begin && begin(), ...content].flat(Infinity));
  };
  return element;
}

// A list of all units of the step, and buttons that change the place in its map.
function toolbar({ step, unit, output }, { slides = false } = {}) {
  const units = list(Array.from({ length: unitsOf(step) }, (_, other) => [other, unitName(step, other)]),
    { id: "unit", change: () => chooseUnit(step, Number(units.value)) });
  units.value = unit;
  const button = (id, text, click) => h("button", { type: "button", id, click }, text);
  return h("p", { class: "toolbar no-print" }, h("label", {}, "Unit ", units),
    slides ? button("slide", "\u25b6 Slide", slideOrPause) : [],
    isMaps(output) && !data.reason
      ? button("strongest", "Strongest place", () => choosePlace(...Object.values(strongestPlace()))) : []);
}

// The map that the step gives, where a place can be chosen. While the window slides, what is to come stays hidden.
function outputView({ step, unit, output, to }, size, name = `Output, ${times(...output.shape.slice(1))}`) {
  const [, height, width] = output.shape;
  const values = unitOf(output, unit);
  const view = choosable(mapView(values, [height, width], { ...to, label: stepTitle(step, unit), size }),
    [height, width], () => [state.row, state.column], choosePlace);
  const caption = h("span");
  const element = picture(view, caption);
  element.show = () => {
    const value = values[state.row * width + state.column];
    view.mark(state.row, state.column, 1, 1);
    view.hideAfter(timer ? state.row : height, timer ? state.column : width);
    view.setAttribute("aria-label", `${stepTitle(step, unit)}, ${placeText()}: ${number(value)}`);
    caption.replaceChildren(`${name}; ${placeText()}: `, figure(value));
  };
  return element;
}

// A map that the step reads, with the window on it. A click moves the middle of the window there.
function inputView({ layer, input, output, from }, channel, size) {
  const [, height, width] = input.shape;
  const view = mapView(unitOf(input, channel), [height, width],
    { ...from, label: `input ${channel}`, size, border: layer.padding });
  const reach = layer.kernel.map((kernel, axis) => (kernel - 1) * layer.dilation[axis] + 1);
  view.addEventListener("pointerdown", (event) => {
    const cell = cellUnder(event, view, [height, width], layer.padding);
    choosePlace(...cell.map((place, axis) => {
      const first = place + layer.padding[axis] - (reach[axis] - 1) / 2;
      return clamp(Math.round(first / layer.stride[axis]), 0, output.shape[axis + 1] - 1);
    }));
  });
  view.show = () => view.mark(
    state.row * layer.stride[0] - layer.padding[0], state.column * layer.stride[1] - layer.padding[1], ...reach);
  return view;
}

// What a convolution does with one of its input maps.
function channelRow(view, channel, name, size) {
  const { layer } = view;
  const map = inputView(view, channel, size);
  const cells = layer.kernel[0] * layer.kernel[1];
  const [values, weights, products] = ["values", "weights", "products"].map((what) =>
    numberGrid(layer.kernel[1], cells, `${what}, ${name}`));
  const result = h("span", { class: "result" });
  const signs = ["", "\u00d7", "=", "\u2192"];
  const parts = [values, weights, products, result].map((part, index) =>
    h("span", { class: "part" }, h("i", {}, signs[index]), part));
  const row = h("div", { class: "channel" }, picture(map, name), h("div", { class: "sums" }, parts));
  row.show = (terms, window, heaviest, most) => {
    map.show();
    values.show(terms.values, view.from.scale, view.from.grey);
    values.places.forEach((place, index) => place.classList.toggle("outside", !window[index].inside));
    weights.show(terms.weights, heaviest);
    products.show(terms.products, most);
    result.replaceChildren("sum ", figure(terms.sum));
  };
  return row;
}

// How the size of an output comes about; without the formula where it does not hold, as with dilation.
function sizeFormula(layer, input) {
  const [height, width] = [0, 1].map((axis) => {
    const size = input.shape[axis + 1];
    const [kernel, stride, padding] = [layer.kernel[axis], layer.stride[axis], layer.padding[axis]];
    const result = Math.floor((size + 2 * padding - kernel) / stride) + 1;
    const formula = `(${size} + 2 \u00b7 ${padding} ${MINUS} ${kernel}) // ${stride} + 1 = ${result}`;
    return result === layer.shape[axis + 1] && formula;
  });
  const both = height === width ? `: ${height} for height and width`
    : `: ${height} for the height, ${width} for the width`;
  return h("p", { class: "soft" }, `Kernel ${times(...layer.kernel)}, stride ${times(...layer.stride)}, ` +
    `padding ${times(...layer.padding)}${height && width ? both : ""}.`);
}

// The first parts of a sum with their names, and all others as one.
function shortened(parts, nameOf) {
  const rest = parts.slice(MOST_PARTS);
  const shown = parts.slice(0, MOST_PARTS).map((part) => [part.sum, nameOf(part)]);
  return rest.length ? [...shown, [sum(rest.map((part) => part.sum)), `${rest.length} others`]] : shown;
}

function moreLine(parts, what) {
  return parts > MOST_PARTS ? h("p", { class: "soft" }, `And ${parts - MOST_PARTS} ${what}.`) : [];
}

// The shape of the maps that were flattened into the vector that a linear layer reads: of a map for each number if
// none were.
function mapsBehind(step) {
  let before = step - 1;
  while (kindOf(before) === "ReLU" && !isMaps(outputs[before])) before--;
  const flattened = kindOf(before) === "Flatten" ? outputs[before - 1] : undefined;
  return flattened && isMaps(flattened) ? flattened.shape : [outputs[step - 1].shape[0], 1, 1];
}

// A row for each part of the sum of a linear unit: the largest first, as pictures of maps or as numbers.
function partTable({ layer, input, from }, terms, ranked, [parts, height, width], partName) {
  const plane = height * width;
  const [heaviest, largestProduct, most] = [layer.weight, terms.products, terms.sums].map(largest);
  const result = (value) => h("td", {}, bar(value, most), figure(value));
  if (plane === 1) {
    return table(["", "input", "\u00d7 weight", "= product"], ranked.map(({ part, sum: value }) => [
      partName(part), valueCell(input.values[part], from.scale), valueCell(terms.weights[part], heaviest),
      result(value)]));
  }
  const map = (values, part, colours, what) => h("td", {},
    mapView(values.subarray(part * plane, (part + 1) * plane), [height, width],
      { ...colours, label: `${partName(part)}: ${what}`, size: parts === 1 ? 168 : TINY }));
  return table(["", "map", "\u00d7 weights", "= products", "sum"], ranked.map(({ part, sum: value }) => [
    partName(part), map(input.values, part, from, "values"), map(terms.weights, part, { scale: heaviest }, "weights"),
    map(terms.products, part, { scale: largestProduct }, "products"), result(value)]));
}

// What a linear layer calls a map behind the vector that it reads.
function mapName(step, part, parts) {
  if (isGrey(step - 1) && CHANNELS.length > 1) return CHANNELS[part];
  return parts === 1 ? "image" : `map ${part}`;
}

// What each map gives to each class: the products of its values with the weights of the class, added up.
function contributions({ step, unit, layer, input }, parts, partName) {
  const units = Array.from({ length: layer.shape[0] }, (_, other) => linearTerms(layer, input, other, parts));
  const scale = largest(units.flatMap((terms) => terms.sums));
  const button = (other) => h("button",
    { type: "button", id: `column${other}`, click: () => chooseUnit(step, other) }, unitName(step, other));
  const heads = units.map((_, other) => h("th", { scope: "col", class: other === unit && "chosen" }, button(other)));
  const row = (name, valueOf, rowScale) => h("tr", {}, h("th", { scope: "row" }, name), units.map((terms, other) =>
    valueCell(valueOf(terms), rowScale, { digits: 2, chosen: other === unit })));
  const shown = Array.from({ length: Math.min(parts, MOST_PARTS) }, (_, part) => part);
  return [
    h("h3", {}, `What each ${isGrey(step - 1) ? "channel" : partName(0).split(" ")[0]} gives to each ${isClasses(step) ? "class" : "unit"}`),
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "contributions" },
      h("table", { class: "contributions" },
        h("caption", {}, "Red speaks for it, blue against it. Each column adds up to its last row."),
        h("thead", {}, h("tr", {}, h("td"), heads)),
        h("tbody", {}, shown.map((part) => row(partName(part), (terms) => terms.sums[part], scale)),
          parts > MOST_PARTS ? row("others", (terms) => sum(terms.sums.slice(MOST_PARTS)), scale) : [],
          row("bias", (terms) => terms.bias)),
        h("tfoot", {}, row("sum", (terms) => terms.value)))),
  ];
}
