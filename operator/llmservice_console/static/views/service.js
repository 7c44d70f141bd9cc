// One service: what it is doing, why, what it takes, and its manifest.
import { html, useMemo } from '../dom.js';
import { figure, number, seconds } from '../format.js';
import { t } from '../i18n.js';
import { Poll, changed, usePoll } from '../live.js';
import { Events } from '../parts/events.js';
import { Manifest } from '../parts/manifest.js';
import { Memory } from '../parts/memory.js';
import { Plan } from '../parts/plan.js';
import { Plots } from '../parts/plots.js';
import { Replicas } from '../parts/replicas.js';
import { Scaling } from '../parts/scaling.js';
import { Problem, Progress, Remedy, Said, State, engineName, shortModel, talks } from '../parts/small.js';
import { href } from '../route.js';

export function Service({ path: [, namespace, name] }) {
  const at = `/-/api/services/${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;
  const poll = useMemo(() => new Poll(changed(at)), [at]);
  const { value: one, error } = usePoll(poll);
  if (error?.status === 404)
    return html`
      <${Gone} namespace=${namespace} name=${name} />
    `;
  if (!one)
    return error
      ? html`
          <${Problem} error=${error} />
        `
      : html`
          <p class="quiet" role="status">${t('loading')}</p>
        `;
  return html`
    <p class="back"><a href=${href('services')}>← ${t('nav.services')}</a></p>
    <${Head} one=${one} />
    <${Figures} one=${one} />
    <${Plots} key=${at} at=${at} />
    <div class="columns">
      <div>
        <${Plan} one=${one} />
        <${Events} one=${one} />
      </div>
      <div>
        <${Memory} one=${one} />
        <${Replicas} one=${one} />
      </div>
    </div>
    <div class="rows">
      <${Scaling} one=${one} />
      <${Manifest} one=${one} />
    </div>
  `;
}

function Head({ one }) {
  const tone = one.state === 'Failed' ? 'bad' : one.state === 'Waiting' ? 'busy' : '';
  const said = one.state !== 'Ready' || one.reason !== 'Ready';
  return html`
    <div class="head service-head">
      <h1>
        <span class="namespace">${one.namespace}/</span>
        ${one.shortName}
      </h1>
      <${State} state=${one.state} />
      ${
        one.percent != null || one.etaSeconds != null
          ? html`
              <${Progress} ...${one} label=${one.name} />
            `
          : null
      }
      <span class="grow"></span>
      ${
        talks(one) &&
        html`
          <a class="button primary" href=${href('chat', 'new', one.name)}>${t('chat')}</a>
        `
      }
    </div>
    <div class="live" aria-live="polite">
      ${
        said &&
        html`
          <div class=${`told ${tone}`}>
            <p><${Said} text=${one.message} /></p>
            ${
              one.remedy &&
              html`
                <div class="remedy">
                  <b>${t('remedy')}</b>${' '}
                  <${Remedy} text=${one.remedy} />
                </div>
              `
            }
          </div>
        `
      }
    </div>
  `;
}

function Figures({ one }) {
  const speed = one.speed ?? {};
  const predicted = speed.predicted?.tokensPerSecond;
  const measured = speed.measured?.tokensPerSecond;
  return html`
    <dl class="figures">
      <${Figure} name=${t('fact.replicas')} value=${`${one.ready}/${number(one.wanted)}`} />
      <${Figure} name=${t('fact.held')} value=${number(one.now.held)} />
      <${Figure} name=${t('fact.inFlight')} value=${number(one.now.inFlight)} />
      <${Figure} name=${t('fact.now')} value=${figure(one.now.tokensPerSecond)} unit=${t('unit.tps')} />
      <${Figure}
        name=${t('fact.alone')}
        value=${figure(measured)}
        unit=${t('unit.tps')}
        note=${predicted != null ? t('speed.predicted', { value: figure(predicted) }) : one.load ? t('speed.loaded', { time: seconds(one.load.milliseconds / 1000) }) : ''}
      />
      <${Figure} name=${t('fact.context')} value=${number(one.contextTokens || null)} unit=${t('unit.tokens')} />
    </dl>
    <p class="quiet small model" title=${one.uri}>
      ${[engineName(one.engine), one.architecture, one.parameters ? params(one.parameters) : '', one.quantization, shortModel(one.uri)].filter(Boolean).join(' · ')}
    </p>
  `;
}

function params(count) {
  return count >= 1e9 ? `${figure(count / 1e9)} B` : `${figure(count / 1e6)} M`;
}

function Figure({ name, value, unit = '', note = '' }) {
  return html`
    <div>
      <dt>${name}</dt>
      <dd>
        <b>${value}</b>${' '}
        <span class="quiet small">${unit}</span>
        ${
          note &&
          html`
            <span class="note">${note}</span>
          `
        }
      </dd>
    </div>
  `;
}

function Gone({ namespace, name }) {
  return html`
    <div class="card nothing">
      <h1>${t('gone', { name: `${namespace}/${name}` })}</h1>
      <p><a href=${href('services')}>← ${t('nav.services')}</a></p>
    </div>
  `;
}
