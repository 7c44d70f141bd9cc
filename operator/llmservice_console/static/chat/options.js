// How the models of a conversation are asked: system prompt, sampling, tools, the form of the answer.
import { html } from '../dom.js';
import { t } from '../i18n.js';
import { NUMBERS, mistakes } from './request.js';
import { changed } from './talking.js';

const FORMATS = ['text', 'json', 'schema'];
const SCHEMA = '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}';
const TOOLS = `[{"type": "function", "function": {"name": "weather", "parameters": ${SCHEMA}}}]`;

export function Options({ talk }) {
  const { options } = talk;
  const wrong = mistakes(options);
  const set = (name) => (event) => {
    options[name] = event.target.value;
    changed();
  };
  return html`
    <div class="options" id="options" role="region" aria-label=${t('options')}>
      <${Field} name="system" wrong=${wrong}>
        <textarea
          id="option-system"
          rows="2"
          value=${options.system}
          onInput=${set('system')}
          placeholder=${t('options.system.hint')}
        ></textarea>
      <//>
      <div class="numbers">
        ${Object.entries(NUMBERS).map(
          ([name, { min, max, step }]) => html`
            <${Field} key=${name} name=${name} wrong=${wrong}>
              <input
                id=${`option-${name}`}
                type="number"
                min=${min}
                max=${max}
                step=${step}
                value=${options[name]}
                placeholder=${t('options.auto')}
                onInput=${set(name)}
                aria-invalid=${wrong[name] ? 'true' : undefined}
              />
            <//>
          `,
        )}
        <${Field} name="format" wrong=${wrong}>
          <select id="option-format" value=${options.format} onChange=${set('format')}>
            ${FORMATS.map(
              (name) => html`
                <option key=${name} value=${name}>${t(`options.format.${name}`)}</option>
              `,
            )}
          </select>
        <//>
      </div>
      ${
        options.format === 'schema' &&
        html`
          <${Json} name="schema" example=${SCHEMA} options=${options} set=${set} wrong=${wrong} />
        `
      }
      <details open=${Boolean(options.tools)}>
        <summary>${t('options.tools')}</summary>
        <${Json} name="tools" example=${TOOLS} options=${options} set=${set} wrong=${wrong} />
      </details>
    </div>
  `;
}

function Json({ name, example, options, set, wrong }) {
  return html`
    <${Field} name=${name} wrong=${wrong}>
      <textarea
        id=${`option-${name}`}
        class="code"
        rows="5"
        spellcheck="false"
        value=${options[name]}
        onInput=${set(name)}
        placeholder=${example}
        aria-invalid=${wrong[name] ? 'true' : undefined}
      ></textarea>
    <//>
  `;
}

function Field({ name, wrong, children }) {
  return html`
    <div class="field">
      <label for=${`option-${name}`}>${t(`options.${name}`)}</label>
      ${children}${
        wrong[name] &&
        html`
          <span class="problem small" role="alert">${t(wrong[name], NUMBERS[name])}</span>
        `
      }
    </div>
  `;
}
