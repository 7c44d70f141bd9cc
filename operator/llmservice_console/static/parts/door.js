// Where the gateway asks for a key: what is asked for, and why the last one was not taken.
import { html, useEffect, useRef } from '../dom.js';
import { key, useKey } from '../api.js';
import { t } from '../i18n.js';

const PROBLEMS = ['invalid_api_key', 'keys_unread'];

export function Door({ problem }) {
  const field = useRef();
  useEffect(() => field.current?.focus(), []);
  const enter = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    useKey(String(form.get('key')).trim(), form.has('keep'));
  };
  const told = key.value && (PROBLEMS.includes(problem) ? problem : null);
  return html`
    <form class="door card" onSubmit=${enter}>
      <h1>${t('door.title')}</h1>
      <p class="quiet">${t('door.why')}</p>
      <label for="key">${t('door.key')}</label>
      <input
        id="key"
        name="key"
        type="password"
        autocomplete="off"
        spellcheck="false"
        required
        ref=${field}
        aria-invalid=${told ? 'true' : undefined}
        aria-describedby=${told ? 'key-problem' : undefined}
      />
      ${
        told &&
        html`
          <p id="key-problem" class="problem" role="alert">${t(`door.${told}`)}</p>
        `
      }
      <label class="check">
        <input type="checkbox" name="keep" />
        ${t('door.keep')}
      </label>
      <button class="primary">${t('door.enter')}</button>
      <p class="quiet small">
        ${t('door.make')}${' '}
        <code>llmservice keys create NAME --services 'apps/*'</code>
      </p>
    </form>
  `;
}
