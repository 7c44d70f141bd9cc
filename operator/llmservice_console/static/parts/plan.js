// What was chosen for a service, and why nothing else.
import { html } from '../dom.js';
import { figure, number } from '../format.js';
import { t } from '../i18n.js';
import { Said, engineName } from './small.js';

export function Plan({ one: { plan, speed } }) {
  if (!plan) return null;
  const rows = [
    ['plan.sequences', plan.maxSequences && number(plan.maxSequences)],
    ['plan.kv', plan.kvTokens && t('plan.tokens', { tokens: number(plan.kvTokens) })],
    ['plan.context', plan.contextTokens && t('plan.tokens', { tokens: number(plan.contextTokens) })],
    ['plan.speed', predicted(speed?.predicted)],
    [
      'plan.image',
      plan.image &&
        html`
          <code>${plan.image}</code>
        `,
    ],
  ].filter(([, value]) => value);
  return html`
    <section class="card" aria-labelledby="plan">
      <h2 id="plan">${t('plan')}</h2>
      <p>
        <b>${engineName(plan.engine)}</b>${' '}
        <span class="quiet"><${Said} text=${plan.reason} /></span>
      </p>
      <dl class="pairs">
        ${rows.map(
          ([name, value]) => html`
            <div key=${name}>
              <dt>${t(name)}</dt>
              <dd>${value}</dd>
            </div>
          `,
        )}
      </dl>
      <${Rejected} rejected=${plan.rejected} />
      <${Notes} notes=${plan.notes} />
    </section>
  `;
}

// How fast memory lets it write; '' where there is nothing to say.
export function predicted(speed) {
  if (speed?.tokensPerSecond == null) return speed?.unknown ? t('plan.speed.unknown', { why: speed.unknown }) : '';
  const told = { alone: speed.tokensPerSecond, full: speed.fullTokensPerSecond, together: speed.togetherTokensPerSecond };
  return Object.entries(told)
    .filter(([, value]) => value != null)
    .map(([name, value]) => t(`plan.speed.${name}`, { value: figure(value) }))
    .join('; ');
}

export function Rejected({ rejected }) {
  if (!rejected?.length) return null;
  return html`
    <h3>${t('plan.rejected')}</h3>
    <dl class="rejected">
      ${rejected.map(
        ({ engine, reason }) => html`
          <div key=${engine}>
            <dt>${engineName(engine)}</dt>
            <dd><${Said} text=${reason} /></dd>
          </div>
        `,
      )}
    </dl>
  `;
}

export function Notes({ notes }) {
  if (!notes?.length) return null;
  return html`
    <h3>${t('plan.notes')}</h3>
    <ul class="notes">
      ${notes.map(
        (note) => html`
          <li key=${note}><${Said} text=${note} /></li>
        `,
      )}
    </ul>
  `;
}
