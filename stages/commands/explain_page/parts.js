"use strict";
// What the page is put together from: elements, numbers, colours, pictures, tables. They know nothing of the network.

function byId(id) {
  return document.getElementById(id);
}

// An element. Attributes that are functions are called on the event of their name; undefined and false are left out.
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity));
  return element;
}

// ---- Numbers and words ----

const MINUS = "\u2212";

function number(value, digits = 4) {
  const text = value.toFixed(digits);
  return Number(text) === 0 ? (0).toFixed(digits) : text.replace("-", MINUS);
}

// A number as text. A mouse that rests on it shows all digits.
function figure(value, text = number(value)) {
  return h("span", { class: "figure", "data-value": value, title: value }, text);
}

// Terms of a sum in one line, each with its name: 0.12 map 0 - 0.34 map 1.
function sumLine(terms) {
  return terms.flatMap(([value, name], index) => {
    const sign = value < 0 ? MINUS : index ? "+" : "";
    return [index ? ` ${sign} ` : sign,
      h("span", { class: "term" }, figure(value, number(Math.abs(value))), h("small", {}, name))];
  });
}

function percent(probability) {
  return `${(100 * probability).toFixed(1)} %`;
}

function times(...sizes) {
  return sizes.join(" \u00d7 ");
}

function plural(amount, word) {
  return `${amount} ${word}${amount === 1 ? "" : "s"}`;
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

// ---- Colours: blue below 0, the colour of the paper at 0, red above: told apart with any colour vision ----

const LIGHT = {
  zero: [255, 255, 255],
  plus: [[244, 165, 130], [178, 24, 43]],
  minus: [[146, 197, 222], [33, 102, 172]],
};
const DARK = {
  zero: [32, 36, 42],
  plus: [[166, 70, 56], [255, 150, 125]],
  minus: [[44, 101, 160], [130, 200, 255]],
};
const darkScheme = matchMedia("(prefers-color-scheme: dark)");
let printing = false;

function colourOf(value, scale, grey) {
  const part = clamp(value / scale, -1, 1);
  if (grey) return Array(3).fill(Math.round(255 * Math.max(part, 0)));
  const { zero, plus, minus } = darkScheme.matches && !printing ? DARK : LIGHT;
  const [middle, end] = part < 0 ? minus : plus;
  const strength = Math.abs(part) ** 0.75; // so that small values can be seen as well
  const [from, to, share] = strength < 0.5 ? [zero, middle, 2 * strength] : [middle, end, 2 * strength - 1];
  return from.map((start, channel) => Math.round(start + (to[channel] - start) * share));
}

// Paint an element now, and again whenever the colours change.
function painted(element, paint) {
  element.paint = paint;
  element.dataset.painted = "";
  paint();
  return element;
}

function repaint() {
  document.querySelectorAll("[data-painted]").forEach((element) => element.paint());
}

darkScheme.addEventListener("change", repaint);
for (const [event, begins] of [["beforeprint", true], ["afterprint", false]]) {
  addEventListener(event, () => {
    printing = begins;
    repaint();
  });
}

// Give an element the colour of a value, and letters that can be read on it.
function tint(element, value, scale, grey) {
  return painted(element, () => {
    const [red, green, blue] = colourOf(value, scale, grey);
    element.style.background = `rgb(${red} ${green} ${blue})`;
    element.style.color = 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#000" : "#fff";
  });
}

// ---- Pictures of maps ----

// A picture with one dot for each value; NaN stays empty.
function canvasOf(values, height, width, { scale, grey, ...attributes }) {
  const canvas = h("canvas", { width, height, ...attributes });
  return painted(canvas, () => {
    const context = canvas.getContext("2d");
    const picture = context.createImageData(width, height);
    values.forEach((value, index) => {
      if (!Number.isNaN(value)) picture.data.set([...colourOf(value, scale, grey), 255], 4 * index);
    });
    context.putImageData(picture, 0, 0);
  });
}

// An image as it is: in colour if it has three channels.
function imageOf(values, [channels, height, width], attributes = {}) {
  if (channels === 1) return canvasOf(values, height, width, { scale: 1, grey: true, ...attributes });
  const canvas = h("canvas", { width, height, ...attributes });
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  const plane = height * width;
  for (let place = 0; place < plane; place++) {
    const colour = [0, 1, 2].map((channel) => Math.round(255 * values[channel * plane + place]));
    picture.data.set([...colour, 255], 4 * place);
  }
  context.putImageData(picture, 0, 0);
  return canvas;
}

// Every so many-th of the values, where there are more than a picture can be long.
function thinned(values, most = 8192) {
  const every = Math.ceil(values.length / most);
  return values.filter((_, index) => index % every === 0);
}

// The row and column of a grid that a pointer is on; the grid may have a border of so many cells.
function cellUnder(event, element, [rows, columns], [borderRows, borderColumns]) {
  const box = element.getBoundingClientRect();
  const row = Math.floor(((event.clientY - box.top) / box.height) * (rows + 2 * borderRows)) - borderRows;
  const column = Math.floor(((event.clientX - box.left) / box.width) * (columns + 2 * borderColumns)) - borderColumns;
  return [clamp(row, 0, rows - 1), clamp(column, 0, columns - 1)];
}

// Let somebody choose a cell of a grid, with the pointer or with the arrow keys. chosen() is the cell that is chosen.
function choosable(element, size, chosen, choose, border = [0, 0]) {
  const [rows, columns] = size;
  const point = (event) => choose(...cellUnder(event, element, size, border));
  element.addEventListener("pointerdown", point);
  element.addEventListener("pointermove", (event) => event.buttons && point(event));
  element.addEventListener("keydown", (event) => {
    const [row, column] = chosen();
    const target = {
      ArrowUp: [row - 1, column],
      ArrowDown: [row + 1, column],
      ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1],
      Home: [row, 0],
      End: [row, columns - 1],
    }[event.key];
    if (!target) return;
    event.preventDefault();
    choose(clamp(target[0], 0, rows - 1), clamp(target[1], 0, columns - 1));
  });
  element.tabIndex = 0;
  element.setAttribute("role", "application"); // the arrow keys are ours, also where a screen reader would take them
  element.setAttribute("aria-roledescription", "picture");
  element.classList.add("choosable");
  return element;
}

// A large map, so many pixels wide, on which a rectangle of cells can be marked. Hatched around it: padding.
function mapView(values, [height, width], { scale, grey, label, size, border = [0, 0] }) {
  const [outerHeight, outerWidth] = [height + 2 * border[0], width + 2 * border[1]];
  const cells = new Float32Array(outerHeight * outerWidth).fill(NaN);
  for (let row = 0; row < height; row++) {
    cells.set(values.subarray(row * width, (row + 1) * width), (row + border[0]) * outerWidth + border[1]);
  }
  const mark = h("div", { class: "mark", hidden: true });
  const veils = [h("div", { class: "veil", hidden: true }), h("div", { class: "veil", hidden: true })];
  const view = h("div",
    {
      class: "map", role: "img", "aria-label": label,
      style: `width: ${size}px; aspect-ratio: ${outerWidth} / ${outerHeight}`,
    },
    canvasOf(cells, outerHeight, outerWidth, { scale, grey }), veils, mark);

  const put = (element, top, left, rows, columns) => {
    element.hidden = rows <= 0 || columns <= 0;
    element.style.top = `${(100 * (top + border[0])) / outerHeight}%`;
    element.style.left = `${(100 * (left + border[1])) / outerWidth}%`;
    element.style.height = `${(100 * rows) / outerHeight}%`;
    element.style.width = `${(100 * columns) / outerWidth}%`;
  };
  view.mark = (top, left, rows, columns) => put(mark, top, left, rows, columns);
  view.hideAfter = (row, column) => {
    put(veils[0], row, column + 1, 1, width - column - 1);
    put(veils[1], row + 1, 0, height - row - 1, width);
  };
  return view;
}

// ---- Numbers on their colours ----

function numberGrid(columns, cells, label, digits = 4) {
  const places = Array.from({ length: cells }, () => h("span"));
  const look = { class: digits ? "cells" : "cells whole", style: `--columns: ${columns}` };
  const grid = h("div", { ...look, role: "group", "aria-label": label }, places);
  grid.places = places;
  grid.show = (values, scale, grey) => {
    values.forEach((value, index) => {
      places[index].textContent = number(value, digits);
      places[index].dataset.value = value;
      places[index].title = value;
      tint(places[index], value, scale, grey);
    });
    return grid;
  };
  return grid;
}

function valueCell(value, scale, { digits = 4, chosen = false } = {}) {
  const attributes = { class: `number${chosen ? " chosen" : ""}`, "data-value": value, title: value };
  const cell = h("td", attributes, number(value, digits));
  return scale ? tint(cell, value, scale) : cell;
}

function bar(value, scale) {
  const share = ((100 * Math.abs(value)) / scale).toFixed(2);
  const sign = value < 0 ? "minus" : "plus";
  return h("span", { class: `bar ${sign}`, style: `--share: ${share}%`, "aria-hidden": "true" });
}

// A table from rows of cells; the first of each row is its head. One row may be the chosen one.
function table(heads, rows, chosen) {
  return h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, rows.map(([head, ...cells], index) =>
      h("tr", { class: index === chosen && "chosen" }, h("th", { scope: "row" }, head), cells)))));
}

function picture(view, caption) {
  return h("figure", {}, view, h("figcaption", {}, caption));
}

function list(options, attributes) {
  return h("select", attributes, options.map(([value, text]) => h("option", { value }, text)));
}
