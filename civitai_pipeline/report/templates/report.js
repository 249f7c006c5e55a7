(() => {
  "use strict";
  const { plotly, templates } = JSON.parse(document.getElementById("charts").textContent);
  const withoutPlotly = () => {
    document.getElementById("no-charts").hidden = false;
    for (const chart of document.querySelectorAll(".chart")) chart.remove();
    for (const details of document.querySelectorAll("details")) details.open = true;
  };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const template = () => (dark.matches ? templates.dark : templates.light);
  const config = { displayModeBar: false, scrollZoom: false, doubleClick: false, typesetMath: false };
  const charts = [];
  // Charts follow their own width, which changes with the window, a turned phone, or a scroll bar that appears.
  const widths = new ResizeObserver((entries) => {
    for (const { target } of entries) Plotly.Plots.resize(target);
  });
  const draw = () => {
    for (const source of document.querySelectorAll("script[data-figure]")) {
      const chart = document.getElementById(source.dataset.figure);
      const figure = JSON.parse(source.textContent);
      Plotly.newPlot(chart, figure.data, { ...figure.layout, template: template() }, config);
      charts.push(chart);
      widths.observe(chart);
    }
  };
  const paintLegends = () => {
    const colours = template().layout.colorway;
    for (const legend of document.querySelectorAll(".legend"))
      [...legend.children].forEach((item, n) => item.style.setProperty("--swatch", colours[n % colours.length]));
  };
  paintLegends();
  dark.addEventListener("change", () => {
    paintLegends();
    for (const chart of charts) Plotly.relayout(chart, { template: template() });
  });
  // Sorting and folding of the tables that may have thousands of rows.
  const SHOWN = 25;
  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell.classList.contains("n") ? Number(cell.dataset.value ?? NaN) : cell.textContent.trim();
  };
  const compared = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    let open = body.rows.length <= SHOWN;
    const fold = () => [...body.rows].forEach((row, n) => row.classList.toggle("folded", !open && n >= SHOWN));
    const sortBy = (head, column) => {
      // Numbers begin with the largest, names with the first; a second click turns the order round.
      const numbers = head.classList.contains("n");
      const before = head.getAttribute("aria-sort");
      const descending = before ? before === "ascending" : numbers;
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const rows = Array.from(body.rows, (row) => [valueOf(row, column), row]);
      const known = ([value]) => !Number.isNaN(value) && value !== "—";
      const sorted = rows.filter(known).sort(([a], [b]) => (descending ? -1 : 1) * compared(a, b));
      body.append(...[...sorted, ...rows.filter((row) => !known(row))].map(([, row]) => row));
      fold();
    };
    if (body.rows.length > 1)
      [...table.tHead.rows[0].cells].forEach((head, column) => {
        const button = document.createElement("button");
        button.type = "button";
        button.append(...head.childNodes);
        button.onclick = () => sortBy(head, column);
        head.append(button);
      });
    fold();
    if (open) continue;
    const more = document.createElement("button");
    more.type = "button";
    more.className = "more";
    more.textContent = `Show all ${new Intl.NumberFormat("en").format(body.rows.length)} rows`;
    more.onclick = () => {
      open = true;
      fold();
      more.remove();
    };
    table.parentElement.after(more);
  }
  // The section being read is marked among the others and brought into sight there.
  const links = new Map([...document.querySelectorAll(".sections a")].map((a) => [a.getAttribute("href").slice(1), a]));
  const headings = [...links.keys()].map((key) => document.getElementById(key));
  let marked = null;
  const markSection = () => {
    const read = headings.findLast((heading) => heading.getBoundingClientRect().top < 120) ?? headings[0];
    // Else the bar would slip from under a finger that looks for another section while the page still rolls.
    if (read === marked) return;
    marked = read;
    for (const [key, a] of links) {
      if (key === read.id) a.setAttribute("aria-current", "true");
      else a.removeAttribute("aria-current");
    }
    const bar = document.querySelector(".sections");
    const { offsetLeft, offsetWidth } = links.get(read.id);
    if (offsetLeft < bar.scrollLeft || offsetLeft + offsetWidth > bar.scrollLeft + bar.clientWidth)
      bar.scrollTo({ left: offsetLeft - 20 });
  };
  let marking = 0;
  addEventListener("scroll", () => (marking ||= requestAnimationFrame(() => ((marking = 0), markSection()))), { passive: true });
  markSection();
  if (!document.querySelector(".chart")) return;
  // Loaded from here, and not by an element of the page, because the page's policy trusts this script and nothing
  // that stands in the markup.
  const file = document.createElement("script");
  file.onload = draw;
  file.onerror = withoutPlotly;
  file.src = plotly;
  document.head.append(file);
})();
