// What made one entry of a trace: the lines of its sum. The page's explain.js shows them.

"use strict";

const told = (() => {
  // asked: {kind: "value" | "gradient" | "contribution", name, user, entry, users}; user: whose contribution; users: who
  // has sent a part of the gradient so far, all by default. mistake: null, or {step, input, expression, description}.
  //
  // Returns {kind, name, user, entry, lines, result, given}: lines are {parts (see written.js), value, user, mistake};
  // result is their sum, the entry; given says why there is no line.
  function entry(exported, traced, asked, mistake = null) {
    const { kind, name, user = null, entry: at } = asked;
    const nodes = Object.fromEntries(exported.nodes.map((node) => [node.name, node]));
    const { loss } = exported;
    const isLoss = (other) => loss && other === loss.name;
    const known = { ...traced.values };
    const names = {};
    for (const of of Object.keys(known)) names[of] = { kind: "value", name: of };
    if (loss) {
      known.g ??= traced.upstream;
      names.g = { kind: "value", name: "g" };
      known[`d_${loss.name}`] = primitives.scalar(1);
      names[`d_${loss.name}`] = { kind: "gradient", name: loss.name };
    }
    for (const [of, gradient] of Object.entries(traced.gradients)) {
      known[`d_${of}`] ??= gradient;
      names[`d_${of}`] ??= { kind: "gradient", name: of };
    }
    const { write } = written.create(names, known, exported.sizes);
    const of = isLoss(name) ? primitives.scalar(0) : traced.values[name];
    const index = placeOf(of, at);
    const answer = (lines, result, given = null) => ({ kind, name, user, entry: at, axes: of.axes, index, lines, result, given });

    if (kind === "value") {
      const forward = isLoss(name) ? loss.forward : nodes[name]?.forward;
      if (!forward) return answer([], known[name].data[at], nodes[name]?.kind === "constant" ? "a setting" : "given");
      const line = write(forward, index);
      return answer([{ ...line, user: null, mistake: null }], isLoss(name) ? line.value : known[name].data[at]);
    }
    if (isLoss(name) || (name === exported.output && !loss))
      return answer([], traced.gradients[name]?.data[at] ?? 1, isLoss(name) || nodes[name].name === "loss" ? "the way back starts here" : "given");
    const line = (from) => {
      const slip = mistake !== null && mistake.step === from && mistake.input === name ? mistake : null;
      const rule = isLoss(from) ? loss.backward[name] : nodes[from].backward[name];
      const made = write(slip ? slip.expression : rule.expression, index);
      return { ...made, user: from, mistake: slip && slip.description };
    };
    const all = name === exported.output ? [loss.name] : Object.keys(traced.contributions[name]);
    const users = kind === "contribution" ? [user] : all.filter((from) => asked.users?.includes(from) ?? true);
    const lines = users.map(line);
    const complete = kind === "gradient" && users.length === all.length;
    const sent = (line) => (isLoss(line.user) ? line.value : traced.contributions[name][line.user].data[at]);
    const result = complete ? traced.gradients[name].data[at] : lines.reduce((sum, line) => sum + sent(line), 0);
    return answer(lines, result, lines.length ? null : all.length ? "nothing has arrived yet" : "no step sends anything back");
  }

  function placeOf({ axes, shape }, entry) {
    const index = {};
    for (let i = axes.length - 1; i >= 0; --i) {
      index[axes[i]] = entry % shape[i];
      entry = Math.floor(entry / shape[i]);
    }
    return index;
  }

  return { entry, placeOf };
})();
