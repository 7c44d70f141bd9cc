// The last hour of a service (a day, where Prometheus keeps it) in small plots on one time axis, decisions of the
// autoscaler as lines across them.
import { html, useEffect, useMemo, useState } from '../dom.js';
import { HOUR, History, Longer } from '../history.js';
import { clock, figure, number, seconds } from '../format.js';
import { t } from '../i18n.js';
import { session, usePoll } from '../live.js';

const percent = (value) => (value == null ? figure(null) : `${number(100 * value, 1)} %`);
const PLOTS = [
  { name: 'requests', series: ['held', 'inFlight'], show: number, whole: true },
  { name: 'speed', series: ['tokensPerSecond'], show: figure },
  { name: 'ttft', series: ['ttft50', 'ttft95'], show: seconds, sparse: true },
  { name: 'gap', series: ['gap50', 'gap95'], show: seconds, sparse: true },
  { name: 'kv', series: ['kvUsed'], show: percent, most: 1 },
  { name: 'replicas', series: ['wanted', 'ready'], show: number, whole: true, stepped: true },
];
const SPANS = [300, 900, HOUR];
const LONGER = [6 * HOUR, 24 * HOUR];

export function Plots({ at }) {
  const [chosen, setSpan] = useState(0);
  const longer = chosen > HOUR ? chosen : 0;
  const poll = useMemo(() => (longer ? new Longer(at, longer) : new History(at)), [at, longer]);
  const { value: history, error } = usePoll(poll);
  const { value: about } = usePoll(session);
  const [library, setLibrary] = useState(null);
  useEffect(() => void import('./plot.js').then((module) => setLibrary(() => module.Plot)), []);
  const span = chosen || (history ? fitting(history) : 0);
  if (!history?.columns.at.length || !library)
    return html`
      <div class="plots waiting" aria-busy="true">${error ? '' : t('loading')}</div>
    `;
  return html`
    <section class="plots-box" aria-labelledby="plots">
      <div class="line">
        <h2 id="plots">${t('plots')}</h2>
        <span class="grow"></span>
        <${Spans} spans=${about?.prometheus ? [...SPANS, ...LONGER] : SPANS} span=${span} choose=${setSpan} />
      </div>
      <div class="plots">
        ${PLOTS.map(
          (plot) => html`
            <${library} key=${plot.name} plot=${plot} history=${history} span=${span} />
          `,
        )}
      </div>
      <${Decisions} decisions=${history.decisions ?? []} from=${history.end - span} />
    </section>
  `;
}

// The shortest span that shows all there is.
function fitting({ columns, end }) {
  const there = end - (columns.at[0] ?? end);
  return SPANS.find((span) => span >= there) ?? SPANS.at(-1);
}

function Spans({ spans, span, choose }) {
  return html`
    <div class="choices" role="group" aria-label=${t('plots.span')}>
      ${spans.map(
        (one) => html`
          <button
            key=${one}
            type="button"
            class="plain"
            aria-pressed=${span === one ? 'true' : 'false'}
            onClick=${() => choose(one)}
          >
            ${one > HOUR ? t('plots.hours', { hours: one / HOUR }) : t('plots.minutes', { minutes: one / 60 })}
          </button>
        `,
      )}
    </div>
  `;
}

function Decisions({ decisions, from }) {
  const seen = decisions
    .filter((one) => one.at >= from)
    .slice(-6)
    .reverse();
  if (!seen.length) return null;
  return html`
    <ol class="changes decisions" aria-label=${t('plots.decisions')}>
      ${seen.map(
        (one) => html`
          <li key=${one.at}>
            <i aria-hidden="true"></i>
            <time class="quiet small">${clock(one.at)}</time>
            <b>${one.before} → ${one.replicas}</b>
            <span>${one.reason}: ${one.sentence}</span>
          </li>
        `,
      )}
    </ol>
  `;
}
