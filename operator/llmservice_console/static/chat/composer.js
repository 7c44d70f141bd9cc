// What is asked next: text, and pictures where every model of the conversation takes them.
import { html, useEffect, useRef, useState } from '../dom.js';
import { t } from '../i18n.js';
import { draft, keep } from './drafts.js';
import { MOST, read } from './pictures.js';
import { mistakes } from './request.js';
import { stop, tell } from './talking.js';
import { go, href } from '../route.js';

export function Composer({ talk, busy, sees }) {
  const field = useRef();
  const [text, setText] = useState(draft(talk.id).text);
  const [pictures, setPictures] = useState(draft(talk.id).pictures);
  const wrong = Object.keys(mistakes(talk.options)).length > 0;
  const unseen = !sees && pictures.length > 0;
  const can = !busy && !wrong && !unseen && (text.trim() || pictures.length);
  useEffect(() => field.current.focus({ preventScroll: true }), []);
  useEffect(() => {
    field.current.style.height = 'auto';
    field.current.style.height = `${field.current.scrollHeight}px`;
  }, [text]);
  useEffect(() => keep(talk.id, { text, pictures }), [talk.id, text, pictures]);

  const send = (event) => {
    event?.preventDefault();
    if (!can) return;
    tell(talk, text.trim(), pictures);
    setText('');
    setPictures([]);
    if (location.hash !== href('chat', talk.id)) go('chat', talk.id);
  };
  const add = async (files) => {
    const more = await read(files);
    setPictures((now) => [...now, ...more].slice(0, MOST));
  };
  const pressed = (event) => {
    // Enter that ends a word of an input method (Chinese, Japanese) sends nothing.
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) send(event);
    if (event.key === 'Escape' && busy) stop(talk);
  };
  const pasted = (event) => {
    if (sees && event.clipboardData.files.length) (event.preventDefault(), add(event.clipboardData.files));
  };
  return html`
    <form
      class="composer"
      onSubmit=${send}
      onPaste=${pasted}
      onDragOver=${(event) => sees && event.preventDefault()}
      onDrop=${(event) => sees && (event.preventDefault(), add(event.dataTransfer.files))}
    >
      ${
        pictures.length > 0 &&
        html`
          <ul class="pictures">
            ${pictures.map(
              (url, index) => html`
                <li key=${index}>
                  <img src=${url} alt=${t('chat.picture', { number: index + 1 })} />
                  <button
                    type="button"
                    class="plain icon"
                    aria-label=${t('chat.without', { number: index + 1 })}
                    onClick=${() => setPictures(pictures.filter((_, one) => one !== index))}
                  >
                    ×
                  </button>
                </li>
              `,
            )}
          </ul>
        `
      }
      <textarea
        ref=${field}
        rows="1"
        value=${text}
        aria-label=${t('chat.question')}
        placeholder=${t('chat.question')}
        onInput=${(event) => setText(event.target.value)}
        onKeyDown=${pressed}
      ></textarea>
      <div class="line">
        ${
          sees &&
          html`
            <label class="button plain attach">
              ${t('chat.attach')}
              <input
                type="file"
                class="unseen"
                accept="image/*"
                multiple
                onChange=${(event) => (add(event.target.files), (event.target.value = ''))}
              />
            </label>
          `
        }
        <span class="quiet small hint">
          ${
            wrong || unseen
              ? html`
                  <span class="problem" role="status">${t(wrong ? 'options.wrong' : 'chat.unseen')}</span>
                `
              : t('chat.keys')
          }
        </span>
        <span class="grow"></span>
        ${
          busy
            ? html`
                <button type="button" class="stop" onClick=${() => stop(talk)}>${t('chat.stop')}</button>
              `
            : html`
                <button class="primary" disabled=${!can}>${t('chat.ask')}</button>
              `
        }
      </div>
    </form>
  `;
}
