// Rules to choose from: the right local rule of a line of the way back, and slips of the same line as wrong answers.

"use strict";

const rules = (() => {
  const { el } = dom;
  const SAME = 1e-9; // relative: rules whose numbers are this close cannot be told apart

  // Numbers in [0, 1) that follow from a whole number or a text alone (mulberry32), so that a link draws what its sender drew.
  function chance(seed) {
    let state = 0;
    for (const letter of String(seed)) state = (Math.imul(state, 31) + letter.charCodeAt(0)) | 0;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
  }

  function shuffled(items, draw) {
    const made = [...items];
    for (let i = made.length - 1; i > 0; --i) {
      const j = Math.floor(draw() * (i + 1));
      [made[i], made[j]] = [made[j], made[i]];
    }
    return made;
  }

  const lineOf = ({ step, input }) => `${step} → ${input}`;
  const written = (text) => text.replaceAll("-", "−");

  // What a rule sends back to its input: a value. slip: null for the right rule.
  const sent = (store, { step, input }, slip) =>
    derivation.trace(store.exported, store.inputs, store.upstream, slip).contributions[input][step];

  const alike = (one, other) => {
    const largest = Math.max(arrays.largestOf(one), arrays.largestOf(other));
    return one.data.every((x, i) => !(Math.abs(x - other.data[i]) > SAME * largest));
  };

  // Wrong answers for a line: its slips, then what the same step sends to its other inputs, as if that were meant here.
  function slipsOf(store, { step, input }, draw) {
    const { mistakes } = store.data;
    const { backward } = store.byName[step];
    const left = backward[input].text.split(" += ")[0];
    const others = Object.keys(backward).filter((name) => name !== input).flatMap((name) => [
      { ...backward[name], description: `it goes to ${name}` },
      ...mistakes.filter((m) => m.step === step && m.input === name),
    ]).map((rule) => ({
      step, input, expression: rule.expression, text: `${left} += ${rule.text.split(" += ")[1]}`, description: rule.description,
    }));
    return [...shuffled(mistakes.filter((m) => m.step === step && m.input === input), draw), ...others];
  }

  // Up to `most` rules of one line in a drawn order, the right one among them: [{slip, text, part}], part: what it sends.
  // `wanted`: a slip that must be there. Rules that send the same numbers as another one there, or do not fit, are left out.
  function choices(store, line, { draw, most = 4, wanted = null }) {
    const right = store.byName[line.step].backward[line.input];
    const made = [];
    for (const slip of [null, ...(wanted ? [wanted] : []), ...slipsOf(store, line, draw)]) {
      if (made.length === most) break;
      const text = written(slip ? slip.text : right.text);
      if (made.some((other) => other.text === text)) continue;
      let part;
      try {
        part = sent(store, line, slip);
      } catch { // its axes have no place here
        continue;
      }
      if (!made.some((other) => alike(other.part, part))) made.push({ slip, text, part });
    }
    return shuffled(made, draw);
  }

  // The rules as a question. answered(rule) judges; what it returns is shown below.
  function ask(name, legend, offered, answered, { button = "Check" } = {}) {
    const feedback = el("p", { class: "answer", role: "status" });
    const boxes = offered.map((rule, i) =>
      el("input", { type: "radio", name, value: String(i), id: `${name}-${i}` }));
    const check = (event) => {
      event.preventDefault();
      const at = boxes.findIndex((box) => box.checked);
      const told = at < 0 ? ["Choose a rule first."] : answered(offered[at]);
      if (told) feedback.replaceChildren(...[told].flat());
    };
    return el(
      "form", { class: "rules", onsubmit: check },
      el("fieldset", {}, el("legend", {}, legend), offered.map((rule, i) =>
        el("label", { for: `${name}-${i}` }, boxes[i], el("span", { class: "written" }, rule.text)))),
      el("div", { class: "controls" }, el("button", { type: "submit" }, button)), feedback,
    );
  }

  // Every number that stands in the right rule of a line, as tables. traced: whose numbers.
  function given(store, { step, input }, traced) {
    const refs = ([op, options, ...args]) => (op === "ref" ? [options[0]] : args.flatMap(refs));
    return [...new Set(refs(store.byName[step].backward[input].expression))].map((of) => {
      const isGradient = of.startsWith("d_") && !(of in traced.values);
      const plain = isGradient ? of.slice(2) : of;
      const value = (isGradient ? traced.gradients : traced.values)[plain];
      return arrays.table(value, store.exported.axes, { title: `${isGradient ? "gradient of " : ""}${plain}` }).element;
    });
  }

  return { chance, shuffled, choices, ask, given, lineOf, written, sent };
})();
