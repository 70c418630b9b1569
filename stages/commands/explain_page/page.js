"use strict";
// The page as a whole. Three things decide what is shown: the image, the unit of the step, and the place in its map.
// Step 0 is the image, then come the layers, and softmax is the last step. Runs last: it has the data, and begins.

const MOST_UNITS = 16; // of a layer in the overview; the list in the step has all of them

const data = JSON.parse(byId("data").textContent);
const layers = data.layers.map((layer) => ({
  ...layer,
  weight: floatsOf(layer.weight),
  bias: floatsOf(layer.bias),
  weight_before: floatsOf(layer.weight_before),
}));
const images = data.images.map((image) => ({
  ...image,
  values: Float32Array.from(bytesOf(image.pixels), (byte) => byte / 255),
}));
const SOFTMAX = layers.length + 1;
const IMAGE = data.input_shape; // channels, height, width
const CHANNELS = IMAGE[0] === 3 ? ["red", "green", "blue"] : ["image"];

const state = { image: 0, step: 1, unit: 0, row: 0, column: 0 };
let outputs; // the image, and what each layer makes of it
let showPlace; // puts the numbers of the chosen place into the step that is shown

// ---- What the steps are called ----

function layerOf(step) {
  return layers[step - 1];
}

function kindOf(step) {
  return step === 0 ? "Image" : step === SOFTMAX ? "Softmax" : layerOf(step).kind;
}

// A function of the forward pass, such as torch.relu, is a layer without a name.
function titleOf(step) {
  return [layerOf(step)?.name, kindOf(step)].filter(Boolean).join(" ");
}

function isMaps(stack) {
  return stack.shape.length === 3;
}

// The map of a unit, or its one value.
function unitOf(stack, unit) {
  const size = isMaps(stack) ? stack.shape[1] * stack.shape[2] : 1;
  return stack.values.subarray(unit * size, (unit + 1) * size);
}

function stackOf(step) {
  if (step < SOFTMAX) return outputs[step];
  return { shape: [data.classes.length], values: softmaxTerms(logits()).probabilities };
}

function unitsOf(step) {
  return stackOf(step).shape[0];
}

// Whether the units of a step stand for the classes: those of the last linear layer and of what follows it.
function isClasses(step) {
  const last = layers.findLastIndex((layer) => layer.kind === "Linear") + 1;
  return step >= last && unitsOf(step) === data.classes.length && !isMaps(stackOf(step));
}

function unitName(step, unit) {
  if (isClasses(step)) return data.classes[unit];
  if (!isMaps(stackOf(step))) return `unit ${unit}`;
  return isGrey(step) && CHANNELS.length > 1 ? CHANNELS[unit] : `map ${unit}`;
}

function stepTitle(step, unit) {
  const whole = ["Image", "Flatten", "Softmax"].includes(kindOf(step)) && !(step === 0 && CHANNELS.length > 1);
  return whole ? titleOf(step) : `${titleOf(step)}, ${unitName(step, unit)}`;
}

// The step on whose scale a step is drawn. ReLU, pooling and the like take that of the layer before: they make no value
// larger.
function originOf(step) {
  const own = data.reason || step === 0 || ["Conv2d", "Linear", "Softmax"].includes(kindOf(step));
  return own ? step : originOf(step - 1);
}

function isGrey(step) {
  return originOf(step) === 0;
}

function scaleOf(step) {
  const origin = originOf(step);
  if (origin === 0 || origin === SOFTMAX) return 1;
  return data.reason ? layerOf(step).largest[state.image] || 1 : largest(outputs[origin].values);
}

// The logits, computed here; PyTorch's where the page cannot compute them.
function logits() {
  return data.reason ? images[state.image].logits : outputs.at(-1).values;
}

// Where the page cannot compute the maps, it has them in 8 bits, and only some of each layer.
function storedOutputs(index) {
  const stored = layers.map((layer) => {
    const all = new Int8Array(bytesOf(layer.maps).buffer);
    const length = all.length / images.length;
    const part = all.subarray(index * length, (index + 1) * length);
    return {
      shape: [length / count(layer.size), ...layer.size],
      values: Float32Array.from(part, (value) => (value / 127) * layer.largest[index]),
    };
  });
  return [{ shape: IMAGE, values: images[index].values }, ...stored];
}

// ---- An image ----

const GROUPS = { photo: "Your own", classes: "One of each class", mistakes: "The most confident mistakes" };

function buildImages() {
  for (const [group, title] of Object.entries(GROUPS)) {
    const members = images.filter((image) => image.group === group);
    if (members.length) byId("images").append(h("fieldset", {}, h("legend", {}, title), members.map(thumbnail)));
  }
}

function predictedClass(values) {
  return values.indexOf(Math.max(...values));
}

function thumbnail(image) {
  const index = images.indexOf(image);
  const predicted = predictedClass(image.logits);
  const wrong = image.label !== null && predicted !== image.label;
  return h("label", { class: "thumbnail" },
    h("input", { type: "radio", name: "image", value: index, checked: index === 0, change: () => chooseImage(index) }),
    imageOf(image.values, IMAGE),
    h("span", {}, image.label === null ? image.name : data.classes[image.label]),
    wrong ? h("span", { class: "wrong" }, `taken for ${data.classes[predicted]}`) : []);
}

function chooseImage(index) {
  const image = images[index];
  stopSliding();
  state.image = index;
  outputs = data.reason ? storedOutputs(index) : outputsOf(layers, { shape: IMAGE, values: image.values });
  const { probabilities } = softmaxTerms(logits());
  const predicted = predictedClass(probabilities);
  byId("verdict").replaceChildren(
    `${image.name}: ${data.model} says `, h("strong", {}, data.classes[predicted]),
    `, ${percent(probabilities[predicted])}. `,
    image.label === null ? ""
      : image.label === predicted ? h("span", { class: "right" }, "\u2713 That is right.")
        : h("span", { class: "wrong" }, `\u2717 It is labelled ${data.classes[image.label]}.`));
  compareWithPyTorch(image);
  buildNetwork();
  chooseUnit(state.step, state.unit, { strongest: true });
}

// Say at the end of the page how far our logits are from PyTorch's: float32 rounds each sum a little, in either.
function compareWithPyTorch(image) {
  const difference = Math.max(...image.logits.map((logit, unit) => Math.abs(logit - logits()[unit])));
  const agree = difference <= 1e-4 * Math.max(1, largest(image.logits));
  byId("proof").dataset.difference = difference;
  byId("proof").classList.toggle("warn", !agree);
  byId("proof").textContent = data.reason
    ? "The logits are PyTorch's."
    : "Every number was computed here, in your browser, from the weights of the trained model. The logits of this " +
      `image differ from PyTorch's by ${difference.toExponential(1)} at most` +
      (agree ? "." : ": something is wrong with this page.");
}

// ---- The network ----

function buildNetwork() {
  const lines = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  lines.id = "lines";
  lines.setAttribute("aria-hidden", "true");
  byId("network").replaceChildren(lines, ...Array.from({ length: SOFTMAX + 1 }, (_, step) => networkColumn(step)));
}

// How a step is drawn in the overview; also its style.
function lookOf(step) {
  if (["Image", "Flatten", "Softmax"].includes(kindOf(step))) return kindOf(step).toLowerCase();
  return isMaps(stackOf(step)) ? "maps" : isClasses(step) ? "classes" : "numbers";
}

function networkColumn(step) {
  const look = lookOf(step);
  const all = layerOf(step)?.shape ?? stackOf(step).shape;
  const most = look === "flatten" ? 1 : ["classes", "softmax"].includes(look) ? Infinity : MOST_UNITS;
  const units = Math.min(unitsOf(step), most);
  const more = look === "flatten" ? 0 : all[0] - units;
  return h("div", { class: `layer ${look}`, role: "group", "aria-label": titleOf(step) },
    h("div", { class: "title" },
      h("span", {}, layerOf(step)?.name ?? ""), h("b", {}, kindOf(step)),
      h("span", { class: "soft" }, all.join("\u00d7")),
      h("span", { class: "soft" },
        isGrey(step) || step === SOFTMAX ? "0 to 1" : `\u00b1${scaleOf(step).toPrecision(3)}`)),
    h("div", { class: "units" },
      Array.from({ length: units }, (_, unit) => unitButton(step, unit, look)),
      more > 0 ? moreButton(step, units, `and ${more} more`) : []));
}

// Stands for the units that the overview leaves out. Where the page has no maps of them it is no button.
function moreButton(step, unit, text) {
  if (unit >= unitsOf(step)) return h("span", { class: "more" }, text);
  return h("button", {
    type: "button", class: "more", tabindex: -1, "data-step": step, "aria-label": `${titleOf(step)}, ${text}`,
    click: () => chooseUnit(step, unit, { reveal: true }),
  }, text);
}

function unitButton(step, unit, look) {
  const stack = stackOf(step);
  const values = unitOf(stack, unit);
  const colours = { scale: scaleOf(step), grey: isGrey(step) };
  const text = step === SOFTMAX ? percent(values[0]) : number(values[0], 2);
  const [content, says] = {
    flatten: () => {
      const row = thinned(stack.values);
      return [
        [canvasOf(row, row.length, 1, { ...colours, class: "tall" }),
          canvasOf(row, 1, row.length, { ...colours, class: "long" })],
        "all values in one row"];
    },
    maps: () => [
      canvasOf(values, stack.shape[1], stack.shape[2], colours),
      `${unitName(step, unit)}, ${number(lowest(values), 2)} to ${number(highest(values), 2)}`],
    numbers: () => [
      [h("span", { class: "name" }, isClasses(step) ? unitName(step, unit) : ""),
        step === SOFTMAX ? bar(values[0], 1)
          : tint(h("span", { class: "swatch" }), values[0], colours.scale, colours.grey),
        h("span", { class: "value" }, text)],
      `${unitName(step, unit)}: ${text}`],
  }[{ image: "maps", classes: "numbers", softmax: "numbers" }[look] ?? look]();
  return h("button", {
    type: "button", tabindex: -1, "data-step": step, "data-unit": unit, "aria-label": `${titleOf(step)}, ${says}`,
    click: () => chooseUnit(step, unit, { reveal: true }),
  }, content);
}

function buttonOf(step, unit) {
  const buttons = [...byId("network").querySelectorAll(`[data-step="${step}"]`)];
  return buttons[unit] ?? buttons.at(-1);
}

// Left and right go from layer to layer, up and down from unit to unit.
function walkNetwork(event) {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (!moves[event.key]) return;
  event.preventDefault();
  const step = clamp(state.step + moves[event.key][0], 0, SOFTMAX);
  chooseUnit(step, state.unit + moves[event.key][1]);
  buttonOf(state.step, state.unit).focus();
}

// The units of the step before from which the chosen unit takes its values.
function sources() {
  const { step, unit } = state;
  if (step === 0 || data.reason) return [];
  if (kindOf(step) === "Conv2d") return channelsOf(layerOf(step), outputs[step - 1], unit);
  const all = Array.from({ length: unitsOf(step - 1) }, (_, source) => source);
  return ["Linear", "Flatten", "Softmax"].includes(kindOf(step)) ? all : [unit];
}

function markUnit() {
  const chosen = buttonOf(state.step, state.unit);
  const read = new Set(sources().map((source) => buttonOf(state.step - 1, source)));
  for (const button of byId("network").querySelectorAll("button")) {
    button.tabIndex = button === chosen ? 0 : -1;
    button.setAttribute("aria-current", button === chosen);
    button.classList.toggle("read", read.has(button));
  }
  byId("lines").replaceChildren(...[...read].map((button) => line(button, chosen)));
}

function line(from, to) {
  const frame = byId("network").getBoundingClientRect();
  const [begin, end] = [from.getBoundingClientRect(), to.getBoundingClientRect()];
  const [x1, y1] = [begin.right - frame.left, (begin.top + begin.bottom) / 2 - frame.top];
  const [x2, y2] = [end.left - frame.left, (end.top + end.bottom) / 2 - frame.top];
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", `M${x1},${y1} C${(x1 + x2) / 2},${y1} ${(x1 + x2) / 2},${y2} ${x2},${y2}`);
  return path;
}

// ---- The chosen step ----

// Choose a unit of a step. The place stays where the maps have the same size; else it is where the map is strongest.
function chooseUnit(step, unit, { strongest = false, reveal = false } = {}) {
  stopSliding();
  const sizeOf = (each) => String(stackOf(each).shape.slice(1));
  const keep = !strongest && sizeOf(step) === sizeOf(state.step);
  Object.assign(state, { step, unit: clamp(unit, 0, unitsOf(step) - 1) });
  if (!keep) Object.assign(state, strongestPlace());
  markUnit();
  buildStep();
  if (reveal && byId("step").getBoundingClientRect().top > 0.75 * innerHeight) byId("step").scrollIntoView();
}

function strongestPlace() {
  const stack = stackOf(state.step);
  if (!isMaps(stack)) return { row: 0, column: 0 };
  const values = unitOf(stack, state.unit);
  const index = values.indexOf(highest(values));
  return { row: Math.floor(index / stack.shape[2]), column: index % stack.shape[2] };
}

function choosePlace(row, column) {
  stopSliding();
  Object.assign(state, { row, column });
  showPlace();
}

function buildStep() {
  const { step, unit } = state;
  const focused = document.activeElement?.id;
  const build = data.reason && step > 0 && step < SOFTMAX ? storedStep : STEPS[kindOf(step)];
  const view = {
    step, unit, layer: layerOf(step), input: outputs[step - 1], output: stackOf(step),
    from: step > 0 ? { scale: scaleOf(step - 1), grey: isGrey(step - 1) } : {}, // colours of the input
    to: { scale: scaleOf(step), grey: isGrey(step) }, // and of the output
  };
  showPlace = () => {};
  const content = [h("h2", {}, stepTitle(step, unit)), build(view), stepButtons()];
  byId("step").replaceChildren(...content.flat(Infinity));
  showPlace();
  if (focused) byId(focused)?.focus(); // what was built again may have had it
}

function stepButtons() {
  const go = (step, id, text) => h("button", { type: "button", id, click: () => chooseUnit(step, state.unit) }, text);
  return h("p", { class: "toolbar steps no-print" },
    state.step > 0 ? go(state.step - 1, "back", `\u2190 ${titleOf(state.step - 1)}`) : [],
    state.step < SOFTMAX ? go(state.step + 1, "on", `${titleOf(state.step + 1)} \u2192`) : []);
}

// ---- The window slides ----

const PACE = 90; // milliseconds for each place
let timer = 0;
let paused = false;

function slideOrPause() {
  if (timer) {
    stopSliding();
    paused = true;
    return;
  }
  const [, height, width] = stackOf(state.step).shape;
  let place = paused ? state.row * width + state.column : 0;
  paused = false;
  byId("slide").textContent = "\u2016 Pause";
  timer = setInterval(() => {
    place++;
    if (place === height * width) return stopSliding();
    Object.assign(state, { row: Math.floor(place / width), column: place % width });
    return showPlace();
  }, PACE);
  Object.assign(state, { row: Math.floor(place / width), column: place % width });
  showPlace();
}

function stopSliding() {
  paused = false;
  if (!timer) return;
  clearInterval(timer);
  timer = 0;
  byId("slide").textContent = "\u25b6 Slide";
  showPlace();
}

// ---- Begin ----

byId("legend").append(canvasOf(Array.from({ length: 65 }, (_, index) => (index - 32) / 32), 1, 65, { scale: 1 }));
byId("network").addEventListener("keydown", walkNetwork);
addEventListener("resize", markUnit);
buildImages();
chooseImage(0);
if (!data.reason) buildSheets();
buildPlayground();
