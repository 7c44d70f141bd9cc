// Why there are as many replicas as there are: the last decision, each signal, and what changed before.
import { html } from '../dom.js';
import { ago, figure, seconds } from '../format.js';
import { t } from '../i18n.js';
import { Said } from './small.js';

export function Scaling({ one: { scaling, scalingNote } }) {
  if (!scaling && !scalingNote) return null;
  return html`
    <section class="card" aria-labelledby="scaling">
      <h2 id="scaling">${t('scaling')}</h2>
      ${
        scaling
          ? html`
              <${Explained} told=${scaling} />
            `
          : html`
              <p class="quiet"><${Said} text=${scalingNote} /></p>
            `
      }
    </section>
  `;
}

function Explained({ told }) {
  return html`
    ${
      told.sentence &&
      html`
        <p>
          <b>${t('scaling.wanted', { count: told.replicas })}</b>${' '}
          ${told.sentence}.
        </p>
      `
    }
    ${told.notes?.map(
      (note) => html`
        <p key=${note} class="quiet small">${note}</p>
      `,
    )}
    ${
      told.signals?.length > 0 &&
      html`
        <${Signals} signals=${told.signals} />
      `
    }
    ${
      told.changes?.length > 0 &&
      html`
        <h3>${t('scaling.changes')}</h3>
        <ol class="changes">
          ${told.changes.map(
            (one) => html`
              <${Change} key=${one.at} one=${one} />
            `,
          )}
        </ol>
      `
    }
  `;
}

function Signals({ signals }) {
  return html`
    <div class="scroll" tabindex="0" role="region" aria-label=${t('scaling.signals')}>
      <table>
        <thead>
          <tr>
            ${['signal', 'value', 'target', 'wants', 'why'].map(
              (name) => html`
                <th scope="col" key=${name} class=${name === 'why' ? 'text' : ''}>${t(`scaling.${name}`)}</th>
              `,
            )}
          </tr>
        </thead>
        <tbody>
          ${signals.map(
            (one) => html`
              <tr key=${one.name}>
                <th scope="row">
                  ${one.name}${' '}
                  <span class="quiet small">${one.unit}</span>
                </th>
                <td>${value(one.value)}</td>
                <td>${value(one.target)}</td>
                <td>${value(one.bounded ?? one.replicas)}</td>
                <td class="text why">${one.why}${one.ageSeconds > 5 ? ` (${seconds(one.ageSeconds)})` : ''}</td>
              </tr>
            `,
          )}
        </tbody>
      </table>
    </div>
  `;
}

function Change({ one }) {
  return html`
    <li>
      <b>${one.before} → ${one.replicas}</b>
      <time class="quiet small" datetime=${one.at} title=${one.at}>${ago(Date.parse(one.at) / 1000)}</time>
      <span>${one.reason}: ${one.sentence}${one.carriedOut ? '' : ` (${t('scaling.dry')})`}</span>
    </li>
  `;
}

const value = (told) => (typeof told === 'string' ? told : figure(told));
