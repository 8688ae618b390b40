// "Find it": a mistake is planted unseen. The reader names the line of the way back that it stands in, then the rule that
// stands there. Until then the page tells nothing of it: `store.mistake` is null as long as it is a secret.

"use strict";

const game = (() => {
  const { el, number } = dom;
  const MOST = 999999; // a game's number: its mistake and the order of its answers follow from it

  function create(store, section) {
    if (!store.data.mistakes.length) {
      section.remove();
      return { seed: null, most: 0, start() {}, stop() {}, subscribe() {} };
    }
    const backward = store.nodes.filter((node) => node.kind === "step").reverse();
    const lines = backward.flatMap((node) => Object.keys(node.backward)
      .filter((input) => store.byName[input].kind !== "constant").map((input) => ({ step: node.name, input })));
    let round = null; // {seed, mistake, tries, hints, found, lineFound}
    const score = { found: 0, of: 0 };
    const listeners = [];
    const changed = () => listeners.forEach((listener) => listener());

    const near = (one, other) => derivation.relativeError(one, other) <= store.data.tolerance;
    const drawSeed = () => 1 + Math.floor(Math.random() * MOST);

    // The mistake of a game: the first one in a drawn order that turns a gradient wrong at the numbers of now.
    function drawn(seed) {
      const seen = (mistake) => {
        const { gradients } = derivation.trace(store.exported, store.inputs, store.upstream, mistake);
        return store.proven.some((name) => !near(gradients[name], store.right.gradients[name]));
      };
      return rules.shuffled(store.data.mistakes, rules.chance(seed)).find(seen) ?? null;
    }

    function start(seed = drawSeed()) {
      const mistake = drawn(seed);
      if (!mistake) {
        round = null;
        show(el("p", {}, "At these numbers no mistake can be seen: press Reset."));
        return;
      }
      round = { seed, mistake, tries: 0, hints: 0, lineFound: false, over: false };
      store.plant(mistake, { secret: true });
      draw();
      changed();
    }

    function stop() {
      if (!round) return;
      round = null;
      store.plant(null);
      draw();
      changed();
    }

    // --- what is shown ---

    const show = (...content) => section.replaceChildren(
      el("h2", { id: "game-title" }, "Find it"), ...content.flat().filter(Boolean));
    const button = (text, onclick, id) => el("button", { type: "button", onclick, ...(id ? { id } : {}) }, text);
    const link = (name) => el("button", { type: "button", class: "plain", onclick: () => store.select(name) }, name);
    const links = (names) => names.flatMap((name, i) => [i ? ", " : "", link(name)]);
    const many = (n, one) => `${n} ${n === 1 ? one : one === "try" ? "tries" : `${one}s`}`;
    const counted = () => el("p", { class: "small", id: "game-score" },
      `${many(round.tries, "try")}, ${many(round.hints, "hint")}. Found so far: ${score.found} of ${score.of}.`);

    // Drawn anew, the focus stays where it was.
    function draw() {
      const focused = section.contains(document.activeElement) ? document.activeElement.id : "";
      drawPart();
      if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    }

    function drawPart() {
      if (!round) {
        show(
          el("p", {}, "A mistake is planted in one line of the way back, and nothing on the page says where. Red nodes are " +
            "wrong against their numerical gradients; most of them only inherited it. Find the line, then the rule that stands there."),
          el("div", { class: "controls" }, button("Plant one unseen", () => start(), "game-start")));
      } else if (round.over) told();
      else if (round.lineFound) askRule();
      else askLine();
    }

    function askLine() {
      const select = el("select", { id: "game-line" }, el("option", { value: "" }, "choose a line"),
        lines.map((line, i) => el("option", { value: String(i) }, rules.lineOf(line))));
      const feedback = el("p", { class: "answer", role: "status" });
      const numbers = el("div", { id: "game-numbers" });
      select.addEventListener("change", () => {
        round.line = lines[select.value] ?? null;
        feedback.replaceChildren();
        numbers.replaceChildren(...evidence(round.line));
      });
      if (round.line) select.value = String(lines.indexOf(round.line));
      numbers.append(...evidence(round.line));
      const check = (event) => {
        event.preventDefault();
        const line = lines[select.value];
        if (!line) return feedback.replaceChildren("Choose a line first.");
        round.tries += 1;
        if (line.step === round.mistake.step && line.input === round.mistake.input) {
          round.lineFound = true;
          return draw();
        }
        feedback.replaceChildren(el("span", { class: "wrong" }, "✗ Not there. "), why(line));
        section.querySelector("#game-score").replaceWith(counted());
      };
      show(
        el("p", {}, "Somewhere on the way back one line is wrong. Which one? The line step → input sends a gradient from the step to its input."),
        el("form", { onsubmit: check, class: "controls" }, el("label", {}, "The line", select), el("button", { type: "submit" }, "Check")),
        feedback, hints(), counted(), ends(), numbers);
    }

    // What the page's numbers say of a line: the right rule, what stands in it, and what was sent. They add up, or do not.
    function evidence(line) {
      if (!line) return [];
      const sent = store.traced.contributions[line.input][line.step];
      return [
        el("p", { class: "written" }, "the right rule: ", rules.written(store.byName[line.step].backward[line.input].text)),
        el("div", { class: "arrays" }, rules.given(store, line, store.traced),
          arrays.table(sent, store.exported.axes, { title: `what ${line.step} sent to ${line.input}` }).element),
      ];
    }

    // Why a line is not the wrong one, as far as the numbers on the page say it.
    const isRight = (name) => near(store.traced.gradients[name], store.right.gradients[name]);

    function why({ step, input }) {
      if (isRight(input)) return `The gradient of ${input} is right: whatever arrives there is right, too.`;
      return isRight(step)
        ? `${input} is red, and ${step} is not: but what ${step} sends is right, the fault comes from another of its users.`
        : `This line passes on a gradient of ${step} that was wrong before.`;
    }

    function hints() {
      const { mistake } = round;
      const told = [];
      if (round.hints > 0) {
        const half = backward.findIndex((node) => node.name === mistake.step) < backward.length / 2;
        told.push(`Hint 1: on the way back it stands in the ${half ? "first half, nearer to the loss" : "second half, nearer to the inputs"}.`);
      }
      if (round.hints > 1) told.push(["Hint 2: the fault enters at the gradient of ", link(mistake.input), "."]);
      const next = () => {
        round.hints += 1;
        draw();
        (section.querySelector("#game-hint") ?? section.querySelector("#game-line")).focus();
      };
      return el("div", { id: "game-hints" }, told.map((hint) => el("p", {}, hint)),
        round.hints < 2 ? button(`Hint ${round.hints + 1} of 2`, next, "game-hint") : null);
    }

    const ends = () => el("div", { class: "controls" }, button("Show it", give, "game-give"), button("Stop", stop, "game-stop"));

    function askRule() {
      const { mistake, seed } = round;
      const offered = rules.choices(store, mistake, { draw: rules.chance(`${seed} rules`), wanted: mistake });
      const answered = (rule) => {
        round.tries += 1;
        if (rule.slip === mistake) return over(true);
        section.querySelector("#game-score").replaceWith(counted());
        const { entry, where } = apart(rules.sent(store, mistake, mistake), rule.part);
        return [el("span", { class: "wrong" }, "✗ No. "),
          `${rule.slip ? "That rule" : "That is the right rule: it"} would send ${number(rule.part.data[entry])}${where}; `,
          `what was sent is ${number(rules.sent(store, mistake, mistake).data[entry])}.`];
      };
      show(
        el("p", {}, el("span", { class: "right" }, "✓ That is the line: "), rules.lineOf(mistake), ". The panel writes the right rule; the numbers follow another one."),
        rules.ask("game-rule", "Which rule do the numbers follow?", offered, answered), counted(), ends());
    }

    function over(found) {
      round.over = true;
      round.won = found;
      score.of += 1;
      if (found) score.found += 1;
      store.reveal();
      draw();
      section.querySelector("#game-another").focus();
    }
    const give = () => over(false);

    // The entry in which two values differ most, and where it stands.
    function apart(one, other) {
      const gap = (i) => Math.abs(one.data[i] - other.data[i]);
      const entry = one.data.reduce((most, _, i) => (gap(i) > gap(most) ? i : most), 0);
      return { entry, where: arrays.entryText(one, entry, store.exported.axes, " at ") };
    }

    function told() {
      const { mistake } = round;
      const { step, input } = mistake;
      const [right, wrong] = [store.right.gradients[input], store.traced.gradients[input]];
      const { entry, where } = apart(right, wrong);
      const inherited = store.inherited();
      const row = (id, name, text, x) => el("tr", { id }, el("th", { scope: "row" }, name), el("td", { class: "written" }, text), el("td", {}, number(x)));
      show(
        el("p", { role: "status" }, round.won ? el("span", { class: "right" }, "✓ Found: ") : "It was: ", el("b", {}, mistake.id), "."),
        el("table", { class: "answers" },
          el("thead", {}, el("tr", {}, el("td"), el("th", { scope: "col" }, rules.lineOf(mistake)), el("th", { scope: "col" }, `gradient of ${input}${where}`))),
          el("tbody", {},
            row("game-right", "right", rules.written(store.byName[step].backward[input].text), right.data[entry]),
            row("game-wrong", "planted", rules.written(mistake.text), wrong.data[entry]))),
        el("p", { id: "game-reds" }, el("span", { class: "wrong" }, "✗ Source: "), link(input), ". ",
          inherited.length ? [el("span", { class: "inherited" }, "Inherited: "), ...links(inherited), "."] : "No other gradient inherited it."),
        counted(), el("div", { class: "controls" }, button("Another", () => start(), "game-another"), button("Stop", stop, "game-stop")));
    }

    // Another mistake, or none, was planted elsewhere, or all was reset: the game is over.
    store.subscribe((what) => {
      if (!round || what === "current") return;
      if (store.planted !== round.mistake) {
        round = null;
        draw();
        changed();
      } else if (what === "numbers" || round.over) draw();
    });
    draw();
    return { start, stop, most: MOST, subscribe: (listener) => listeners.push(listener), get seed() { return round?.seed ?? null; } };
  }

  return { create };
})();
