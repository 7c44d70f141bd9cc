// The turns of a conversation. It follows an answer that grows, unless the person reads further up.
import { html, useEffect, useLayoutEffect, useRef, useState } from '../dom.js';
import { t } from '../i18n.js';
import { Copy } from '../parts/small.js';
import { Reply } from './reply.js';
import { busy, edit } from './talking.js';

const NEAR_PIXELS = 80;

export function Thread({ talk, choices }) {
  const box = useRef();
  const follows = useRef(true);
  useEffect(() => void (follows.current = true), [talk.id, talk.turns.length]);
  useLayoutEffect(() => {
    if (follows.current) box.current.scrollTop = box.current.scrollHeight;
  });
  const read = ({ currentTarget: at }) =>
    (follows.current = at.scrollHeight - at.scrollTop - at.clientHeight < NEAR_PIXELS);
  return html`
    <div
      class="thread"
      ref=${box}
      onScroll=${read}
      role="log"
      aria-label=${t('chat.log')}
      aria-busy=${busy(talk) ? 'true' : 'false'}
      tabindex="0"
    >
      ${
        !talk.turns.length &&
        html`
          <p class="hello">${t('chat.hello')}</p>
        `
      }
      ${talk.turns.map(
        (turn, index) => html`
          <${Turn} key=${index} talk=${talk} turn=${turn} choices=${choices} />
        `,
      )}
    </div>
  `;
}

function Turn({ talk, turn, choices }) {
  const [editing, setEditing] = useState(false);
  return html`
    <article class="turn">
      ${
        editing
          ? html`
              <${Edit} talk=${talk} turn=${turn} close=${() => setEditing(false)} />
            `
          : html`
              <${Question} turn=${turn} idle=${!busy(talk)} edit=${() => setEditing(true)} />
            `
      }
      <div class=${turn.answers.length > 1 ? 'answers beside' : 'answers'}>
        ${turn.answers.map(
          (answer, slot) =>
            answer &&
            html`
              <${Reply} key=${slot} talk=${talk} turn=${turn} slot=${slot} answer=${answer} choices=${choices} />
            `,
        )}
      </div>
    </article>
  `;
}

function Question({ turn, idle, edit: change }) {
  return html`
    <div class="question">
      <h2 class="unseen">${t('chat.you')}</h2>
      ${
        turn.pictures?.length > 0 &&
        html`
          <div class="pictures">
            ${turn.pictures.map(
              (url, index) => html`
                <img key=${index} src=${url} alt=${t('chat.picture', { number: index + 1 })} />
              `,
            )}
          </div>
        `
      }
      <p class="words">${turn.text}</p>
      <div class="actions">
        ${
          idle &&
          html`
            <button type="button" class="plain" onClick=${change}>${t('chat.edit')}</button>
          `
        }
        <${Copy} text=${turn.text} />
      </div>
    </div>
  `;
}

function Edit({ talk, turn, close }) {
  const field = useRef();
  useEffect(() => field.current.focus(), []);
  const send = (event) => {
    event.preventDefault();
    close();
    edit(talk, turn, field.current.value.trim());
  };
  return html`
    <form class="question edit" onSubmit=${send} onKeyDown=${(event) => event.key === 'Escape' && close()}>
      <textarea ref=${field} rows="3" aria-label=${t('chat.edit')} defaultValue=${turn.text}></textarea>
      <div class="actions shown">
        <button class="primary">${t('chat.ask')}</button>
        <button type="button" class="plain" onClick=${close}>${t('cancel')}</button>
      </div>
    </form>
  `;
}
