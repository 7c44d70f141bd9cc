// One plot. It is drawn again when new samples come, and while it can be seen.
import uPlot from '../../vendor/uplot.js';
import { html, useEffect, useRef, useState } from '../dom.js';
import { clock } from '../format.js';
import { t } from '../i18n.js';
import { theme } from '../settings.js';
import { useStore } from '../store.js';

const HEIGHT = 132;
const WHOLE = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10000];
const together = uPlot.sync('plots');

export function Plot({ plot, history, span }) {
  const box = useRef();
  const drawn = useRef();
  const [at, setAt] = useState(null);
  const colours = useStore(theme);
  const now = useRef();
  now.current = { history, span };

  useEffect(() => {
    const place = box.current;
    const chart = new uPlot(options(plot, place, now, setAt), data(plot, history), place);
    drawn.current = chart;
    const fit = new ResizeObserver(() => chart.setSize({ width: place.clientWidth, height: HEIGHT }));
    fit.observe(place);
    return () => (fit.disconnect(), chart.destroy());
  }, [plot, colours]);
  useEffect(() => {
    drawn.current.setData(data(plot, history), false);
    drawn.current.setScale('x', { min: history.end - span, max: history.end });
  }, [history, span]);

  const { columns } = history;
  const index = at ?? columns.at.length - 1;
  return html`
    <figure class="plot">
      <figcaption>
        <b>${t(`plot.${plot.name}`)}</b>
        ${plot.series.map(
          (name, order) => html`
            <span key=${name} class="legend">
              <i class=${`s${order}`} aria-hidden="true"></i>
              ${plot.series.length > 1 ? `${t(`series.${name}`)} ` : ''}
              <output>${plot.show(columns[name]?.[index] ?? (at == null ? last(columns[name]) : null))}</output>
            </span>
          `,
        )}
        ${
          at != null &&
          html`
            <time class="quiet small">${clock(columns.at[at])}</time>
          `
        }
      </figcaption>
      <div ref=${box} class="canvas" role="img" aria-label=${described(plot, columns)}></div>
    </figure>
  `;
}

function data(plot, { columns }) {
  return [columns.at, ...plot.series.map((name) => columns[name] ?? columns.at.map(() => null))];
}

function last(column = []) {
  return column.findLast((value) => value != null) ?? null;
}

function described(plot, columns) {
  const told = plot.series.map((name) => `${t(`series.${name}`)} ${plot.show(last(columns[name]))}`);
  return `${t(`plot.${plot.name}`)}: ${told.join(', ')}`;
}

function options(plot, box, now, setAt) {
  const ink = (name) => colour(box, name);
  const axis = {
    stroke: ink('--faint'),
    font: '11px system-ui',
    grid: { stroke: ink('--line'), width: 1 },
    ticks: { show: false },
  };
  const most = (_, low, high) => [0, Math.max(plot.most ?? 0, high > 0 ? high * 1.1 : 1)];
  return {
    width: box.clientWidth,
    height: HEIGHT,
    padding: [8, 16, 0, 0],
    legend: { show: false },
    cursor: { sync: { key: together.key }, y: false, points: { size: 6 }, drag: { x: false, y: false } },
    scales: { x: { time: true }, y: { range: most } },
    axes: [
      { ...axis, space: 48, size: 22, values: (_, at) => at.map((one) => (one == null ? '' : clock(one).slice(0, 5))) },
      {
        ...axis,
        space: 34,
        size: 48,
        incrs: plot.whole ? WHOLE : undefined,
        values: (_, told) => told.map((value) => (value == null ? '' : plot.show(value))),
      },
    ],
    series: [
      {},
      ...plot.series.map((_, order) => ({
        stroke: ink(`--series-${order}`),
        width: 1.5,
        spanGaps: false,
        points: { size: 4, show: plot.sparse ? true : undefined },
        fill: order || plot.series.length > 1 ? undefined : ink('--series-fill'),
        paths: plot.stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
      })),
    ],
    hooks: {
      setCursor: [(chart) => setAt(chart.cursor.left >= 0 ? (chart.cursor.idx ?? null) : null)],
      draw: [(chart) => mark(chart, now.current.history.decisions ?? [], ink('--mark'))],
    },
  };
}

// A line for every decision, with how many replicas it wanted where the plot is of them.
function mark(chart, decisions, stroke) {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = stroke;
  ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
  for (const one of decisions) {
    if (one.at < chart.scales.x.min || one.at > chart.scales.x.max) continue;
    const left = Math.round(chart.valToPos(one.at, 'x', true));
    ctx.beginPath();
    ctx.moveTo(left, bbox.top);
    ctx.lineTo(left, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

// What a property of the style is in this theme, as a canvas wants it.
function colour(box, name) {
  const probe = document.createElement('i');
  probe.style.color = `var(${name})`;
  box.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
