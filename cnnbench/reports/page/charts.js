"use strict";

/* The charts. All text comes from run directories: Plotly is given none that it could take for markup. */
const charts = (() => {
  /* Okabe and Ito's colours without yellow, which is illegible on white; null is that of text. With seven colours and
     eight signs, 56 runs look different, also to those who see no colours. */
  const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", null];
  const SIGNS = [
    ["circle", "●"], ["square", "■"], ["diamond", "◆"], ["triangle-up", "▲"],
    ["x", "✖"], ["cross", "✚"], ["star", "★"], ["triangle-down", "▼"],
  ];
  const LONGEST = 90; // characters of a label

  const text = (element) => getComputedStyle(element).color;
  const plain = (label) =>
    (label.length > LONGEST ? label.slice(0, LONGEST) + "…" : label)
      .replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  /** What the number-th of several things looks like. */
  function look(number) {
    const [symbol, sign] = SIGNS[number % SIGNS.length];
    return { colour: COLOURS[number % COLOURS.length] ?? text(document.body), symbol, sign };
  }

  function draw(element, traces, layout) {
    const body = getComputedStyle(document.body);
    const line = getComputedStyle(document.querySelector("section")).borderTopColor;
    const coarse = matchMedia("(pointer: coarse)").matches; // a finger that moves over a chart scrolls the page
    const axis = { gridcolor: line, linecolor: line, zeroline: false, automargin: true, fixedrange: coarse };
    const { xaxis, yaxis, ...others } = layout;
    Plotly.react(
      element,
      traces,
      {
        paper_bgcolor: body.backgroundColor,
        plot_bgcolor: body.backgroundColor,
        font: { family: body.fontFamily, size: 13, color: body.color },
        hoverlabel: {
          bgcolor: body.backgroundColor,
          bordercolor: line,
          font: { family: body.fontFamily, color: body.color },
          align: "left",
        },
        margin: { l: 50, r: 10, t: 10, b: 40 },
        showlegend: false,
        xaxis: { ...axis, ...xaxis },
        yaxis: { ...axis, ...yaxis },
        ...others,
      },
      {
        responsive: true,
        displayModeBar: coarse ? false : "hover",
        modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]], // and none that sends data anywhere
        displaylogo: false,
        toImageButtonOptions: { filename: element.id, scale: 2 },
      },
    );
  }

  /** A step between ticks, 1, 2 or 5 times a power of ten, of which some seven fit. */
  function step(span) {
    const size = 10 ** Math.floor(Math.log10(span / 7));
    return size * [1, 2, 5, 10].find((factor) => factor * size >= span / 7);
  }

  /** Curves of `runs`, each with a label, a look and what metrics.csv has of it. */
  function curves(element, runs, quantity, withTraining) {
    const traces = runs.flatMap(({ label, look, curves }) => {
      const curve = (part, name, style) => ({
        x: curves.epoch,
        y: curves[`${part}_${quantity}`],
        name: plain(label),
        hovertemplate: `%{fullData.name}<br>epoch %{x}: ${name} ${quantity} %{y}<extra></extra>`,
        ...style,
      });
      const solid = curve("held_out", curves.held_out, {
        mode: "lines+markers",
        line: { color: look.colour, width: 2 },
        marker: { color: look.colour, symbol: look.symbol, size: 8, maxdisplayed: 12 },
      });
      const dashed = curve("train", "training", {
        mode: "lines",
        line: { color: look.colour, width: 1.5, dash: "dash" },
      });
      return withTraining ? [dashed, solid] : [solid];
    });
    const last = runs.reduce((most, { curves }) => Math.max(most, curves.epoch.at(-1)), 1);
    draw(element, traces, {
      hovermode: "closest",
      xaxis: { title: { text: "epoch" }, dtick: Math.max(1, step(last)) },
      yaxis: { title: { text: quantity } },
    });
  }

  /** Points {label, series, x, y, isChosen}, x logarithmic; the series, in order, look different. */
  function cost(element, points, series, xTitle, yTitle) {
    const ink = text(document.body);
    const traces = series.map((name, number) => {
      const own = points.filter((point) => point.series === name);
      const { colour, symbol } = look(number);
      return {
        x: own.map((point) => point.x),
        y: own.map((point) => point.y),
        text: own.map((point) => plain(point.label)),
        mode: "markers",
        marker: {
          color: colour,
          symbol,
          size: own.map((point) => (point.isChosen ? 14 : 9)),
          opacity: 0.85,
          line: { color: ink, width: own.map((point) => (point.isChosen ? 2 : 0)) },
        },
        hovertemplate: `%{text}<br>${yTitle} %{y:.4f}<br>${xTitle} %{x:,}<extra></extra>`,
      };
    });
    draw(element, traces, {
      hovermode: "closest",
      xaxis: { title: { text: xTitle }, type: "log", ...ticks(points.map((point) => point.x)) },
      yaxis: { title: { text: yTitle } },
    });
  }

  /** Ticks of a logarithmic axis with whole numbers on them, which Plotly's own have not. */
  function ticks(values) {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const factors = high < 50 * low ? [1, 1.5, 2, 3, 5, 7] : high < 1000 * low ? [1, 2, 5] : [1];
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      found.push(...factors.map((factor) => factor * 10 ** power));
    }
    const short = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
    return values.length > 0 ? { tickvals: found, ticktext: found.map((tick) => short.format(tick)) } : {};
  }

  /** Mean accuracies over learning rates and batch sizes; a cell that has none says why. */
  function heatMap(element, grid) {
    const digits = element.clientWidth / grid.rates.length > 70 ? 4 : 2;
    const found = grid.means.flat().filter((mean) => mean !== null);
    const [low, high] = [Math.min(...found), Math.max(...found)];
    const cells = (make) => grid.batch_sizes.map((_, row) => grid.rates.map((_, column) => make(row, column)));
    const written = (row, column) => {
      const mean = grid.means[row][column];
      const isDark = mean !== null && mean - low < 0.45 * (high - low);
      return {
        x: column,
        y: row,
        text: mean === null ? grid.states[row][column] : mean.toFixed(digits),
        font: { color: mean === null ? text(document.body) : isDark ? "white" : "black" },
        showarrow: false,
      };
    };
    const told = (row, column) => {
      const deviation = grid.deviations[row][column];
      return (deviation === null ? "" : ` ± ${deviation.toFixed(4)}`) + `, n = ${grid.counts[row][column]}`;
    };
    draw(
      element,
      [
        {
          type: "heatmap",
          x: grid.rates,
          y: grid.batch_sizes,
          z: grid.means,
          customdata: cells(told),
          hovertemplate: "lr %{x}, batch %{y}<br>%{z:.4f}%{customdata}<extra></extra>",
          hoverongaps: false,
          colorscale: "Cividis",
          xgap: 2,
          ygap: 2,
          colorbar: { thickness: 12, outlinewidth: 0 },
        },
      ],
      {
        xaxis: { title: { text: "learning rate" }, type: "category", showgrid: false },
        yaxis: { title: { text: "batch size" }, type: "category", showgrid: false },
        annotations: cells(written).flat(),
      },
    );
  }

  return { look, curves, cost, heatMap };
})();
