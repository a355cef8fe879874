"use strict";
// The controls around the picture, and the start.

const $ = id => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const RANGE = 12; // near and far can be so many times larger or smaller than they are
const WORDS = { assumed: "assumed scale", given: "", fitted: "", file: "" };
const home = { near: 1 / (data.scale.scale + data.scale.shift), far: 1 / data.scale.shift };
const state = { ...home, colour: "picture", wipe: 0.5 };
let view, stage, dirty = true, recut = 0, asked = null;

function metres(value) {
  return `${value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0)} m`;
}

function assumed() {
  const untouched = state.near === home.near && state.far === home.far;
  return untouched ? WORDS[data.scale.origin] ?? "" : "range set by hand";
}

function describe() {
  const { kind, span } = data.projection;
  const what = kind === "cylindrical" ? `Panorama, ${Number(span.toPrecision(6))}°` : "Picture with depth";
  const range = [state.near, state.far].map(value => Number(value.toPrecision(3)));
  $("subtitle").textContent = [what, `${range[0]} to ${range[1]} m`, assumed()].filter(Boolean).join(" · ");
}

function show(surface) {
  stage.show(surface);
  for (const button of document.querySelectorAll("[data-surface]")) button.ariaPressed = button.dataset.surface === surface;
  dirty = true;
}

function colour(name, wipe = state.wipe) {
  state.colour = name;
  state.wipe = clamp(wipe, 0, 1);
  const share = { picture: 0, wipe: state.wipe, depth: 1 }[name];
  stage.set("wipe", share);
  for (const button of document.querySelectorAll("[data-colour]")) button.ariaPressed = button.dataset.colour === name;
  $("wipe").hidden = $("line").hidden = name !== "wipe";
  $("wipe").value = 100 * state.wipe;
  $("line").style.left = `${100 * state.wipe}%`;
  dirty = true;
}

function range(near, far) {
  const last = state.edited;
  state.near = last === "far" ? Math.min(near, far / 1.02) : near;
  state.far = last === "far" ? far : Math.max(far, near * 1.02);
  stage.setRange(state.near, state.far, true);
  clearTimeout(recut);
  recut = setTimeout(() => {
    stage.setRange(state.near, state.far);
    dirty = true;
  }, 120);
  read(null);
  sync();
}

function sync() {
  for (const name of ["near", "far"]) {
    const input = $(name), share = Math.log(state[name] / home[name]) / Math.log(RANGE);
    if (state.edited !== name) input.value = 500 + 500 * share;
    input.ariaValueText = input.previousElementSibling.textContent = metres(state[name]);
  }
  const fov = view.goal.fov;
  $("fov").value = fov;
  $("fov").ariaValueText = $("fov").previousElementSibling.textContent = `${fov.toFixed(0)}°`;
  describe();
  dirty = true;
}

function read(x, y) {
  asked = x === null ? null : { x, y };
  if (!asked) $("readout").hidden = true;
  dirty = dirty || Boolean(asked);
}

function answer({ x, y }) {
  const found = stage.pick(x, y), readout = $("readout");
  readout.hidden = found === null;
  if (found === null) return;
  readout.firstElementChild.textContent = found === Infinity ? "sky" : metres(found);
  readout.lastElementChild.textContent = found === Infinity ? "" : assumed();
  const left = x + readout.offsetWidth + 24 > innerWidth, above = y + readout.offsetHeight + 24 > innerHeight;
  readout.classList.toggle("left", left);
  readout.classList.toggle("above", above);
  const across = left ? -14 - readout.offsetWidth : 14, down = above ? -14 - readout.offsetHeight : 14;
  readout.style.transform = `translate(${x + across}px, ${y + down}px)`;
}

function drift(on) {
  view.drifting = on;
  $("drift").ariaPressed = on;
  $("drift").querySelector("use").setAttribute("href", on ? "#i-pause" : "#i-play");
  dirty = true;
}

function reset() {
  drift(false);
  view.reset(innerWidth / innerHeight);
  state.edited = "";
  $("fill").checked = true;
  stage.set("fill", true);
  show("mesh");
  colour("picture", 0.5);
  if (state.near !== home.near || state.far !== home.far) range(home.near, home.far);
  else sync();
}

async function still() {
  const words = data.title.toLowerCase().normalize("NFKD").replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "").slice(0, 48);
  const link = document.createElement("a"), address = URL.createObjectURL(await stage.still());
  Object.assign(link, { href: address, download: `${words || "still"}.png` });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

function settings(open = $("settings").hidden) {
  $("settings").hidden = !open;
  $("show-settings").ariaExpanded = open;
}

function fullscreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen?.();
}

const KEYS = {
  1: () => show("mesh"), 2: () => show("points"), 3: () => show("wire"),
  p: () => colour("picture"), x: () => colour("wipe"), c: () => colour("depth"),
  "[": () => colour("wipe", state.wipe - 0.05), "]": () => colour("wipe", state.wipe + 0.05),
  "+": () => view.zoom(0.9), "=": () => view.zoom(0.9), "-": () => view.zoom(1 / 0.9),
  t: () => settings(), " ": () => drift(!view.drifting), l: still, r: reset, f: fullscreen,
  h: () => document.body.classList.toggle("bare"), i: () => $("details").showModal(), "?": () => $("help").showModal(),
  m: () => read(innerWidth / 2, innerHeight / 2), Escape: () => settings(false),
};

function press(event) {
  const { code, key, target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const slider = target.matches("input[type=range]"), pressed = target.matches("button, input");
  const turn = slider ? null : TURNS[code], step = STEPS[code];
  if (turn || step) {
    drift(false);
    read(null);
    const angle = radians(view.goal.fov) / 12;
    if (turn) view.turn(turn[0] * angle, turn[1] * angle);
    else view.move(...step.map(part => part * 0.12));
  } else if (KEYS[key] || KEYS[key.toLowerCase()]) {
    if (key === " " && pressed) return;
    (KEYS[key] ?? KEYS[key.toLowerCase()])();
  } else return;
  event.preventDefault();
}

function wire() {
  listen($("view"), view, { touched: () => { drift(false); read(null); }, point: read });
  view.moved = () => { dirty = true; sync(); };
  addEventListener("keydown", press);
  addEventListener("resize", () => { read(null); dirty = true; });
  for (const button of document.querySelectorAll("[data-surface]")) button.onclick = () => show(button.dataset.surface);
  for (const button of document.querySelectorAll("[data-colour]")) button.onclick = () => colour(button.dataset.colour);
  $("wipe").oninput = event => colour("wipe", event.target.value / 100);
  for (const name of ["near", "far"]) {
    $(name).oninput = event => {
      state.edited = name;
      const value = home[name] * RANGE ** ((event.target.value - 500) / 500);
      range(name === "near" ? value : state.near, name === "far" ? value : state.far);
    };
  }
  $("fov").oninput = event => { view.goal.fov = Number(event.target.value); view.moved(); };
  $("fill").onchange = event => { stage.set("fill", event.target.checked); dirty = true; };
  $("show-settings").onclick = () => settings();
  $("show-details").onclick = () => $("details").showModal();
  $("show-help").onclick = () => $("help").showModal();
  $("drift").onclick = () => drift(!view.drifting);
  $("still").onclick = still;
  $("reset").onclick = reset;
  $("full").onclick = fullscreen;
  $("full").hidden = !document.fullscreenEnabled;
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.onclick = event => event.target === dialog && dialog.close();
  }
}

function tell() {
  for (const [name, text] of data.details) {
    const term = document.createElement("dt"), words = document.createElement("dd");
    term.textContent = name;
    words.textContent = text;
    words.dir = "auto";
    $("details").querySelector("dl").append(term, words);
  }
}

let before = 0;
function frame(now) {
  requestAnimationFrame(frame);
  if (view.step(Math.min((now - before) / 1000, 0.1), now / 1000)) dirty = true;
  before = now;
  if (!dirty) return;
  dirty = false;
  stage.draw();
  if (asked) answer(asked);
}

async function start() {
  const pictures = [$("picture"), $("second")].filter(Boolean), images = { backdrop: $("backdrop"), layers: pictures };
  view = new View(data);
  await Promise.all([...pictures, $("backdrop")].map(image => image.decode()));
  const layers = await Promise.all(data.layers.map(layer => decode(layer, data)));
  stage = new Stage($("view"), data, view, images, layers);
  stage.setRange(state.near, state.far);
  for (const id of ["view", "tools", "bar"]) $(id).hidden = false;
  $("picture").hidden = true;
  wire();
  reset();
  drift(!calm.matches);
  requestAnimationFrame(frame);
  document.body.dataset.ready = "yes";
}

tell();
describe();
start().catch(fault => {
  console.warn(fault);
  $("picture").hidden = false;
  $("view").hidden = $("bar").hidden = true;
  $("message").hidden = false;
  $("message").textContent = "This browser cannot show the place itself: it needs WebGL 2. Here is the flat picture.";
});
