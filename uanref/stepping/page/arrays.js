// Arrays as heat-mapped tables: the last two axes are rows and columns, one table for each place of the others.

"use strict";

const arrays = (() => {
  const { el, number } = dom;

  // meanings: of the axes. options: title; edit(entry, number), which makes the entries inputs; name, for their
  // labels; asked: an entry to mark, with hidden: all entries stay secret; scale: the number with the deepest color.
  //
  // Returns {element, update(value)}.
  function table(value, meanings, options = {}) {
    const { axes, shape } = value;
    const inner = shape.slice(-2);
    const [rows, columns] = inner.length === 2 ? inner : [1, inner.length ? inner[0] : 1];
    const [rowAxis, columnAxis] = axes.length > 1 ? axes.slice(-2) : [null, axes[0] ?? null];
    const outer = value.data.length / (rows * columns);
    const cells = [];
    const element = el("div", { class: "arrays" });
    for (let place = 0; place < outer; ++place) {
      // One axis by its meaning, "component 2"; several by their letters, for they would not fit.
      const letters = Object.fromEntries(axes.map((axis) => [axis, axis]));
      const where = placeText(place, axes.slice(0, -2), shape.slice(0, -2), axes.length > 3 ? letters : meanings);
      const caption = [options.title, where].filter(Boolean).join(", ");
      const body = el("tbody");
      for (let row = 0; row < rows; ++row) {
        const line = el("tr", {}, columnAxis ? el("th", rowAxis ? { scope: "row" } : {}, rowAxis ? String(row + 1) : "") : null);
        for (let column = 0; column < columns; ++column) line.append(cell(value, cells, meanings, options));
        body.append(line);
      }
      const head = columnAxis && el("thead", {}, el(
        "tr", {}, el("th", {}, rowAxis ? `${rowAxis}, ${columnAxis}` : columnAxis),
        Array.from({ length: columns }, (_, i) => el("th", { scope: "col" }, String(i + 1))),
      ));
      element.append(el("table", { class: "array" }, caption ? el("caption", {}, caption) : null, head, body));
    }
    const made = { element, update: (now) => fill(cells, now, options) };
    made.update(value);
    return made;
  }

  function cell(value, cells, meanings, options) {
    const entry = cells.length;
    const made = el("td", entry === options.asked ? { class: "asked" } : {});
    if (options.edit) {
      const input = el("input", {
        type: "number", step: "any",
        "aria-label": `${options.name}${entryText(value, entry, meanings, ", ")}`,
        oninput: () => {
          const typed = input.valueAsNumber;
          input.toggleAttribute("aria-invalid", false);
          if (Number.isFinite(typed)) options.edit(entry, typed);
          else input.setAttribute("aria-invalid", "true");
        },
      });
      made.append(input);
    }
    cells.push(made);
    return made;
  }

  function fill(cells, value, options) {
    const largest = options.scale ?? largestOf(value);
    cells.forEach((cell, entry) => {
      const x = value.data[entry];
      const share = options.hidden || !(largest > 0) || !Number.isFinite(largest) ? 0 : Math.abs(x) / largest;
      cell.classList.toggle("negative", x < 0);
      cell.classList.toggle("positive", !(x < 0));
      cell.style.setProperty("--heat", share.toFixed(2));
      if (options.hidden) cell.textContent = entry === options.asked ? "?" : "·";
      else if (!options.edit) {
        cell.textContent = number(x);
        cell.title = String(x);
      } else if (cell.firstChild !== document.activeElement) {
        cell.firstChild.value = Number.isFinite(x) ? String(Number(x.toPrecision(5))) : "";
        cell.firstChild.title = String(x);
      }
    });
  }

  const largestOf = (value) => value.data.reduce((most, x) => Math.max(most, Math.abs(x)), 0);

  function placeText(place, axes, shape, meanings) {
    const parts = [];
    for (let i = axes.length - 1; i >= 0; --i) {
      parts.unshift(`${meanings[axes[i]]} ${(place % shape[i]) + 1}`);
      place = Math.floor(place / shape[i]);
    }
    return parts.join(", ");
  }

  // Where an entry stands: " sample 2, channel 1"; empty for a single number.
  function entryText(value, entry, meanings, before = " ") {
    const text = placeText(entry, value.axes, value.shape, meanings);
    return text && before + text;
  }

  return { table, entryText, largestOf };
})();
