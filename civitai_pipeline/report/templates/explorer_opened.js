// One prompt, opened.

const dialog = at("opened");

function fact(label, value, ask) {
  const told = value === null || value === undefined;
  const text = told ? element("span", { className: "untold" }, "not told") : element("bdi", {}, String(value));
  const shownValue = ask && !told ? button("", () => askFor(ask), { className: "link" }) : element("span");
  shownValue.append(text);
  return element("div", {}, element("dt", {}, label), element("dd", {}, shownValue));
}

// Closes the opened prompt and asks for others like it.
function askFor(changes) {
  dialog.close();
  return change({ ...changes, image: "" }, "turned").then(() => at("results").focus());
}

function textBlock(title, text, terms) {
  if (text === null) return element("section", {}, element("h3", {}, title), element("p", { className: "untold" }, "not told"));
  return element(
    "section",
    {},
    element("h3", {}, title, " ", button(`Copy ${title.toLowerCase()}`, (event) => copy(text, event.currentTarget))),
    element("p", { className: "text", dir: "auto" }, ...marked(text, terms)),
  );
}

function resourceRow({ kind, name, version, weight }) {
  const weightText = weight === null ? element("span", { className: "untold" }, "not told") : String(weight);
  const link = version === null ? null : outside(`${about.site}/model-versions/${version}`, "its page");
  return element(
    "tr",
    {},
    element("td", {}, KINDS[kind] ?? kind),
    element("th", { scope: "row" }, button("", () => askFor({ resource: name }), { className: "link" })),
    element("td", { className: "n" }, weightText),
    element("td", {}, link),
  );
}

const outside = (href, text) => element("a", { href, rel: "noopener noreferrer", target: "_blank" }, text);

function resourceTable(row) {
  const resources = prompts.resourcesOf(row);
  if (!resources.length) return element("section", {}, element("h3", {}, "Resources"), element("p", { className: "untold" }, "none named"));
  const rows = resources.map((resource) => {
    const made = resourceRow(resource);
    made.querySelector("button").append(element("bdi", {}, resource.name));
    return made;
  });
  const heads = ["kind", "name", "weight", "on the site"].map((head) =>
    element("th", { scope: "col", className: head === "weight" ? "n" : "" }, head),
  );
  return element(
    "section",
    {},
    element("h3", {}, "Resources"),
    element("div", { className: "scroll" }, element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows))),
  );
}

function fill(row) {
  const image = prompts.columns.image_id[row];
  const place = shown.indexOf(row);
  const value = (name) => prompts.value(name, row);
  const name = (column) => prompts.name(column, row);
  const level = value("browsing_level");
  const same = prompts.columns.same_as.reduce((count, _, other) => count + (prompts.firstWithPrompt(other) === prompts.firstWithPrompt(row)), 0);
  const facts = [
    fact("date", prompts.date(row) && day(prompts.date(row))),
    fact("author", name("author"), { author: name("author") }),
    fact("level", level === null ? null : (LEVELS[level] ?? level), { levels: String(level ?? 0) }),
    fact("categories", prompts.categoriesOf(row).join(", ") || null),
    fact("reactions", value("reaction_count") === null ? null : number(value("reaction_count"))),
    fact("comments", value("comment_count") === null ? null : number(value("comment_count"))),
    fact("engagement (1: mean of its age)", value("engagement")),
    fact("characters", number(value("prompt_length"))),
    fact("sampler", name("sampler"), { sampler: name("sampler") }),
    fact("scheduler", name("scheduler")),
    fact("steps", value("steps")),
    fact("CFG scale", value("cfg_scale")),
    fact("seed", prompts.seeds[row]),
    fact("size", name("size")),
    fact("clip skip", value("clip_skip")),
    fact("checkpoint", name("checkpoint")),
    fact("base model", name("base_model")),
    fact("tool", name("generator") === "unknown" ? null : name("generator")),
    fact("images with this prompt", number(same)),
  ];
  const step = (by) => {
    const next = shown[place + by];
    fill(next);
    asked.image = String(prompts.columns.image_id[next]);
    write();
  };
  const backward = button("← Previous", () => step(-1), { disabled: place < 1, id: "opened-before" });
  const forward = button("Next →", () => step(1), { disabled: place < 0 || place + 1 >= shown.length, id: "opened-after" });
  dialog.replaceChildren(
    element(
      "div",
      { className: "opened-head" },
      element("h2", { id: "opened-title", tabIndex: -1 }, `Image ${image}`),
      element("p", { className: "note" }, place < 0 ? "not among the prompts found" : `${number(place + 1)} of ${number(shown.length)}`),
      element("p", { className: "actions" }, backward, forward, button("Close", () => dialog.close(), { id: "opened-close" })),
    ),
    textBlock("Prompt", prompts.text("prompt", row), termsFor("prompt")),
    textBlock("Negative prompt", prompts.text("negative", row), termsFor("negative")),
    element(
      "section",
      {},
      element("h3", {}, "Settings"),
      element("dl", { className: "facts" }, ...facts),
      element("p", { className: "actions" }, button("Copy with settings", (event) => copy(parametersOf(row), event.currentTarget))),
    ),
    resourceTable(row),
    element("p", {}, outside(`${about.site}/images/${image}`, `The image's page on ${new URL(about.site).host}`)),
  );
  dialog.scrollTop = 0;
}

function open(row) {
  fill(row);
  dialog.showModal();
  at("opened-title").focus();
  asked.image = String(prompts.columns.image_id[row]);
  write(history.state?.step === "opened" ? null : "opened");
}

// Opens the prompt that the address names, if it has been read.
function reopen() {
  const row = prompts.rowOf(Number(asked.image));
  if (row !== null) {
    fill(row);
    if (!dialog.open) dialog.showModal();
  } else if (prompts.filled === prompts.count) {
    at("told").textContent = `Image ${asked.image} is not here.`;
    asked.image = "";
    write();
  }
}

dialog.addEventListener("close", () => {
  // The event comes late: another prompt may have been opened since.
  if (dialog.open || !asked.image) return;
  asked.image = "";
  if (leaving) return;
  if (history.state?.step !== "opened") {
    write();
    return;
  }
  leaving = true;
  history.back();
});
dialog.addEventListener("keydown", (event) => {
  const id = { ArrowLeft: "opened-before", ArrowRight: "opened-after" }[event.key];
  if (!id || event.altKey || event.ctrlKey || event.metaKey) return;
  at(id).click();
  event.preventDefault();
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
