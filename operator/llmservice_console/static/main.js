// The page: who is let in, where the person is, and the frame around it.
import { html, render, useEffect, useState } from './dom.js';
import { key, refused } from './api.js';
import { chosenLanguage, speak, t } from './i18n.js';
import { session, usePoll } from './live.js';
import { Header } from './parts/header.js';
import { Door } from './parts/door.js';
import { listen, route } from './route.js';
import { applyTheme, theme } from './settings.js';
import { useStore } from './store.js';
import { Services } from './views/services.js';

// Views but the first are fetched when somebody goes there.
const LATER = {
  service: () => import('./views/service.js').then((module) => module.Service),
  chat: () => import('./views/chat.js').then((module) => module.Chat),
  engines: () => import('./views/engines.js').then((module) => module.Engines),
};
const there = { services: Services };

// The view at an address; '' where none is.
function meant([first, ...rest]) {
  if (first === 'services') return ['services', '', 'service'][Math.min(rest.length, 2)];
  return first === undefined ? 'services' : first === 'chat' || first === 'engines' ? first : '';
}

function View({ path }) {
  const name = meant(path) || 'services';
  const [, arrived] = useState('');
  useEffect(() => {
    if (!there[name]) LATER[name]().then((view) => ((there[name] = view), arrived(name)));
  }, [name]);
  const Shown = there[name];
  return Shown
    ? html`
        <${Shown} path=${path} />
      `
    : html`
        <p class="quiet" role="status">${t('loading')}</p>
      `;
}

function Page() {
  const { value: about, error } = usePoll(session);
  const [, spoken] = useState(0);
  const path = useStore(route);
  const shut = useStore(refused);
  useStore(key);
  const locked = about?.keys && (!about.key || shut);
  const again = (language) => speak(language).then(() => spoken((count) => count + 1));
  useEffect(() => {
    document.title = [...(path[0] === 'services' ? path.slice(1).reverse() : []), 'LLMService'].join(' · ');
    if (path[0] === 'services' && path.length > 2) scrollTo(0, 0);
  }, [path]);
  return html`
    <a class="skip" href="#main" onClick=${skip}>${t('skip')}</a>
    <${Header} path=${path} about=${about} speak=${again} />
    ${
      error &&
      html`
        <p class="banner" role="alert">${t('unreachable')}</p>
      `
    }
    <main id="main" tabindex="-1" class=${`view ${meant(path) || 'services'}`}>
      ${
        !locked &&
        !meant(path) &&
        html`
          <p class="told busy" role="status">${t('nowhere')}</p>
        `
      }
      ${
        locked
          ? html`
              <${Door} problem=${shut || about.problem} />
            `
          : about
            ? html`
                <${View} path=${path} />
              `
            : !error &&
              html`
                <p class="quiet" role="status">${t('loading')}</p>
              `
      }
    </main>
  `;
}

function skip(event) {
  event.preventDefault();
  document.getElementById('main').focus();
}

applyTheme(theme.value);
listen();
await speak(chosenLanguage());
const page = document.getElementById('page');
page.replaceChildren();
render(
  html`
    <${Page} />
  `,
  page,
);
