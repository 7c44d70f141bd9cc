// Which model answers, and which second one beside it.
import { html } from '../dom.js';
import { t, word } from '../i18n.js';
import { remember } from '../settings.js';
import { talks } from '../parts/small.js';
import { changed } from './talking.js';

// The one to begin with: that answers at once, or else at all.
export function best(choices) {
  return choices.find((one) => one.service.ready) ?? choices.find((one) => talks(one.service)) ?? choices[0];
}

export function Models({ talk, choices }) {
  const set = (slot, name) => {
    talk.models[slot] = name;
    if (!slot) remember('model', name);
    changed();
  };
  const compare = () => {
    const others = choices.filter((one) => one.name !== talk.models[0]);
    talk.models.push((best(others) ?? choices[0]).name);
    changed();
  };
  const alone = (slot) => {
    talk.models.splice(slot, 1);
    changed();
  };
  return html`
    ${talk.models.map(
      (name, slot) => html`
        <span class="model-choice" key=${slot}>
          <select
            aria-label=${t(slot ? 'chat.second' : 'chat.model')}
            value=${name}
            onChange=${(event) => set(slot, event.target.value)}
          >
            ${
              !choices.some((one) => one.name === name) &&
              html`
                <option value=${name}>${name} · ${t('chat.gone')}</option>
              `
            }
            ${choices.map(
              (one) => html`
                <option key=${one.name} value=${one.name}>
                  ${one.name}${one.service.state === 'Ready' ? '' : ` · ${word('state', one.service.state)}`}
                </option>
              `,
            )}
          </select>
          ${
            talk.models.length > 1 &&
            slot > 0 &&
            html`
              <button
                type="button"
                class="plain icon"
                aria-label=${t('chat.alone')}
                title=${t('chat.alone')}
                onClick=${() => alone(slot)}
              >
                ×
              </button>
            `
          }
        </span>
      `,
    )}
    ${
      talk.models.length < 2 &&
      html`
        <button type="button" class="plain" onClick=${compare}>${t('chat.compare')}</button>
      `
    }
  `;
}
