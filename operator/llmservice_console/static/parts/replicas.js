// The replicas of a service, and how far those are that do not serve yet.
import { html } from '../dom.js';
import { number, seconds } from '../format.js';
import { t, word } from '../i18n.js';
import { Progress, Said, State } from './small.js';

export function Replicas({ one: { replicas, load } }) {
  return html`
    <section class="card" aria-labelledby="replicas">
      <h2 id="replicas">${t('replicas')}</h2>
      ${
        replicas.length
          ? html`
              <ul class="replicas">
                ${replicas.map(
                  (replica) => html`
                    <${Replica} key=${replica.name} replica=${replica} />
                  `,
                )}
              </ul>
            `
          : html`
              <p class="quiet">${t('replicas.none')}</p>
            `
      }
      ${
        load?.phases?.length > 0 &&
        html`
          <h3>${t('load', { time: seconds(load.milliseconds / 1000) })}</h3>
          <${Phases} load=${load} />
        `
      }
    </section>
  `;
}

function Replica({ replica }) {
  const { name, state, phase, restarts, gpus, failure, note } = replica;
  const told = [
    state !== 'Ready' && phase && phase !== state && word('phase', phase),
    state === 'Ready' && t('replica.running', { running: number(replica.running), waiting: number(replica.waiting) }),
    ...(gpus ?? []),
    restarts > 0 && t('replica.restarts', { count: restarts }),
  ].filter(Boolean);
  return html`
    <li>
      <div class="line">
        <b>${name}</b>
        <${State} state=${state} />
        <span class="quiet small">${told.join(' · ')}</span>
      </div>
      ${
        state === 'Starting' &&
        html`
          <${Progress} ...${replica} label=${name} />
        `
      }
      ${
        note &&
        html`
          <p class="quiet small">${note}</p>
        `
      }
      ${
        failure &&
        html`
          <p class="told bad">
            <b>${failure.reason}</b>${' '}
            <${Said} text=${failure.message} />${' '}
            ${
              failure.remedy &&
              html`
                <span class="remedy"><${Said} text=${failure.remedy} /></span>
              `
            }
          </p>
        `
      }
    </li>
  `;
}

function Phases({ load }) {
  return html`
    <dl class="pairs">
      ${load.phases.map(
        (phase) => html`
          <div key=${phase.name}>
            <dt>${word('phase', phase.name)}</dt>
            <dd>${seconds(phase.milliseconds / 1000)}</dd>
          </div>
        `,
      )}
    </dl>
  `;
}
