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

  // A number to read: four significant digits, a true minus.
  function number(x) {
    return Number.isFinite(x) ? String(Number(x.toPrecision(4))).replace("-", "−") : "no number";
  }

  // A relative error.
  function error(x) {
    return Number.isFinite(x) ? x.toExponential(1) : "no number";
  }

  const math = (markup) => el("span", { html: markup });
  const equation = (markup) => el("div", { class: "scroll", html: markup });
  const byId = (id) => document.getElementById(id);

  return { el, svg, number, error, math, equation, byId };
})();
