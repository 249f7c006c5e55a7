// What the parts of the page share: elements, words, copying, marked texts. Text of others becomes text, never
// markup: elements are made by element(), and nothing in these files writes HTML.

const LEVELS = { 1: "PG", 2: "PG-13", 4: "R", 8: "X", 16: "XXX", 0: "not told" };
const KINDS = { lora: "LoRA", vae: "VAE", lycoris: "LyCORIS", controlnet: "ControlNet" };
const EXCERPT = 420;
const about = JSON.parse(document.getElementById("about").textContent);
const at = (id) => document.getElementById(id);
const form = at("asked");
const grouped = new Intl.NumberFormat("en");
const number = (value) => grouped.format(value);
const plural = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;
const day = (date) => (date ? date.toISOString().slice(0, 10) : "date unknown");

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.includes("-") || key === "role") made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

const button = (text, onclick, properties = {}) => element("button", { type: "button", onclick, ...properties }, text);

// --- copying

async function copy(text, pressed) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // No clipboard for pages that came over plain http: the older way, by selecting.
    const area = element("textarea", { value: text, className: "unseen" });
    (at("opened").open ? at("opened") : document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    pressed.focus();
  }
  at("told").textContent = "Copied.";
  const before = pressed.dataset.text ?? (pressed.dataset.text = pressed.textContent);
  pressed.textContent = "Copied";
  clearTimeout(pressed.timer);
  pressed.timer = setTimeout(() => {
    pressed.textContent = before;
    at("told").textContent = "";
  }, 1500);
}

// Prompt and settings in the manner of the parameters that image tools write and read.
function parametersOf(row) {
  const size = prompts.name("size", row);
  const told = [
    ["Steps", prompts.value("steps", row)],
    ["Sampler", prompts.name("sampler", row)],
    ["Schedule type", prompts.name("scheduler", row)],
    ["CFG scale", prompts.value("cfg_scale", row)],
    ["Seed", prompts.seeds[row]],
    ["Size", size && size.replace(/\D+/, "x")],
    ["Model", prompts.name("checkpoint", row)],
    ["Clip skip", prompts.value("clip_skip", row)],
  ].filter(([, value]) => value !== null);
  const negative = prompts.text("negative", row);
  return [
    prompts.text("prompt", row),
    ...(negative === null ? [] : [`Negative prompt: ${negative}`]),
    ...(told.length ? [told.map(([name, value]) => `${name}: ${value}`).join(", ")] : []),
  ].join("\n");
}

// --- texts with what was looked for marked

// The places of the words that were looked for, as [from, to) in the text itself.
function marksIn(text, terms) {
  const places = [];
  let even = "";
  let from = 0;
  for (const character of text) {
    const plain = folded(character);
    if (!(plain === " " && even.endsWith(" "))) {
      even += plain;
      for (let n = 0; n < plain.length; n++) places.push(from);
    }
    from += character.length;
  }
  places.push(from);
  const marks = [];
  for (const term of terms)
    for (let found = placeOf(term, even); found !== -1; found = placeOf(term, even, found + term.text.length))
      marks.push([places[found], places[found + term.text.length]]);
  return marks.sort((a, b) => a[0] - b[0]);
}

// A text as nodes. A part is cut from long ones, so that the first mark is in it.
function marked(text, terms, characters = Infinity) {
  const marks = terms.length ? marksIn(text, terms) : [];
  let from = 0;
  if (text.length > characters && marks.length && marks[0][0] > characters * 0.7) from = marks[0][0] - 80;
  let to = Math.min(text.length, from + characters);
  if (/[\udc00-\udfff]/.test(text[from])) from--;
  if (/[\ud800-\udbff]/.test(text[to - 1])) to--;
  const nodes = [from ? "… " : ""];
  let done = from;
  for (const [first, last] of marks) {
    if (first < done || first >= to) continue;
    nodes.push(text.slice(done, first), element("mark", {}, text.slice(first, Math.min(last, to))));
    done = Math.min(last, to);
  }
  nodes.push(text.slice(done, to), to < text.length ? " …" : "");
  return nodes;
}

const termsFor = (name) =>
  asked.in === "either" || asked.in === name ? termsOf(asked.words).filter((term) => !term.without) : [];
