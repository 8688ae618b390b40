// The views beside the graph: tabs, of which one is shown. Arrow keys go from tab to tab.

"use strict";

const tabs = (() => {
  // list: the element that holds the tabs. A tab whose section is gone goes, too. Returns {show(id), shown}.
  function create(list) {
    const found = [...list.querySelectorAll("[role=tab]")];
    const sectionOf = (tab) => document.getElementById(tab.getAttribute("aria-controls"));
    const all = found.filter((tab) => sectionOf(tab)?.childElementCount || tab.remove());
    found.filter((tab) => !all.includes(tab)).forEach((tab) => sectionOf(tab)?.remove());
    const listeners = [];
    let shown = null;

    function show(id) {
      shown = id;
      for (const tab of all) {
        const chosen = sectionOf(tab).id === id;
        tab.setAttribute("aria-selected", String(chosen));
        tab.tabIndex = chosen ? 0 : -1;
        sectionOf(tab).hidden = !chosen;
      }
      listeners.forEach((listener) => listener(id));
    }

    function go(event) {
      const at = all.indexOf(event.currentTarget);
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: all.length - 1 }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      event.stopPropagation(); // the same keys walk along the road elsewhere
      const tab = all[(to + all.length) % all.length];
      tab.focus();
      show(sectionOf(tab).id);
    }

    for (const tab of all) {
      tab.addEventListener("click", () => show(sectionOf(tab).id));
      tab.addEventListener("keydown", go);
    }
    show(sectionOf(all[0]).id);
    return { show, subscribe: (listener) => listeners.push(listener), get shown() { return shown; } };
  }

  return { create };
})();
