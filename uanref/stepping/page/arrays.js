// Arrays as heat-mapped tables: the last two axes are rows and columns, one table for each place of the others.

"use strict";

const arrays = (() => {
  const { el, number, parsed } = dom;
  const LARGE = 100; // entries: what is out of sight of a larger table the browser need not lay out
  const live = new Set(); // the tables on the page

  // meanings: of the axes. options: title; edit(entry, number), which makes the entries inputs; pick(entry), which makes
  // them buttons, or is told of an input that gets the focus; name, for their labels; asked: an entry to mark, with
  // hidden: all entries stay secret; scale: the number with the deepest color.
  //
  // Returns {element, update(value), mark(entries, name), pick(entry), shown}: mark gives exactly these entries a class,
  // pick does what a click on the entry does, shown is the value.
  function table(value, meanings, options = {}) {
    const { axes, shape } = value;
    const inner = shape.slice(-2);
    const [rows, columns] = inner.length === 2 ? inner : [1, inner.length ? inner[0] : 1];
    const [rowAxis, columnAxis] = axes.length > 1 ? axes.slice(-2) : [null, axes[0] ?? null];
    const outer = value.data.length / (rows * columns);
    const cells = [];
    const marked = {}; // by class: the entries that have it
    const element = el("div", { class: value.data.length > LARGE ? "arrays large" : "arrays" });
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
    const made = {
      element, shown: value,
      update(now) {
        made.shown = now;
        fill(cells, now, options);
        element.style.setProperty("--letters", lettersOf(cells, columns, options));
        element.style.setProperty("--columns", columns);
      },
      mark(entries, name) {
        for (const entry of new Set([...(marked[name] ?? []), ...entries])) {
          const [cell, now] = [cells[entry], entries.includes(entry)];
          cell.classList.toggle(name, now);
          if (name === "picked" && cell.firstElementChild?.tagName === "BUTTON") press(cell.firstElementChild, now);
        }
        marked[name] = entries;
      },
      pick(entry) {
        const inside = cells[entry]?.firstElementChild;
        if (!inside || options.hidden) return false;
        inside.focus();
        if (inside.tagName === "BUTTON") inside.click();
        return true;
      },
    };
    made.update(value);
    if (options.pick && !options.edit) element.addEventListener("keydown", (event) => moved(event, cells, rows * columns, columns));
    live.add(made);
    return made;
  }

  // The tables on the page that show this very value of the trace.
  function showing(value) {
    for (const table of live) if (!table.element.isConnected) live.delete(table);
    return [...live].filter((table) => value === undefined || table.shown === value);
  }

  const press = (button, pressed) => {
    button.setAttribute("aria-pressed", String(pressed));
    if (pressed) reachable(button);
  };

  // One entry of a table is reached by Tab, the others from it.
  function reachable(button) {
    for (const other of button.closest(".arrays").querySelectorAll('button.entry[tabindex="0"]')) other.tabIndex = -1;
    button.tabIndex = 0;
  }

  // Up and down go through a column and on to the next one: left and right are the road's.
  function moved(event, cells, size, columns) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const at = cells.findIndex((cell) => cell.contains(event.target));
    if (!by || at < 0) return;
    event.preventDefault();
    const many = size / columns;
    const order = (entry) => Math.floor(entry / size) * size + (entry % columns) * many + Math.floor((entry % size) / columns);
    const next = cells.find((_, entry) => order(entry) === order(at) + by);
    if (!next) return;
    reachable(next.firstElementChild);
    next.firstElementChild.focus();
  }

  function cell(value, cells, meanings, options) {
    const entry = cells.length;
    const made = el("td", entry === options.asked ? { class: "asked" } : {});
    if (options.edit) made.append(field(value, entry, meanings, options));
    else if (options.pick && !options.hidden) {
      made.append(el("button", {
        type: "button", class: "entry", tabindex: entry ? -1 : 0, "aria-pressed": "false", onclick: () => options.pick(entry),
      }));
    }
    cells.push(made);
    return made;
  }

  // An entry that can be changed. A text field, for a number field has no true minus.
  function field(value, entry, meanings, options) {
    let before = null; // what stood there, since the focus came
    const input = el("input", {
      type: "text", inputmode: "decimal", autocomplete: "off", spellcheck: "false", class: "entry",
      "aria-label": `${options.name}${entryText(value, entry, meanings, ", ")}`,
      onfocus: () => {
        before = { text: input.value, number: input.exact };
        input.select();
        options.pick?.(entry);
      },
      oninput: () => {
        const typed = parsed(input.value);
        input.toggleAttribute("aria-invalid", false);
        if (Number.isFinite(typed)) options.edit(entry, typed);
        else input.setAttribute("aria-invalid", "true");
      },
      onkeydown: (event) => {
        if (event.key !== "Escape" || before === null) return;
        event.stopPropagation();
        const { text, number } = before;
        const edited = input.value !== text;
        input.value = text;
        input.toggleAttribute("aria-invalid", false);
        if (edited) options.edit(entry, number);
        input.blur();
      },
      onblur: () => {
        before = null;
        input.toggleAttribute("aria-invalid", false);
        write(input, input.exact);
      },
    });
    return input;
  }

  const write = (input, x) => (input.value = Number.isFinite(x) ? number(x) : "");

  function fill(cells, value, options) {
    const largest = options.scale ?? largestOf(value);
    cells.forEach((cell, entry) => {
      const x = value.data[entry];
      const share = options.hidden || !(largest > 0) || !Number.isFinite(largest) ? 0 : Math.abs(x) / largest;
      cell.classList.toggle("negative", x < 0);
      cell.classList.toggle("positive", !(x < 0));
      cell.style.setProperty("--heat", share.toFixed(2));
      const inside = cell.firstElementChild;
      if (options.hidden) cell.textContent = entry === options.asked ? "?" : "·";
      else if (options.edit) {
        inside.exact = x;
        inside.title = String(x);
        if (inside !== document.activeElement) write(inside, x);
      } else {
        (inside ?? cell).textContent = number(x);
        (inside ?? cell).title = String(x);
      }
    });
  }

  // How many letters the widest row may have: the style sheet makes a table fit its column.
  function lettersOf(cells, columns, { hidden }) {
    const most = new Array(columns).fill(hidden ? 1 : 6);
    cells.forEach((cell, entry) => {
      const inside = cell.firstElementChild;
      const { length } = inside?.tagName === "INPUT" ? inside.value : cell.textContent;
      most[entry % columns] = Math.max(most[entry % columns], length);
    });
    return most.reduce((sum, length) => sum + length, 0);
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

  return { table, showing, entryText, largestOf };
})();
