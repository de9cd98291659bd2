// Elements are built here and nowhere else: what comes from the database becomes text, or the
// value of an attribute, and never markup.

const SVG = "http://www.w3.org/2000/svg";
// What is a property of an element and has no attribute that would follow it.
const PROPERTIES = new Set(["checked", "indeterminate", "data", "open"]);

export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function svg(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    set(element, name, value);
  }
  append(element, children);
  return element;
}

function set(element, name, value) {
  if (value === undefined || value === null || value === false) {
    if (PROPERTIES.has(name)) element[name] = value;
    return;
  }
  if (name.startsWith("on")) {
    element[name] = value;
    (element.listeners ??= {})[name] = value; // morph() hands them on
  } else if (PROPERTIES.has(name)) {
    element[name] = value;
  } else {
    element.setAttribute(name, value === true ? "" : String(value));
  }
}

export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

export function replaceChildren(element, ...children) {
  element.replaceChildren();
  append(element, children);
}

/* Make an element look like another one that was built anew, changing only what differs. What the
   reader has done stays: focus, selected text, scrolling, what was typed, what was unfolded. A
   listener must not hold on to elements that it was built with: they may never have been shown. */
export function morph(current, next) {
  if (!isSame(current, next)) {
    current.replaceWith(next);
    return next;
  }
  if (current.nodeType !== Node.ELEMENT_NODE) {
    if (current.data !== next.data) current.data = next.data;
    return current;
  }
  morphAttributes(current, next);
  morphListeners(current, next);
  if (current.localName.includes("-")) {
    current.data = next.data; // draws itself
    return current;
  }
  if ("checked" in next && current.type === "checkbox") {
    current.checked = next.checked;
    current.indeterminate = next.indeterminate;
  }
  if (current.localName !== "textarea") morphChildren(current, next);
  return current;
}

function isSame(current, next) {
  return (
    current.nodeType === next.nodeType &&
    current.nodeName === next.nodeName &&
    keyOf(current) === keyOf(next)
  );
}

function keyOf(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null;
}

function morphAttributes(current, next) {
  for (const { name } of [...current.attributes]) {
    if (name === "open" || (name === "value" && current.localName === "input")) continue;
    if (!next.hasAttribute(name)) current.removeAttribute(name);
  }
  for (const { name, value } of next.attributes) {
    if (name === "open" || current.getAttribute(name) === value) continue;
    current.setAttribute(name, value);
    // What the source now says goes before what was there, unless it is just being edited.
    if (name === "value" && "value" in current && current !== document.activeElement) {
      current.value = value;
    }
  }
}

function morphListeners(current, next) {
  for (const name of Object.keys(current.listeners ?? {})) {
    if (!next.listeners?.[name]) current[name] = null;
  }
  Object.assign(current, next.listeners);
  current.listeners = next.listeners;
}

function morphChildren(current, next) {
  const keyed = new Map();
  for (const child of current.childNodes) {
    const key = keyOf(child);
    if (key !== null) keyed.set(key, child);
  }
  const wanted = new Set([...next.childNodes].map(keyOf));
  let place = current.firstChild;
  for (const child of [...next.childNodes]) {
    const key = keyOf(child);
    const known = key === null ? null : keyed.get(key);
    // What has gone must not push what stays out of its place, for to move it takes its focus.
    while (place && keyOf(place) !== null && !wanted.has(keyOf(place))) place = removeAt(place);
    if (known && known !== place && isHeld(known)) {
      while (place !== known) place = putLast(place);
      place = known.nextSibling;
      morph(known, child);
    } else if (known && known !== place) {
      current.insertBefore(known, place);
      morph(known, child);
    } else if (place && isSame(place, child)) {
      const after = place.nextSibling;
      morph(place, child);
      place = after;
    } else if (place && keyOf(place) === null && key === null) {
      const after = place.nextSibling;
      place.replaceWith(child);
      place = after;
    } else {
      current.insertBefore(child, place);
    }
  }
  while (place) place = removeAt(place);
}

/* What has the focus or selected text in it would lose that if it were moved: others are. */
function isHeld(node) {
  if (node.contains(document.activeElement)) return true;
  const selection = document.getSelection();
  return Boolean(selection && !selection.isCollapsed && selection.containsNode(node, true));
}

function putLast(node) {
  const after = node.nextSibling;
  node.parentNode.append(node);
  return after;
}

function removeAt(node) {
  const after = node.nextSibling;
  node.remove();
  return after;
}
