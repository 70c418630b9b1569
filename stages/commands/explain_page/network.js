"use strict";
// What a network computes for one image, layer by layer, with the weights that PyTorch trained. No drawing here.
//
// Maps are {shape: [channels, height, width], values}, a vector is {shape: [length], values}. The values stand row by
// row, as in PyTorch.
// A layer has its kind, the shape of its output and its settings, as settings_of in explain.py writes them.

function bytesOf(base64) {
  return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
}

function floatsOf(base64) {
  return base64 === undefined ? undefined : new Float32Array(bytesOf(base64).buffer);
}

function count(shape) {
  return shape.reduce((product, size) => product * size, 1);
}

function sum(values) {
  return values.reduce((total, value) => total + value, 0);
}

// The largest value without its sign, and never 0: the end of a scale.
function largest(values) {
  return values.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-30);
}

// The largest and the smallest value. Not Math.max(...values): a browser may take no more than 65,536 arguments.
function highest(values) {
  return values.reduce((most, value) => Math.max(most, value), -Infinity);
}

function lowest(values) {
  return values.reduce((least, value) => Math.min(least, value), Infinity);
}

// The cells that the window covers for the output at row and column. In the padding they lie outside of the map.
function windowCells(layer, [, height, width], row, column) {
  const cells = [];
  for (let i = 0; i < layer.kernel[0]; i++) {
    for (let j = 0; j < layer.kernel[1]; j++) {
      const y = row * layer.stride[0] - layer.padding[0] + i * layer.dilation[0];
      const x = column * layer.stride[1] - layer.padding[1] + j * layer.dilation[1];
      cells.push({ row: y, column: x, inside: y >= 0 && y < height && x >= 0 && x < width, index: y * width + x });
    }
  }
  return cells;
}

// Call visit(cells, place) for each place of the output; place counts row by row.
function slide(layer, input, visit) {
  const [, height, width] = layer.shape;
  for (let row = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      visit(windowCells(layer, input.shape, row, column), row * width + column);
    }
  }
}

// By what an average pooling divides: the cells of its window, with those in the padding or without.
function divisorOf(layer, [, height, width], cells) {
  const counted = layer.count_padding
    ? cells.filter((cell) => cell.row < height + layer.padding[0] && cell.column < width + layer.padding[1])
    : cells.filter((cell) => cell.inside);
  return layer.divisor ?? counted.length;
}

// The input channels that a unit of a convolution reads: all of them, unless the layer has groups.
function channelsOf(layer, input, unit) {
  const perGroup = input.shape[0] / layer.groups;
  const first = Math.floor(unit / (layer.shape[0] / layer.groups)) * perGroup;
  return Array.from({ length: perGroup }, (_, channel) => first + channel);
}

const COMPUTE = {
  Conv2d(layer, input) {
    const [units, height, width] = layer.shape;
    const plane = input.shape[1] * input.shape[2];
    const cellsOfKernel = layer.kernel[0] * layer.kernel[1];
    const channels = Array.from({ length: units }, (_, unit) => channelsOf(layer, input, unit));
    const values = new Float32Array(count(layer.shape));
    slide(layer, input, (cells, place) => {
      const numbers = [...cells.keys()].filter((number) => cells[number].inside);
      const indices = numbers.map((number) => cells[number].index);
      for (let unit = 0; unit < units; unit++) {
        let total = layer.bias ? layer.bias[unit] : 0;
        for (let position = 0; position < channels[unit].length; position++) {
          const first = channels[unit][position] * plane;
          const kernel = (unit * channels[unit].length + position) * cellsOfKernel;
          for (let read = 0; read < numbers.length; read++) {
            total += input.values[first + indices[read]] * layer.weight[kernel + numbers[read]];
          }
        }
        values[unit * height * width + place] = total;
      }
    });
    return values;
  },

  ReLU(layer, input) {
    return input.values.map((value) => Math.max(0, value));
  },

  MaxPool2d(layer, input) {
    return pool(layer, input, (inside) => Math.max(...inside));
  },

  AvgPool2d(layer, input) {
    return pool(layer, input, (inside, cells) => sum(inside) / divisorOf(layer, input.shape, cells));
  },

  Flatten(layer, input) {
    return input.values;
  },

  Linear(layer, input) {
    const inputs = input.values.length;
    return Float32Array.from({ length: layer.shape[0] }, (_, unit) => {
      let total = layer.bias ? layer.bias[unit] : 0;
      for (let number = 0; number < inputs; number++) {
        total += input.values[number] * layer.weight[unit * inputs + number];
      }
      return total;
    });
  },
};

function pool(layer, input, combine) {
  const [channels, height, width] = layer.shape;
  const plane = input.shape[1] * input.shape[2];
  const values = new Float32Array(count(layer.shape));
  slide(layer, input, (cells, place) => {
    const inside = cells.filter((cell) => cell.inside);
    for (let channel = 0; channel < channels; channel++) {
      const read = inside.map((cell) => input.values[channel * plane + cell.index]);
      values[channel * height * width + place] = combine(read, cells);
    }
  });
  return values;
}

// The image, and what each layer makes of it.
function outputsOf(layers, image) {
  const outputs = [image];
  for (const layer of layers) {
    outputs.push({ shape: layer.shape, values: COMPUTE[layer.kind](layer, outputs.at(-1)) });
  }
  return outputs;
}

// How the value of a unit of a convolution comes about at row and column: for each channel that it reads the values
// under the window (0 in the padding), the weights, their products and the sum of these; then the bias and the whole.
function convolutionTerms(layer, input, unit, row, column) {
  const plane = input.shape[1] * input.shape[2];
  const cells = windowCells(layer, input.shape, row, column);
  const reads = channelsOf(layer, input, unit);
  const channels = reads.map((channel, position) => {
    const kernel = (unit * reads.length + position) * cells.length;
    const values = cells.map((cell) => (cell.inside ? input.values[channel * plane + cell.index] : 0));
    const weights = [...layer.weight.subarray(kernel, kernel + cells.length)];
    const products = values.map((value, number) => value * weights[number]);
    return { channel, values, weights, products, sum: sum(products) };
  });
  const bias = layer.bias ? layer.bias[unit] : 0;
  return { cells, channels, bias, value: sum(channels.map((each) => each.sum)) + bias };
}

// How the value of a unit of a linear layer comes about: the products of its inputs with its weights, in as many equal
// parts as the input has maps (or numbers, where it comes from no maps), and the sum of each part.
function linearTerms(layer, input, unit, parts) {
  const inputs = input.values.length;
  const weights = layer.weight.subarray(unit * inputs, (unit + 1) * inputs);
  const products = input.values.map((value, number) => value * weights[number]);
  const length = inputs / parts;
  const sums = Array.from({ length: parts }, (_, part) => sum(products.subarray(part * length, (part + 1) * length)));
  const bias = layer.bias ? layer.bias[unit] : 0;
  return { weights, products, sums, bias, value: sum(sums) + bias };
}

// From logits to probabilities. The largest logit is taken away first: no power is then too large for a number.
function softmaxTerms(logits) {
  const most = Math.max(...logits);
  const powers = Float64Array.from(logits, (logit) => Math.exp(logit - most));
  const total = sum(powers);
  return { most, powers, total, probabilities: powers.map((power) => power / total) };
}
