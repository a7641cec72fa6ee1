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

  /** What is not chosen looks like. */
  const faint = () => ({ colour: text(document.querySelector(".note")), symbol: "circle-open", sign: "○" });

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

  /** Mean and standard deviation (n - 1) over the runs that have a finite value at an epoch; null of none. */
  function average(runs, column) {
    const values = new Map();
    for (const { curves } of runs) {
      curves.epoch.forEach((epoch, at) => {
        values.set(epoch, [...(values.get(epoch) ?? []), curves[column][at]]);
      });
    }
    const epochs = [...values.keys()].sort((a, b) => a - b);
    return epochs.map((epoch) => {
      const own = values.get(epoch).filter((value) => value !== null);
      const mean = own.length > 0 ? own.reduce((sum, value) => sum + value) / own.length : null;
      const squares = own.reduce((sum, value) => sum + (value - mean) ** 2, 0);
      return { epoch, mean, count: own.length, deviation: own.length > 1 ? Math.sqrt(squares / (own.length - 1)) : 0 };
    });
  }

  /** The area between mean + and - deviation, where there are several runs. */
  function band(points, colour) {
    const several = points.filter(({ count }) => count > 1);
    const edge = (sign) => several.map(({ mean, deviation }) => mean + sign * deviation);
    const epochs = several.map(({ epoch }) => epoch);
    return {
      x: [...epochs, ...[...epochs].reverse()],
      y: [...edge(1), ...edge(-1).reverse()],
      mode: "lines",
      line: { width: 0 },
      fill: "toself",
      fillcolor: colour,
      opacity: 0.2,
      hoverinfo: "skip",
    };
  }

  /** Curves of groups of runs, each with a label and a look: their mean and, over several, a band. */
  function curves(element, groups, quantity, withTraining) {
    const traces = groups.flatMap(({ label, look, runs }) => {
      const curve = (points, name, style) => ({
        x: points.map(({ epoch }) => epoch),
        y: points.map(({ mean }) => mean),
        text: points.map(({ deviation, count }) => (count > 1 ? ` ± ${deviation.toFixed(4)}, n = ${count}` : "")),
        name: plain(label),
        hovertemplate: `%{fullData.name}<br>epoch %{x}: ${name} ${quantity} %{y}%{text}<extra></extra>`,
        ...style,
      });
      const points = average(runs, `held_out_${quantity}`);
      const solid = curve(points, runs[0].curves.held_out, {
        mode: "lines+markers",
        line: { color: look.colour, width: 2 },
        marker: { color: look.colour, symbol: look.symbol, size: 8, maxdisplayed: 12 },
      });
      const dashed = curve(average(runs, `train_${quantity}`), "training", {
        mode: "lines",
        line: { color: look.colour, width: 1.5, dash: "dash" },
      });
      return [
        ...(runs.length > 1 ? [band(points, look.colour)] : []),
        ...(withTraining ? [dashed, solid] : [solid]),
      ];
    });
    const epochs = groups.flatMap(({ runs }) => runs.map(({ curves }) => curves.epoch.at(-1)));
    draw(element, traces, {
      hovermode: "closest",
      xaxis: { title: { text: "epoch" }, dtick: Math.max(1, step(Math.max(1, ...epochs))) },
      yaxis: { title: { text: quantity } },
    });
  }

  /** Points {label, series, x, y, isChosen}, x logarithmic; those of each of `series` have its look. */
  function cost(element, points, series, xTitle, yTitle) {
    const ink = text(document.body);
    const traces = series.map((one) => {
      const own = points.filter((point) => point.series === one);
      const { colour, symbol } = one.look;
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

  return { look, faint, curves, cost, heatMap };
})();
