// The mistake switch: one slip of the pen in one line of the way back, and the nodes that turn red: the one where it enters,
// and those that inherit it.

"use strict";

const mistakes = (() => {
  const { el } = dom;

  function create(store, section, svg) {
    const { mistakes } = store.data;
    if (!mistakes.length) {
      section.remove();
      return;
    }
    const groups = grouped(mistakes);
    const select = el("select", { id: "mistake", onchange: () => store.plant(mistakes.find((m) => m.id === select.value) ?? null) },
      el("option", { value: "" }, "none: all as it should be"),
      [...groups].map(([line, found]) => el("optgroup", { label: line },
        found.map((mistake) => el("option", { value: mistake.id }, mistake.id)))));
    const random = () => {
      select.value = mistakes[Math.floor(Math.random() * mistakes.length)].id;
      select.dispatchEvent(new Event("change"));
    };
    const any = el("button", { type: "button", onclick: random }, "Any one");
    const result = el("div", { id: "mistake-result", role: "status" });
    section.append(
      el("h2", { id: "mistakes-title" }, "Plant a mistake"),
      el("p", {}, `One slip in one local rule, ${mistakes.length} to choose from. The numerical gradients know nothing of it.`),
      el("div", { class: "controls" }, el("label", {}, "Mistake", select), any),
      result,
    );

    const link = (name) => el("button", { type: "button", class: "plain", onclick: () => store.select(name) }, name);

    function show() {
      select.disabled = any.disabled = store.secret;
      select.value = store.mistake?.id ?? "";
      if (store.secret) result.replaceChildren(el("p", {}, "A mistake is planted unseen: find it, or stop the game, under “Find it”."));
      else if (!store.mistake) result.replaceChildren(el("p", {}, "No mistake is planted."));
      else result.replaceChildren(...told(store.mistake));
    }

    function told({ id, step, input, text }) {
      const open = store.proven.some((name) => store.state(name) === "checking");
      const source = store.role(input) === "source";
      const inherited = store.inherited();
      const right = store.byName[step].backward[input].text;
      return [
        el("p", {}, `${id}. `),
        el("table", { class: "answers" }, el("tbody", {}, [["right", right], ["planted", text]].map(([name, rule]) =>
          el("tr", {}, el("th", { scope: "row" }, name), el("td", { class: "written" }, rules.written(rule)))))),
        source ? el("p", {}, el("span", { class: "wrong" }, "✗ Source: "), link(input), ".") : null,
        inherited.length
          ? el("p", {}, el("span", { class: "inherited" }, "✗ Inherited on the way back from there: "),
            inherited.flatMap((name, i) => [i ? ", " : "", link(name)]), ".") : null,
        open ? el("p", {}, "… checking.") : source || inherited.length ? null
          : el("p", {}, "No gradient is off by more than allowed: at these numbers the slip cannot be seen."),
      ].filter(Boolean);
    }

    store.subscribe((what) => what !== "current" && show());
    show();
    if (svg) marks(store, svg);
  }

  // In the graph: where the mistake enters, and who inherits it.
  function marks(store, svg) {
    const links = [...svg.querySelectorAll(".node")];
    store.subscribe((what) => {
      if (what === "current") return;
      for (const link of links) {
        const role = store.role(link.dataset.name);
        link.classList.toggle("source", role === "source");
        link.classList.toggle("inherited", role === "inherited");
        const label = link.getAttribute("aria-label");
        const tail = role && { source: " The mistake enters here.", inherited: " It inherits the mistake." }[role];
        if (tail && !label.endsWith(tail)) link.setAttribute("aria-label", label + tail);
      }
    });
  }

  function grouped(mistakes) {
    const groups = new Map();
    for (const mistake of mistakes) groups.set(rules.lineOf(mistake), [...(groups.get(rules.lineOf(mistake)) ?? []), mistake]);
    return groups;
  }

  return { create };
})();
