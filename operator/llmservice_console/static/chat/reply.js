// One answer: what was thought, said and called, what it took, and what can be done with it.
import { html } from '../dom.js';
import { figure, number, seconds } from '../format.js';
import { t } from '../i18n.js';
import { session } from '../live.js';
import { Copy, Said } from '../parts/small.js';
import { Code, Markdown } from './markdown.js';
import { request } from './request.js';
import { curl, python } from './snippets.js';
import { again, goOn } from './talking.js';
import { Waking } from './waking.js';

// A stream that took less came in one piece or two: how long it took says nothing.
const SHORTEST_SECONDS = 0.2;

export function Reply({ talk, turn, slot, answer, choices }) {
  const { steps, state, error } = answer;
  const said = steps.some((step) => step.content || step.reasoning || step.calls.length);
  const last = turn === talk.turns.at(-1);
  const service = choices.find((one) => one.name === answer.model)?.service;
  return html`
    <section class="reply" aria-label=${answer.model}>
      <h2 class="quiet small">${answer.model}</h2>
      ${steps.map(
        (step, index) => html`
          <${Step}
            key=${index}
            talk=${talk}
            step=${step}
            running=${state === 'running' && index === steps.length - 1}
          />
        `,
      )}
      ${
        state === 'running' &&
        !said &&
        html`
          <${Waking} answer=${answer} service=${service} />
        `
      }
      ${
        state === 'failed' &&
        html`
          <${Failed} error=${error} />
        `
      }
      ${
        state === 'stopped' &&
        html`
          <p class="quiet small">${t('chat.stopped')}</p>
        `
      }
      ${
        state === 'done' &&
        steps.at(-1)?.finish === 'length' &&
        html`
          <p class="quiet small">${t('chat.length')}</p>
        `
      }
      ${
        last &&
        state !== 'running' &&
        waits(steps) &&
        html`
          <${Results} talk=${talk} turn=${turn} slot=${slot} step=${steps.at(-1)} />
        `
      }
      ${
        state !== 'running' &&
        html`
          <${Foot} talk=${talk} turn=${turn} slot=${slot} answer=${answer} last=${last} />
        `
      }
    </section>
  `;
}

const waits = (steps) => steps.at(-1)?.calls.some((call) => call.result === null);

function Step({ talk, step, running }) {
  const structured = talk.options.format !== 'text' && !running ? pretty(step.content) : '';
  return html`
    ${
      step.reasoning &&
      html`
        <details class="reasoning" open=${running && !step.content}>
          <summary>${t('chat.reasoning')}</summary>
          <p class="words">${step.reasoning}</p>
        </details>
      `
    }
    ${
      structured
        ? html`
            <${Code} text=${structured} language="json" />
          `
        : step.content &&
          html`
            <${Markdown} text=${step.content} />
          `
    }
    ${step.calls.map(
      (call) => html`
        <div class="call" key=${call.id}>
          <p>
            <span class="quiet small">${t('chat.calls')}</span>${' '}
            <code>${call.name}</code>
          </p>
          <pre
            tabindex="0"
            role="region"
            aria-label=${call.name}
          ><code>${pretty(call.arguments) || call.arguments}</code></pre>
          ${
            call.result !== null &&
            html`
              <p class="quiet small">${t('chat.result')}</p>
              <pre tabindex="0" role="region" aria-label=${t('chat.result')}><code>${call.result}</code></pre>
            `
          }
        </div>
      `,
    )}
  `;
}

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return '';
  }
}

function Failed({ error }) {
  const words = { unreachable: t('unreachable'), broken: t('chat.broken') };
  return html`
    <p class="told bad" role="alert"><${Said} text=${words[error.code] ?? error.message} /></p>
  `;
}

// What tools gave, which the person runs.
function Results({ talk, turn, slot, step }) {
  const send = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    step.calls.forEach((call, index) => (call.result = String(form.get(`result-${index}`))));
    goOn(talk, turn, slot);
  };
  return html`
    <form class="results" onSubmit=${send}>
      ${step.calls.map(
        (call, index) => html`
          <label key=${index}>
            ${t('chat.resultOf', { name: call.name })}
            <textarea name=${`result-${index}`} rows="2" required></textarea>
          </label>
        `,
      )}
      <button class="primary">${t('chat.goOn')}</button>
    </form>
  `;
}

function Foot({ talk, turn, slot, answer, last }) {
  const told = spent(answer);
  const text = () => answer.steps.map((step) => step.content).join('\n\n');
  const snippet = (write) => () =>
    write(repeated(talk, turn, slot), `${location.origin}/v1`, session.state.value.value?.keys);
  return html`
    <div class="foot">
      ${
        told &&
        html`
          <span class="quiet small">${told}</span>
        `
      }
      <span class="actions">
        ${
          answer.state !== 'failed' &&
          html`
            <${Copy} text=${text} />
          `
        }
        ${
          last &&
          html`
            <button type="button" class="plain" onClick=${() => again(talk, turn, slot)}>${t('chat.retry')}</button>
          `
        }
        <${Snippets} snippet=${snippet} />
      </span>
    </div>
  `;
}

// The request of an answer before any of it was there.
function repeated(talk, turn, slot) {
  const blank = { ...turn, answers: turn.answers.map((one) => one && { ...one, steps: [] }) };
  const turns = talk.turns.map((one) => (one === turn ? blank : one));
  return request({ ...talk, turns }, blank, slot);
}

function Snippets({ snippet }) {
  return html`
    <${Copy} text=${snippet(curl)} label="curl" />
    <${Copy} text=${snippet(python)} label="Python" />
  `;
}

// Tokens a second: of what came after the first one; of all, where nearly all came at once.
function speed(tokens, first, took, cold) {
  if (took >= SHORTEST_SECONDS) return (tokens - 1) / took;
  return cold ? null : tokens / (first + took);
}

function spent({ usage, first, took, cold, state }) {
  if (state === 'failed' || first == null) return '';
  const rate = usage && speed(usage.answer, first, took, cold);
  return [
    usage && t('chat.tokens', { prompt: number(usage.prompt), answer: number(usage.answer) }),
    rate && `${figure(rate)} ${t('unit.tps')}`,
    t(cold ? 'chat.woke' : 'chat.first', { time: seconds(first) }),
  ]
    .filter(Boolean)
    .join(' · ');
}
