// All services that this key may use: one line each, what needs somebody first.
import { html } from '../dom.js';
import { figure, number } from '../format.js';
import { t, word } from '../i18n.js';
import { services, usePoll } from '../live.js';
import { Problem, Progress, Said, State, engineName, shortModel, talks } from '../parts/small.js';
import { href } from '../route.js';

const ORDER = ['Failed', 'Waiting', 'Starting', 'Draining', 'Ready', 'Idle', 'Stopped'];

export function Services() {
  const { value, error } = usePoll(services);
  if (!value)
    return error
      ? html`
          <${Problem} error=${error} />
        `
      : html`
          <p class="quiet" role="status">${t('loading')}</p>
        `;
  const sorted = [...value.services].sort(
    (a, b) => ORDER.indexOf(a.state) - ORDER.indexOf(b.state) || a.name.localeCompare(b.name),
  );
  return html`
    <div class="head">
      <h1>${t('nav.services')}</h1>
      <p class="quiet">${summary(sorted)}</p>
    </div>
    ${
      sorted.length
        ? html`
            <ul class="services">
              ${sorted.map(
                (one) => html`
                  <${Row} key=${one.name} one=${one} />
                `,
              )}
            </ul>
          `
        : html`
            <${Nothing} />
          `
    }
  `;
}

function summary(all) {
  const count = (state) => all.filter((one) => one.state === state).length;
  const told = ORDER.filter(count).map((state) => `${count(state)} ${word('state', state)}`);
  return told.join(' · ');
}

function Row({ one }) {
  const moving = one.state === 'Starting' || one.state === 'Waiting';
  const troubled = one.state === 'Failed' || one.state === 'Waiting';
  return html`
    <li class=${`card service-row ${one.state.toLowerCase()}`}>
      <div class="who">
        <a class="name" href=${href('services', one.namespace, one.shortName)}>
          <span class="namespace">${one.namespace}/</span>
          ${one.shortName}
        </a>
        <span class="quiet small model" title=${one.uri}>${shortModel(one.uri)}</span>
      </div>
      <div class="how">
        <${State} state=${one.state} />
        ${
          moving &&
          (one.percent != null || one.etaSeconds != null) &&
          html`
            <${Progress} ...${one} label=${one.name} />
          `
        }
      </div>
      <dl class="facts">
        <${Fact}
          name=${t('fact.engine')}
          value=${[engineName(one.engine), one.quantization].filter(Boolean).join(' ') || '–'}
        />
        <${Fact} name=${t('fact.replicas')} value=${`${one.ready}/${number(one.wanted)}`} />
        <${Fact} name=${t('fact.requests')} value=${number(one.now.held + one.now.inFlight)} />
        <${Fact} name=${t('fact.speed')} value=${figure(one.now.tokensPerSecond)} />
      </dl>
      ${
        talks(one) &&
        html`
          <a class="button" href=${href('chat', 'new', one.name)} aria-label=${t('chat.with', { name: one.name })}>
            ${t('chat')}
          </a>
        `
      }
      ${
        (troubled || (moving && one.message)) &&
        html`
          <p class="why">
            <${Said} text=${one.message} />${' '}
            ${
              one.remedy &&
              html`
                <span class="remedy"><${Said} text=${one.remedy} /></span>
              `
            }
          </p>
        `
      }
    </li>
  `;
}

function Fact({ name, value }) {
  return html`
    <div>
      <dt>${name}</dt>
      <dd>${value}</dd>
    </div>
  `;
}

function Nothing() {
  return html`
    <div class="card nothing">
      <h2>${t('services.none')}</h2>
      <p class="quiet">${t('services.how')}</p>
      <pre><code>llmservice up -f config/samples/demo.yaml</code></pre>
    </div>
  `;
}
