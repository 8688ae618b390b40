// The quiz: gradients and their rules stay hidden. It begins near the output and goes back along the road; of each node it
// asks for the rule first, then for one entry: of the right gradient, also where a mistake is planted.

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

  // The nodes asked about, from the output back: a gradient is complete once the earliest of its users has sent its part.
  function order(store) {
    const place = (name) => store.nodes.findIndex((node) => node.name === name);
    const complete = (name) => Math.min(...Object.keys(store.right.contributions[name]).map(place));
    return store.proven
      .filter((name) => name !== store.exported.output && Object.keys(store.right.contributions[name]).length)
      .sort((one, other) => complete(other) - complete(one) || place(other) - place(one));
  }

  function create(store) {
    const names = order(store);
    const ruled = new Set(); // whose rule is known
    const solved = new Set(); // whose gradient is known
    const asked = {};
    const count = { right: 0, tries: 0, shown: 0 };
    let on = false;

    // Which entry is asked for: the first time the one with the largest gradient, so that it is no rounding error.
    function entryOf(name) {
      const { data } = store.right.gradients[name];
      if (asked[name] === undefined) asked[name] = data.reduce((best, x, i) => (Math.abs(x) > Math.abs(data[best]) ? i : best), 0);
      return asked[name];
    }

    // The line whose rule is asked for: of the senders the one with the most slips to choose from, the output's side first.
    function lineOf(name) {
      const many = (step) => store.data.mistakes.filter((m) => m.step === step && m.input === name).length;
      const senders = Object.keys(store.right.contributions[name]);
      return { step: senders.reduce((best, step) => (many(step) > many(best) ? step : best)), input: name };
    }

    const hides = (name) => on && names.includes(name) && !solved.has(name);
    store.hides = hides;
    // Whether the local rules to a node are secret, too.
    const hidesRule = (name) => on && names.includes(name) && !ruled.has(name);

    // --- where it goes ---

    const next = (after) => {
      const from = names.indexOf(after) + 1;
      return [...names.slice(from), ...names.slice(0, from)].find((name) => !solved.has(name)) ?? null;
    };

    // To a question: its stop on the way back; for an input, the stop that completes its gradient, and the input beside it.
    function go(name) {
      const stop = (node) => store.road.findIndex((each) => each.node === node && each.phase === "backward");
      const own = stop(name);
      if (own >= 0) return store.go(own);
      const users = Object.keys(store.right.contributions[name]);
      store.go(Math.max(...users.map(stop), 0));
      store.select(name);
    }

    const each = () => {
      if (!count.right) return "";
      const tries = Number((count.tries / count.right).toFixed(1));
      return `, ${tries} ${tries === 1 ? "try" : "tries"} each`;
    };
    const score = () => el("p", { class: "small", id: "score" },
      `${solved.size} of ${names.length}${each()}${count.shown ? `, ${count.shown} shown` : ""}`);

    // --- the questions ---

    // The question about a node, for its panel. `again` draws the panel anew.
    function question(name, again) {
      return el("div", { class: "ask" }, score(), ruled.has(name) ? forNumber(name, again) : forRule(name, again));
    }

    // The focus stays with who answers: the question is another one, or the panel drawn anew.
    const onto = (selector) => document.querySelector(selector)?.focus({ preventScroll: true });

    function forRule(name, again) {
      const line = lineOf(name);
      const offered = rules.choices(store, line, { draw: rules.chance(`${store.data.seed} ${name}`) });
      const pass = () => {
        ruled.add(name);
        again();
        onto("#answer");
      };
      const answered = (rule) => {
        count.tries += 1;
        if (!rule.slip) {
          count.right += 1;
          return pass();
        }
        return [el("span", { class: "wrong" }, "✗ Not that one: "), `${rule.slip.description}.`];
      };
      const legend = el("span", { id: "question" }, "Which rule does ", math(store.byName[name].math), ` get from ${line.step}?`);
      return [
        el("p", { class: "written" }, "forward: ", rules.written(store.byName[line.step].text)),
        rules.ask("rule", legend, offered, answered),
        el("button", { type: "button", id: "show-rule", onclick: () => {
          count.shown += 1;
          pass();
        } }, "Show it"),
      ];
    }

    function forNumber(name, again) {
      const node = store.byName[name];
      const gradient = store.right.gradients[name];
      const entry = entryOf(name);
      const feedback = el("p", { class: "answer", role: "status" });
      const input = el("input", {
        type: "text", inputmode: "decimal", autocomplete: "off", spellcheck: "false", id: "answer", "aria-describedby": "question" });
      const where = arrays.entryText(gradient, entry, store.exported.axes, " at ");
      const end = (right) => {
        solved.add(name);
        again(told(right, node, gradient, entry));
        onto("#next-question");
      };
      const check = (event) => {
        event.preventDefault();
        const answer = dom.parsed(input.value);
        if (!Number.isFinite(answer)) return feedback.replaceChildren("Type a number first.");
        count.tries += 1;
        if (accepts(answer, gradient, entry)) {
          count.right += 1;
          return end(true);
        }
        const sign = accepts(-answer, gradient, entry) ? " The size is right: look at the signs." : "";
        feedback.replaceChildren(el("span", { class: "wrong" }, "✗ Not yet."), ` ${number(answer)} is not it.${sign}`);
      };
      const other = () => {
        asked[name] = (entry + 1) % gradient.data.length;
        again();
        onto("#answer");
      };
      const give = () => {
        count.shown += 1;
        end(false);
      };
      return [
        el("div", { class: "written" }, senders(name).map((step) => el("p", {}, el("span", { class: "right" }, "✓ "), ruleText(step, name)))),
        el("p", { id: "question" }, "What is the gradient of ", math(node.math), `${where}, the marked entry?`),
        el(
          "form", { onsubmit: check }, el("label", { for: "answer" }, "Your number"), input,
          el("button", { type: "submit" }, "Check"),
          gradient.data.length > 1 ? el("button", { type: "button", onclick: other }, "Another entry") : null,
          el("button", { type: "button", id: "show-number", onclick: give }, "Show it"),
        ),
        feedback,
        el("details", {}, el("summary", {}, "What you need"), needed(name)),
      ];
    }

    const senders = (name) => Object.keys(store.right.contributions[name]);
    const localOf = (step, name) => store.byName[step].backward[name];
    const ruleText = (step, name) => rules.written(localOf(step, name).text);

    // The equations that lead to the node, and every number that stands in them.
    const needed = (name) => senders(name).map((step) => el(
      "div", { class: "part" }, el("p", {}, `from ${step}:`), equation(localOf(step, name).equation),
      rules.given(store, { step, input: name }, store.right),
    ));

    // The explanation: the equations, and what each user contributes to the entry.
    function told(right, node, gradient, entry) {
      const parts = Object.entries(store.right.contributions[node.name]);
      const following = next(node.name);
      return el(
        "div", { class: "ask", role: "status" }, score(),
        el("p", {}, el("span", { class: right ? "right" : "" }, right ? "✓ Right: " : "The answer: "), number(gradient.data[entry])),
        parts.map(([user, part]) => el(
          "div", {}, equation(localOf(user, node.name).equation),
          el("p", { class: "small" }, `from ${user}: ${number(part.data[entry])}`),
        )),
        following
          ? el("button", { type: "button", id: "next-question", onclick: () => {
            go(following);
            onto("#rule-0");
          } }, `Next question: ${following}`)
          : el("p", {}, "That was the last question."),
      );
    }

    function set(now) {
      if (now === on || (now && !names.length)) return;
      on = now;
      ruled.clear();
      solved.clear();
      Object.assign(count, { right: 0, tries: 0, shown: 0 });
    }

    return {
      hides, hidesRule, question, entryOf, set, names,
      get on() { return on; },
      begin: () => go(names[0]),
    };
  }

  return { create, accepts };
})();
