// A link shows what its sender saw: the page's state goes into its address, and comes out of it; so do the numbers that
// another page puts into this one.

"use strict";

const pageState = (() => {
  const { written, read, refuse } = fragment;
  const PAUSE = 200; // milliseconds: browsers limit how often an address may change
  const has = (object, name) => Object.hasOwn(object, name);

  function apply(store, parts, plan) {
    parts.game.stop();
    parts.quiz.set(false);
    store.load(plan);
    store.go(plan.at);
    if (plan.node) store.select(plan.node);
    parts.big.set(plan.big);
    parts.quiz.set(plan.quiz);
    if (plan.find !== null) parts.game.start(plan.find);
    parts.tab.show(plan.tab);
  }

  // --- numbers of another page ---

  // Whether nested lists are finite numbers of a shape.
  function fits(lists, shape) {
    if (!shape.length) return Number.isFinite(lists);
    return Array.isArray(lists) && lists.length === shape[0] && lists.every((list) => fits(list, shape.slice(1)));
  }

  // What the page shall begin with: {inputs, upstream, node, phase, mistake}, each as wanted. Null if it does not fit.
  function start(store, given) {
    if (given === null || typeof given !== "object") return null;
    const replaced = (lists, { axes, shape }) => fits(lists, shape) ? primitives.fromLists(axes, lists) : refuse("shape");
    try {
      const inputs = { ...store.base.inputs };
      for (const [name, lists] of Object.entries(given.inputs ?? {}))
        inputs[name] = has(inputs, name) ? replaced(lists, inputs[name]) : refuse("name");
      const { upstream, mistake, node, phase } = given;
      const chosen = mistake ? store.data.mistakes.find((m) => m.id === mistake) ?? refuse("mistake") : null;
      const at = node ? store.road.findIndex((stop) => stop.node === node && stop.phase === (phase ?? stop.phase)) : 0;
      if (at < 0 && !has(store.byName, node)) refuse("node");
      store.rebase({ inputs, upstream: upstream !== undefined && upstream !== null ? replaced(upstream, store.base.upstream) : store.base.upstream });
      if (chosen) store.plant(chosen);
      return { at, node };
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      return null;
    }
  }

  // parts: tab {names, get(), show(name or null)}, quiz {on, set(on)}, game {seed, most, start(seed), stop()}, big {get(), set(on)}.
  // button: "Copy link"; notice: where sentences stand; begin: what another page put into this one, or null.
  function create(store, parts, { button, notice, begin }) {
    const begun = start(store, begin);
    let timer = null;
    let last = null; // the fragment that this page wrote or read last

    const say = (sentence) => {
      notice.textContent = sentence;
      notice.hidden = !sentence;
    };
    // Another script's fragment, such as #only=mixture, is left as it is.
    const foreign = () => new URLSearchParams(location.hash.slice(1)).has("only");
    const address = (text) => location.href.split("#")[0] + (text ? `#${text}` : "");

    // Into the address, without a new entry in the history. Some places (a frame, a limit) refuse: then it stays as it is.
    function write() {
      clearTimeout(timer);
      timer = null;
      const { text, left } = written(store, parts);
      if (left) say(`The link holds the first changed numbers only: ${left} more do not fit into it.`);
      if (text === last || foreign()) return text;
      if (!left) say(""); // what was said of another link
      last = text;
      try {
        history.replaceState(null, "", address(text));
      } catch { /* the button still copies it */ }
      return text;
    }

    const later = () => {
      if (timer === null) timer = setTimeout(write, PAUSE);
    };

    // The address's fragment, if it is a state: "#panel" is a place on the page, "#only=mixture" a view of it.
    function take() {
      const text = location.hash.slice(1);
      if (text === last || (text && !text.includes("=")) || foreign()) return;
      try {
        const plan = read(store, parts, text);
        apply(store, parts, plan);
        last = text;
        say("");
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        say(`The link was not followed, nothing was changed: ${error.message}.`);
      }
    }

    async function copy() {
      const link = address(write());
      try {
        await navigator.clipboard.writeText(link);
        button.textContent = "Copied";
      } catch { // what the clipboard refuses the reader can copy from here
        say(link);
        getSelection().selectAllChildren(notice);
      }
      setTimeout(() => (button.textContent = "Copy link"), 2000);
    }

    button.hidden = location.protocol === "about:"; // a page that another one holds has no address
    button.addEventListener("click", copy);
    addEventListener("hashchange", take);
    store.subscribe((what) => what !== "proofs" && later());
    if (begin !== null && begun === null) say("The numbers that this page should begin with do not fit it: it shows its example.");
    if (begun) {
      store.go(Math.max(begun.at, 0));
      if (begun.at < 0) store.select(begun.node);
    }
    last = "";
    take();
    return { changed: later, write, get text() { return written(store, parts).text; } };
  }

  return { create };
})();
