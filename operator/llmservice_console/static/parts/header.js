// The top of every view: where one can go, the key, the theme and the language.
import { html } from '../dom.js';
import { key, useKey } from '../api.js';
import { LANGUAGES, language, t } from '../i18n.js';
import { applyTheme, theme } from '../settings.js';
import { useStore } from '../store.js';
import { href } from '../route.js';

const PLACES = ['services', 'chat', 'engines'];

export function Header({ path, about, speak }) {
  const here = PLACES.includes(path[0]) ? path[0] : 'services';
  return html`
    <header class="top">
      <a class="brand" href=${href('services')}>
        <${Mark} />
        LLMService
      </a>
      <nav aria-label=${t('nav')}>
        ${PLACES.map(
          (place) => html`
            <a key=${place} href=${href(place)} aria-current=${here === place ? 'page' : undefined}>
              ${t(`nav.${place}`)}
            </a>
          `,
        )}
      </nav>
      <div class="tools">
        ${
          about?.key &&
          html`
            <${Key} name=${about.key} />
          `
        }
        <${Language} speak=${speak} />
        <${Theme} />
      </div>
    </header>
  `;
}

function Mark() {
  return html`
    <svg viewBox="0 0 32 32" width="22" height="22" aria-hidden="true">
      <rect class="mark" width="32" height="32" rx="8" />
      <path
        d="M8 21.5V10.5M8 21.5h6M18 10.5l6 5.5-6 5.5"
        fill="none"
        stroke="#fff"
        stroke-width="2.6"
        stroke-linecap="round"
        stroke-linejoin="round"
      />
    </svg>
  `;
}

function Key({ name }) {
  useStore(key);
  return html`
    <span class="key">
      <span class="quiet" title=${t('key.shown')}>${name}</span>
      ${
        key.value &&
        html`
          <button class="plain" onClick=${() => useKey('', false)}>${t('key.forget')}</button>
        `
      }
    </span>
  `;
}

function Language({ speak }) {
  const next = language === 'en' ? 'zh' : 'en';
  return html`
    <button
      class="plain"
      lang=${next}
      onClick=${() => speak(next)}
      aria-label=${`${t('language')}: ${LANGUAGES[next]}`}
    >
      ${LANGUAGES[next]}
    </button>
  `;
}

function Theme() {
  const now = useStore(theme);
  const dark = now ? now === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
  const name = t(dark ? 'theme.light' : 'theme.dark');
  return html`
    <button class="plain icon" aria-label=${name} title=${name} onClick=${() => applyTheme(dark ? 'light' : 'dark')}>
      <svg viewBox="0 0 20 20" width="18" height="18" aria-hidden="true">
        <circle cx="10" cy="10" r="7" fill="none" stroke="currentColor" stroke-width="1.5" />
        <path d="M10 3a7 7 0 0 1 0 14z" fill="currentColor" />
      </svg>
    </button>
  `;
}
