// What is asked for, and which rows answer it. Knows the prompts, not the page.

const UNTOLD = "(not told)";
const BEGINNING = {
  words: "", in: "prompt", category: "", resource: "", author: "", sampler: "", levels: "", minlength: "", maxlength: "",
  minreactions: "", maxreactions: "", once: "", sort: "newest", per: "25", page: "1", image: "",
};
const CHOICES = { in: ["prompt", "negative", "either"], per: ["25", "50", "100"] };

// A word's letters in scripts that write spaces between words; elsewhere a word may begin anywhere.
const SPACED = /[\p{Script=Latin}\p{Script=Greek}\p{Script=Cyrillic}\p{Nd}]/u;
function spaced(text, at) {
  const code = text.charCodeAt(at);
  if (code < 128) return (code >= 97 && code <= 122) || (code >= 48 && code <= 57);
  return SPACED.test(text[at] ?? "");
}

// The words of a query: all must occur, those after a minus must not, those in quotes occur as one phrase.
function termsOf(query) {
  const terms = [];
  for (const [, minus, phrase, word] of query.matchAll(/(-?)(?:"([^"]*)"?|([^\s,"]+))/g)) {
    const whole = phrase !== undefined;
    const text = folded(whole ? phrase : word.replace(/^[()[\]{};.\\]+|[()[\]{};.\\]+$/g, "") || word).trim();
    if (!text || text === "-") continue;
    terms.push({
      text,
      without: minus === "-",
      atStart: spaced(text, 0),
      atEnd: whole && spaced(text, text.length - 1),
    });
  }
  return terms;
}

// Where a term stands in searched text, at or after a place; -1 where it does not.
function placeOf(term, text, from = 0) {
  for (let at = text.indexOf(term.text, from); at !== -1; at = text.indexOf(term.text, at + 1)) {
    if (term.atStart && at > 0 && spaced(text, at - 1)) continue;
    const end = at + term.text.length;
    if (term.atEnd && end < text.length && spaced(text, end)) continue;
    return at;
  }
  return -1;
}

const SORTS = {
  newest: null,
  oldest: { column: "minute", sign: 1 },
  reactions: { column: "reaction_count", sign: -1 },
  comments: { column: "comment_count", sign: -1 },
  engagement: { column: "engagement", sign: -1 },
  longest: { column: "prompt_length", sign: -1 },
  shortest: { column: "prompt_length", sign: 1 },
};

class Search {
  constructor(prompts) {
    this.prompts = prompts;
    this.orders = new Map();
    this.names = {
      resource: prompts.resources.map((resource) => folded(resource.name)),
      author: prompts.lists.author.map(folded),
    };
  }

  // All rows read so far, in an order; rows without the value come last.
  order(sort) {
    const { filled } = this.prompts;
    const kept = this.orders.get(sort);
    if (kept?.length === filled) return kept;
    const rows = Int32Array.from({ length: filled }, (_, row) => row);
    const how = SORTS[sort];
    if (how) {
      const column = this.prompts.columns[how.column];
      const last = (value) => value === UNKNOWN || Number.isNaN(value);
      rows.sort((a, b) => last(column[a]) - last(column[b]) || how.sign * (column[a] - column[b]) || a - b);
    }
    this.orders.set(sort, rows);
    return rows;
  }

  // The resources or authors that a name asks for: the ones called just so, or else those whose name holds it.
  named(kind, name) {
    const wanted = folded(name).trim();
    const those = (test) => this.names[kind].flatMap((known, number) => (test(known) ? [number] : []));
    const exact = those((known) => known === wanted);
    return new Set(exact.length ? exact : those((known) => known.includes(wanted)));
  }

  // Whether each row passes what is asked of one column after the other; a list of tests, the cheapest first.
  tests(asked) {
    const { prompts } = this;
    const { columns } = prompts;
    const tests = [];
    const between = (name, least, most) => {
      const column = columns[name];
      const [low, high] = [least === "" ? null : Number(least), most === "" ? null : Number(most)];
      if (low !== null || high !== null)
        tests.push((row) => column[row] !== UNKNOWN && column[row] >= (low ?? 0) && column[row] <= (high ?? Infinity));
    };
    if (asked.levels) {
      const shown = new Set(asked.levels.split(",").map((level) => (level === "0" ? UNKNOWN : Number(level))));
      tests.push((row) => shown.has(columns.browsing_level[row]));
    }
    if (asked.sampler) {
      const code = asked.sampler === UNTOLD ? UNKNOWN : prompts.lists.sampler.indexOf(asked.sampler);
      tests.push((row) => columns.sampler[row] === code);
    }
    if (asked.author) {
      const wanted = this.named("author", asked.author);
      tests.push((row) => wanted.has(columns.author[row]));
    }
    between("prompt_length", asked.minlength, asked.maxlength);
    between("reaction_count", asked.minreactions, asked.maxreactions);
    if (asked.category) {
      const mainly = asked.category.startsWith("mainly:");
      const code = prompts.categories.indexOf(mainly ? asked.category.slice(7) : asked.category);
      tests.push(mainly ? (row) => columns.mainly[row] === code : (row) => code >= 0 && columns.touched[row] & (1 << code));
    }
    if (asked.resource) {
      const wanted = this.named("resource", asked.resource);
      tests.push((row) => {
        for (let n = prompts.firstUse[row]; n < prompts.firstUse[row + 1]; n++)
          if (wanted.has(prompts.used[n])) return true;
        return false;
      });
    }
    const terms = termsOf(asked.words);
    if (terms.length) tests.push(this.wordTest(terms, asked.in));
    if (asked.once) {
      // Last, so that of equal prompts the first one that passes everything else is shown.
      const seen = new Uint8Array(prompts.count);
      tests.push((row) => {
        const first = prompts.firstWithPrompt(row);
        const fresh = !seen[first];
        seen[first] = 1;
        return fresh;
      });
    }
    return tests;
  }

  wordTest(terms, where) {
    const { columns, searched } = this.prompts;
    const names = where === "either" ? ["prompt", "negative"] : [where];
    // Many rows share a text, a negative prompt above all: each is looked at once.
    const known = terms.map(() => new Uint8Array(searched.length));
    const occurs = (term, n, row) =>
      names.some((name) => {
        const number = columns[name][row];
        if (number === UNKNOWN) return false;
        known[n][number] ||= placeOf(term, searched[number]) === -1 ? 1 : 2;
        return known[n][number] === 2;
      });
    return (row) => terms.every((term, n) => occurs(term, n, row) !== term.without);
  }

  // The rows that answer, in order. Gives way now and then, and gives up with null once it is stale.
  async rows(asked, stale) {
    const tests = this.tests(asked);
    const order = this.order(asked.sort);
    if (!tests.length) return order;
    const found = new Int32Array(order.length);
    let count = 0;
    let pause = performance.now() + 12;
    for (let n = 0; n < order.length; n++) {
      const row = order[n];
      if (tests.every((test) => test(row))) found[count++] = row;
      if ((n & 255) === 0 && performance.now() > pause) {
        await new Promise((resolve) => setTimeout(resolve));
        if (stale()) return null;
        pause = performance.now() + 12;
      }
    }
    return found.subarray(0, count);
  }
}

// What is asked for, as the part of an address after #, and back. Only what differs from the beginning is written.
function writtenAsked(asked) {
  const changed = Object.entries(asked).filter(([name, value]) => value !== BEGINNING[name]);
  return new URLSearchParams(changed).toString();
}

function readAsked(hash) {
  const asked = { ...BEGINNING };
  for (const [name, value] of new URLSearchParams(hash.replace(/^#/, "")))
    if (Object.hasOwn(BEGINNING, name)) asked[name] = value;
  for (const [name, choices] of Object.entries(CHOICES))
    if (!choices.includes(asked[name])) asked[name] = BEGINNING[name];
  if (!Object.hasOwn(SORTS, asked.sort)) asked.sort = BEGINNING.sort;
  for (const name of ["minlength", "maxlength", "minreactions", "maxreactions", "image"])
    if (!/^\d*$/.test(asked[name])) asked[name] = "";
  if (!/^[1-9]\d*$/.test(asked.page)) asked.page = "1";
  if (!/^\d+(,\d+)*$/.test(asked.levels)) asked.levels = "";
  return asked;
}
