// A derivation, interpreted: forward, backward, and the numerical proof of every gradient. What it runs is the
// exported list of uanref/stepping/export.py; no equation stands here.

"use strict";

const derivation = (() => {
  const { fromLists, along, evaluate, value } = primitives;
  // As in uanref.derivations.proofs.
  const STEPS = [1e-3, 1e-4, 1e-5, 1e-6];
  const FINE = [1e-7, 1e-8, 1e-9];
  const OWN = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7];
  const TINY = 1e-2;
  const AGREEMENT = 1e-7;
  const ROUNDING = 2 ** -53;
  const DOUBT = 4;
  const UNTOLD = 0.1;

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
    const { axes, shape, data } = traced.values[name];
    const slopeAt = slope(exported, traced, name);
    const numerical = value(axes, shape, new Float64Array(data.length));
    numerical.doubt = new Float64Array(data.length);
    data.forEach((_, entry) => ([numerical.data[entry], numerical.doubt[entry]] = slopeAt(entry)));
    return { numerical, error: relativeError(traced.gradients[name], numerical) };
  }

  // All values; with `after`, those of the steps behind it, the others as given. Steps named in `fixed` keep its values.
  function forward(exported, given, sizes, after = null, fixed = {}) {
    const values = { ...given };
    let reached = after === null || exported.nodes.find((node) => node.name === after).kind !== "step";
    for (const node of exported.nodes) {
      if (node.kind !== "step") continue;
      if (node.name in fixed) values[node.name] = fixed[node.name];
      else if (reached) values[node.name] = along(evaluate(node.forward, values, sizes), node.axes, sizes);
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

  // [dL/d(one entry of a value), its doubt], as a function of the entry: it is moved, the steps behind it run again. Large
  // steps bend, small ones round: it takes the smaller one of the two neighbouring steps whose central differences agree
  // best, and tries finer ones where no two agree, and steps of the entry's own size where it is tiny. The doubt is how
  // far the slope may be off by rounding: 0 where two steps agree, Infinity where none tells anything.
  function slope(exported, traced, name) {
    const { values, upstream } = traced;
    const start = values[name];
    const base = values[exported.output];
    const scale = start.data.reduce((most, number) => Math.max(most, Math.abs(number)), 1);
    const noise = ROUNDING * base.data.reduce((sum, number, i) => sum + Math.abs(number * upstream.data[i]), 0);
    const lossAt = (entry, shift) => {
      const data = Float64Array.from(start.data);
      data[entry] += shift;
      const given = { ...values, [name]: value(start.axes, start.shape, data) };
      const y = forward(exported, given, exported.sizes, name)[exported.output];
      return y.data.reduce((loss, number, i) => loss + (number - base.data[i]) * upstream.data[i], 0);
    };
    return (entry) => {
      const agreeingAt = (steps, unit) => {
        const slopes = steps.map((step) => {
          const h = step * unit;
          const near = lossAt(entry, h) - lossAt(entry, -h);
          return (8 * near - (lossAt(entry, 2 * h) - lossAt(entry, -2 * h))) / (12 * h);
        });
        return agreeing(slopes, steps.map((step) => noise / (step * unit)));
      };
      let { found, gap } = agreeingAt(STEPS, scale);
      let doubt = 0;
      const apart = !(gap <= AGREEMENT * Math.max(Math.abs(found), 1e-3));
      if (apart) {
        ({ found, gap } = agreeingAt([...STEPS, ...FINE], scale));
        doubt = DOUBT * gap;
      }
      const size = Math.abs(start.data[entry]);
      if (size > 0 && (apart || size < TINY * scale)) {
        const own = agreeingAt(OWN, size);
        if (Math.abs(own.found - found) > DOUBT * own.gap || (apart && own.gap < gap)) found = own.found;
        doubt = own.gap <= UNTOLD * Math.max(Math.abs(own.found), 1e-3) ? DOUBT * own.gap : Infinity;
      }
      return [found, doubt];
    };
  }

  // Of the two neighbouring steps that agree best, the smaller one's slope, and how far they are apart; `noise`: how far
  // each may be off by rounding alone, for what agrees better than that does so by chance.
  function agreeing(slopes, noise) {
    const gaps = slopes.slice(1).map((slope, j) => {
      const gap = Math.abs(slope - slopes[j]);
      return Number.isFinite(gap) ? Math.max(gap, noise[j + 1]) : Infinity;
    });
    const best = gaps.indexOf(Math.min(...gaps));
    return { found: slopes[best + 1], gap: gaps[best] };
  }

  // max |gradient - numerical| in units of their largest entry, at least 1e-3, as uanref.derivations.traces.Node.error:
  // without the entries that lie within their doubt.
  function relativeError(gradient, numerical) {
    let most = 0;
    let scale = 1e-3;
    gradient.data.forEach((number, i) => {
      const apart = Math.abs(number - numerical.data[i]);
      if (numerical.doubt && numerical.doubt[i] > 0 && apart <= numerical.doubt[i]) return;
      most = Math.max(most, apart);
      scale = Math.max(scale, Math.abs(number), Math.abs(numerical.data[i]));
    });
    return most / scale;
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

  // The names that expressions of a trace may refer to: values, and gradients as "d_" + name.
  function knownOf(traced) {
    const known = { ...traced.values };
    for (const [of, gradient] of Object.entries(traced.gradients)) known["d_" + of] = gradient;
    return known;
  }

  // What `user` sends back to `name` if only `part` of the user's gradient has arrived.
  function contribution(exported, traced, user, name, part) {
    const find = (wanted) => exported.nodes.find((node) => node.name === wanted);
    const known = { ...traced.values, ["d_" + user]: part };
    const made = evaluate(find(user).backward[name].expression, known, exported.sizes);
    return along(made, find(name).axes, exported.sizes);
  }

  // The value of an expression of a trace's values and gradients, along the axes of the value called `name`.
  function evaluateIn(exported, traced, expression, name) {
    const known = knownOf(traced);
    const node = exported.nodes.find((node) => node.name === name);
    return along(evaluate(expression, known, exported.sizes), node.axes, exported.sizes);
  }

  return { trace, proof, forward, slope, relativeError, total, contribution, inputsOf, upstreamOf, evaluateIn };
})();
