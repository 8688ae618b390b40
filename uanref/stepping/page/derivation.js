// A derivation, interpreted: forward, backward, and the numerical proof of every gradient. What it runs is the
// exported list of uanref/stepping/export.py; no equation stands here.

"use strict";

const derivation = (() => {
  const { fromLists, along, evaluate, value } = primitives;
  const STEPS = [1e-3, 1e-4, 1e-5, 1e-6]; // as uanref.derivations.staged.STEPS

  // Everything that the page shows of one run, but the numerical proofs, which take longer: see proof.
  //
  // exported: the exported derivation. inputs: name to value. upstream: dL/d(output), a value.
  // mistake: null, or {step, input, expression}: the local rule that replaces the right one.
  //
  // Returns {values, gradients, contributions, upstream}, the first three by name; contributions by user, too.
  function trace(exported, inputs, upstream, mistake = null) {
    const values = forward(exported, inputs, exported.sizes);
    return { values, upstream, ...backward(exported, values, upstream, exported.sizes, mistake) };
  }

  // The numerical gradient of one value of a trace, and the relative error of the analytic one.
  function proof(exported, traced, name) {
    const node = exported.nodes.find((node) => node.name === name);
    const numerical = moved(exported, traced.values, traced.upstream, exported.sizes, node);
    return { numerical, error: relativeError(traced.gradients[name], numerical) };
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

  // dL/d(node): each entry is moved, the steps behind it run again. Large steps bend, small ones round: an entry takes
  // the smaller one of the two neighbouring steps whose central differences agree best.
  function moved(exported, values, upstream, sizes, node) {
    const start = values[node.name];
    const base = values[exported.output];
    const scale = start.data.reduce((most, number) => Math.max(most, Math.abs(number)), 1);
    const lossAt = (entry, shift) => {
      const data = Float64Array.from(start.data);
      data[entry] += shift;
      const given = { ...values, [node.name]: value(start.axes, start.shape, data) };
      const y = forward(exported, given, sizes, node.name)[exported.output];
      return y.data.reduce((loss, number, i) => loss + (number - base.data[i]) * upstream.data[i], 0);
    };
    const found = start.data.map((_, i) => {
      const slopes = STEPS.map((step) => {
        const h = step * scale;
        return (8 * (lossAt(i, h) - lossAt(i, -h)) - (lossAt(i, 2 * h) - lossAt(i, -2 * h))) / (12 * h);
      });
      const gaps = slopes.slice(1).map((slope, j) => Math.abs(slope - slopes[j]));
      const best = gaps.reduce((least, gap, j) => (gap < (gaps[least] ?? Infinity) || isNaN(gaps[least]) ? j : least), 0);
      return slopes[best + 1];
    });
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

  return { trace, proof, inputsOf, upstreamOf, evaluateIn };
})();
