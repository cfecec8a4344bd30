"use strict";
// What the other parts are made of. Values come into the document here, and as text alone.

const byId = id => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

// A new element; `about` may name class, text and attributes.
function make(tag, about = {}, ...children) {
  const node = about.svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(about)) {
    if (name === "text") node.textContent = value;
    else if (name !== "svg") node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const draw = (tag, about = {}, ...children) => make(tag, { svg: true, ...about }, ...children);

// Sets a text where it is another one: selections and screen readers are left in peace.
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function mark(node, name, on) {
  if (node.classList.contains(name) !== on) node.classList.toggle(name, on);
}

const whole = new Intl.NumberFormat();
const tenth = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const shortClock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

function bytes(count) {
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let at = 0;
  while (count >= 1000 && at < units.length - 1) {
    count /= 1000;
    at += 1;
  }
  return (at === 0 ? whole.format(Math.round(count)) : tenth.format(count)) + " " + units[at];
}

const percent = share => tenth.format(share * 100) + " %";

const many = (count, noun) => whole.format(count) + " " + noun + (count === 1 ? "" : "s");

function span(seconds) {
  const days = Math.floor(seconds / 86400), hours = Math.floor(seconds / 3600) % 24, minutes = Math.floor(seconds / 60) % 60;
  if (days > 0) return days + " d " + hours + " h";
  if (hours > 0) return hours + " h " + minutes + " min";
  return minutes > 0 ? minutes + " min" : Math.max(0, Math.round(seconds)) + " s";
}

// A moment that the API wrote, by this browser's clock and zone; today without its date.
function moment(text) {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return text;
  return at.toDateString() === new Date().toDateString() ? clock.format(at) : full.format(at);
}

// The same as an element that has the original as its title.
function timed(text) {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return make("span", { text: String(text) });
  return make("time", { datetime: text, title: text, text: moment(text) });
}

const isMoment = value => typeof value === "string" && /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/.test(value);

// Makes a container hold these children, and moves nothing that is in its place.
function hold(parent, children) {
  let at = parent.firstElementChild;
  for (const child of children) {
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
  }
  while (at) {
    const next = at.nextElementSibling;
    at.remove();
    at = next;
  }
}

// The same for a list, of which each item has a node of its own for as long as its key is in it.
// `makeOne(item)` gives { node, fill }; without `fill` the node stays as it was made.
function keep(parent, known, items, keyOf, makeOne) {
  const keys = new Set();
  const nodes = items.map(item => {
    const key = keyOf(item);
    keys.add(key);
    if (!known.has(key)) known.set(key, makeOne(item));
    known.get(key).fill?.(item);
    return known.get(key).node;
  });
  for (const key of known.keys()) if (!keys.has(key)) known.delete(key);
  hold(parent, nodes);
}

const copied = async (text, from) => {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Pages without TLS have no clipboard: the text is selected, for the keyboard.
    const range = document.createRange();
    range.selectNodeContents(from);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    return document.execCommand("copy");
  }
};
