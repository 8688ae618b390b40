// The node looked at: equation, meaning, shape, source, value, gradient, proof, and where its gradient comes from.

"use strict";

const nodePanel = (() => {
  const { el, math, equation, error } = dom;
  const KINDS = { input: "input", constant: "constant, without a gradient", step: "step" };

  function create(store, quiz, panel) {
    const { exported } = store;
    let parts = null; // what changes with the numbers
    let told = null; // the quiz's explanation

    const link = (name) => el("button", { type: "button", class: "plain", onclick: () => store.select(name) }, name);
    const links = (names) => names.flatMap((name, i) => (i ? [", ", link(name)] : [link(name)]));
    const table = (value, options) => arrays.table(value, exported.axes, options);

    function draw() {
      const node = store.byName[store.current];
      const { traced } = store;
      const gradient = traced.gradients[node.name];
      const editable = node.kind !== "step";
      const isOutput = node.name === exported.output;
      const hasGradient = store.proven.includes(node.name);
      const hidden = quiz.hides(node.name);
      const value = table(traced.values[node.name], editable && {
        name: node.name, edit: (entry, number) => store.edit(node.name, entry, number),
      } || {});
      const slope = hasGradient ? table(gradient, {
        ...(hidden ? { hidden, asked: quiz.entryOf(node.name) } : {}),
        ...(isOutput ? { name: "upstream gradient", edit: store.editUpstream } : {}),
      }) : null;
      const [question, proof, ways] = ["question", "proof", "ways"].map((id) => el("div", { id: `node-${id}` }));
      parts = { node, hidden, value, slope, question, proof, ways };
      panel.replaceChildren(
        heading(node),
        el("p", { class: "meaning" }, sentence(node.meaning)),
        node.equation ? el("div", { class: "scroll equation", html: node.equation }) : "",
        facts(node),
        el("div", { class: "pair" },
          el("div", { id: "value" }, el("h3", {}, "Value", editable ? el("span", { class: "small" }, " – change it") : null), value.element),
          el("div", { id: "gradient" }, el("h3", {}, "Gradient",
            isOutput && slope ? el("span", { class: "small" }, " – from outside: change it") : null),
          slope ? slope.element : el("p", { class: "small" }, noGradient(node)))),
        question, proof, ways, back(node),
      );
      drawNumbers();
      if (told) question.append(told);
      told = null;
    }

    const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

    const noGradient = (node) =>
      node.kind === "constant" ? "A setting: nothing is sent back to it." : "Nothing is differentiated here.";

    const heading = (node) => el(
      "div", { class: "heading" }, el("h2", {}, math(node.math), " ", el("code", {}, node.name)),
      el("span", { class: "kind" }, KINDS[node.kind]),
    );

    function facts(node) {
      const { shape } = store.traced.values[node.name];
      const size = node.axes.length
        ? `${node.axes.join(" × ")} = ${shape.join(" × ")} (${node.axes.map((axis) => exported.axes[axis]).join(", ")})`
        : "a single number";
      const users = store.nodes.filter((other) => other.inputs?.includes(node.name)).map((other) => other.name);
      const rows = [["Shape", size]];
      if (node.inputs?.length) rows.push(["Computed from", links(node.inputs)]);
      if (users.length) rows.push(["Used by", links(users)]);
      if (node.source) rows.push(["Source", node.source]);
      if (node.file) rows.push(["Written in", place(node)]);
      return el("dl", { class: "facts" }, rows.map(([term, text]) => [el("dt", {}, term), el("dd", {}, text)]));
    }

    function place(node) {
      const code = el("code", { class: "place" }, `${node.file}:${node.line}`);
      const button = el("button", {
        type: "button",
        onclick: async () => {
          getSelection().selectAllChildren(code); // what the clipboard refuses the reader can copy from here
          try {
            await navigator.clipboard.writeText(code.textContent);
            button.textContent = "Copied";
          } catch {
            button.textContent = "Selected";
          }
        },
      }, "Copy");
      return [code, " ", button];
    }

    function drawNumbers() {
      const { node, hidden, value, slope } = parts;
      const { traced } = store;
      value.update(traced.values[node.name]);
      if (slope) slope.update(traced.gradients[node.name]);
      parts.question.replaceChildren(...(hidden ? [quiz.question(node.name, answered)] : []));
      drawProof();
      const users = Object.keys(traced.contributions[node.name]);
      const shown = !hidden && store.proven.includes(node.name) && users.length > 0;
      parts.ways.replaceChildren(...(shown ? contributions(node, users) : []));
    }

    // The quiz goes on: with another entry, or with the answer and its explanation.
    function answered(explanation = null) {
      told = explanation;
      draw();
    }

    function drawProof() {
      const { node, hidden } = parts;
      const state = store.state(node.name);
      const content = {
        none: () => [],
        checking: () => [el("p", {}, "… checking: every entry is moved a little, the rest of the list is run again.")],
        undefined: () => [el("p", { class: "wrong" }, "No number: these inputs lie outside of what the equations allow.")],
        right: () => [verdict(true, node.name), numerical(node.name, hidden)],
        wrong: () => [verdict(false, node.name), numerical(node.name, hidden)],
      }[state]();
      if (content.length) content.unshift(el("h3", {}, "Numerical proof"));
      const open = parts.proof.querySelector("details")?.open;
      parts.proof.replaceChildren(...content.filter(Boolean));
      if (open && parts.proof.querySelector("details")) parts.proof.querySelector("details").open = true;
    }

    const verdict = (right, name) => el(
      "p", {}, el("span", { class: right ? "right" : "wrong" }, right ? "✓ proven: " : "✗ wrong: "), "relative error ",
      el("span", { id: "error" }, error(store.error(name))), `, allowed ${store.data.tolerance.toExponential(0)}.`,
    );

    const numerical = (name, hidden) => hidden ? null : el(
      "details", {}, el("summary", {}, "The numerical gradient"), table(store.numerical(name)).element,
    );

    // What each user sends back, and the sum; first by the ways that have names, if there are some.
    function contributions(node, users) {
      const made = [];
      const gradient = store.traced.gradients[node.name];
      const arrived = store.traced.contributions[node.name];
      const ways = store.data.ways[node.name];
      if (ways && store.mistake?.input !== node.name) {
        const titles = Object.keys(ways);
        const values = titles.map((title) => derivation.total(ways[title].map((hop) => sent(node.name, hop)), gradient));
        const scale = Math.max(...[...values, gradient].map(arrays.largestOf));
        made.push(
          el("h3", {}, "The ways of ", math(node.math), " to the loss"),
          el("div", { class: "parts", id: "named-ways" },
            titles.map((title, i) => el("div", { class: "part", "data-way": title },
              el("p", {}, el("b", {}, sentence(title).slice(0, -1)), `: ${ways[title].map(hopText).join("; ")}`),
              table(values[i], { scale }).element)),
            sum(gradient, "Together", scale)),
        );
      }
      const scale = Math.max(...[...Object.values(arrived), gradient].map(arrays.largestOf));
      made.push(
        el("h3", {}, users.length > 1 ? "What each user sends back" : "What its user sends back"),
        el("div", { class: "parts", id: "contributions" },
          users.map((user) => el("div", { class: "part", "data-user": user },
            el("p", {}, link(user), ": ", store.byName[user].meaning),
            equation(store.byName[user].backward[node.name].equation),
            slip(user, node.name),
            table(arrived[user], { scale }).element)),
          users.length > 1 ? sum(gradient, "Summed: the gradient", scale) : null),
      );
      return made;
    }

    const sum = (gradient, title, scale) => el("div", { class: "part sum" }, el("p", {}, el("b", {}, title)),
      table(gradient, { scale }).element);

    function sent(name, hop) {
      const [user, second] = hop.split("/");
      if (second === undefined) return store.traced.contributions[name][user];
      const part = store.traced.contributions[user][second];
      return derivation.contribution(exported, store.traced, user, name, part);
    }

    function hopText(hop) {
      const [user, second] = hop.split("/");
      return second === undefined ? `from ${user}` : `from ${user}, what came from ${second}`;
    }

    const slip = (user, name) => store.mistake?.step === user && store.mistake.input === name
      ? el("p", { class: "wrong" }, `✗ planted here: ${store.mistake.description}`) : null;

    function back(node) {
      const local = Object.entries(node.backward ?? {});
      if (!local.length) return "";
      return el("div", { id: "back-rules" }, el("h3", {}, "The way back through this step"),
        el("ul", { class: "back" }, local.map(([name, { equation: markup }]) =>
          el("li", {}, el("span", { class: "small" }, "to ", link(name)), equation(markup)))));
    }

    store.subscribe((what) => {
      if (what === "current" || parts.hidden !== quiz.hides(parts.node.name)) draw();
      else if (what === "proofs") drawProof();
      else drawNumbers();
    });
    draw();
    return { draw };
  }

  return { create };
})();
