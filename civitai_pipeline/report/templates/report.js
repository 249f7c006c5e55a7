(() => {
  "use strict";
  if (typeof Plotly === "undefined") {
    document.getElementById("no-charts").hidden = false;
    for (const chart of document.querySelectorAll(".chart")) chart.remove();
    for (const details of document.querySelectorAll("details")) details.open = true;
    return;
  }
  const templates = JSON.parse(document.getElementById("templates").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const template = () => (dark.matches ? templates.dark : templates.light);
  const config = { displayModeBar: false, scrollZoom: false, doubleClick: false, typesetMath: false };
  const charts = [];
  // Charts follow their own width, which changes with the window, a turned phone, or a scroll bar that appears.
  const widths = new ResizeObserver((entries) => {
    for (const { target } of entries) Plotly.Plots.resize(target);
  });
  for (const source of document.querySelectorAll("script[data-figure]")) {
    const chart = document.getElementById(source.dataset.figure);
    const figure = JSON.parse(source.textContent);
    Plotly.newPlot(chart, figure.data, { ...figure.layout, template: template() }, config);
    charts.push(chart);
    widths.observe(chart);
  }
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
})();
