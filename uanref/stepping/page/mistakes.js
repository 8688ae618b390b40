// The mistake switch: one slip of the pen in one line of the way back, and the nodes that turn red.

"use strict";

const mistakes = (() => {
  const { el } = dom;

  function create(store, section) {
    const { mistakes } = store.data;
    if (!mistakes.length) {
      section.remove();
      return;
    }
    const groups = grouped(mistakes);
    const select = el("select", { id: "mistake", onchange: () => store.plant(mistakes.find((m) => m.id === select.value) ?? null) },
      el("option", { value: "" }, "none: all as it should be"),
      [...groups].map(([line, found]) => el("optgroup", { label: line },
        found.map((mistake) => el("option", { value: mistake.id }, `${line}: ${mistake.description}`)))));
    const random = () => {
      select.value = mistakes[Math.floor(Math.random() * mistakes.length)].id;
      select.dispatchEvent(new Event("change"));
    };
    const result = el("p", { id: "mistake-result", role: "status" });
    section.append(
      el("h2", { id: "mistakes-title" }, "Plant a mistake"),
      el("p", {}, `One slip in one local rule, ${mistakes.length} to choose from. The numerical gradients know nothing of it.`),
      el("div", { class: "controls" },
        el("label", {}, "Mistake", select), el("button", { type: "button", onclick: random }, "Any one")),
      result,
    );

    function show() {
      if (!store.mistake) {
        select.value = "";
        result.replaceChildren("No mistake is planted.");
        return;
      }
      const { step, input, description } = store.mistake;
      const backward = store.nodes.map((node) => node.name).reverse();
      const red = backward.filter((name) => ["wrong", "undefined"].includes(store.state(name)));
      const open = backward.some((name) => store.state(name) === "checking");
      const link = (name) => el("button", { type: "button", class: "plain", onclick: () => store.select(name) }, name);
      const others = red.slice(1).flatMap((name, i) => [i ? ", " : "", link(name)]);
      result.replaceChildren(
        `On the way back from ${step} to ${input}: ${description}. `,
        ...(red.length ? [el("span", { class: "wrong" }, "✗ Red: "), link(red[0])] : []),
        ...(others.length ? [", and on the way back from there: ", ...others] : []),
        red.length ? ". " : open ? "" : "No gradient is off by more than allowed: at these numbers the slip cannot be seen.",
        open ? "… checking." : "",
      );
    }

    store.subscribe((what) => what !== "current" && show());
    show();
  }

  const lineOf = (mistake) => `${mistake.step} → ${mistake.input}`;

  function grouped(mistakes) {
    const groups = new Map();
    for (const mistake of mistakes) groups.set(lineOf(mistake), [...(groups.get(lineOf(mistake)) ?? []), mistake]);
    return groups;
  }

  return { create };
})();
