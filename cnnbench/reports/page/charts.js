"use strict";

/* The charts. All text comes from untrusted run directories, so that Plotly gets no text that it could read as markup. */
const charts = (() => {
  /* Okabe and Ito's colors without yellow, which is illegible on white; null is the color of text. With seven colors
     and eight signs, 56 runs look different. The signs serve readers who see no colors. */
  const COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", null];
  const SIGNS = [
    ["circle", "●"], ["square", "■"], ["diamond", "◆"], ["triangle-up", "▲"],
    ["x", "✖"], ["cross", "✚"], ["star", "★"], ["triangle-down", "▼"],
  ];
  const MAX_LABEL = 90; // characters

  const textColor = (element) => getComputedStyle(element).color;
  const plain = (label) =>
    (label.length > MAX_LABEL ? label.slice(0, MAX_LABEL) + "…" : label)
      .replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");

  /** Return the style of group `number`. */
  function getStyle(number) {
    const [symbol, sign] = SIGNS[number % SIGNS.length];
    return { color: COLORS[number % COLORS.length] ?? textColor(document.body), symbol, sign };
  }

  /** Return the style of runs that are not chosen. */
  const getFaintStyle = () => ({
    color: textColor(document.querySelector(".note")),
    symbol: "circle-open",
    sign: "○",
  });

  function draw(element, traces, layout) {
    const body = getComputedStyle(document.body);
    const line = getComputedStyle(document.querySelector("section")).borderTopColor;
    const isTouch = matchMedia("(pointer: coarse)").matches; // a finger that moves over a chart scrolls the page
    const axis = { gridcolor: line, linecolor: line, zeroline: false, automargin: true, fixedrange: isTouch };
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
        displayModeBar: isTouch ? false : "hover",
        modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]], // no button may send data to a server
        displaylogo: false,
        toImageButtonOptions: { filename: element.id, scale: 2 },
      },
    );
  }

  /** Return a step between ticks: 1, 2 or 5 times a power of ten, such that about seven ticks fit. */
  function chooseStep(span) {
    const size = 10 ** Math.floor(Math.log10(span / 7));
    return size * [1, 2, 5, 10].find((factor) => factor * size >= span / 7);
  }

  /** Return for each epoch the mean and std (n - 1) of the runs' finite values. Without any, the mean is null. */
  function average(runs, column) {
    const values = new Map();
    for (const { curves } of runs) {
      curves.epoch.forEach((epoch, at) => {
        values.set(epoch, [...(values.get(epoch) ?? []), curves[column][at]]);
      });
    }
    const epochs = [...values.keys()].sort((a, b) => a - b);
    return epochs.map((epoch) => {
      const finite = values.get(epoch).filter((value) => value !== null);
      const count = finite.length;
      const mean = count > 0 ? finite.reduce((sum, value) => sum + value) / count : null;
      const squares = finite.reduce((sum, value) => sum + (value - mean) ** 2, 0);
      return { epoch, mean, count, std: count > 1 ? Math.sqrt(squares / (count - 1)) : 0 };
    });
  }

  /** Return the area of mean ± std at the epochs of several runs. */
  function makeBand(points, color) {
    const several = points.filter(({ count }) => count > 1);
    const edge = (sign) => several.map(({ mean, std }) => mean + sign * std);
    const epochs = several.map(({ epoch }) => epoch);
    return {
      x: [...epochs, ...[...epochs].reverse()],
      y: [...edge(1), ...edge(-1).reverse()],
      mode: "lines",
      line: { width: 0 },
      fill: "toself",
      fillcolor: color,
      opacity: 0.2,
      hoverinfo: "skip",
    };
  }

  /** Draw curves of groups {label, style, runs}: their mean and, if a group has several runs, a band. */
  function drawCurves(element, groups, quantity, withTraining) {
    const traces = groups.flatMap(({ label, style, runs }) => {
      const makeTrace = (points, part, lineStyle) => ({
        x: points.map(({ epoch }) => epoch),
        y: points.map(({ mean }) => mean),
        text: points.map(({ std, count }) => (count > 1 ? ` ± ${std.toFixed(4)}, n = ${count}` : "")),
        name: plain(label),
        hovertemplate: `%{fullData.name}<br>epoch %{x}: ${part} ${quantity} %{y}%{text}<extra></extra>`,
        ...lineStyle,
      });
      const points = average(runs, `eval_${quantity}`);
      const solid = makeTrace(points, runs[0].curves.eval_part, {
        mode: "lines+markers",
        line: { color: style.color, width: 2 },
        marker: { color: style.color, symbol: style.symbol, size: 8, maxdisplayed: 12 },
      });
      const dashed = makeTrace(average(runs, `train_${quantity}`), "training", {
        mode: "lines",
        line: { color: style.color, width: 1.5, dash: "dash" },
      });
      return [
        ...(runs.length > 1 ? [makeBand(points, style.color)] : []),
        ...(withTraining ? [dashed, solid] : [solid]),
      ];
    });
    const epochs = groups.flatMap(({ runs }) => runs.map(({ curves }) => curves.epoch.at(-1)));
    draw(element, traces, {
      hovermode: "closest",
      xaxis: { title: { text: "epoch" }, dtick: Math.max(1, chooseStep(Math.max(1, ...epochs))) },
      yaxis: { title: { text: quantity } },
    });
  }

  /** Draw points {label, series, x, y, isChosen} over a logarithmic x-axis, each in the style of its series. */
  function drawCost(element, points, series, xTitle, yTitle) {
    const outline = textColor(document.body);
    const traces = series.map((one) => {
      const own = points.filter((point) => point.series === one);
      const { color, symbol } = one.style;
      return {
        x: own.map((point) => point.x),
        y: own.map((point) => point.y),
        text: own.map((point) => plain(point.label)),
        mode: "markers",
        marker: {
          color,
          symbol,
          size: own.map((point) => (point.isChosen ? 14 : 9)),
          opacity: 0.85,
          line: { color: outline, width: own.map((point) => (point.isChosen ? 2 : 0)) },
        },
        hovertemplate: `%{text}<br>${yTitle} %{y:.4f}<br>${xTitle} %{x:,}<extra></extra>`,
      };
    });
    draw(element, traces, {
      hovermode: "closest",
      xaxis: { title: { text: xTitle }, type: "log", ...makeTicks(points.map((point) => point.x)) },
      yaxis: { title: { text: yTitle } },
    });
  }

  /** Return ticks of a logarithmic axis. Plotly's default labels are digits without their power of ten. */
  function makeTicks(values) {
    if (values.length === 0) return {};
    const [low, high] = [Math.min(...values), Math.max(...values)];
    let factors = [1];
    if (high < 50 * low) factors = [1, 1.5, 2, 3, 5, 7];
    else if (high < 1000 * low) factors = [1, 2, 5];
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      ticks.push(...factors.map((factor) => factor * 10 ** power));
    }
    const format = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
    return { tickvals: ticks, ticktext: ticks.map((tick) => format.format(tick)) };
  }

  /** Draw mean accuracies over learning rates and batch sizes. A cell without a mean shows the state of its runs. */
  function drawHeatMap(element, grid) {
    const digits = element.clientWidth / grid.rates.length > 70 ? 4 : 2;
    const means = grid.means.flat().filter((mean) => mean !== null);
    const [low, high] = [Math.min(...means), Math.max(...means)];
    const mapCells = (make) => grid.batch_sizes.map((_, row) => grid.rates.map((_, column) => make(row, column)));
    const makeLabel = (row, column) => {
      const mean = grid.means[row][column];
      let color = textColor(document.body);
      if (mean !== null) color = mean - low < 0.45 * (high - low) ? "white" : "black";
      return {
        x: column,
        y: row,
        text: mean === null ? grid.states[row][column] : mean.toFixed(digits),
        font: { color },
        showarrow: false,
      };
    };
    const describeSpread = (row, column) => {
      const std = grid.stds[row][column];
      return (std === null ? "" : ` ± ${std.toFixed(4)}`) + `, n = ${grid.counts[row][column]}`;
    };
    draw(
      element,
      [
        {
          type: "heatmap",
          x: grid.rates,
          y: grid.batch_sizes,
          z: grid.means,
          customdata: mapCells(describeSpread),
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
        annotations: mapCells(makeLabel).flat(),
      },
    );
  }

  return { getStyle, getFaintStyle, drawCurves, drawCost, drawHeatMap };
})();
