// A derivation, interpreted: forward, backward, and the numerical proof of every gradient. What it runs is the
// exported list of uanref/stepping/export.py; no equation stands here.

"use strict";

const derivation = (() => {
  const { fromLists, along, evaluate, value } = primitives;
  const STEP = 1e-4; // as uanref.derivations.staged.STEP

  // Everything that the page shows of one run.
  //
  // exported: the exported derivation. inputs: name to value. upstream: dL/d(output), a value.
  // mistake: null, or {step, input, expression}: the local rule that replaces the right one.
  //
  // Returns {values, gradients, contributions, numerical, errors}, each by name; contributions by user, too.
  function trace(exported, inputs, upstream, mistake = null) {
    const sizes = exported.sizes;
    const values = forward(exported, inputs, sizes);
    const { gradients, contributions } = backward(exported, values, upstream, sizes, mistake);
    const numerical = {};
    const errors = {};
    if (exported.nodes.some((node) => node.gradient !== null)) {
      for (const node of exported.nodes.filter((node) => node.kind !== "constant")) {
        numerical[node.name] = moved(exported, values, upstream, sizes, node);
        errors[node.name] = relativeError(gradients[node.name], numerical[node.name]);
      }
    }
    return { values, gradients, contributions, numerical, errors };
  }

  // All values; with `after`, those of the steps behind it, the others as given.
  function forward(exported, given, sizes, after = null) {
    const values = { ...given };
    let reached = after === null || exported.nodes.find((node) => node.name === after).kind !== "step";
    for (const node of exported.nodes) {
      if (node.kind !== "step") continue;
      if (reached) values[node.name] = along(evaluate(node.forward, values, sizes), node.axes, sizes);
      if (node.name === after) reached = true;
    }
    return values;
  }

  // From the output back: a value adds up what each of its users sends.
  function backward(exported, values, upstream, sizes, mistake) {
    const gradients = {};
    const contributions = {};
    const byName = {};
    for (const node of exported.nodes) {
      byName[node.name] = node;
      contributions[node.name] = {};
    }
    for (const node of [...exported.nodes].reverse()) {
      gradients[node.name] = node.name === exported.output ? upstream : total(contributions[node.name], values[node.name]);
      if (node.kind !== "step") continue;
      const known = { ...values, ["d_" + node.name]: gradients[node.name] };
      for (const [name, local] of Object.entries(node.backward)) {
        if (byName[name].kind === "constant") continue;
        const wrong = mistake !== null && mistake.step === node.name && mistake.input === name;
        const made = evaluate(wrong ? mistake.expression : local.expression, known, sizes);
        contributions[name][node.name] = along(made, byName[name].axes, sizes);
      }
    }
    return { gradients, contributions };
  }

  function total(parts, like) {
    const sum = new Float64Array(like.data.length);
    for (const part of Object.values(parts)) part.data.forEach((number, i) => (sum[i] += number));
    return value(like.axes, like.shape, sum);
  }

  // dL/d(node) by central differences of fourth order: each entry is moved, the steps behind it run again.
  function moved(exported, values, upstream, sizes, node) {
    const start = values[node.name];
    const base = values[exported.output];
    const h = STEP * start.data.reduce((most, number) => Math.max(most, Math.abs(number)), 1);
    const lossAt = (entry, shift) => {
      const data = Float64Array.from(start.data);
      data[entry] += shift * h;
      const given = { ...values, [node.name]: value(start.axes, start.shape, data) };
      const y = forward(exported, given, sizes, node.name)[exported.output];
      return y.data.reduce((loss, number, i) => loss + (number - base.data[i]) * upstream.data[i], 0);
    };
    const found = start.data.map(
      (_, i) => (8 * (lossAt(i, 1) - lossAt(i, -1)) - (lossAt(i, 2) - lossAt(i, -2))) / (12 * h),
    );
    return value(start.axes, start.shape, found);
  }

  function relativeError(gradient, numerical) {
    let apart = 0;
    let scale = 1e-3;
    gradient.data.forEach((number, i) => {
      apart = Math.max(apart, Math.abs(number - numerical.data[i]));
      scale = Math.max(scale, Math.abs(number), Math.abs(numerical.data[i]));
    });
    return apart / scale;
  }

  // The inputs of the exported example, as values.
  function inputsOf(exported) {
    return Object.fromEntries(
      exported.nodes
        .filter((node) => node.kind !== "step")
        .map((node) => [node.name, fromLists(node.axes, node.value)]),
    );
  }

  // The example's upstream gradient, as a value.
  function upstreamOf(exported) {
    const output = exported.nodes.find((node) => node.name === exported.output);
    return fromLists(output.axes, exported.upstream);
  }

  // The value of an expression of a trace's values and gradients, along the axes of the value called `name`.
  function evaluateIn(exported, traced, expression, name) {
    const known = { ...traced.values };
    for (const [of, gradient] of Object.entries(traced.gradients)) known["d_" + of] = gradient;
    const node = exported.nodes.find((node) => node.name === name);
    return along(evaluate(expression, known, exported.sizes), node.axes, exported.sizes);
  }

  return { trace, inputsOf, upstreamOf, evaluateIn };
})();
