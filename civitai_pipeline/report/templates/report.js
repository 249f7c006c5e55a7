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
  if (!document.querySelector(".chart")) return;
  // Loaded from here, and not by an element of the page, because the page's policy trusts this script and nothing
  // that stands in the markup.
  const file = document.createElement("script");
  file.onload = draw;
  file.onerror = withoutPlotly;
  file.src = plotly;
  document.head.append(file);
})();
