// Equations that are wider than their place are written smaller, down to what can still be read; then their place scrolls.
// (Tables do this in the style sheet, by the number of their letters.)

"use strict";

const fit = (() => {
  const SMALLEST = 11; // px

  function equations(panel) {
    const all = [...panel.querySelectorAll(".scroll > math")];
    all.forEach((math) => math.style.removeProperty("font-size"));
    const wanted = all.map((math) => {
      const { clientWidth, scrollWidth } = math.parentElement;
      if (scrollWidth <= clientWidth) return null;
      const size = parseFloat(getComputedStyle(math).fontSize);
      return Math.min(size, Math.max(SMALLEST, Math.floor(10 * size * (clientWidth / scrollWidth)) / 10));
    });
    all.forEach((math, i) => wanted[i] && math.style.setProperty("font-size", `${wanted[i]}px`));
  }

  // Tables beside each other are written in one size, row beside row: that of the widest.
  function alike(tables) {
    const most = Math.max(...tables.map((table) => Number(table.style.getPropertyValue("--letters"))));
    tables.forEach((table) => table.style.setProperty("--letters", most));
  }

  // Anew whenever the panel gets another size.
  function follow(panel) {
    new ResizeObserver(() => equations(panel)).observe(panel);
  }

  return { equations, alike, follow };
})();
