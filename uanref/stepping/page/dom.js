// Elements and numbers, as all parts of the page make and write them.

"use strict";

const dom = (() => {
  const SVG = "http://www.w3.org/2000/svg";

  // An element. Attributes that are functions become listeners ("onclick"), `html` is markup that the export made,
  // false and null leave an attribute out.
  function el(tag, attributes = {}, ...children) {
    return filled(document.createElement(tag), attributes, children);
  }

  function svg(tag, attributes = {}, ...children) {
    return filled(document.createElementNS(SVG, tag), attributes, children);
  }

  function filled(element, attributes, children) {
    for (const [name, given] of Object.entries(attributes)) {
      if (typeof given === "function") element.addEventListener(name.slice(2), given);
      else if (name === "style") element.style.cssText = given; // the page's policy refuses the attribute
      else if (name === "html") element.innerHTML = given;
      else if (given !== null && given !== false) element.setAttribute(name, given === true ? "" : given);
    }
    element.append(...children.flat(Infinity).filter((child) => child !== null && child !== ""));
    return element;
  }

  // A number to read: four significant digits, a true minus, and a power of ten below 0.001 and from 10000 on. As
  // uanref/stepping/markup.py writes it.
  function number(x) {
    if (!Number.isFinite(x)) return "no number";
    if (x === 0) return "0";
    const size = Math.abs(x);
    const power = Number(size.toExponential(3).split("e")[1]);
    const text = power >= -3 && power < 4 ? size.toFixed(3 - power) : scientific(size, 3);
    return x < 0 ? `−${text}` : text;
  }

  // A number at an axis, with as few digits as it needs.
  const tick = (x) => String(Number(x.toPrecision(4))).replaceAll("-", "−");

  // A relative error.
  const error = (x, digits = 1) => (Number.isFinite(x) ? scientific(x, digits) : "no number");

  const scientific = (x, digits) => x.toExponential(digits).replace("e+", "e").replaceAll("-", "−");

  // What a reader typed, with either minus; NaN where it is no number.
  const parsed = (text) => (text.trim() === "" ? NaN : Number(text.trim().replaceAll("−", "-")));

  const math = (markup) => el("span", { html: markup });
  const equation = (markup) => el("div", { class: "scroll", html: markup });
  const byId = (id) => document.getElementById(id);

  return { el, svg, number, tick, error, parsed, math, equation, byId };
})();
