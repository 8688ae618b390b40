// What the reader has done so far, and all numbers that follow from it: inputs, upstream gradient, mistake, the node
// looked at, the trace, and the numerical proofs, which are computed in slices while the reader goes on.

"use strict";

const store = (() => {
  const SLICE = 10; // milliseconds of proofs at a time

  // Listeners get "numbers" (a new trace), "proofs" (one more node is proven) or "current" (another node is shown).
  function create(data) {
    const exported = data.derivation;
    const { nodes } = exported;
    const byName = Object.fromEntries(nodes.map((node) => [node.name, node]));
    const proven = nodes.filter((node) => node.gradient !== null).map((node) => node.name);
    const listeners = [];
    let inputs, upstream, mistake, traced, right, numerical;
    let current = nodes[0].name;
    let job = null;
    let timer = null;

    const tell = (what) => listeners.forEach((listener) => listener(what));

    function reset() {
      inputs = derivation.inputsOf(exported);
      upstream = derivation.upstreamOf(exported);
      mistake = null;
      // The numbers that the page came with are proven already.
      numerical = Object.fromEntries(
        proven
          .filter((name) => byName[name].numerical !== null)
          .map((name) => [name, {
            ...primitives.fromLists(byName[name].axes, byName[name].numerical),
            doubt: primitives.fromLists(byName[name].axes, byName[name].doubt).data,
          }]),
      );
      run();
    }

    function run() {
      right = derivation.trace(exported, inputs, upstream);
      traced = mistake === null ? right : derivation.trace(exported, inputs, upstream, mistake);
      job = null;
      tell("numbers");
      prove();
    }

    const changed = (value, entry, number) => {
      const made = Float64Array.from(value.data);
      made[entry] = number;
      return primitives.value(value.axes, value.shape, made);
    };

    function edit(name, entry, number) {
      inputs = { ...inputs, [name]: changed(inputs[name], entry, number) };
      numerical = {};
      run();
    }

    function editUpstream(entry, number) {
      upstream = changed(upstream, entry, number);
      numerical = {};
      run();
    }

    // mistake: one of data.mistakes, or null. Numerical gradients know nothing of it and stay.
    function plant(chosen) {
      mistake = chosen;
      run();
    }

    function prove() {
      if (timer === null) timer = setTimeout(slice, 0);
    }

    // The node looked at comes first, the others from the output back.
    function nextJob() {
      const open = [current, ...proven.slice().reverse()].find((name) => proven.includes(name) && !numerical[name]);
      if (open === undefined) return null;
      const { axes, shape, data } = traced.values[open];
      const slope = derivation.slope(exported, traced, open);
      const value = primitives.value(axes, shape, new Float64Array(data.length));
      return { name: open, slope, entry: 0, value: { ...value, doubt: new Float64Array(data.length) } };
    }

    function slice() {
      timer = null;
      const until = performance.now() + SLICE;
      let found = false;
      while (performance.now() < until) {
        job = job ?? nextJob();
        if (job === null) break;
        if (job.entry < job.value.data.length) {
          [job.value.data[job.entry], job.value.doubt[job.entry]] = job.slope(job.entry);
          job.entry += 1;
        } else {
          numerical[job.name] = job.value;
          job = null;
          found = true;
        }
      }
      if (found) tell("proofs");
      if (job !== null || nextJob() !== null) prove();
    }

    // Of a node's gradient: "none", "checking", "right", "wrong", or "undefined" where it is no number.
    function state(name) {
      if (!proven.includes(name)) return "none";
      if (!numerical[name]) return "checking";
      const apart = error(name);
      if (!Number.isFinite(apart)) return "undefined";
      return apart <= data.tolerance ? "right" : "wrong";
    }

    const error = (name) => derivation.relativeError(traced.gradients[name], numerical[name]);

    function select(name) {
      current = name;
      tell("current");
    }

    const move = (by) => {
      const at = nodes.findIndex((node) => node.name === current) + by;
      select(nodes[Math.min(Math.max(at, 0), nodes.length - 1)].name);
    };

    return {
      data, exported, nodes, byName, proven, edit, editUpstream, plant, reset, select, move, state, error,
      numerical: (name) => numerical[name],
      subscribe: (listener) => listeners.push(listener),
      get inputs() { return inputs; },
      get traced() { return traced; },
      get right() { return right; }, // the trace without the mistake
      get mistake() { return mistake; },
      get current() { return current; },
    };
  }

  return { create };
})();
