// What is asked for, in controls and in the address; the beginning. The last of the files.

let asked = { ...BEGINNING };
let prompts = null;
let search = null;
let shown = new Int32Array(0);
let turn = 0;
// From asking the browser to go back until it has: what is asked for meanwhile must not be overwritten by the past.
let leaving = false;

function controls() {
  return [...form.elements].filter((control) => control.name && control.name !== "level");
}

function showAsked() {
  for (const control of controls()) {
    if (document.activeElement === control && control.value === asked[control.name]) continue;
    if (control.type === "checkbox") control.checked = asked[control.name] === control.value;
    else control.value = asked[control.name];
  }
  const levels = asked.levels ? asked.levels.split(",") : null;
  for (const box of form.querySelectorAll("[name=level]")) box.checked = !levels || levels.includes(box.value);
}

// Writes what is asked for into the address; "turned" and "opened" are steps that the browser's Back takes back.
function write(step) {
  if (leaving) return;
  history[step ? "pushState" : "replaceState"](step ? { step } : history.state, "", `#${writtenAsked(asked)}`);
}

function change(changes, step) {
  asked = { ...asked, page: "1", ...changes };
  busy(true);
  showAsked();
  write(step);
  return refresh();
}

// What all controls say together, so that nothing typed a moment ago is lost to the next control.
function said() {
  const boxes = [...form.querySelectorAll("[name=level]")];
  const ticked = boxes.filter((box) => box.checked);
  // None ticked would show nothing at all, which nobody asks for.
  const changes = { levels: ticked.length % boxes.length ? ticked.map((box) => box.value).join(",") : "" };
  for (const control of controls())
    changes[control.name] = control.type === "checkbox" && !control.checked ? "" : control.value;
  return changes;
}

let waiting = 0;
form.addEventListener("input", ({ target }) => {
  clearTimeout(waiting);
  busy(true);
  if (target.list) suggest(target);
  if (target.tagName === "SELECT" || target.type === "checkbox") change(said());
  else waiting = setTimeout(() => change(said()), 60);
});
form.addEventListener("submit", (event) => event.preventDefault());

// The commonest names that hold what was typed: a list of all would be thousands of lines.
function suggest(input) {
  const names = input.name === "author" ? prompts.lists.author : prompts.resources.map((resource) => resource.name);
  const known = search.names[input.name];
  const typed = folded(input.value).trim();
  const found = [];
  for (let n = 0; n < names.length && found.length < 40; n++)
    if (known[n].includes(typed) && !found.includes(names[n])) found.push(names[n]);
  input.list.replaceChildren(...found.map((name) => element("option", { value: name })));
}

async function turnPage(by) {
  await change({ page: String(Number(asked.page) + by) }, "turned");
  at("results").focus();
  at("asked").nextElementSibling.scrollIntoView();
}
at("before").onclick = () => turnPage(-1);
at("after").onclick = () => turnPage(1);
addEventListener("popstate", () => {
  if (leaving) {
    leaving = false;
    write();
    return;
  }
  const list = writtenAsked({ ...asked, image: "" });
  asked = readAsked(location.hash);
  if (!asked.image) dialog.close();
  else reopen();
  // The list stays as it is, and the keyboard's place in it, where only an opened prompt was closed.
  if (list === writtenAsked({ ...asked, image: "" })) return;
  busy(true);
  showAsked();
  refresh();
});

// --- beginning

function options(select, choices) {
  select.replaceChildren(...choices.map(([value, text]) => element("option", { value }, text)));
}

function tally(name, size) {
  const counts = new Uint32Array(size + 1);
  const column = prompts.columns[name];
  for (let row = 0; row < prompts.filled; row++) counts[column[row] === UNKNOWN ? size : column[row]]++;
  return counts;
}

// The choices of the filters, each with how many prompts it has.
function prepareFilters() {
  const samplers = prompts.lists.sampler;
  const sampled = tally("sampler", samplers.length);
  options(at("sampler"), [
    ["", "any"],
    ...samplers.map((name, code) => [name, `${name} (${number(sampled[code])})`]),
    ...(sampled[samplers.length] ? [[UNTOLD, `${UNTOLD} (${number(sampled[samplers.length])})`]] : []),
  ]);
  const main = tally("mainly", prompts.categories.length);
  const touched = prompts.categories.map((_, code) => prompts.columns.touched.reduce((n, bits) => n + ((bits >> code) & 1), 0));
  const group = (label, choices) =>
    element("optgroup", { label }, ...choices.map(([value, text]) => element("option", { value }, text)));
  const named = (counts, prefix) =>
    prompts.categories.flatMap((name, code) => (counts[code] ? [[prefix + name, `${name} (${number(counts[code])})`]] : []));
  at("category").replaceChildren(
    element("option", { value: "" }, "any"),
    group("touches, among others", named(touched, "")),
    group("is mainly about", named(main, "mainly:")),
  );
  const levels = tally("browsing_level", 32);
  const boxes = Array.from(levels, (count, level) => [level === 32 ? 0 : level, count]).filter(([, count]) => count);
  at("levels").append(
    ...boxes.map(([level, count]) =>
      element(
        "label",
        {},
        element("input", { type: "checkbox", name: "level", value: String(level), checked: true }),
        ` ${LEVELS[level] ?? `level ${level}`} (${number(count)})`,
      ),
    ),
  );
  for (const input of [at("resource"), at("author")]) suggest(input);
}

// Opens the prompt that the address named at the beginning, once it is read. Once only, and never after a mere change of
// the list: a prompt just closed is named until its close event comes, and would open again.
let named = "";
function openNamed() {
  if (!named || asked.image !== named) return;
  reopen();
  if (dialog.open) named = "";
}

async function begin() {
  asked = readAsked(location.hash);
  named = asked.image;
  try {
    await loadPrompts(about.file, (read) => {
      const first = prompts === null;
      prompts = read;
      search ??= new Search(read);
      if (first) refresh().then(openNamed);
      else if (read.filled < read.count) at("count").textContent = `Reading: ${number(read.filled)} of ${number(read.count)} prompts.`;
    });
  } catch (error) {
    at("trouble").textContent = error.message;
    at("trouble").hidden = false;
    at("count").textContent = "";
    throw error;
  }
  prepareFilters();
  at("filters").open = matchMedia("(min-width: 760px)").matches;
  form.hidden = false;
  showAsked();
  await refresh();
  openNamed();
}
begin();
