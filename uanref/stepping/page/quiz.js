// The quiz: a node's gradient stays hidden, the reader works out one entry of it: of the right one, also where a mistake
// is planted.

"use strict";

const quiz = (() => {
  const { el, number, equation, math } = dom;
  const NEAR = 0.01; // of the right number; of the gradient's largest entry where that number is tiny

  // Whether an answer is right: as exact as the numbers that the page shows allow.
  function accepts(answer, gradient, entry) {
    const largest = arrays.largestOf(gradient);
    const right = gradient.data[entry];
    return Math.abs(answer - right) <= NEAR * Math.max(Math.abs(right), 0.05 * largest, 1e-12);
  }

  function create(store) {
    const solved = new Set();
    const asked = {};
    let on = false;

    // Which entry is asked for: the first time the one with the largest gradient, so that it is no rounding error.
    function entryOf(name) {
      const { data } = store.right.gradients[name];
      if (asked[name] === undefined) asked[name] = data.reduce((best, x, i) => (Math.abs(x) > Math.abs(data[best]) ? i : best), 0);
      return asked[name];
    }

    const hides = (name) => on && store.proven.includes(name) && name !== store.exported.output && !solved.has(name);

    // The question about a node, for its panel. `again` draws the panel anew.
    function question(name, again) {
      const node = store.byName[name];
      const gradient = store.right.gradients[name];
      const entry = entryOf(name);
      const feedback = el("p", { class: "answer", role: "status" });
      const input = el("input", { type: "number", step: "any", id: "answer", "aria-describedby": "question" });
      const where = arrays.entryText(gradient, entry, store.exported.axes, " at ");
      const check = (event) => {
        event.preventDefault();
        const answer = input.valueAsNumber;
        if (!Number.isFinite(answer)) feedback.replaceChildren("Type a number first.");
        else if (accepts(answer, gradient, entry)) {
          solved.add(name);
          again(told(true, node, gradient, entry));
        } else {
          const sign = accepts(-answer, gradient, entry) ? " The size is right: look at the signs." : "";
          feedback.replaceChildren(el("span", { class: "wrong" }, "✗ Not yet."), ` ${number(answer)} is not it.${sign}`);
        }
      };
      const other = () => {
        asked[name] = (entry + 1) % gradient.data.length;
        again();
      };
      const give = () => {
        solved.add(name);
        again(told(false, node, gradient, entry));
      };
      return el(
        "div", { class: "ask" },
        el("p", { id: "question" }, "What is the gradient of ", math(node.math), `${where}, the marked entry?`),
        el(
          "form", { onsubmit: check }, el("label", { for: "answer" }, "Your number"), input,
          el("button", { type: "submit" }, "Check"),
          gradient.data.length > 1 ? el("button", { type: "button", onclick: other }, "Another entry") : null,
          el("button", { type: "button", onclick: give }, "Show it"),
        ),
        feedback,
        el("details", {}, el("summary", {}, "What you need"), needed(name)),
      );
    }

    // The equations that lead to the node, and every number that stands in them.
    function needed(name) {
      return Object.keys(store.right.contributions[name]).map((user) => {
        const local = store.byName[user].backward[name];
        const names = [...new Set(refs(local.expression))];
        return el(
          "div", { class: "part" }, el("p", {}, `from ${user}:`), equation(local.equation),
          names.map((of) => {
            const isGradient = of.startsWith("d_") && !(of in store.byName);
            const plain = isGradient ? of.slice(2) : of;
            const value = (isGradient ? store.right.gradients : store.right.values)[plain];
            const title = `${isGradient ? "gradient of " : ""}${plain}`;
            return arrays.table(value, store.exported.axes, { title }).element;
          }),
        );
      });
    }

    const refs = ([op, options, ...args]) => (op === "ref" ? [options[0]] : args.flatMap(refs));

    // The explanation: the equations, and what each user contributes to the entry.
    function told(right, node, gradient, entry) {
      const parts = Object.entries(store.right.contributions[node.name]);
      return el(
        "div", { class: "ask", role: "status" },
        el("p", {}, el("span", { class: right ? "right" : "" }, right ? "✓ Right: " : "The answer: "), number(gradient.data[entry])),
        parts.length ? null : el("p", {}, "No step sends a gradient back to it."),
        parts.map(([user, part]) => el(
          "div", {}, equation(store.byName[user].backward[node.name].equation),
          el("p", { class: "small" }, `from ${user}: ${number(part.data[entry])}`),
        )),
      );
    }

    return {
      hides, question, entryOf,
      get on() { return on; },
      toggle() {
        on = !on;
        solved.clear();
      },
    };
  }

  return { create, accepts };
})();
