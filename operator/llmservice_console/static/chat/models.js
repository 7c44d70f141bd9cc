// Which model answers, and which second one beside it.
import { html } from '../dom.js';
import { t, word } from '../i18n.js';
import { remember } from '../settings.js';
import { changed } from './talking.js';

export function Models({ talk, choices }) {
  const set = (slot, name) => {
    talk.models[slot] = name;
    if (!slot) remember('model', name);
    changed();
  };
  const compare = () => {
    const other = choices.find((one) => one.name !== talk.models[0]) ?? choices[0];
    talk.models = [talk.models[0], other.name];
    changed();
  };
  const alone = (slot) => {
    talk.models = talk.models.filter((_, one) => one !== slot);
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
