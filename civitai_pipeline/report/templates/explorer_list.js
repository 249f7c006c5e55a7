// The list of prompts and what is said above it.

function card(row, place) {
  const reactions = prompts.value("reaction_count", row);
  const author = prompts.name("author", row);
  const main = prompts.value("mainly", row);
  const negative = asked.in === "prompt" ? [] : marked(prompts.text("negative", row) ?? "", termsFor("negative"), 200);
  const facts = [
    day(prompts.date(row)),
    author && element("bdi", {}, author),
    reactions === null ? null : plural(reactions, "reaction"),
    LEVELS[prompts.value("browsing_level", row) ?? 0] ?? "other level",
    main === null ? null : prompts.categories[main],
    prompts.name("sampler", row) && element("bdi", {}, prompts.name("sampler", row)),
  ].filter(Boolean);
  const text = element(
    "p",
    { className: "text", dir: "auto", id: `text-${place}`, onclick: () => getSelection().isCollapsed && open(row) },
    ...marked(prompts.text("prompt", row), termsFor("prompt"), EXCERPT),
  );
  return element(
    "li",
    { value: place + 1 },
    text,
    negative.some((node) => node !== "") ? element("p", { className: "negative", dir: "auto" }, "Not: ", ...negative) : null,
    element(
      "div",
      { className: "below" },
      element("p", { className: "facts-line" }, ...facts.map((fact) => element("span", {}, fact))),
      element(
        "p",
        { className: "actions" },
        button("Open", () => open(row), { "aria-describedby": text.id }),
        button("Copy prompt", (event) => copy(prompts.text("prompt", row), event.currentTarget), {
          "aria-describedby": text.id,
        }),
      ),
    ),
  );
}

function paint() {
  const per = Number(asked.per);
  const pages = Math.max(1, Math.ceil(shown.length / per));
  const page = Math.min(Number(asked.page), pages);
  const from = (page - 1) * per;
  const rows = shown.subarray(from, from + per);
  const held = prompts.filled;
  const whole = held < prompts.count ? `${number(held)} read so far, of ${number(prompts.count)}` : number(held);
  let count = shown.length === held ? `All ${plural(held, "prompt")}.` : `${number(shown.length)} of ${whole} prompts.`;
  if (held < prompts.count) count = `Reading: ${whole}. ${number(shown.length)} answer.`;
  if (rows.length) count += ` These are ${number(from + 1)} to ${number(from + rows.length)}.`;
  else if (held === prompts.count) count += " Take a word or a filter away to find more.";
  at("count").textContent = count;
  at("found").replaceChildren(...Array.from(rows, (row, n) => card(row, from + n)));
  at("pages").hidden = pages === 1;
  at("place").textContent = `Page ${number(page)} of ${number(pages)}`;
  at("before").disabled = page === 1;
  at("after").disabled = page === pages;
  asked.page = String(page);
}

// What is asked for, other than words and order, each with a button that takes it back.
function paintChosen() {
  const range = (low, high, noun) =>
    low && high ? `${low} to ${high} ${noun}` : low ? `at least ${low} ${noun}` : `at most ${high} ${noun}`;
  const levels = asked.levels.split(",").map((level) => LEVELS[level] ?? level);
  const said = [
    [["category"], asked.category.replace(/^mainly:/, "mainly ")],
    [["resource"], asked.resource && `with ${asked.resource}`],
    [["sampler"], asked.sampler && `sampler ${asked.sampler}`],
    [["author"], asked.author && `by ${asked.author}`],
    [["minlength", "maxlength"], (asked.minlength || asked.maxlength) && range(asked.minlength, asked.maxlength, "characters")],
    [["minreactions", "maxreactions"], (asked.minreactions || asked.maxreactions) && range(asked.minreactions, asked.maxreactions, "reactions")],
    [["levels"], asked.levels && `only ${levels.join(", ")}`],
    [["once"], asked.once && "equal prompts once"],
  ].filter(([, text]) => text);
  const items = said.map(([names, text]) =>
    element("li", {}, button(`${text} ✕`, () => change(Object.fromEntries(names.map((name) => [name, ""]))), {
      "aria-label": `Take away: ${text}`,
    })),
  );
  if (said.length || asked.words)
    items.push(element("li", {}, button("Start over", () => change({ ...BEGINNING, sort: asked.sort, per: asked.per }))));
  at("chosen").replaceChildren(...items);
  at("filters").firstElementChild.textContent = said.length ? `Filters (${said.length} in use)` : "Filters";
  const matching = asked.resource ? search.named("resource", asked.resource).size : 0;
  at("resource-help").textContent = asked.resource ? `${plural(matching, "resource")} of that name` : "";
}

// Says whether the list is still to change; for those who cannot see it, and for tests.
const busy = (still) => at("found").setAttribute("aria-busy", String(still));

async function refresh() {
  const mine = ++turn;
  const rows = await search.rows({ ...asked }, () => mine !== turn);
  if (rows === null || mine !== turn) return;
  shown = rows;
  busy(prompts.filled < prompts.count);
  paintChosen();
  paint();
}
