// The node looked at, in three columns: the forward rule with the values, the backward rule with the gradients, the
// proof. Value, gradient and numerical gradient stand row beside row.

"use strict";

const nodePanel = (() => {
  const { el, math, equation, error } = dom;
  const KINDS = {
    input: "input, beside the road", constant: "constant, without a gradient", step: "step", loss: "the loss",
  };

  function create(store, quiz, panel) {
    const { exported } = store;
    const says = nodeText.create(store);
    const ways = nodeWays.create(store, says, (kind, name, user) => picking("backward", kind, name, user));
    let parts = null; // what changes with the numbers
    let told = null; // the quiz's explanation

    const table = (value, options) => arrays.table(value, exported.axes, options);
    const isStandIn = (node) => node.kind === "loss";
    const own = (node) => node.name === exported.output && !store.loss; // a derivation that ends in its own loss

    // A link that leads to another node is drawn over: the focus then stays in the panel, which is told anew.
    function draw() {
      const held = panel.contains(document.activeElement);
      drawNode();
      if (held && !panel.contains(document.activeElement)) panel.focus({ preventScroll: true });
    }

    function drawNode() {
      const node = store.byName[store.current];
      const hidden = quiz.hides(node.name);
      const div = (id) => el("div", { id });
      parts = {
        node, hidden, value: valueTable(node), slope: gradientTable(node, hidden), tables: [],
        state: el("p", { class: "state small" }), numbers: el("div", { class: "numbers" }),
        question: div("node-question"), proof: div("node-proof"), numerical: el("div", { id: "numerical", class: "cell" }), arrived: div("arrived"),
        sent: div("sent"), explained: { forward: el("div", { class: "explained" }), backward: el("div", { class: "explained" }) },
      };
      // Where nothing goes back there is nothing to say of it.
      if (!store.proven.length && !store.loss) panel.replaceChildren(heading(node), el("div", { class: "three two" },
        column("forward", "Forward", forwardRule(node), valueCell(node), parts.explained.forward),
        column("given", "Put in", "", el("div", { class: "cell" }), [inputs(node), says.facts(node)])));
      else panel.replaceChildren(
        heading(node),
        el("div", { class: "three" },
          column("forward", "Forward", forwardRule(node), valueCell(node), [parts.explained.forward, inputs(node)]),
          column("backward", "Backward", backwardRule(node), gradientCell(node),
            [parts.question, parts.explained.backward, parts.arrived, parts.sent]),
          column("proof", "Proof", parts.proof, parts.numerical, says.facts(node))),
      );
      drawNumbers();
      fit.equations(panel);
      if (told) parts.question.append(told);
      told = null;
    }

    const column = (name, title, rule, cell, rest) => el("section", { class: `column ${name}`, "aria-label": title },
      el("div", { class: "rule" }, el("h3", {}, title), rule), cell, el("div", { class: "rest" }, rest));

    const heading = (node) => el("div", { class: "heading" },
      el("h2", {}, math(node.math), " ", el("code", {}, node.name)), el("span", { class: "kind" }, KINDS[node.kind]),
      el("p", { class: "meaning" }, says.sentence(node.meaning)));

    // --- forward ---

    const forwardRule = (node) => node.equation
      ? el("div", { class: "scroll equation", html: node.equation })
      : el("p", { class: "small" }, node.kind === "constant" ? "Given: a setting." : "Given: no step computes it.");

    function valueTable(node) {
      const editable = node.kind === "input" || node.kind === "constant";
      return table(store.traced.values[node.name], editable
        ? { name: node.name, edit: (entry, number) => store.edit(node.name, entry, number), pick: picking("forward", "value", node.name) }
        : { pick: picking("forward", "value", node.name) });
    }

    const valueCell = (node) => el("div", { id: "value", class: "cell" }, el("h4", {}, "Value of ", math(node.math),
      node.inputs ? null : el("span", { class: "small" }, " – change it")), parts.value.element);

    // What is put in: the values of the step's inputs; those that are given can be changed here.
    function inputs(node) {
      if (!node.inputs?.length) return "";
      const shown = [...node.inputs, ...(isStandIn(node) ? ["g"] : [])];
      return el("div", { id: "inputs" }, el("h4", {}, "Put in"), shown.map((name) => {
        const weights = isStandIn(node) && name === "g";
        const given = weights || store.byName[name].kind !== "step";
        const edit = weights ? store.editUpstream : (entry, number) => store.edit(name, entry, number);
        const made = table(store.traced.values[name], given
          ? { name: weights ? "upstream gradient" : name, edit } : { pick: picking("forward", "value", name) });
        parts.tables.push(() => made.update(store.traced.values[name]));
        return el("div", { "data-name": name, ...(weights ? { id: "weights" } : {}) },
          el("p", { class: "small" }, weights ? [el("i", {}, "g"), ", the upstream gradient"] : says.link(name),
            given ? " – change it" : ""), made.element);
      }));
    }

    // --- backward ---

    function backwardRule(node) {
      const local = Object.entries(node.backward ?? {}).filter(([name]) => store.byName[name].kind !== "constant");
      const constants = Object.entries(node.backward ?? {}).filter(([name]) => store.byName[name].kind === "constant");
      if (!local.length && !constants.length)
        return el("p", { class: "small" }, node.inputs ? "Nothing goes back from here." : "The gradient ends here: nothing stands before it.");
      return el("ul", { id: "back-rules", class: "back" }, [...local, ...constants].map(([name, { equation: markup }]) =>
        el("li", {}, el("span", { class: "small" }, "to ", says.link(name)),
          quiz.hidesRule(name) ? el("p", { class: "small" }, "asked for in the quiz") : equation(markup), says.slip(node.name, name))));
    }

    function gradientTable(node, hidden) {
      const gradient = store.traced.gradients[node.name];
      if (isStandIn(node)) return table(gradient);
      if (!store.proven.includes(node.name)) return null;
      return table(gradient, hidden ? { hidden, asked: quiz.entryOf(node.name) } : { pick: picking("backward", "gradient", node.name) });
    }

    const gradientCell = (node) => el("div", { id: "gradient", class: "cell" },
      el("h4", {}, "Gradient ", el("span", { class: "d" }, el("i", {}, "d"), math(node.math))),
      parts.slope ? parts.slope.element : el("p", { class: "small" }, noGradient(node)), parts.state);

    const noGradient = (node) =>
      node.kind === "constant" ? "A setting: nothing is sent back to it." : "Nothing is differentiated here.";

    // A click on an entry asks how it came about: the sum behind it is written below the tables of its column.
    function picking(side, kind, name, user) {
      if (typeof explain === "undefined") return undefined;
      return (entry) => explain.show(store, { kind, name, user, entry }, parts.explained[side]);
    }

    // --- what changes with the numbers, and with the stop ---

    function drawNumbers() {
      const { node, hidden, value, slope } = parts;
      value.update(store.traced.values[node.name]);
      parts.tables.forEach((update) => update());
      const { users, all } = store.arrived(node.name);
      if (slope) slope.update(store.complete(node.name) ? store.traced.gradients[node.name] : ways.soFar(node.name, users));
      parts.state.replaceChildren(...(slope && !hidden ? stateOf(node, users, all) : []));
      parts.question.replaceChildren(...(hidden ? [quiz.question(node.name, answered)] : []));
      const shown = !hidden && store.proven.includes(node.name) && all.length > 0;
      parts.arrived.replaceChildren(...(shown ? ways.arrived(node, users, all) : []));
      parts.sent.replaceChildren(...(hidden || store.phase === "forward" ? [] : ways.sent(node)));
      drawProof();
    }

    function stateOf(node, users, all) {
      if (isStandIn(node) || own(node)) return ["The way back starts here: ", el("i", {}, "dL"), "/", el("i", {}, "dL"), " = 1."];
      if (store.phase === "forward" || !all.length) return [];
      return [says.count(node.name, users.length, all.length)];
    }

    // The quiz goes on: with another entry, or with the answer and its explanation.
    function answered(explanation = null) {
      told = explanation;
      draw();
    }

    function drawProof() {
      const { node, hidden } = parts;
      const state = store.state(node.name);
      const how = "Each entry is moved a little, all steps behind it run again.";
      const content = {
        none: () => [el("p", { class: "small" }, isStandIn(node) ? "Nothing to prove: L changes with itself, one to one." : "No gradient, no proof.")],
        checking: () => [el("p", {}, "… checking."), el("p", { class: "small how" }, how)],
        undefined: () => [el("p", { class: "wrong" }, "No number: these inputs lie outside of what the equations allow.")],
        unproven: () => [el("p", {}, "No numerical gradient: moved a little, an entry makes a later step overflow. So nothing is proven here.")],
        right: () => [verdict(true, node.name), el("p", { class: "small how" }, how)],
        wrong: () => [verdict(false, node.name), el("p", { class: "small how" }, how)],
      }[state]();
      parts.proof.replaceChildren(...content);
      const found = store.numerical(node.name);
      const shown = found && !hidden && (state === "right" || state === "wrong");
      parts.numerical.dataset.state = state;
      parts.numerical.replaceChildren(...(shown ? [
        el("h4", {}, "Numerical gradient", store.complete(node.name) ? null : el("span", { class: "small" }, " – of all parts")),
        table(found).element,
      ] : []));
      fit.alike([...panel.querySelectorAll("#value, #gradient, #numerical")].flatMap((cell) => [...cell.querySelectorAll(".arrays")]));
    }

    const verdict = (right, name) => el(
      "p", { class: "verdict" }, el("span", { class: right ? "right" : "wrong" }, right ? "✓ proven: " : "✗ wrong: "), "relative error ",
      el("span", { id: "error" }, error(store.error(name))), `, allowed ${error(store.data.tolerance, 0)}.`,
    );

    store.subscribe((what) => {
      if (what === "current" || parts.hidden !== quiz.hides(parts.node.name)) draw();
      else if (what === "proofs") drawProof();
      else drawNumbers();
    });
    draw();
    fit.follow(panel);
    return { draw };
  }

  return { create };
})();
