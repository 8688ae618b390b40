// The primitives of the derivations, on arrays with named axes. Their meaning is that of
// uanref/derivations/primitives.py; the tests hold each against it.
//
// A value is {axes: ["m", "c"], shape: [5, 2], data: Float64Array}, in row-major order.

"use strict";

const primitives = (() => {
  function value(axes, shape, data) {
    return { axes, shape, data };
  }

  function scalar(number) {
    return value([], [], Float64Array.of(number));
  }

  // From nested lists, as the exported data holds them.
  function fromLists(axes, lists) {
    const shape = [];
    for (let level = lists, i = 0; i < axes.length; ++i, level = level[0]) shape.push(level.length);
    return value(axes, shape, Float64Array.from([lists].flat(axes.length + 1)));
  }

  const count = (shape) => shape.reduce((product, size) => product * size, 1);

  // Position in `x` of every entry of an array with `axes` and `shape`: 0 steps along axes that x lacks.
  function positions(x, axes, shape) {
    const strides = axes.map((axis) => {
      const place = x.axes.indexOf(axis);
      return place < 0 ? 0 : count(x.shape.slice(place + 1));
    });
    const found = new Int32Array(count(shape));
    const index = new Array(axes.length).fill(0);
    for (let entry = 0, at = 0; entry < found.length; ++entry) {
      found[entry] = at;
      for (let axis = axes.length - 1; axis >= 0; --axis) {
        index[axis] += 1;
        at += strides[axis];
        if (index[axis] < shape[axis]) break;
        at -= strides[axis] * shape[axis];
        index[axis] = 0;
      }
    }
    return found;
  }

  // The same value laid out along `axes` of the given sizes; along axes that it lacks it is the same everywhere.
  function along(x, axes, sizes) {
    const extra = x.axes.filter((axis) => !axes.includes(axis));
    if (extra.length) throw new Error(`a value with axes ${x.axes} has no place in axes ${axes}`);
    const shape = axes.map((axis) => (x.axes.includes(axis) ? x.shape[x.axes.indexOf(axis)] : sizes[axis]));
    return value(axes, shape, Float64Array.from(positions(x, axes, shape), (at) => x.data[at]));
  }

  function elementwise(f) {
    return (...args) => {
      const axes = [...new Set(args.flatMap((arg) => arg.axes))];
      const shape = axes.map((axis) => {
        const owner = args.find((arg) => arg.axes.includes(axis));
        return owner.shape[owner.axes.indexOf(axis)];
      });
      const from = args.map((arg) => positions(arg, axes, shape));
      const data = new Float64Array(count(shape));
      if (args.length === 1) for (let i = 0; i < data.length; ++i) data[i] = f(args[0].data[from[0][i]]);
      else for (let i = 0; i < data.length; ++i) data[i] = f(args[0].data[from[0][i]], args[1].data[from[1][i]]);
      return value(axes, shape, data);
    };
  }

  // Reduce the axes `over`: every entry is folded into the entry of the result that it belongs to.
  function reduced(x, over, sizes, start, f) {
    const held = [...new Set([...x.axes, ...over])];
    const wide = along(x, held, sizes);
    const left = held.filter((axis) => !over.includes(axis));
    const shape = left.map((axis) => wide.shape[held.indexOf(axis)]);
    const made = value(left, shape, new Float64Array(count(shape)).fill(start));
    const to = positions(made, held, wide.shape);
    for (let i = 0; i < wide.data.length; ++i) made.data[to[i]] = f(made.data[to[i]], wide.data[i]);
    return made;
  }

  const add = elementwise((a, b) => a + b);
  const sub = elementwise((a, b) => a - b);
  const mul = elementwise((a, b) => a * b);
  const div = elementwise((a, b) => a / b);
  const exp = elementwise(Math.exp);
  const log = elementwise(Math.log);
  const sum = (x, over, sizes) => reduced(x, over, sizes, 0, (a, b) => a + b);
  const max = (x, over, sizes) => reduced(x, over, sizes, -Infinity, Math.max);

  const ELEMENTWISE = {
    neg: elementwise((a) => -a),
    exp,
    log,
    sqrt: elementwise(Math.sqrt),
    square: elementwise((a) => a * a),
    sigmoid: elementwise((a) => (a >= 0 ? 1 / (1 + Math.exp(-a)) : Math.exp(a) / (1 + Math.exp(a)))),
    softplus: elementwise((a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)))),
    step: elementwise((a) => (a > 0 ? 1 : 0)),
    add,
    sub,
    mul,
    div,
    maximum: elementwise(Math.max),
  };

  const OVER_AXES = {
    sum,
    max,
    mean: (x, over, sizes) => div(sum(x, over, sizes), scalar(over.reduce((n, axis) => n * sizes[axis], 1))),
  };

  const OVER_ONE_AXIS = {
    softmax(x, axis, sizes) {
      const e = exp(sub(x, max(x, [axis], sizes)));
      return div(e, sum(e, [axis], sizes));
    },
    logsumexp(x, axis, sizes) {
      const top = max(x, [axis], sizes);
      return add(log(sum(exp(sub(x, top)), [axis], sizes)), top);
    },
  };

  // Entry (u, v) of the patch at (p, q) is pixel (p + u, q + v).
  function pairs(others, sizes, visit) {
    const { p, q, u, v, h, k } = sizes;
    for (let n = 0; n < others; ++n)
      for (let a = 0; a < u; ++a)
        for (let b = 0; b < v; ++b)
          for (let i = 0; i < p; ++i)
            for (let j = 0; j < q; ++j)
              visit((((n * u + a) * v + b) * p + i) * q + j, (n * h + i + a) * k + j + b);
  }

  const OF_IMAGES = {
    patches(x, sizes) {
      const others = x.axes.filter((axis) => axis !== "h" && axis !== "k");
      const image = along(x, [...others, "h", "k"], sizes);
      const shape = [...image.shape.slice(0, -2), sizes.u, sizes.v, sizes.p, sizes.q];
      const made = value([...others, "u", "v", "p", "q"], shape, new Float64Array(count(shape)));
      pairs(count(shape.slice(0, -4)), sizes, (entry, pixel) => (made.data[entry] = image.data[pixel]));
      return made;
    },
    fold(x, sizes) {
      const last = ["u", "v", "p", "q"];
      const others = x.axes.filter((axis) => !last.includes(axis));
      const entries = along(x, [...others, ...last], sizes);
      const shape = [...entries.shape.slice(0, -4), sizes.h, sizes.k];
      const made = value([...others, "h", "k"], shape, new Float64Array(count(shape)));
      pairs(count(shape.slice(0, -2)), sizes, (entry, pixel) => (made.data[pixel] += entries.data[entry]));
      return made;
    },
  };

  // The value of an expression [op, options, ...args]; `values` maps names to values, `sizes` axes to lengths.
  function evaluate([op, options, ...args], values, sizes) {
    if (op === "ref") {
      if (!(options[0] in values)) throw new Error(`unknown value ${options[0]}`);
      return values[options[0]];
    }
    if (op === "number") return scalar(options[0]);
    if (op === "count") return scalar(options.reduce((n, axis) => n * sizes[axis], 1));
    const found = args.map((arg) => evaluate(arg, values, sizes));
    if (op in ELEMENTWISE) return ELEMENTWISE[op](...found);
    if (op in OVER_AXES) return OVER_AXES[op](found[0], options, sizes);
    if (op in OVER_ONE_AXIS) return OVER_ONE_AXIS[op](found[0], options[0], sizes);
    if (op in OF_IMAGES) return OF_IMAGES[op](found[0], sizes);
    throw new Error(`unknown primitive ${op}`);
  }

  const names = ["ref", "number", "count"].concat(
    ...[ELEMENTWISE, OVER_AXES, OVER_ONE_AXIS, OF_IMAGES].map((group) => Object.keys(group)),
  );
  return { value, scalar, fromLists, along, evaluate, names };
})();
