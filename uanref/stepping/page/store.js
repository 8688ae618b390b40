// What the reader has done so far, and all numbers that follow from it: inputs, upstream gradient, mistake, the stop
// of the road, the trace, and the numerical proofs, which are computed in slices while the reader goes on.
//
// The road leads forward through the steps, to the loss, and back. `at` is the place on it, null while the reader looks
// at something beside it, such as an input; `phase` is "forward", "loss" or "backward"; `current` the node looked at.

"use strict";

const store = (() => {
  const SLICE = 10; // milliseconds of proofs at a time

  // Listeners get "numbers" (a new trace), "proofs" (one more node is proven) or "current" (another stop is shown).
  function create(data) {
    const exported = data.derivation;
    const { nodes, road, loss } = exported;
    const byName = Object.fromEntries(nodes.map((node) => [node.name, node]));
    // Where no loss ends the list, one stands in for the rest of the network; "g" are its weights.
    if (loss) byName[loss.name] = { kind: "loss", axes: [], inputs: [exported.output], ...loss };
    const proven = nodes.filter((node) => node.gradient !== null).map((node) => node.name);
    const listeners = [];
    const example = { inputs: derivation.inputsOf(exported), upstream: derivation.upstreamOf(exported) };
    let base = example; // the numbers to which "Reset" goes back
    let inputs, upstream, mistake, traced, right, numerical;
    let secret = false; // whether the page keeps to itself what is planted
    let last = 0; // the stop from which the reader goes on
    let at = 0;
    let { node: current, phase } = road[0];
    let job = null;
    let timer = null;

    const tell = (what) => listeners.forEach((listener) => listener(what));

    function reset() {
      load({ ...base, mistake: null });
    }

    // Other numbers to begin with, as when another page opens this one on its own.
    function rebase(given) {
      base = given;
      reset();
    }

    function load(given) {
      ({ inputs, upstream, mistake } = given);
      secret = false;
      const same = (one, other) => one.data.every((x, i) => Object.is(x, other.data[i]));
      const isExample = Object.keys(inputs).every((name) => same(inputs[name], example.inputs[name])) &&
        same(upstream, example.upstream);
      // The numbers that the page came with are proven already.
      numerical = !isExample ? {} : Object.fromEntries(
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
      right = withLoss(derivation.trace(exported, inputs, upstream));
      traced = mistake === null ? right : withLoss(derivation.trace(exported, inputs, upstream, mistake));
      job = null;
      tell("numbers");
      prove();
    }

    // A trace, and in it the loss that stands in: its value, its weights g, dL/dL = 1, and what it sends to the output.
    function withLoss(made) {
      if (!loss) return made;
      const values = { ...made.values, g: upstream };
      const one = primitives.value([], [], Float64Array.of(1));
      values[loss.name] = primitives.along(primitives.evaluate(loss.forward, values, exported.sizes), [], exported.sizes);
      return {
        ...made, values,
        gradients: { ...made.gradients, [loss.name]: one },
        contributions: { ...made.contributions, [loss.name]: {}, [exported.output]: { [loss.name]: upstream } },
      };
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
    // secret: the page tells nobody which, until it is revealed.
    function plant(chosen, options = {}) {
      mistake = chosen;
      secret = chosen !== null && options.secret === true;
      run();
    }

    function reveal() {
      secret = false;
      tell("numbers");
    }

    // Of a wrong gradient: "source" where the mistake enters, "inherited" where it was passed on; else, or as long as it is a
    // secret, null.
    function role(name) {
      if (mistake === null || secret || !["wrong", "undefined"].includes(state(name))) return null;
      return name === mistake.input ? "source" : "inherited";
    }

    const inherited = () => nodes.map((node) => node.name).filter((name) => role(name) === "inherited").reverse();

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

    // Of a node's gradient: "none", "checking", "right", "wrong", "undefined" where it is no number, or "unproven" where the
    // numerical one alone is none.
    function state(name) {
      if (!proven.includes(name)) return "none";
      if (!numerical[name]) return "checking";
      const apart = error(name);
      if (!Number.isFinite(apart)) return traced.gradients[name].data.every(Number.isFinite) ? "unproven" : "undefined";
      return apart <= data.tolerance ? "right" : "wrong";
    }

    const error = (name) => derivation.relativeError(traced.gradients[name], numerical[name]);

    function go(index) {
      at = last = Math.min(Math.max(index, 0), road.length - 1);
      ({ node: current, phase } = road[at]);
      tell("current");
    }

    const move = (by) => go(last + by);

    // The same phase where the node is on the road; what stands beside the road is looked at from where the reader is.
    function select(name) {
      const stops = road.map((stop, i) => ({ ...stop, i })).filter((stop) => stop.node === name);
      if (stops.length) return go((stops.find((stop) => stop.phase === phase) ?? stops[0]).i);
      at = null;
      current = name;
      tell("current");
    }

    // Of a node's gradient: who has sent a part so far, and who will. On the way forward nothing is hidden: all have.
    function arrived(name) {
      const all = Object.keys(traced.contributions[name]);
      if (phase === "forward") return { users: all, all };
      const passed = new Set(road.slice(0, last + 1).filter((stop) => stop.phase !== "forward").map((stop) => stop.node));
      return { users: all.filter((user) => passed.has(user)), all };
    }

    const complete = (name) => arrived(name).users.length === arrived(name).all.length;

    return {
      data, exported, nodes, byName, proven, road, loss, edit, editUpstream, plant, reveal, role, inherited, load, rebase,
      reset, go, move, select, arrived, complete, state, error,
      hides: () => false, // whether a quiz keeps a gradient to itself; the quiz puts its own in
      numerical: (name) => numerical[name],
      subscribe: (listener) => listeners.push(listener),
      get inputs() { return inputs; },
      get traced() { return traced; },
      get right() { return right; }, // the trace without the mistake
      get upstream() { return upstream; },
      get base() { return base; },
      get mistake() { return secret ? null : mistake; }, // as far as the reader may know it
      get planted() { return mistake; }, // whether or not
      get secret() { return secret; },
      get at() { return at; },
      get last() { return last; },
      get phase() { return phase; },
      get current() { return current; },
    };
  }

  return { create };
})();
