// What happened to a service, newest first, and what holds of it now.
import { html } from '../dom.js';
import { ago } from '../format.js';
import { t } from '../i18n.js';
import { Said } from './small.js';

export function Events({ one: { events, eventsNote, conditions } }) {
  return html`
    <section class="card" aria-labelledby="events">
      <h2 id="events">${t('events')}</h2>
      ${
        events?.length > 0 &&
        html`
          <ul class="events">
            ${events.map(
              (one, index) => html`
                <${Event} key=${`${one.at}${one.reason}${index}`} one=${one} />
              `,
            )}
          </ul>
        `
      }
      ${
        !events?.length &&
        html`
          <p class="quiet"><${Said} text=${eventsNote || t('events.none')} /></p>
        `
      }
      ${
        conditions?.length > 0 &&
        html`
          <details>
            <summary>${t('conditions')}</summary>
            <dl class="pairs conditions">
              ${conditions.map(
                (one) => html`
                  <${Condition} key=${one.type} one=${one} />
                `,
              )}
            </dl>
          </details>
        `
      }
    </section>
  `;
}

function Event({ one }) {
  return html`
    <li class=${one.type === 'Warning' ? 'warning' : ''}>
      <div class="line">
        <b>${one.reason}</b>
        ${
          one.count > 1 &&
          html`
            <span class="quiet small">× ${one.count}</span>
          `
        }
        <time class="quiet small" datetime=${one.at} title=${one.at}>${ago(Date.parse(one.at) / 1000)}</time>
      </div>
      <p><${Said} text=${one.message} /></p>
    </li>
  `;
}

function Condition({ one }) {
  return html`
    <div>
      <dt>${one.type}</dt>
      <dd>
        ${one.status}${' '}
        <span class="quiet">${one.reason !== one.status && one.reason}</span>
        <p class="quiet small"><${Said} text=${one.message} /></p>
      </dd>
    </div>
  `;
}
