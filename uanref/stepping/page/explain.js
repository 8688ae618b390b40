// An entry explains itself: the sum that made it, with the numbers put in, forward and backward.

"use strict";

const explain = (() => {
  const { el, number, math } = dom;

  const shown = new WeakMap(); // by store: what stands in which place

  // Explains one entry in the element `place`; it follows the numbers, and goes when the place goes.
  function show(store, asked, place) {
    if (!shown.has(store)) {
      shown.set(store, new Map());
      store.subscribe((what) => what !== "proofs" && refresh(store));
    }
    const places = shown.get(store);
    places.delete(place);
    if (asked === null) place.replaceChildren();
    else {
      // The last one asked is the last in the list: its sources are marked. A sum so far is no value of the trace, so the
      // table that was clicked on is kept.
      const table = arrays.showing().find((table) => table.element.contains(document.activeElement));
      places.set(place, { ...asked, table });
    }
    refresh(store);
    if (asked !== null) place.scrollIntoView({ block: "nearest" });
  }

  function refresh(store) {
    const places = shown.get(store);
    for (const place of places.keys()) if (!place.isConnected) places.delete(place);
    const tables = arrays.showing();
    for (const table of tables) for (const name of ["picked", "source"]) table.mark([], name);
    const picked = new Map();
    const note = (found, value, entry) => value && found.set(value, [...(found.get(value) ?? []), entry]);
    let sources = new Map();
    for (const [place, asked] of places) {
      const users = asked.kind === "gradient" ? store.arrived(asked.name).users : undefined;
      const made = told.entry(store.exported, store.traced, { ...asked, users }, store.mistake);
      note(picked, valueOf(store, asked), asked.entry);
      asked.table?.mark([asked.entry], "picked");
      sources = new Map();
      for (const source of sourcesOf(made.lines.flatMap(({ parts }) => parts))) note(sources, valueOf(store, source), source.entry);
      place.replaceChildren(explanation(store, made, place));
    }
    for (const table of tables) {
      if (sources.has(table.shown)) table.mark(sources.get(table.shown), "source");
      if (picked.has(table.shown)) table.mark(picked.get(table.shown), "picked");
    }
  }

  const sourcesOf = (parts) => parts.flatMap((part) => (part.more ? sourcesOf(part.more) : part.source ? [part.source] : []));

  function valueOf({ traced }, { kind, name, user }) {
    if (kind === "contribution") return traced.contributions[name][user];
    return (kind === "value" ? traced.values : traced.gradients)[name];
  }

  const nodeOf = (store, name) => (store.byName[name] ? name : store.loss.name); // "g" stands with the loss

  // A symbol with its index, "dx" with 2,1 below.
  function symbol(store, { kind, name, entry, value }) {
    const index = Object.values(told.placeOf(value, entry)).length ? value.axes.map((axis) => told.placeOf(value, entry)[axis] + 1).join(",") : "";
    const bare = store.byName[name] ? math(store.byName[name].math) : el("i", {}, name);
    return el("span", { class: "symbol" }, kind === "value" ? "" : el("i", {}, "d"), bare, index ? el("sub", {}, index) : "");
  }

  function explanation(store, made, place) {
    const value = valueOf(store, made);
    const title = symbol(store, { ...made, value });
    const where = arrays.entryText(value, made.entry, store.exported.axes);
    const close = el("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => show(store, null, place) }, "×");
    if (store.secret && made.kind !== "value")
      return el("div", { class: "entry-explained" },
        el("p", { class: "small" }, "Not while a mistake is planted unseen: the sum would tell where it is.", close));
    const asks = made.kind === "value" ? undefined
      : sourcesOf(made.lines.flatMap(({ parts }) => parts)).find((source) => source.kind === "gradient" && store.hides(source.name));
    if (asks)
      return el("div", { class: "entry-explained" },
        el("p", { class: "small" }, "Not before the quiz is through with ", link(store, asks.name), ": the sum would tell its gradient.", close));
    const result = el("output", { class: "result", "data-value": made.result, title: made.result }, number(made.result));
    const line = (part) => el("p", { class: "sum", "data-user": part.user },
      made.kind === "value" ? "= " : made.kind === "gradient" ? el("b", { class: "adds" }, "+= ") : "= ", write(part.parts),
      part.user !== null && made.lines.length > 1 ? [" ", el("span", { class: "part-value", "data-value": part.value, title: part.value }, "= ", number(part.value))] : "",
      part.user ? el("span", { class: "small" }, " from ", link(store, part.user)) : "",
      part.mistake ? el("span", { class: "wrong" }, ` ✗ planted here: ${part.mistake}`) : "");
    const write = (parts) => together(parts).map((part) => shownPart(store, part, write));
    const partly = made.kind === "gradient" && made.lines.length < store.arrived(made.name).all.length;
    return el("div", { class: "entry-explained", role: "group", "aria-label": `How ${made.kind === "value" ? "" : "the gradient of "}${made.name}${where} came about` },
      el("p", { class: "of small" }, close, title, `: ${made.kind === "value" ? "" : made.kind === "gradient" ? "gradient of " : "part of the gradient of "}`,
        el("code", {}, made.name), where),
      made.lines.length ? null : el("p", { class: "given small" }, `${made.given.charAt(0).toUpperCase()}${made.given.slice(1)}.`),
      made.lines.map(line),
      el("p", { class: "total" }, symbol(store, { ...made, value }), partly ? ", so far = " : " = ", result));
  }

  const link = (store, name) => el("button", { type: "button", class: "plain", onclick: () => store.select(name) }, name);

  // A number and its parentheses stay on one line.
  function together(parts) {
    const made = [];
    for (const part of parts) {
      const [before, last] = made.slice(-2);
      if (part.text?.startsWith(")") && last?.source && before?.text?.endsWith("(")) {
        made.splice(-2, 2, { text: before.text.slice(0, -1) }, { closed: last }, { text: part.text.slice(1) });
      } else made.push(part);
    }
    return made;
  }

  function shownPart(store, part, write) {
    if (part.text !== undefined) return part.text;
    if (part.closed) return el("span", { class: "closed" }, "(", shownPart(store, part.closed, write), ")");
    if (part.more) {
      const button = el("button", {
        type: "button", class: "more", "data-value": part.value,
        onclick: () => button.replaceWith(...write(part.more).map((child) => (child instanceof Node ? child : document.createTextNode(child)))),
      }, `… ${part.count} more`);
      return [" ", button];
    }
    const digits = part.source || !Number.isInteger(part.number) ? number(part.number) : String(part.number).replace("-", "−");
    if (!part.source) return el("span", { class: "own", "data-value": part.number }, digits);
    const value = valueOf(store, part.source);
    const of = part.source.kind === "value" ? "" : "gradient of ";
    const says = `${of}${part.source.name}${arrays.entryText(value, part.source.entry, store.exported.axes, ", ")}`;
    return el("button", {
      type: "button", class: "from", title: `${says}: ${part.number}`, "aria-label": `${number(part.number)}, ${says}`,
      "data-value": part.number, "data-kind": part.source.kind, "data-name": part.source.name, "data-entry": part.source.entry,
      onclick: () => go(store, part.source),
    }, el("span", { class: "named", "aria-hidden": "true" }, symbol(store, { ...part.source, value })), el("span", {}, digits));
  }

  // To the node of a source; its entry is picked there.
  function go(store, source) {
    store.select(nodeOf(store, source.name));
    const [table] = arrays.showing(valueOf(store, source)).filter((table) => table.element.offsetParent !== null);
    table?.pick(source.entry);
  }

  return { told: told.entry, show };
})();
