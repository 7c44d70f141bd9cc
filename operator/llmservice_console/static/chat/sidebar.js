// The conversations of this browser.
import { html } from '../dom.js';
import { t } from '../i18n.js';
import { useStore } from '../store.js';
import { go, href } from '../route.js';
import { forget } from './talking.js';
import { list } from './talks.js';

export function Talks({ talk, drawn }) {
  const kept = useStore(list);
  const away = async (id) => {
    await forget(id);
    if (id === talk.id) go('chat', 'new');
  };
  return html`
    <nav id="talks" class=${drawn ? 'talks drawn' : 'talks'} aria-label=${t('chat.talks')}>
      <a class="button" href=${href('chat', 'new')}>${t('chat.new')}</a>
      <ul>
        ${kept.map(
          (one) => html`
            <li key=${one.id}>
              <a href=${href('chat', one.id)} aria-current=${one.id === talk.id ? 'true' : undefined}>
                ${one.title || t('chat.untitled')}
              </a>
              <button
                type="button"
                class="plain icon"
                aria-label=${t('chat.forget', { title: one.title })}
                onClick=${() => away(one.id)}
              >
                ×
              </button>
            </li>
          `,
        )}
      </ul>
      <p class="quiet small">${t('chat.kept')}</p>
    </nav>
  `;
}
