// While an answer has not begun: that it is computed, or what the service that is to give it still does before.
import { html, useEffect, useMemo, useState } from '../dom.js';
import { seconds } from '../format.js';
import { t, word } from '../i18n.js';
import { Poll, changed, usePoll } from '../live.js';
import { Progress, Said } from '../parts/small.js';

const PHASES = ['Starting', 'Loading', 'Warming', 'SelfTest'];

export function Waking({ answer, service }) {
  if (!service || service.ready)
    return html`
      <p class="thinking" role="status">
        <span class="unseen">${t('chat.thinking')}</span>
        <i></i>
        <i></i>
        <i></i>
      </p>
    `;
  return html`
    <${Cold} answer=${answer} service=${service} />
  `;
}

function Cold({ answer, service }) {
  const at = `/-/api/services/${encodeURIComponent(service.namespace)}/${encodeURIComponent(service.shortName)}`;
  const poll = useMemo(() => new Poll(changed(at), { every: 1000 }), [at]);
  const { value } = usePoll(poll);
  const waited = useSeconds(answer.began);
  const now = value ?? service;
  const phase = PHASES.indexOf(now.phase);
  const left = now.etaSeconds ?? (now.loadSeconds ? Math.max(1, now.loadSeconds - waited) : null);
  return html`
    <div class="waking">
      <p role="status"><b>${t('chat.wakes', { name: service.name })}</b></p>
      <ol class="phases">
        ${PHASES.map(
          (name, index) => html`
            <li
              key=${name}
              class=${index < phase ? 'over' : index === phase ? 'now' : ''}
              aria-current=${index === phase ? 'step' : undefined}
            >
              ${word('phase', name)}
            </li>
          `,
        )}
      </ol>
      <${Progress} percent=${now.percent} etaSeconds=${left} label=${t('chat.wakes', { name: service.name })} />
      <p class="quiet small">
        <${Said} text=${now.message} />${' '}
        ${t('chat.waited', { time: seconds(waited) })}
      </p>
    </div>
  `;
}

function useSeconds(began) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, []);
  return Math.max(1, Math.round((now - (began ?? now)) / 1000));
}
