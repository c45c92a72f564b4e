// Makes elements and changes them only where something is different, so that nothing is drawn twice.

const SVG = "http://www.w3.org/2000/svg";

export function byId(id) {
  return document.getElementById(id);
}

export function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function svgElement(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

export function sign(name, className = "sign") {
  return svgElement("svg", { class: className, "aria-hidden": "true" }, svgElement("use", { href: `#${name}` }));
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (value === null) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
  } else if (node.getAttribute(name) !== String(value)) {
    node.setAttribute(name, value);
  }
}

export function setHidden(node, hidden) {
  setAttribute(node, "hidden", hidden ? "" : null);
}

// A share from 0 to 1 that the style sheet turns into a length.
export function setShare(node, share) {
  const text = Math.max(0, Math.min(1, share)).toFixed(3);
  if (node.style.getPropertyValue("--share") !== text) node.style.setProperty("--share", text);
}

// The sign and the words of a state; colour comes from the style sheet and is never alone.
export function showState(node, state, words) {
  if (node.dataset.state !== state || !node.firstElementChild) {
    node.dataset.state = state;
    node.replaceChildren(sign(`sign-${state}`), element("span"));
  }
  setText(node.lastElementChild, words);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}
