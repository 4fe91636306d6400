// The page: an image in (picked, dropped, pasted, or a drawing that ships), its classes and masks out.

import { COMBINED, decode, paint, readable } from "/assets/masks.js";

const SAMPLES = [
  ["goldfish", "Goldfish"],
  ["ladybird", "Ladybird"],
  ["lemon", "Lemon"],
  ["lighthouse", "Lighthouse"],
  ["mushroom", "Mushroom"],
  ["school-bus", "School bus"],
];
const TOP = 5;
const THUMBNAIL = 96;

const $ = (id) => document.getElementById(id);
const page = document.documentElement;

let limits = null; // of the server, once it has said them
let token = storedToken();
let last = null; // what was asked last: {source, name}
let underWay = null; // AbortController of the request
let stages = []; // [{name, image, mask}] of what is shown

/** A failure to tell the user: what was wrong, and what mends it. */
class Trouble extends Error {
  constructor(what, mend = "", status = 0) {
    super(what);
    this.mend = mend;
    this.status = status;
  }
}

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function setState(state, said) {
  page.dataset.state = state;
  $("status").textContent = said;
  $("frame").setAttribute("aria-busy", String(state === "loading"));
}

const percent = (share) => {
  if (share >= 0.9995) return "100 %";
  if (share < 0.0005) return "< 0.1 %";
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
};
const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);

// ---- the server

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("The server cannot be reached", "see whether it still runs, then try again");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new Trouble(body.error ?? `The server said ${response.status}`, body.mend, response.status);
  }
  return body;
}

function storedToken() {
  try {
    return sessionStorage.getItem("token") ?? "";
  } catch {
    return ""; // storage is off
  }
}

function storeToken() {
  try {
    sessionStorage.setItem("token", token);
  } catch {
    // it lasts as long as the page
  }
}

/** Show which network it is; gives the Trouble where the server does not say, else nothing. */
async function learnAboutServer() {
  try {
    const model = await ask("/v1/model");
    limits = model.limits;
    const size = `${model.input_size[2]} × ${model.input_size[1]} px`;
    const classes = `${model.labels.length.toLocaleString("en")} classes`;
    const facts = [model.data && `trained on ${model.data}`, classes, `sees ${size}`].filter(Boolean).join(" · ");
    $("network").replaceChildren(make("strong", { textContent: model.model }), ` ${facts}`);
    $("network").hidden = false;
    return null;
  } catch (trouble) {
    return trouble;
  }
}

async function useToken() {
  const entered = $("token-value").value.trim();
  if (!/^[!-~]+$/.test(entered)) {
    // The browser could not even send it.
    showTrouble(new Trouble("A token has no accents and no spaces: see whether it was copied as it was given", "", 401));
    return;
  }
  token = entered;
  storeToken();
  const trouble = await learnAboutServer();
  if (trouble) {
    showTrouble(trouble);
    return;
  }
  $("token").hidden = true;
  if (page.dataset.state !== "error") return;
  if (last) look(last.source, last.name);
  else clearTrouble();
}

// ---- an image in

/** Look at what `source` is, or fetches: a Blob. */
async function look(source, name) {
  underWay?.abort();
  const mine = (underWay = new AbortController());
  last = { source, name };
  clear();
  setState("loading", `Looking at ${name} …`);
  try {
    const blob = source instanceof Blob ? source : await source(mine.signal);
    if (mine.signal.aborted) return;
    show(blob, name);
    const bytes = await bytesOf(blob);
    if (mine.signal.aborted) return;
    const prediction = await ask(`/v1/predict?top=${TOP}&masks=true`, {
      method: "POST",
      headers: { "Content-Type": "application/octet-stream" },
      body: bytes,
      signal: mine.signal,
    });
    const decoded = await decodeAll(prediction.masks ?? {});
    if (mine.signal.aborted) return;
    showMasks(decoded);
    showClasses(prediction);
    const [best] = prediction.descriptions;
    setState("result", `Most likely ${best}, ${percent(prediction.probabilities[0])}`);
  } catch (trouble) {
    if (mine.signal.aborted) return;
    showTrouble(trouble);
  }
}

async function bytesOf(blob) {
  if (limits && blob.size > limits.body_bytes) {
    const most = Math.round(limits.body_bytes / 2 ** 20);
    throw new Trouble(`the file has ${Math.ceil(blob.size / 2 ** 20)} MiB`, `send ${most} MiB at most`, 413);
  }
  try {
    return await blob.arrayBuffer();
  } catch {
    // A folder, or a file that changed since it was chosen.
    throw new Trouble("the file cannot be read", "choose it again; folders are not taken", 422);
  }
}

async function decodeAll(masks) {
  const named = Object.entries(masks);
  const images = await Promise.all(named.map(([, mask]) => decode(mask)));
  return named.map(([name, mask], place) => ({ name, mask, image: images[place] }));
}

/** Take away what was said and drawn of the image before. */
function clear() {
  stages = [];
  const photo = $("photo");
  photo.onload = photo.onerror = null; // one that is still being decoded stays away
  photo.hidden = true;
  $("no-preview").hidden = true;
  $("masks").hidden = true;
  $("no-masks").hidden = true;
  $("classes").replaceChildren();
  $("trouble").replaceChildren();
}

function show(blob, name) {
  const photo = $("photo");
  if (photo.src) URL.revokeObjectURL(photo.src);
  photo.onload = () => {
    photo.hidden = false;
    $("no-preview").hidden = true;
  };
  photo.onerror = () => {
    photo.hidden = true;
    $("no-preview").hidden = false;
  };
  photo.src = URL.createObjectURL(blob);
  photo.alt = name;
}

function clearTrouble() {
  $("trouble").replaceChildren();
  setState("empty", "");
}

function showTrouble(trouble) {
  const again = make("button", { type: "button", textContent: "Try again" });
  again.addEventListener("click", () => look(last.source, last.name));
  const aboutFile = [413, 415, 422].includes(trouble.status);
  const lines = [make("p", {}, make("strong", { textContent: sentence(trouble.message) + "." }))];
  if (aboutFile) lines.unshift(make("p", { className: "file", textContent: last.name }));
  if (trouble.mend && trouble.status !== 401) lines.push(make("p", { textContent: sentence(trouble.mend) + "." }));
  $("trouble").replaceChildren(...lines);
  if (trouble.status === 401) {
    $("token").hidden = false;
    $("token-value").focus();
  } else if (!aboutFile && last) {
    $("trouble").append(again);
  }
  // The alert speaks for itself; a status beside it would be read twice.
  setState("error", "");
}

// ---- what came out

function showClasses(prediction) {
  const rows = prediction.descriptions.map((description, place) => {
    const [first, ...others] = description.split(", ");
    const share = prediction.probabilities[place];
    const bar = make("span", { className: "bar" }, make("span", {}));
    bar.setAttribute("aria-hidden", "true");
    bar.firstChild.style.setProperty("--share", share);
    return make(
      "li",
      {},
      make("span", { className: "name", textContent: sentence(first) }),
      make("span", { className: "share", textContent: percent(share) }),
      bar,
      make("span", { className: "more", textContent: others.join(", ") || prediction.labels[place] }),
    );
  });
  $("classes").replaceChildren(...rows);
}

function showMasks(decoded) {
  stages = decoded;
  $("masks").hidden = stages.length === 0;
  $("no-masks").hidden = stages.length > 0;
  const names = stages.map((stage) => stage.name);
  const chosen = document.querySelector("input[name=stage]:checked")?.value;
  const current = chosen === "" || names.includes(chosen) ? chosen : names.at(-1);
  const choices = stages.map(({ name, image, mask }) => {
    const canvas = make("canvas", { width: THUMBNAIL, height: THUMBNAIL });
    paint(canvas, image);
    return choice(name, readable(name, names), `${mask.width} × ${mask.height}`, canvas, current);
  });
  $("stages").replaceChildren(choice("", "None", "image", make("span", { className: "blank" }), current), ...choices);
  showStage();
}

function choice(value, text, detail, picture, current) {
  const input = make("input", { type: "radio", name: "stage", value, checked: value === current, className: "unseen" });
  picture.setAttribute("aria-hidden", "true");
  const words = make("span", {}, make("b", { textContent: text }), " ", make("small", { textContent: detail }));
  return make("label", {}, input, picture, words);
}

function showStage() {
  const name = document.querySelector("input[name=stage]:checked")?.value ?? "";
  const stage = stages.find((one) => one.name === name);
  $("overlay").classList.toggle("shown", Boolean(stage));
  $("scale").classList.toggle("off", !stage);
  $("opacity").disabled = !stage;
  if (!stage) return;
  paint($("overlay"), stage.image);
  $("scale-low").textContent = stage.mask.low.toFixed(2);
  $("scale-high").textContent = stage.mask.high.toFixed(2);
  $("scale-mask").hidden = name === COMBINED;
  $("scale-combined").hidden = name !== COMBINED;
}

function showOpacity() {
  const value = $("opacity").value;
  $("overlay").style.opacity = value / 100;
  $("opacity-value").textContent = `${value} %`;
}

// ---- what the user does

function listenForImages() {
  $("choose").addEventListener("change", (event) => {
    const [file] = event.target.files;
    if (file) look(file, file.name);
    event.target.value = ""; // the same file may be chosen again
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])][0];
    if (!file) return;
    event.preventDefault();
    look(file, file.name || "the pasted image");
  });
  let depth = 0; // dragenter and dragleave come for every element on the way
  const drag = (change) => (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    depth = Math.max(0, depth + change);
    page.classList.toggle("dragging", depth > 0);
  };
  document.addEventListener("dragenter", drag(1));
  document.addEventListener("dragover", drag(0));
  document.addEventListener("dragleave", drag(-1));
  document.addEventListener("drop", (event) => {
    drag(-depth)(event);
    const file = event.dataTransfer?.files[0];
    if (file) look(file, file.name);
  });
}

function offerSamples() {
  const entries = SAMPLES.map(([file, title]) => {
    const picture = make("img", { src: `/assets/samples/${file}.png`, alt: "", width: 256, height: 256 });
    const button = make("button", { type: "button", title }, picture, make("span", { textContent: title }));
    const drawing = async (signal) => {
      const response = await fetch(picture.src, { signal }).catch(() => null);
      if (response?.ok) return response.blob();
      throw new Trouble("The drawing could not be fetched", "see whether the server still runs");
    };
    button.addEventListener("click", () => look(drawing, `the drawing of a ${title.toLowerCase()}`));
    return make("li", {}, button);
  });
  $("samples").replaceChildren(...entries);
}

$("stages").addEventListener("change", showStage);
$("opacity").addEventListener("input", showOpacity);
$("masks").addEventListener("submit", (event) => event.preventDefault());
$("token").addEventListener("submit", (event) => {
  event.preventDefault();
  useToken();
});
listenForImages();
offerSamples();
showOpacity();
learnAboutServer().then((trouble) => {
  if (trouble?.status !== 401) return;
  if (token) showTrouble(trouble); // it was of a server before this one
  else $("token").hidden = false;
});
