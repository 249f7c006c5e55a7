// The prompts: unpacks the pieces of the file beside the page one by one, and gives values out by row.

// What a whole number's column holds where the value is unknown; no count or code is that small.
const UNKNOWN = -2147483648;
const WHOLE = [
  "prompt", "negative", "minute", "author", "sampler", "scheduler", "checkpoint", "generator", "base_model", "size",
  "browsing_level", "reaction_count", "comment_count", "prompt_length", "steps", "clip_skip", "touched", "mainly",
  "same_as",
];
const BROKEN = ["cfg_scale", "engagement", "image_id"];
const MINUTE = 60_000;

// Text as it is searched: full-width and other forms of a letter as one, no case, underscores as the spaces they are.
const PLAIN = /^[\x20-\x7e]*$/;
function folded(text) {
  const even = (PLAIN.test(text) ? text : text.normalize("NFKC")).toLowerCase().replace(/[_\t\r\n]/g, " ");
  return even.includes("  ") ? even.replace(/ {2,}/g, " ") : even;
}

class Prompts {
  constructor(header) {
    this.count = header.rows;
    this.lists = header.lists;
    this.categories = header.categories;
    this.resources = header.resources;
    this.texts = [];
    this.searched = [];
    this.filled = 0;
    this.columns = {};
    for (const name of WHOLE) this.columns[name] = new Int32Array(this.count);
    for (const name of BROKEN) this.columns[name] = new Float64Array(this.count);
    this.seeds = [];
    this.firstUse = new Int32Array(this.count + 1);
    this.used = [];
    this.weights = [];
  }

  add(slab) {
    for (const text of slab.texts) {
      this.texts.push(text);
      this.searched.push(folded(text));
    }
    const from = this.filled;
    const rows = slab.image_id.length;
    for (const name of WHOLE) {
      const column = this.columns[name];
      slab[name].forEach((value, n) => (column[from + n] = value ?? UNKNOWN));
    }
    for (const name of BROKEN) {
      const column = this.columns[name];
      slab[name].forEach((value, n) => (column[from + n] = value ?? NaN));
    }
    slab.uses.forEach((uses, n) => (this.firstUse[from + n + 1] = this.firstUse[from + n] + uses));
    this.seeds.push(...slab.seed);
    this.used.push(...slab.used);
    this.weights.push(...slab.weights);
    this.filled += rows;
  }

  // A number of a row; null where it is unknown.
  value(name, row) {
    const value = this.columns[name][row];
    return value === UNKNOWN || Number.isNaN(value) ? null : value;
  }

  // A name of a row, from the column's list; null where it is unknown.
  name(name, row) {
    const code = this.value(name, row);
    return code === null ? null : this.lists[name][code];
  }

  // The prompt or negative prompt of a row, to the letter; null where there is none.
  text(name, row) {
    const number = this.value(name, row);
    return number === null ? null : this.texts[number];
  }

  // The first row with the same prompt, which may be the row itself.
  firstWithPrompt(row) {
    const first = this.columns.same_as[row];
    return first === UNKNOWN ? row : first;
  }

  date(row) {
    const minute = this.value("minute", row);
    return minute === null ? null : new Date(minute * MINUTE);
  }

  // The resources of a row, each with its weight; null where that is unknown.
  resourcesOf(row) {
    const found = [];
    for (let n = this.firstUse[row]; n < this.firstUse[row + 1]; n++)
      found.push({ ...this.resources[this.used[n]], weight: this.weights[n] });
    return found;
  }

  // The categories a row touches, the main one first.
  categoriesOf(row) {
    const touched = this.columns.touched[row];
    const main = this.columns.mainly[row];
    const others = this.categories.filter((_, code) => touched & (1 << code) && code !== main);
    return main === UNKNOWN ? others : [this.categories[main], ...others];
  }

  rowOf(image) {
    const row = this.columns.image_id.indexOf(image);
    return row === -1 || row >= this.filled ? null : row;
  }
}

async function unpacked(piece) {
  const bytes = Uint8Array.fromBase64
    ? Uint8Array.fromBase64(piece)
    : Uint8Array.from(atob(piece), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

// Runs the file beside the page, which hands its pieces to promptData.
function piecesOf(file) {
  const pieces = [];
  globalThis.promptData = (piece) => pieces.push(piece);
  // The one address of a script that this page may load; where the browser can enforce that, no other will do.
  const policy = globalThis.trustedTypes?.createPolicy("prompt-file", { createScriptURL: () => file });
  const script = document.createElement("script");
  return new Promise((resolve, reject) => {
    script.onload = () => resolve(pieces);
    script.onerror = () => reject(new Error(`The file ${file} is not beside this page, where it belongs. If the ` +
      "report has just been made anew, load this page again."));
    script.src = policy ? policy.createScriptURL(file) : file;
    document.head.append(script);
  });
}

async function loadPrompts(file, onSlab) {
  if (typeof DecompressionStream === "undefined")
    throw new Error("This browser is too old for the explorer: it needs one of 2023 or later.");
  const pieces = await piecesOf(file);
  if (!pieces.length) throw new Error(`The file ${file} holds no prompts; make the report anew.`);
  const header = await unpacked(pieces[0]);
  if (pieces.length !== header.slabs + 1) throw new Error(`The file ${file} was cut short; make the report anew.`);
  const prompts = new Prompts(header);
  for (let n = 1; n < pieces.length; n++) {
    prompts.add(await unpacked(pieces[n]));
    pieces[n] = null;
    onSlab(prompts);
  }
  return prompts;
}
