// Small things that many views show.
import { html, useState } from '../dom.js';
import { t, word } from '../i18n.js';
import { seconds } from '../format.js';

const TONES = {
  Ready: 'good',
  Starting: 'busy',
  Waiting: 'busy',
  Draining: 'busy',
  Idle: 'calm',
  Stopped: 'calm',
  Failed: 'bad',
};

// The state of a service or a replica: a dot and a word.
export function State({ state }) {
  return html`
    <span class=${`state ${TONES[state] ?? 'calm'}`}>
      <i aria-hidden="true"></i>
      ${word('state', state)}
    </span>
  `;
}

// How far something is: a bar where a percentage is known, and what is left of it.
export function Progress({ percent, etaSeconds, label }) {
  return html`
    <span class="progress">
      <progress max="100" value=${percent ?? undefined} aria-label=${label}></progress>
      <span>
        ${percent != null && `${percent} %`}${percent != null && etaSeconds != null && ' · '}${etaSeconds != null && t('eta', { time: seconds(etaSeconds) })}
      </span>
    </span>
  `;
}

export function Copy({ text, label = t('copy'), class: kind = 'plain' }) {
  const [done, setDone] = useState(false);
  const copy = async () => {
    await copied(typeof text === 'function' ? text() : text);
    setDone(true);
    setTimeout(() => setDone(false), 1500);
  };
  return html`
    <button type="button" class=${kind} onClick=${copy}>
      ${done ? t('copied') : label}
      <span class="unseen" role="status">${done ? t('copied') : ''}</span>
    </button>
  `;
}

// A page that came by plain HTTP from another machine has no clipboard of its own: then as before there was one.
async function copied(text) {
  if (navigator.clipboard && isSecureContext) return navigator.clipboard.writeText(text);
  const area = Object.assign(document.createElement('textarea'), { value: text, className: 'unseen' });
  document.body.append(area);
  area.select();
  document.execCommand('copy');
  area.remove();
}

// What went wrong, and what to do, as a note that screen readers tell.
export function Problem({ error }) {
  const said = error.code === 'unreachable' ? t('unreachable') : error.message;
  return html`
    <p class="problem" role="alert"><${Said} text=${said} /></p>
  `;
}

// Sentences with `commands` in them, as the API writes remedies.
export function Said({ text }) {
  return String(text ?? '')
    .split(/(`[^`]+`)/)
    .map((piece) =>
      /^`.+`$/.test(piece)
        ? html`
            <code>${piece.slice(1, -1)}</code>
          `
        : piece,
    );
}

// A remedy; several ways out, which the API numbers in one line, are a list.
export function Remedy({ text }) {
  if (!/^\(1\) /.test(text)) return html`<${Said} text=${text} />`;
  const ways = text.split(/(?:^|\s)\(\d+\) /).filter(Boolean);
  return html`
    <ol class="ways">
      ${ways.map(
        (way) => html`
          <li key=${way}><${Said} text=${way} /></li>
        `,
      )}
    </ol>
  `;
}

export const engineName = (name) => ({ LlamaCpp: 'llama.cpp', VLLM: 'vLLM' })[name] ?? name ?? '';

export function shortModel(uri) {
  return String(uri ?? '')
    .replace(/^file:\/\/.*\//, '')
    .replace(/^hf:\/\//, '');
}

// Whether one can talk with a service now, or wake it by that.
export function talks({ task, state }) {
  return (task === 'Chat' || !task) && state !== 'Failed' && state !== 'Stopped';
}
